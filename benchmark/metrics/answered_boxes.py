"""Box answers: how well do predicted boxes, with or without scores, agree with the true ones?

All arrays are float64: boxes [N, 4], xyxy, half open, in pixels of one frame, of positive area; scores [N], higher is
more confident. A method without scores gives equal ones: its boxes then tie. No metric depends on the order of boxes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.matched_boxes import most_pairs
from gtg_bench.benchmark.metrics.rectangles import Boxes, box_ious


def matched_iou(predicted: Boxes, true: Boxes) -> float | None:
    """Sum of the IoUs of matched boxes over the larger of the two numbers of boxes.

    Predicted and true boxes are matched one to one so that the sum is largest (Kuhn, The Hungarian Method for the
    Assignment Problem, 1955; as between predictions and targets in Carion et al., End-to-End Object Detection with
    Transformers, ECCV 2020). A surplus or a missing box counts as an IoU of 0. Two perfect boxes score 1; a mean over
    all pairs would give them 0.5.

    Returns:
        A value in [0, 1], 0 without predicted boxes. None without true boxes. With one box each, their IoU.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(true):
        return None
    ious = box_ious(predicted, true)
    return float(ious[linear_sum_assignment(ious, maximize=True)].sum() / max(ious.shape))


def box_ap(predicted: Boxes, scores: NDArray[np.float64], true: Boxes, least_iou: float) -> float | None:
    """Average precision of the boxes of one phrase: the area under the interpolated precision-recall curve.

    Source: Everingham et al., The Pascal Visual Object Classes Challenge: A Retrospective, IJCV 111, 2015 (all points
    interpolated). It differs from that on purpose: a phrase is a query of its own, so scores need not be comparable
    between phrases, and a run's value is the mean over phrases; at each score the largest one-to-one matching counts
    instead of the greedy one; boxes with equal scores enter together. Boxes without scores make one point, where AP is
    precision times recall. With one predicted and one true box it is the accuracy at that IoU.

    Args:
        predicted: the predicted boxes.
        scores: their scores.
        true: the true boxes.
        least_iou: the IoU at which a pair may match, above 0.

    Returns:
        A value in [0, 1], 0 without predicted boxes. None without true boxes.
    """
    if not len(true):
        return None
    allowed = box_ious(predicted, true) >= least_iou
    levels = np.unique(scores)[::-1]
    kept = [scores >= level for level in levels]
    matched = np.array([most_pairs(allowed[rows]) for rows in kept], dtype=np.float64)
    precision = matched / [np.count_nonzero(rows) for rows in kept]
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(matched / len(true), prepend=0) * best).sum())


def box_ap10(predicted: Boxes, scores: NDArray[np.float64], true: Boxes) -> float | None:
    """`box_ap` at an IoU of 0.1.

    Returns:
        A value in [0, 1], see `box_ap`.
    """
    return box_ap(predicted, scores, true, 0.1)


def box_ap30(predicted: Boxes, scores: NDArray[np.float64], true: Boxes) -> float | None:
    """`box_ap` at an IoU of 0.3.

    Returns:
        A value in [0, 1], see `box_ap`.
    """
    return box_ap(predicted, scores, true, 0.3)


def box_ap50(predicted: Boxes, scores: NDArray[np.float64], true: Boxes) -> float | None:
    """`box_ap` at an IoU of 0.5.

    Returns:
        A value in [0, 1], see `box_ap`.
    """
    return box_ap(predicted, scores, true, 0.5)


def box_top1(predicted: Boxes, scores: NDArray[np.float64], region: BoolArray) -> float | None:
    """Pointing game of boxes: 1 if the centre of the box with the highest score is inside the region, else 0.

    Source: `top1`, with the point that a box names. If several boxes share the highest score, the share of their
    centres inside, which is the expected score if one of them is chosen at random.

    Args:
        predicted: the predicted boxes; a centre beyond the frame is outside the region.
        scores: their scores.
        region: bool [H, W], in the same frame.

    Returns:
        A value in [0, 1], 0 without predicted boxes. None if the region is empty.
    """
    if not region.any():
        return None
    if not len(predicted):
        return 0.0
    best = predicted[scores == scores.max()]
    x, y = np.floor((best[:, :2] + best[:, 2:]) / 2).astype(int).T
    height, width = region.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return float((region[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] & inside).mean())
