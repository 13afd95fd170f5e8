"""Overlap with the region: IoU, the paper's mIoU and Dice of the mask; coverage of the method's field of view."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.arrays import check_arrays


def iou(mask: BoolArray, region: BoolArray) -> float | None:
    """Foreground intersection over union, |mask and region| / |mask or region|.

    Source: the Jaccard term in the paper, section 3.3, for the foreground alone.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 1 for a perfect mask, 0 for an empty one. None if the region is empty.
    """
    check_arrays(mask, region)
    return _jaccard(mask, region) if region.any() else None


def miou(mask: BoolArray, region: BoolArray) -> float | None:
    """Mean of the IoU of mask and region and the IoU of their complements; not a mean over thresholds.

    Source: paper, section 3.3 ("the mean of the Jaccard distances ... between the overlapping and non-overlapping
    regions"). BioViL's mIoU (Boecking et al., 2022) is another quantity, see `miou_thresholds`. Because most of an
    image is background, even a mask of one pixel scores nearly half of the background's share: read it beside `iou`.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 1 for a perfect mask; an empty mask scores half of the background's share. None if the
        region is empty or fills the frame, where one of the two IoUs is undefined.
    """
    check_arrays(mask, region)
    if not region.any() or region.all():
        return None
    return (_jaccard(mask, region) + _jaccard(~mask, ~region)) / 2


def dice(mask: BoolArray, region: BoolArray) -> float | None:
    """2 |mask and region| / (|mask| + |region|): the F1 score of the mask's pixels, a monotone function of `iou`.

    Source: Dice, Measures of the Amount of Ecologic Association Between Species, Ecology 26 (3), 1945.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 1 for a perfect mask, 0 for an empty one. None if the region is empty.
    """
    check_arrays(mask, region)
    if not region.any():
        return None
    return float(2 * np.count_nonzero(mask & region) / (np.count_nonzero(mask) + np.count_nonzero(region)))


def coverage(covered: BoolArray, region: BoolArray) -> float | None:
    """Share of the region that the method's frame covers.

    It puts a score in perspective: a method that crops the apex of a lung cannot find anything there. Pixels outside
    the evaluation frame are not counted at all.

    Source: this benchmark; the paper has no counterpart.

    Args:
        covered: bool [H, W], the pixels of the evaluation frame that the method's frame covers.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], independent of the map and the mask. None if the region is empty.
    """
    check_arrays(covered, region)
    return float(np.count_nonzero(covered & region) / np.count_nonzero(region)) if region.any() else None


def _jaccard(one: BoolArray, other: BoolArray) -> float:
    """Jaccard index of two masks that are not both empty."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))
