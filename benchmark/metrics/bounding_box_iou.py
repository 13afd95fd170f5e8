"""IoU of the mask's bounding box and the region, as in the paper's released code and in full."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.overlap import iou, miou
from gtg_bench.benchmark.metrics.rectangles import bounding_box


def box_iou(mask: BoolArray, region: BoolArray) -> float | None:
    """Foreground IoU of the mask's bounding box and the region, as in the released code.

    That code's box ends before the mask's last row and column, so a perfect mask scores slightly less than 1 and a
    mask of one row or column 0; `box_iou_full` uses the whole box. The region is the union of the boxes, not their
    bounding box, so with several boxes a score of 1 is out of reach.

    Source: the paper's released code (box IoU).

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1), 0 for an empty mask. None if the region is empty.
    """
    return iou(_filled_box(mask, cut=1), region)


def box_miou(mask: BoolArray, region: BoolArray) -> float | None:
    """Mean of `box_iou` and the IoU of the complements, as in `miou`.

    Source: the paper's released code (box mIoU).

    Returns:
        A value in [0, 1). An empty mask scores half of the background's share (0 in the released code). None if the
        region is empty or fills the frame.
    """
    return miou(_filled_box(mask, cut=1), region)


def box_iou_full(mask: BoolArray, region: BoolArray) -> float | None:
    """Foreground IoU of the mask's whole bounding box and the region: 1 for a perfect mask of one box.

    Source: this benchmark; use it where released figures need not be matched.

    Returns:
        A value in [0, 1], 0 for an empty mask. None if the region is empty.
    """
    return iou(_filled_box(mask, cut=0), region)


def _filled_box(mask: BoolArray, cut: int) -> BoolArray:
    """The mask's bounding box as a mask, without its last `cut` rows and columns."""
    filled = np.zeros_like(mask)
    if box := bounding_box(mask):
        left, top, right, bottom = box
        filled[top : bottom - cut, left : right - cut] = True
    return filled
