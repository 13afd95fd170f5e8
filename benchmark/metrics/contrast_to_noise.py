"""CNR: contrast-to-noise ratio of the map, signed and absolute."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.arrays import blocks, check_arrays


def cnr(values: FloatArray, region: BoolArray) -> float | None:
    """(mean inside - mean outside) / sqrt(variance inside + variance outside), signed, with unbiased variances.

    Source: paper, section 3.3. Its text takes the absolute value, its released code does not; neither does this
    function, so a map that is cold in the region scores below 0. Invariant to affine rescaling of the map; other
    monotone rescalings can raise it.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        Any real number, positive if the region is hotter than the rest. None if the region is empty or fills the
        frame, if either side is a single pixel (no unbiased variance), or if both sides are constant.
    """
    check_arrays(region, values=values)
    sides = values[region], values[~region]
    if min(side.size for side in sides) < 2:
        return None
    (mean_in, variance_in), (mean_out, variance_out) = (_mean_and_variance(side) for side in sides)
    noise = np.sqrt(variance_in + variance_out)
    return float((mean_in - mean_out) / noise) if noise > 0 else None


def cnr_abs(values: FloatArray, region: BoolArray) -> float | None:
    """Absolute value of `cnr`, taken per sample before any averaging.

    A map that is cold in the region scores like a hot one, so compare it only with figures of the same kind and read
    it beside `cnr`.

    Source: Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV
    2022, and the formula in the paper, section 3.3.

    Args:
        values: float32 [H, W], finite, any range.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value of at least 0; None where `cnr` is None.
    """
    signed = cnr(values, region)
    return None if signed is None else abs(signed)


def _mean_and_variance(values: FloatArray) -> tuple[np.float64, np.float64]:
    """Mean and unbiased variance of at least two values [n], summed in double precision block by block."""
    mean = sum(part.astype(np.float64).sum() for part in blocks(values)) / values.size
    squares = np.float64(0)
    for part in blocks(values):
        deviations = part.astype(np.float64)
        deviations -= mean
        deviations *= deviations
        squares += deviations.sum()
    return mean, squares / (values.size - 1)
