"""Box precision and recall: how many of a phrase's boxes were found, and how many predicted ones are right?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.arrays import check_arrays
from gtg_bench.benchmark.metrics.rectangles import box_ious, clipped_boxes, part_boxes

LEAST_IOU = 0.5


class Matching(NamedTuple):
    """Counts of a one-to-one matching of predicted and true boxes.

    Attributes:
        matched: pairs with an IoU of at least LEAST_IOU.
        predicted: predicted boxes.
        true: true boxes.
    """

    matched: int
    predicted: int
    true: int

    @property
    def precision(self) -> float | None:
        """Matched share of the predicted boxes; None without predicted or without true boxes."""
        return self.matched / self.predicted if self.predicted and self.true else None

    @property
    def recall(self) -> float | None:
        """Matched share of the true boxes, 0 without predicted boxes; None without true boxes."""
        return self.matched / self.true if self.true else None


def box_precision(mask: BoolArray, region: BoolArray, boxes: ArrayLike | None = None) -> float | None:
    """Share of the predicted boxes that match a true box, see `match_boxes`.

    Returns:
        A value in [0, 1]. None if the mask or the region is empty.
    """
    return match_boxes(mask, region, boxes).precision


def box_recall(mask: BoolArray, region: BoolArray, boxes: ArrayLike | None = None) -> float | None:
    """Share of the true boxes that match a predicted box, see `match_boxes`.

    Returns:
        A value in [0, 1], 0 for an empty mask. None if the region is empty.
    """
    return match_boxes(mask, region, boxes).recall


def match_boxes(mask: BoolArray, region: BoolArray, boxes: ArrayLike | None = None) -> Matching:
    """Match the bounding boxes of a mask's connected components to the true boxes, as many pairs as possible.

    Source: precision and recall at IoU 0.5 as in Everingham et al., The Pascal Visual Object Classes Challenge, IJCV
    88, 2010. Components have no confidence to sort by, so the matching is the largest one instead of a greedy one
    (Kuhn, The Hungarian Method for the Assignment Problem, 1955).

    Args:
        mask: bool [H, W], the prediction. Components are 8-connected and count however small they are, so speckled
            masks have a low precision.
        region: bool [H, W], in the same frame.
        boxes: the true boxes, float xyxy [N, 4] in pixels of the frame, clipped to it; those outside are dropped.
            None: the bounding boxes of the region's connected components, which merges overlapping boxes.
    """
    check_arrays(mask, region)
    true = part_boxes(region) if boxes is None else clipped_boxes(boxes, region.shape)
    predicted = part_boxes(mask)
    return Matching(most_pairs(box_ious(predicted, true) >= LEAST_IOU), len(predicted), len(true))


def most_pairs(allowed: BoolArray) -> int:
    """The size of the largest one-to-one matching; bool [N, M] says which of N may be paired with which of M."""
    from scipy.optimize import linear_sum_assignment

    return int(np.count_nonzero(allowed[linear_sum_assignment(allowed, maximize=True)]))
