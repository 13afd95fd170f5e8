"""Draw maps over their images."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gtg_bench.benchmark.api.geometry import FloatArray, Frame, Mask
from gtg_bench.benchmark.api.types import Box, GroundingMap
from gtg_bench.benchmark.paths import atomic

_INCHES = 5.2
COLOURS = "inferno"
_FOOTNOTE = "Not for diagnosis."


def map_on_image(grounding: GroundingMap) -> FloatArray:
    """The map in the image's own pixels, float32 [H, W]; NaN where the method's frame does not cover the image."""
    values, covered = grounding.frame.carry(grounding.values, Frame.original(grounding.frame.image_size))
    return np.where(covered, values, np.float32(np.nan)).astype(np.float32)


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes:
        image: float32 [H, W] in [0, 1].
        title: the phrase.
        boxes: float xyxy in image pixels, drawn in white.
        grounding: a map to draw over the image.
        mask: a region that is not a set of boxes; its outline is drawn in white.
    """

    image: FloatArray
    title: str
    boxes: Sequence[Box] = ()
    grounding: GroundingMap | None = None
    mask: Mask | None = None


def draw_sheet(tiles: Sequence[Tile], path: Path, columns: int = 4) -> None:
    """Write a sheet of images with their phrases, boxes and maps."""
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.95 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, tile in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, tiles):
        axes.set_axis_off()
        if tile is None:
            continue
        axes.imshow(tile.image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
        if tile.grounding is not None:
            scaled = _scaled(map_on_image(tile.grounding))
            axes.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1, alpha=_alpha(scaled), interpolation="bilinear")
        _outline(axes, tile.boxes)
        if tile.mask is not None:
            _contour(axes, tile.mask, tile.image)
        axes.set_title("\n".join(textwrap.wrap(tile.title, 38)), fontsize=7)
    with atomic(path) as part:
        figure.savefig(part)


def _scaled(heat: FloatArray) -> FloatArray:
    """Min-max scaled to [0, 1]; NaN stays NaN, a constant map is 0."""
    low, high = np.nanmin(heat), np.nanmax(heat)
    return (heat - low) / ((high - low) or 1)


def _alpha(scaled: FloatArray) -> FloatArray:
    return np.nan_to_num(0.15 + 0.45 * scaled)


def _outline(axes: Axes, boxes: Sequence[Box]) -> None:
    for x0, y0, x1, y1 in boxes:
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1.4))


def _contour(axes: Axes, mask: Mask, image: FloatArray) -> None:
    """Draw the outline of a mask on an image (float32 [H, W]), also along the image's edge."""
    height, width = image.shape
    region = np.pad(mask.in_frame(Frame.original((width, height))).astype(np.float32), 1)
    if region.any():
        axes.autoscale(False)
        x, y = np.arange(-1, width + 1), np.arange(-1, height + 1)
        axes.contour(x, y, region, levels=[0.5], colors="white", linewidths=1.0)


def draw_overlay(
    image: FloatArray, grounding: GroundingMap, title: str, path: Path, boxes: Sequence[Box] = (), note: str = ""
) -> None:
    """Write a figure in the format of the suffix: image, map, colour bar, boxes, and the phrase as title.

    Args:
        image: float32 [H, W] in [0, 1].
        grounding: the map of the phrase on this image.
        title: the phrase.
        path: file to write.
        boxes: float xyxy in image pixels, drawn in white.
        note: footnote.
    """
    scaled = _scaled(map_on_image(grounding))
    height, width = image.shape
    figure = Figure(figsize=(_INCHES + 1.0, _INCHES * height / width + 1.1), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    axes.imshow(scaled, cmap=COLOURS, vmin=0, vmax=1, alpha=_alpha(scaled), interpolation="bilinear")
    _outline(axes, boxes)
    axes.set_axis_off()
    axes.set_title("\n".join(textwrap.wrap(title, 60)), fontsize=10)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("relevance, scaled to this image", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.supxlabel("\n".join(textwrap.wrap(f"{note} {_FOOTNOTE}".strip(), 90)), fontsize=7, color="dimgray")
    with atomic(path) as part:
        figure.savefig(part)
