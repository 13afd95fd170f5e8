"""Phrase discrimination: does the map prefer the named region to the image's other findings?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.arrays import check_arrays


def phrase_discrimination(values: FloatArray, region: BoolArray, others: Sequence[BoolArray]) -> float | None:
    """Share of the image's other regions in which the map is colder than in the named one.

    The named region and each other one are compared by the map's means over the pixels that belong to only one of the
    two: 1 if the named region is hotter, 0.5 if the means are equal, else 0. A map that ignores the phrase scores 0.5
    on average.

    Source: this benchmark; the paper has no counterpart.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        others: bool [H, W] each, the regions of the image's other phrases, in the same frame.

    Returns:
        A value in [0, 1]. An other region that contains the named one, or is contained in it, is left out; None if
        none remains, which is always so if the named region is empty or fills the frame.
    """
    check_arrays(region, *others, values=values)
    wins = []
    for other in others:
        ours, theirs = values[region & ~other], values[other & ~region]
        if ours.size and theirs.size:
            difference = ours.mean(dtype=np.float64) - theirs.mean(dtype=np.float64)
            wins.append(float(np.sign(difference) + 1) / 2)
    return float(np.mean(wins)) if wins else None
