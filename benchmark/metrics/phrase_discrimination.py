"""Phrase phrase_discrimination: does the map point at the named region rather than at the image's other findings?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray


def phrase_discrimination(values: FloatArray, region: BoolArray, others: Sequence[BoolArray]) -> float | None:
    """How often the map is hotter in the named region than in another region of the same image.

    Each other region is compared by the map's means over what belongs to one of the two alone: 1 if the named one is
    hotter, 0.5 if both are equal, 0 otherwise; the mean of these. A map that ignores the phrase averages 0.5.

    Source: this benchmark's own; the paper has no counterpart.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        others: bool [H, W] each, the regions of the image's other phrases, in the same frame.

    Returns:
        A value in [0, 1]. Others that share all of their own or all of the named region are left out; None where no
        other remains, which is always so where the region is empty or fills the frame.
    """
    duels = [(region & ~other, other & ~region) for other in others]
    wins = [_win(values[named], values[rest]) for named, rest in duels if named.any() and rest.any()]
    return float(np.mean(wins)) if wins else None


def _win(ours: FloatArray, theirs: FloatArray) -> float:
    """1, 0.5 or 0: the mean of `ours` is above, equal to or below that of `theirs`; float32 [n] and [m]."""
    difference = ours.mean(dtype=np.float64) - theirs.mean(dtype=np.float64)
    return float(np.sign(difference) + 1) / 2
