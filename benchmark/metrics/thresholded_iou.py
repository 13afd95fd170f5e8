"""Overlap averaged over thresholds: BioViL's mIoU, and the IoU and Dice of a sweep over the rescaled map.

The paper's mIoU is another quantity, see `miou`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.arrays import check_arrays, minmax

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def miou_thresholds(values: NDArray[np.floating], region: BoolArray) -> float | None:
    """Mean over THRESHOLDS of the foreground IoU of the pixels above the threshold.

    Source: Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV
    2022 (mIoU of the cosine similarity map, clipped to [0, 1]). The thresholds are absolute, so the score is
    meaningful only for maps on the scale of a cosine. Hardly any pixel of an attention map exceeds 0.1; such maps
    score about 0 whatever they show. Use `miou_thresholds_minmax` for them.

    Args:
        values: float [H, W], finite. Clipping to [0, 1] makes no difference, since all thresholds are inside.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1]. A threshold that no pixel exceeds counts as 0, so a constant map scores the region's share
        of the frame at the thresholds below its value and 0 at the others. None if the region is empty.
    """
    check_arrays(region, values=values)
    return float(ious_above(values, region, THRESHOLDS).mean()) if region.any() else None


def miou_thresholds_minmax(values: NDArray[np.floating], region: BoolArray) -> float | None:
    """Compute `miou_thresholds` of the map after min-max normalisation.

    Invariant to affine rescaling of the map. This benchmark's adaptation of BioViL's metric to maps that are not
    cosines; not comparable with figures of `miou_thresholds`.

    Returns:
        A value in [0, 1], 0 for a constant map. None if the region is empty.
    """
    return miou_thresholds(minmax(values), region)


def iou_sweep(values: NDArray[np.floating], region: BoolArray) -> float | None:
    """Mean over THRESHOLDS of the foreground IoU of the map rescaled linearly to [-1, 1].

    Source: the protocol `threshold-sweep`, see its notes. The rescaled map is 2 m - 1 of the min-max normalised map m,
    so the thresholds 0.1 to 0.5 are 0.55 to 0.75 of it: this is a stricter metric than `miou_thresholds_minmax`.

    Args:
        values: float [H, W], finite, any range, higher is more relevant; its minimum and maximum become -1 and 1.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 0 for a constant map. None if the region is empty.
    """
    check_arrays(region, values=values)
    return float(_swept(values, region).mean()) if region.any() else None


def dice_sweep(values: NDArray[np.floating], region: BoolArray) -> float | None:
    """Mean over THRESHOLDS of the Dice coefficient, 2 |mask and region| / (|mask| + |region|), as `iou_sweep`.

    Dice is computed at each threshold and then averaged; it is 2 IoU / (1 + IoU) there, but not of the means.

    Returns:
        A value in [0, 1], at least `iou_sweep`, 0 for a constant map. None if the region is empty.
    """
    check_arrays(region, values=values)
    if not region.any():
        return None
    ious = _swept(values, region)
    return float((2 * ious / (1 + ious)).mean())


def _swept(values: NDArray[np.floating], region: BoolArray) -> NDArray[np.float64]:
    return ious_above(2 * minmax(values) - 1, region, THRESHOLDS)


def ious_above(values: NDArray[np.floating], region: BoolArray, thresholds: Sequence[float]) -> NDArray[np.float64]:
    """Compute the foreground IoU at each threshold; a pixel is predicted where its value is greater.

    Args:
        values: float [H, W], finite.
        region: bool [H, W], not empty, in the same frame.
        thresholds: on the scale of `values`.

    Returns:
        float64 [number of thresholds], each in [0, 1].
    """
    inside = values[region]
    hits = np.array([np.count_nonzero(inside > threshold) for threshold in thresholds])
    found = np.array([np.count_nonzero(values > threshold) for threshold in thresholds])
    return hits / (inside.size + found - hits)
