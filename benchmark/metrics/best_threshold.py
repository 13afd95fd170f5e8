"""The threshold that segments a validation split best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray
from gtg_bench.benchmark.metrics.miou_thresholds import ious_above
from gtg_bench.benchmark.metrics.scaling import minmax

CANDIDATES = tuple(percent / 100 for percent in range(1, 100))


def best_threshold(
    maps: Iterable[NDArray[np.floating]], regions: Iterable[BoolArray], candidates: Sequence[float] = CANDIDATES
) -> float:
    """The candidate with the highest mean foreground IoU of `fixed_mask` over samples; of equals the lowest.

    Choose it on the validation split and apply it, unchanged, to the test split: a threshold that has seen the
    regions that it is scored on flatters its method.

    Args:
        maps: float [H, W] each, finite, any range; min-max normalised one by one.
        regions: bool [H, W] each, in the same frame as its map; samples whose region is empty are left out.
        candidates: thresholds on the min-max normalised map, rising.

    Raises:
        ValueError: there is no sample with a region, or not a region for each map.
    """
    pairs = zip(maps, regions, strict=True)
    curves = [ious_above(minmax(values), region, candidates) for values, region in pairs if region.any()]
    if not curves:
        raise ValueError("a threshold cannot be chosen without a sample that has a region")
    return float(candidates[int(np.mean(curves, axis=0).argmax())])
