"""A map drawn over its image, for people to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import Box, GroundingMap
from gtg_bench.benchmark.paths import atomic

_INCHES = 5.2
_FOOTNOTE = "Not for diagnosis."


def map_on_image(grounding: GroundingMap) -> FloatArray:
    """The map in the image's own pixels, float32 [H, W]; NaN where the method's frame does not cover."""
    values, covered = grounding.frame.carry(grounding.values, Frame.original(grounding.frame.image_size))
    return np.where(covered, values, np.float32(np.nan)).astype(np.float32)


def draw_overlay(
    image: FloatArray, grounding: GroundingMap, title: str, path: Path, boxes: Sequence[Box] = (), note: str = ""
) -> None:
    """Write a picture (PNG, or what the suffix says): image, map, colour bar, boxes, the phrase as title.

    Args:
        image: float32 [H, W] in [0, 1].
        grounding: the map of the phrase on this image.
        title: the phrase.
        path: where to.
        boxes: float xyxy in image pixels, drawn in white.
        note: small print below the picture.
    """
    heat = map_on_image(grounding)
    low, high = float(np.nanmin(heat)), float(np.nanmax(heat))
    scaled = (heat - low) / ((high - low) or 1.0)
    height, width = image.shape
    figure = Figure(figsize=(_INCHES + 1.0, _INCHES * height / width + 1.1), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    alpha = np.nan_to_num(0.15 + 0.45 * scaled)
    shown = axes.imshow(scaled, cmap="inferno", vmin=0, vmax=1, alpha=alpha, interpolation="bilinear")
    for x0, y0, x1, y1 in boxes:
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=1.6))
    axes.set_axis_off()
    axes.set_title("\n".join(textwrap.wrap(title, 60)), fontsize=10)
    shown.set_alpha(None)
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
    shown.set_alpha(alpha)
    bar.set_label("relevance, scaled to this image", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.supxlabel("\n".join(textwrap.wrap(f"{note} {_FOOTNOTE}".strip(), 90)), fontsize=7, color="dimgray")
    with atomic(path) as part:
        figure.savefig(part)
