"""Generalised contrast-to-noise ratio: how little the histograms inside and outside the region overlap."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.ranking import Ranking, ranked

BINS = 100


def gcnr(values: FloatArray, region: BoolArray) -> float | None:
    """1 - overlap of the two histograms.

    An observer who knows both histograms tells by its value whether a pixel was drawn from inside or from outside,
    either being as likely, with a chance of (1 + gCNR) / 2.

    The histograms are of ranks: the pixels from the region's lowest to its highest value fill BINS bins, as many pixels
    in each as equal values permit, which stay together; pixels below or above that range overlap with nothing. Bins of
    equal width in value would change with every gamma curve; these leave the score exactly as it is under any strictly
    rising change of the map, and a map that separates the region perfectly scores exactly 1.

    It has no sign: a map that is cold in the region scores as a hot one, so read it beside `cnr`. A region of few
    pixels leaves its bins sparsely filled and scores above 0 by chance: pixels that are drawn alike and independently
    score about 0.4 sqrt(BINS / pixels of the region).

    Source: Rodriguez-Molares et al., The Generalized Contrast-to-Noise Ratio, IEEE TUFFC 67 (4), 2020; the bins by
    rank are this benchmark's own.

    Args:
        values: float32 [H, W], finite, any range.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 0 for a constant map, 1 where no value is found on both sides. None where the region is
        empty or fills the frame.
    """
    return ranked_gcnr(ranked(values, region))


def ranked_gcnr(ranking: Ranking) -> float | None:
    """As `gcnr`, from a ranking that is at hand."""
    if ranking.one_sided:
        return None
    levels = np.flatnonzero(np.diff(ranking.inside))[-1] + 2
    pixels, inside = ranking.pixels[:levels] - ranking.pixels[0], ranking.inside[:levels]
    middles = (pixels[:-1] + pixels[1:]) * BINS
    starts = np.searchsorted(middles, 2 * pixels[-1] * np.arange(BINS + 1))
    hits, found = np.diff(inside[starts]), np.diff(pixels[starts])
    overlap = np.minimum(hits / inside[-1], (found - hits) / (ranking.pixels[-1] - inside[-1])).sum()
    return float(np.clip(1 - overlap, 0, 1))
