"""Parts of a picture: the look of maps and regions, text that fits, and files in every format."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame, Mask, Size
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.types import Box, GroundingMap
from gtg_bench.benchmark.paths import atomic

FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
HEAT = "heat"
INTERPOLATIONS = ("smooth", "bilinear", "nearest")
DPI = 300

_WIDE = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei")
_OTHER = ("PingFang SC", "Hiragino Sans", "Yu Gothic", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Devanagari")
_STYLE = {
    "font.size": 8.0,
    "text.usetex": False,
    "text.parse_math": False,
    "axes.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.bbox": None,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "gtg-bench",
}
_DATELESS = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
_MEGAPIXELS, _MOST_MEGAPIXELS = 30, 300
_LOW, _HIGH, _OPAQUE = 0.25, 0.7, 0.75
_GREY = 0.5
_CELLS, _MOST_CELLS = 32, 2
"""The smoothing has a standard deviation of 1/32 of the map, and of at most 2 cells."""


@dataclass(frozen=True)
class Look:
    """How maps are drawn over images.

    Attributes:
        cmap: "heat" (the red to yellow part of inferno), or any colour map of matplotlib; the paper uses "jet".
        interpolation: "smooth" evens out the steps between coarse cells, "bilinear" shows the values that are scored,
            "nearest" the map's own cells.
        contour: draw lines where the map reaches these values between its minimum (0) and maximum (1).
    """

    cmap: str = HEAT
    interpolation: str = "smooth"
    contour: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown colour map or interpolation, or a contour outside (0, 1)."""
        if self.cmap != HEAT and self.cmap not in mpl.colormaps:
            raise UsageError(unknown("colour map", self.cmap, (HEAT, *mpl.colormaps)))
        if self.interpolation not in INTERPOLATIONS:
            raise UsageError(unknown("interpolation", self.interpolation, INTERPOLATIONS))
        if wrong := [level for level in self.contour if not 0 < level < 1]:
            raise UsageError(f"contour {wrong[0]:g}: the value must be between 0 and 1")

    @property
    def colours(self) -> Colormap:
        """The colours of the values 0 to 1, without opacity."""
        if self.cmap == HEAT:
            return ListedColormap(mpl.colormaps["inferno"](np.linspace(0.5, 0.95, 256)), HEAT)
        return mpl.colormaps[self.cmap]

    def bar(self) -> ListedColormap:
        """The colours of the values 0 to 1 as the picture shows them over mid grey."""
        painted = self.colours(np.linspace(0, 1, 256))
        alpha = opacity(np.linspace(0, 1, 256))[:, None]
        return ListedColormap(alpha * painted[:, :3] + (1 - alpha) * _GREY)

    def paint(self, scaled: FloatArray) -> NDArray[np.uint8]:
        """uint8 [h, w, 4]: colour and opacity of a map, float [h, w] in [0, 1]; transparent where it is NaN."""
        painted = self.colours(np.nan_to_num(scaled), bytes=True)
        painted[..., 3] = np.rint(255 * opacity(scaled))
        return painted


def opacity(scaled: NDArray[np.floating]) -> NDArray[np.floating]:
    """Opacity in [0, 0.75] of a map's values in [0, 1]: 0 up to a quarter, rising smoothly to 0.7; 0 where NaN."""
    rise = np.clip((np.nan_to_num(scaled) - _LOW) / (_HIGH - _LOW), 0, 1)
    return _OPAQUE * rise * rise * (3 - 2 * rise)


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of every picture, whatever the user's matplotlibrc says."""
    with mpl.rc_context({**_STYLE, "font.family": list(_families())}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing")
        yield


@cache
def _families() -> tuple[str, ...]:
    """The packaged font, and installed ones for scripts that it does not have."""
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in (*_WIDE, *_OTHER) if name in installed))


# Text


