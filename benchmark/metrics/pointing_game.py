"""The pointing game: is the map's maximum inside the region, exactly or within a tolerance?"""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.arrays import check_arrays

TOLERANCE = 15
TIE = 1e-6
"""Values that fall short of the maximum by at most this share of the map's range tie with it."""


def top1(values: FloatArray, region: BoolArray) -> float | None:
    """1 if the map's maximum is inside the region, else 0; if several pixels tie, the share of them inside.

    Source: paper, Table 2 (Top-1, after Dombrowski et al., 2024). The share is the expected score if one of the tied
    pixels is chosen at random; taking the first one would favour the top left corner. Pixels tie with the maximum if
    they are within TIE (1e-6) of the map's range below it: float32 rounding, which depends on the batch size, must not
    decide. Maps whose highest values differ by more score as without this rule.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1]. A constant map scores the region's share of the frame, a region that fills the frame 1.
        None if the region is empty.
    """
    check_arrays(region, values=values)
    return float(region[_maxima(values)].mean()) if region.any() else None


def top1_tolerance(values: FloatArray, region: BoolArray, tolerance: int = TOLERANCE) -> float | None:
    """Compute `top1`, counting a maximum within `tolerance` pixels of the region as a hit.

    The distance is measured between pixel centres, from the maximum to the nearest pixel of the region. Ties are those
    of `top1`.

    Source: Zhang et al., Top-Down Neural Attention by Excitation Backprop, IJCV 126, 2018 (pointing game, 15 pixels).
    The hit rate of CheXlocalize (Saporta et al., 2022) has no tolerance and is `top1`.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        tolerance: in pixels of the frame; 15 pixels are 3 % of the paper's frame and less of a full radiograph.

    Returns:
        A value in [0, 1], at least `top1`. A constant map scores the dilated region's share of the frame, a region
        that fills the frame 1. None if the region is empty.
    """
    check_arrays(region, values=values)
    if not region.any():
        return None
    maxima = _maxima(values)
    rows, columns = (slice(max(where.min() - tolerance, 0), where.max() + tolerance + 1) for where in maxima.nonzero())
    nearby = region[rows, columns]
    if not nearby.any():
        return 0.0
    from scipy.ndimage import distance_transform_edt

    return float((distance_transform_edt(~nearby) <= tolerance)[maxima[rows, columns]].mean())


def _maxima(values: FloatArray) -> BoolArray:
    """The pixels that share the map's maximum, bool [H, W]."""
    low, high = float(values.min()), float(values.max())
    maxima: BoolArray = values >= high - TIE * (high - low)
    return maxima
