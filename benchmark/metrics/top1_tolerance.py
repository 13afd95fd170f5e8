"""The pointing game with a tolerance: does the hottest pixel lie in the region or close to it?"""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray

TOLERANCE = 15


def top1_tolerance(values: FloatArray, region: BoolArray, tolerance: int = TOLERANCE) -> float | None:
    """As `top1`, with a maximum within `tolerance` pixels of the region counted as a hit.

    The distance is that between pixel centres, from the maximum to the nearest pixel of the region; equal maxima share.

    Source: Zhang et al., Top-Down Neural Attention by Excitation Backprop, IJCV 126, 2018 (pointing game, 15 pixels).
    The hit rate of CheXlocalize (Saporta et al., 2022) has no tolerance and is `top1`.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
        tolerance: in pixels of the frame: 15 are 3 % of the paper's frame, and less of a radiograph's own pixels.

    Returns:
        A value in [0, 1], at least `top1`. A constant map scores the share of the frame that lies in the widened
        region, a region that fills the frame 1; None where the region is empty.
    """
    if not region.any():
        return None
    maxima = values == values.max()
    rows, columns = (slice(max(where.min() - tolerance, 0), where.max() + tolerance + 1) for where in maxima.nonzero())
    near = _widened(region[rows, columns], tolerance)
    return float(near[maxima[rows, columns]].mean())


def _widened(region: BoolArray, tolerance: int) -> BoolArray:
    """The pixels at most `tolerance` away from the region, bool [h, w]; none where it is empty."""
    if not region.any():
        return region
    from scipy.ndimage import distance_transform_edt

    widened: BoolArray = distance_transform_edt(~region) <= tolerance
    return widened
