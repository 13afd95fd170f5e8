"""Distance between the centres of the predicted mask and the region."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.arrays import check_arrays
from gtg_bench.benchmark.metrics.rectangles import bounding_box, clipped_boxes, part_boxes


def distance(mask: BoolArray, region: BoolArray, boxes: ArrayLike | None = None) -> float | None:
    """Euclidean distance between the centres of the mask's and the region's bounding boxes.

    Source: the paper's released code (distance). For an empty mask that code writes 0, the best value; here the
    distance is undefined, so read a mean of distances beside its count.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        boxes: float xyxy [N, 4] in pixels of the frame, to distinguish overlapping boxes from a single one. None: the
            region's connected components are counted instead.

    Returns:
        Pixels of the frame, 0 for a perfect mask; lower is better. None if the mask or the region is empty, and if
        the region has several boxes (as in the released code) or components, because it then has no single centre.
    """
    check_arrays(mask, region)
    predicted, true = bounding_box(mask), bounding_box(region)
    if predicted is None or true is None:
        return None
    if len(part_boxes(region) if boxes is None else clipped_boxes(boxes, region.shape)) > 1:
        return None
    return math.dist(*(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (predicted, true)))
