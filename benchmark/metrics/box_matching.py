"""Precision and recall of boxes: for phrases with several of them, which were found and which were made up?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.rectangles import Boxes, box_ious, clipped_boxes, part_boxes

LEAST_IOU = 0.5


class Matching(NamedTuple):
    """A one-to-one matching of predicted and true boxes.

    Attributes:
        matched: pairs, each of an IoU of at least LEAST_IOU.
        found: predicted boxes.
        boxes: true boxes.
    """

    matched: int
    found: int
    boxes: int

    @property
    def precision(self) -> float | None:
        """Share of the predicted boxes that have a partner; None without predictions or without true boxes."""
        return self.matched / self.found if self.found and self.boxes else None

    @property
    def recall(self) -> float | None:
        """Share of the true boxes that have a partner, 0 without predictions; None without true boxes."""
        return self.matched / self.boxes if self.boxes else None


def box_matching(mask: BoolArray, region: BoolArray, boxes: ArrayLike | None = None) -> Matching:
    """Match the boxes around a mask's connected parts to the sample's boxes, as many pairs as possible.

    Source: precision and recall at IoU 0.5 as in Everingham et al., The Pascal Visual Object Classes Challenge, IJCV
    88, 2010. Parts of a mask have no confidence to go by, so the matching is the largest one instead of a greedy one
    (Kuhn, The Hungarian Method for the Assignment Problem, 1955).

    Args:
        mask: bool [H, W], the prediction. Pixels that touch at a corner are of one part; every part counts, however
            small, so speckled masks are imprecise.
        region: bool [H, W], in the same frame.
        boxes: float xyxy [N, 4] in pixels of the frame; cut at its edges, those outside left out. None: the boxes
            around the region's connected parts, which joins boxes that overlap.
    """
    true = part_boxes(region) if boxes is None else clipped_boxes(boxes, region.shape)
    found = part_boxes(mask)
    return Matching(_most_pairs(found, true), len(found), len(true))


def _most_pairs(found: Boxes, true: Boxes) -> int:
    """The size of the largest one-to-one matching among pairs of an IoU of at least LEAST_IOU."""
    from scipy.optimize import linear_sum_assignment

    allowed = box_ious(found, true) >= LEAST_IOU
    return int(np.count_nonzero(allowed[linear_sum_assignment(allowed, maximize=True)]))
