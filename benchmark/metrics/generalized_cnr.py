"""gCNR: generalized contrast-to-noise ratio, one minus the overlap of the histograms inside and outside."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.arrays import blocks, check_arrays

BINS = 256


def gcnr(values: FloatArray, region: BoolArray, bins: int = BINS) -> float | None:
    """Compute 1 - sum over bins of min(p_in, p_out), with p_in and p_out the normalised histograms of both sides.

    Both histograms have the same `bins` bins of equal width, from the map's minimum to its maximum over the whole
    frame; the maximum falls into the last bin. An ideal observer who guesses from a pixel's value whether it was drawn
    from inside or outside, both being equally likely, is right with probability (1 + gCNR) / 2.

    Affine rescaling of the map leaves the score unchanged. Under other monotone rescalings it is only approximately
    invariant: a steep gamma curve, or a single outlier, crowds the values into few bins and lowers it. It has no sign:
    a map that is cold in the region scores like a hot one, so read it beside `cnr`. A small region fills its bins
    sparsely and scores above 0 by chance: about 0.4 sqrt(bins / pixels of the region) for independent random pixels.

    Source: Rodriguez-Molares et al., The Generalized Contrast-to-Noise Ratio: A Formal Definition for Lesion
    Detectability, IEEE TUFFC 67 (4), 2020. It is defined by probability densities; public implementations commonly
    estimate them by 256 bins over the common range.

    Args:
        values: float32 [H, W], finite, any range.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        bins: number of bins.

    Returns:
        A value in [0, 1]: 0 for a constant map, 1 if no bin holds pixels of both sides. None if the region is empty
        or fills the frame.
    """
    check_arrays(region, values=values)
    if not region.any() or region.all():
        return None
    low, span = float(values.min()), float(values.max()) - float(values.min())
    counts = np.zeros((2, bins))
    for part, sides in zip(blocks(values.ravel()), blocks(region.ravel()), strict=True):
        levels = np.minimum((part.astype(np.float64) - low) / (span or 1) * bins, bins - 1).astype(np.intp)
        counts += np.bincount(levels + bins * sides, minlength=2 * bins).reshape(2, bins)
    outside, inside = counts / counts.sum(axis=1, keepdims=True)
    return float(np.clip(1 - np.minimum(inside, outside).sum(), 0, 1))
