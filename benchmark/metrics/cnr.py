"""Contrast-to-noise ratio: how far the map inside the region stands out from the map outside."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray


def cnr(values: FloatArray, region: BoolArray) -> float | None:
    """(mean inside - mean outside) / sqrt(variance inside + variance outside), signed, with unbiased variances.

    Source: paper, section 3.3, whose text takes the absolute value; its released code does not, and neither does
    this: a map that is cold in the region must not score as a hot one. Affine changes of the map leave it as it is,
    other monotone ones can raise it.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        Any real number, above 0 where the region is hotter than the rest. None where the region is empty or fills
        the frame, where either side is a single pixel (no unbiased variance), and where both sides are constant.
    """
    sides = values[region], values[~region]
    if min(side.size for side in sides) < 2:
        return None
    (mean_in, variance_in), (mean_out, variance_out) = (_mean_and_variance(side) for side in sides)
    noise = np.sqrt(variance_in + variance_out)
    return float((mean_in - mean_out) / noise) if noise > 0 else None


def _mean_and_variance(values: FloatArray) -> tuple[np.float64, np.float64]:
    """Mean and unbiased variance of at least two values [n], in double precision and with one array of it."""
    deviations = values.astype(np.float64)
    mean = deviations.mean()
    deviations -= mean
    deviations *= deviations
    return mean, deviations.sum() / (values.size - 1)
