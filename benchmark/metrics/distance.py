"""How far the centre of the predicted mask lies from the centre of the region."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.rectangles import bounding_box, clipped_boxes, part_boxes


def distance(mask: BoolArray, region: BoolArray, boxes: ArrayLike | None = None) -> float | None:
    """Euclidean distance of the centre of the mask's bounding rectangle from the centre of the region's.

    Source: the released code (distance). Where it has no mask it writes 0, the best value; here that is undefined, so
    a mean of distances must be read beside its count.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        boxes: float xyxy [N, 4] in pixels of the frame, to tell overlapping boxes from one. None: the region's
            connected parts are counted instead.

    Returns:
        Pixels of the frame, 0 for a perfect mask: lower is better. None where the mask or the region is empty, and
        where the region has several boxes (as in the released code) or several parts: it has no one centre.
    """
    found, true = bounding_box(mask), bounding_box(region)
    if found is None or true is None:
        return None
    parts = part_boxes(region) if boxes is None else clipped_boxes(boxes, region.shape)
    if len(parts) > 1:
        return None
    return math.dist(_centre(found), _centre(true))


def _centre(box: tuple[int, int, int, int]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
