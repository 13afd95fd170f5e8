"""Overlap of the mask's bounding rectangle with the region, as the paper's released code draws it and in full."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.iou import iou
from gtg_bench.benchmark.metrics.miou import miou
from gtg_bench.benchmark.metrics.rectangles import bounding_box


def box_iou(mask: BoolArray, region: BoolArray) -> float | None:
    """Foreground IoU of the mask's bounding rectangle and the region.

    Source: the released code (box IoU). Its rectangle ends before the mask's last row and column, so a perfect mask
    scores a little less than 1 and a mask of one row or column 0; `box_iou_full` has the rectangle as it should be. The
    region is the union of the boxes, not their bounding rectangle: for several boxes a perfect score does not exist.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1). An empty mask scores 0; None where the region is empty.
    """
    return iou(_rectangle(mask, short=1), region)


def box_miou(mask: BoolArray, region: BoolArray) -> float | None:
    """As `box_iou`, averaged with the IoU of what lies outside each, as in `miou`.

    Returns:
        A value in [0, 1). An empty mask scores half of the background's share (the released code: 0); None where the
        region is empty or fills the frame.
    """
    return miou(_rectangle(mask, short=1), region)


def box_iou_full(mask: BoolArray, region: BoolArray) -> float | None:
    """As `box_iou`, with the rectangle's last row and column: 1 for a perfect mask of one box.

    Source: this benchmark's own, for use where released figures need not be matched.

    Returns:
        A value in [0, 1]. An empty mask scores 0; None where the region is empty.
    """
    return iou(_rectangle(mask, short=0), region)


def _rectangle(mask: BoolArray, short: int) -> BoolArray:
    """The bounding rectangle of a mask as a mask, without its last `short` rows and columns."""
    filled = np.zeros_like(mask)
    if box := bounding_box(mask):
        left, top, right, bottom = box
        filled[top : bottom - short, left : right - short] = True
    return filled
