"""Intersection over union of the predicted mask and the named region."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray


def iou(mask: BoolArray, region: BoolArray) -> float | None:
    """Foreground overlap, |mask and region| / |mask or region|.

    Source: the Jaccard term of paper, section 3.3, for the foreground alone.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 1 for a perfect mask. An empty mask scores 0; None where the region is empty.
    """
    return overlap(mask, region) if region.any() else None


def overlap(one: BoolArray, other: BoolArray) -> float:
    """Jaccard index in [0, 1] of two masks, bool [H, W] in the same frame, not both empty."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))
