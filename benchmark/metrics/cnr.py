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
    inside, outside = (values[side].astype(np.float64) for side in (region, ~region))
    if min(inside.size, outside.size) < 2:
        return None
    noise = np.sqrt(inside.var(ddof=1) + outside.var(ddof=1))
    return float((inside.mean() - outside.mean()) / noise) if noise > 0 else None
