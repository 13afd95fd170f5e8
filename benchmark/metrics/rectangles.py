"""Bounding boxes of masks and of their connected components."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray

Boxes = NDArray[np.float64]


def bounding_box(mask: BoolArray) -> tuple[int, int, int, int] | None:
    """The bounding box of a mask, bool [H, W]: xyxy in its pixels, half open; None if it is empty."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def part_boxes(mask: BoolArray) -> Boxes:
    """The bounding boxes of a mask's 8-connected components.

    Args:
        mask: bool [H, W], any frame.

    Returns:
        float64 [N, 4], xyxy in the mask's pixels, half open; N is 0 for an empty mask.
    """
    from scipy.ndimage import find_objects, label

    labels, _ = label(mask, structure=np.ones((3, 3), dtype=int))
    parts = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in find_objects(labels)]
    return np.array(parts, dtype=np.float64).reshape(-1, 4)


def scored_parts(mask: BoolArray, values: FloatArray) -> tuple[Boxes, NDArray[np.float64]]:
    """As `part_boxes`, with the maximum of the values (float32 [H, W]) in each component: float64 [N, 4] and [N]."""
    from scipy.ndimage import label, maximum

    labels, count = label(mask, structure=np.ones((3, 3), dtype=int))
    return part_boxes(mask), np.array(maximum(values, labels, np.arange(1, count + 1)), dtype=np.float64)


def clipped_boxes(boxes: ArrayLike, shape: tuple[int, ...]) -> Boxes:
    """Clip boxes, float xyxy [N, 4], to a frame of (height, width) `shape`, dropping those outside it."""
    found = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    found = np.clip(found, 0, np.array([shape[1], shape[0]] * 2))
    return found[(found[:, 0] < found[:, 2]) & (found[:, 1] < found[:, 3])]


def box_ious(ones: Boxes, others: Boxes) -> Boxes:
    """The IoU of each of N boxes with each of M boxes (float64 [N, 4] and [M, 4], xyxy, of positive area): [N, M]."""
    low, high = np.maximum(ones[:, None, :2], others[:, :2]), np.minimum(ones[:, None, 2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (ones, others)]
    return shared / (areas[0][:, None] + areas[1] - shared)