def wrapped(text: str, inches: float, size: float, weight: str = "normal") -> list[str]:
    """The lines of a text, each at most `inches` wide at a font size in points; words that are too long are broken.

    Args:
        text: any text; line breaks are kept, other characters that cannot be printed become spaces.
        inches: width of a line.
        size: font size in points.
        weight: font weight, normal or bold.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in "".join(sign if sign.isprintable() else " " for sign in paragraph).split():
            if line and text_width(f"{line} {word}", size, weight) <= inches:
                line = f"{line} {word}"
                continue
            lines += [line] if line else []
            *full, line = _broken(word, inches, size, weight)
            lines += full
        lines += [line] if line else []
    return lines


def _broken(word: str, inches: float, size: float, weight: str) -> list[str]:
    """A word in pieces that fit, nearly always the whole word."""
    pieces, most = [], max(2, int(inches * 72 / size * 8))  # no more signs than this fit
    while len(word) > most or (len(word) > 1 and text_width(word, size, weight) > inches):
        low, high = 1, min(len(word) - 1, most)
        while low < high:  # the longest beginning that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if text_width(word[:middle], size, weight) <= inches else (low, middle - 1)
        pieces.append(word[:low])
        word = word[low:]
    return [*pieces, word]


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width of one line of text in inches, on a screen or in print, where hinting differs."""
    font = FontProperties(family=list(_families()), size=size, weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [r.get_text_width_height_descent(text, font, ismath=False)[0] / r.dpi for r in _renderers()]
    return 1.02 * float(max(found))


@cache
def _renderers() -> list[RendererAgg]:
    return [RendererAgg(1, 1, dpi) for dpi in (72, 100, DPI)]


# Images, maps and regions


def reduced(image: FloatArray, longest: int) -> FloatArray:
    """An image, float32 [H, W], with its longer side reduced to at most `longest` pixels."""
    size = image.shape[1], image.shape[0]
    return Frame.stretch(size, _grid(size, longest)).apply(image) if max(size) > longest else image


def _grid(size: Size, longest: int) -> Size:
    """(width, height) with this longer side, in the proportions of `size`."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def show_image(axes: Axes, image: FloatArray, size: Size) -> None:
    """Draw an image that spans the axes, in coordinates of an original of (width, height) `size`."""
    grey = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    extent = (0, size[0], size[1], 0)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="bilinear", extent=extent, aspect="auto")
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()


def show_map(axes: Axes, grounding: GroundingMap, look: Look, longest: int) -> None:
    """Draw a map over its image, at most `longest` pixels wide and high, its contours, and the edge of its frame."""
    frame, values = grounding.frame, grounding.values
    width, height = frame.image_size
    if look.interpolation == "smooth":
        cells = max(values.shape)
        values = gaussian_filter(values, min(cells / _CELLS, _MOST_CELLS), mode="nearest")
    grid = Frame.stretch(frame.image_size, _grid(frame.image_size, longest))
    carried, covered = frame.carry(values, grid)
    if not covered.any():
        return
    low, high = carried[covered].min(), carried[covered].max()
    scaled = (np.where(covered, carried, np.nan) - low) / ((high - low) or 1)
    ((x0, y0, x1, y1),) = frame.boxes_to_image([[0, 0, *frame.size]]).tolist()
    if look.interpolation == "nearest":
        own = np.clip((values - low) / ((high - low) or 1), 0, 1)
        axes.imshow(look.paint(own), interpolation="nearest", extent=(x0, x1, y1, y0), aspect="auto")
    else:
        axes.imshow(look.paint(scaled), interpolation="bilinear", extent=(0, width, height, 0), aspect="auto")
    for level in look.contour:
        _trace(axes, np.nan_to_num(scaled), frame.image_size, level, "#5ce1ff")
    if not sees_all(frame):
        edge = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="0.85", linewidth=0.7, linestyle=":")
        axes.add_patch(edge)
    axes.set(xlim=(0, width), ylim=(height, 0))


def sees_all(frame: Frame) -> bool:
    """Whether a frame covers the whole image."""
    left, top, width, height = frame.window
    return left <= 0 and top <= 0 and left + width >= frame.resized[0] and top + height >= frame.resized[1]


def show_boxes(axes: Axes, boxes: Sequence[Box], size: Size) -> None:
    """Draw boxes, float xyxy in image pixels, as white lines with a dark rim."""
    for box in boxes:
        x0, y0, x1, y1 = np.clip(box, 0, (*size, *size))
        patch = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=0.9, clip_on=False)
        patch.set_path_effects([_rim()])
        axes.add_patch(patch)


def show_mask(axes: Axes, mask: Mask, size: Size, longest: int) -> None:
    """Draw the outline of a mask, also along the image's edge, like a box."""
    region = mask.in_frame(Frame.stretch(size, _grid(size, longest)))
    _trace(axes, region.astype(np.float32), size, 0.5, "white")


def _trace(axes: Axes, values: FloatArray, size: Size, level: float, colour: str) -> None:
    """Draw the line where values, float [h, w] over the whole image, reach a level."""
    if not (values > level).any():
        return
    y, x = (side * (np.arange(-1, n + 1) + 0.5) / n for side, n in zip(size[::-1], values.shape, strict=True))
    x, y = np.clip(x, 0, size[0]), np.clip(y, 0, size[1])
    lines = axes.contour(x, y, np.pad(values, 1), levels=[level], colors=colour, linewidths=0.9)
    lines.set(path_effects=[_rim()], clip_on=False)


def _rim() -> withStroke:
    return withStroke(linewidth=2.1, foreground="black", alpha=0.75)


# Files


def blank(inches: tuple[float, float]) -> Figure:
    """An empty figure of (width, height) in inches."""
    figure = Figure(figsize=inches)
    FigureCanvasAgg(figure)
    return figure


def check_format(path: Path) -> None:
    """Raise UsageError if pictures cannot be written in the format of the suffix."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {path}: the name must end in .png, .jpg, .pdf or .svg")


def save(figure: Figure, *paths: Path | str, dpi: int | None = None) -> None:
    """Write a picture to files, each in the format of its suffix; text in PDF and SVG stays text.

    Args:
        figure: what to write.
        paths: .png, .jpg, .pdf or .svg.
        dpi: pixels per inch, also of images in PDF and SVG. None: 300, or less if the picture is very large.

    Raises:
        UsageError: another format, or too many pixels.
        PlaceError: a file cannot be written.
    """
    area = float(np.prod(figure.get_size_inches()))
    if dpi is not None and area * dpi**2 > _MOST_MEGAPIXELS * 1e6:
        raise UsageError(
            f"{dpi} dpi makes {area * dpi**2 / 1e6:,.0f} megapixels; choose fewer samples or a lower --dpi"
        )
    dpi = dpi or min(DPI, int((_MEGAPIXELS * 1e6 / area) ** 0.5))
    for path in map(Path, paths):
        check_format(path)
        with style(), atomic(path) as part:
            figure.savefig(part, dpi=dpi, metadata=_DATELESS.get(path.suffix.lower()))
