"""Pictures of maps over their images, as matplotlib figures: one map, or a sheet of many; see `pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from gtg_bench.benchmark.api.geometry import FloatArray, Mask, Size
from gtg_bench.benchmark.api.types import Box, GroundingMap
from gtg_bench.benchmark.report.pictures.drawing import (
    DPI,
    Look,
    blank,
    reduced,
    save,
    sees_all,
    show_boxes,
    show_image,
    show_map,
    show_mask,
    style,
    wrapped,
)

_FOOTNOTE = "Not for diagnosis."
_SCALE = "relevance from each map's lowest (0) to its highest value (1); colours as seen over mid grey"
_INCHES = 5.2
_PAGE, _WIDEST, _NARROWEST, _GAP, _MARGIN = 7.0, 2.4, 1.2, 0.1, 0.1
"""Inches: a sheet is as wide as a printed page as long as its columns are not too wide or too narrow."""
_BAR, _TALLEST = 0.1, 1.5
LONGEST = int(_WIDEST * _TALLEST * DPI)
"""Pixels that the longer side of a sheet's image can show at 300 dpi."""


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes:
        image: float32 [H, W] in [0, 1], the whole image, possibly reduced.
        title: text above it, usually the phrase; line breaks are kept.
        boxes: float xyxy in pixels of the original image.
        grounding: a map to draw over the image.
        mask: a region that is not a set of boxes, drawn as an outline.
        size: (width, height) of the original image; None if `image` is not reduced.
    """

    image: FloatArray
    title: str
    boxes: Sequence[Box] = ()
    grounding: GroundingMap | None = None
    mask: Mask | None = None
    size: Size | None = None

    @property
    def original(self) -> Size:
        """(width, height) of the original image."""
        return self.size or (self.image.shape[1], self.image.shape[0])


@dataclass(frozen=True)
class Strip:
    """One row of a sheet: images side by side below a heading; None leaves a place empty."""

    tiles: Sequence[Tile | None]
    heading: str = ""


def overlay_figure(
    image: FloatArray,
    grounding: GroundingMap,
    title: str,
    boxes: Sequence[Box] = (),
    note: str = "",
    look: Look | None = None,
    mask: Mask | None = None,
) -> Figure:
    """One map over its image, with a colour bar and the phrase as title.

    Args:
        image: float32 [H, W] in [0, 1].
        grounding: the map of the phrase on this image.
        title: the phrase.
        boxes: float xyxy in image pixels.
        note: footnote.
        look: colours, interpolation and contours.
        mask: a region that is not a set of boxes.
    """
    look = look or Look()
    tile = Tile(image, title, boxes, grounding, mask)
    scale = _INCHES / max(tile.original)
    width, height = (max(0.3, side * scale) for side in tile.original)
    across, down = max(width + 0.75, 3.5), max(height, 1.0)
    above = wrapped(title, across - 2 * _MARGIN, 10)
    notes = [f"{text[0].upper()}{text[1:]}." for text in _legend([grounding], look)]
    below = wrapped(" ".join(filter(None, [note, *notes, _FOOTNOTE])), across - 2 * _MARGIN, 7)
    top, bottom = _MARGIN + _block(above, 10), _block(below, 7)
    with style():
        page = _Page((across, top + down + bottom + 2 * _MARGIN))
        page.text(above, across / 2, _MARGIN, 10)
        left = (across - width - 0.5) / 2
        page.tile(tile, (left, top + (down - height) / 2, width, height), look, round(_INCHES * DPI))
        _colour_bar(page.axes((left + width + 0.08, top, 0.12, down)), look, "vertical")
        page.text(below, across / 2, top + down + _MARGIN, 7, "dimgray")
    return page.figure


def sheet_figure(tiles: Sequence[Tile], columns: int = 4, look: Look | None = None, note: str = "") -> Figure:
    """Images with their titles, regions and maps, row by row.

    Args:
        tiles: at least one.
        columns: images side by side.
        look: colours, interpolation and contours.
        note: text below, beside that of the colour bar.
    """
    columns = min(columns, len(tiles))
    strips = [Strip(tiles[first : first + columns]) for first in range(0, len(tiles), columns)]
    return strips_figure(strips, (), look, note)


def strips_figure(
    strips: Sequence[Strip], heads: Sequence[str] = (), look: Look | None = None, note: str = ""
) -> Figure:
    """Rows of images, each below a heading, in columns with a head each.

    Args:
        strips: at least one, with at least one tile.
        heads: heads of the columns, or none.
        look: colours, interpolation and contours.
        note: text below, beside the colour bar.
    """
    look = look or Look()
    columns = max(len(heads), *(len(strip.tiles) for strip in strips))
    width = min(_WIDEST, max(_NARROWEST, (_PAGE - 2 * _MARGIN + _GAP) / columns - _GAP))
    across = columns * (width + _GAP) - _GAP
    top = [wrapped(head, width, 8.5, "bold") for head in heads]
    drawn = [tile.grounding for strip in strips for tile in strip.tiles if tile and tile.grounding]
    legend = wrapped("; ".join(filter(None, [note, *_legend(drawn, look)])), across, 7)
    rows = [_Row(strip, across, width) for strip in strips]
    foot = (0.32 if drawn else 0) + _block(legend, 7)
    head = max((_block(lines, 8.5) for lines in top), default=0)
    with style():
        page = _Page((across + 2 * _MARGIN, head + sum(row.height for row in rows) + foot + 2 * _MARGIN))
        for column, lines in enumerate(top):
            page.text(lines, _centre(column, width), _MARGIN, 8.5, weight="bold")
        y = _MARGIN + head
        for row in rows:
            row.draw(page, y, look)
            y += row.height
        if drawn:
            bar = page.axes((_MARGIN + (across - width) / 2, y, width, _BAR))
            _colour_bar(bar, look, "horizontal")
        page.text(legend, _MARGIN + across / 2, y + foot - _block(legend, 7), 7, "dimgray")
    return page.figure


def draw_sheet(tiles: Sequence[Tile], path: Path, columns: int = 4, dpi: int | None = None) -> None:
    """Write `sheet_figure` to a file in the format of its suffix; see `drawing.save`."""
    save(sheet_figure(tiles, columns), path, dpi=dpi)


class _Page:
    """A figure whose parts are placed in inches from its upper left corner."""

    def __init__(self, inches: tuple[float, float]) -> None:
        self.width, self.height = inches
        self.figure = blank(inches)

    def axes(self, place: tuple[float, float, float, float]) -> Axes:
        """Axes at (left, top, width, height)."""
        left, top, width, height = place
        bounds = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(bounds)

    def text(
        self,
        lines: Sequence[str],
        x: float,
        top: float,
        size: float,
        colour: str = "black",
        weight: str = "normal",
        align: str = "center",
    ) -> None:
        """Lines below `top`, centred around or starting at `x`."""
        for number, line in enumerate(lines):
            y = 1 - (top + _line(size) * (number + 0.8)) / self.height
            self.figure.text(x / self.width, y, line, fontsize=size, color=colour, ha=align, fontweight=weight)

    def tile(self, tile: Tile, place: tuple[float, float, float, float], look: Look, longest: int) -> None:
        """An image with its map and region at (left, top, width, height)."""
        axes, size = self.axes(place), tile.original
        show_image(axes, reduced(tile.image, longest), size)
        if tile.grounding is not None:
            show_map(axes, tile.grounding, look, longest)
        show_boxes(axes, tile.boxes, size)
        if tile.mask is not None:
            show_mask(axes, tile.mask, size, longest)


class _Row:
    """A strip with its measures in inches."""

    def __init__(self, strip: Strip, across: float, width: float) -> None:
        self.strip, self.width = strip, width
        self.heading = wrapped(strip.heading, across, 8)
        self.titles = [wrapped(tile.title, width, 7) if tile else [] for tile in strip.tiles]
        self.text = _line(7) * max(map(len, self.titles), default=0)
        shapes = [tile.original for tile in strip.tiles if tile]
        self.image = max(width * min(high / wide, _TALLEST) for wide, high in shapes)
        self.height = _block(self.heading, 8) + self.text + self.image + 0.14

    def draw(self, page: _Page, top: float, look: Look) -> None:
        """Draw it below `top`."""
        page.text(self.heading, _MARGIN, top, 8, align="left")
        below = top + _block(self.heading, 8) + self.text
        for column, (tile, lines) in enumerate(zip(self.strip.tiles, self.titles, strict=True)):
            if tile is None:
                continue
            centre = _centre(column, self.width)
            page.text(lines, centre, below - _line(7) * len(lines), 7)
            scale = min(self.width / tile.original[0], self.image / tile.original[1])
            width, height = (max(0.1, side * scale) for side in tile.original)
            page.tile(tile, (centre - width / 2, below + 0.03, width, height), look, LONGEST)


def _centre(column: int, width: float) -> float:
    return _MARGIN + column * (width + _GAP) + width / 2


def _line(size: float) -> float:
    """Height of a line in inches."""
    return 1.25 * size / 72


def _block(lines: Sequence[str], size: float) -> float:
    """Height of lines in inches, with space below."""
    return _line(size) * len(lines) + 0.05 if lines else 0


def _legend(maps: Sequence[GroundingMap], look: Look) -> list[str]:
    """What a reader must know to interpret the maps; the scale comes first."""
    if not maps:
        return []
    found = [_SCALE] + (["smoothed for display"] if look.interpolation == "smooth" else [])
    found += [f"line: {' and '.join(f'{level:g}' for level in look.contour)}"] if look.contour else []
    return found + ([] if all(sees_all(one.frame) for one in maps) else ["dotted: edge of what the method sees"])


def _colour_bar(axes: Axes, look: Look, orientation: str) -> None:
    mappable = ScalarMappable(Normalize(0, 1), look.bar())
    bar = axes.figure.colorbar(mappable, cax=axes, orientation=orientation, ticks=[0, 0.25, 0.5, 0.75, 1], format="%g")
    bar.ax.tick_params(labelsize=6.5, length=2, width=0.5, pad=1.5)
    for level in look.contour:
        line = bar.ax.axhline if orientation == "vertical" else bar.ax.axvline
        line(level, color="#007f99", linewidth=1.2)
