"""Top-1: does the hottest pixel lie in the region?"""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray


def top1(values: FloatArray, region: BoolArray) -> float | None:
    """1 if the map's maximum lies in the region, else 0; for several equal maxima, the share of them inside.

    Source: paper, Table 2 (Top-1, after Dombrowski et al., 2024). The share is what the first maximum of a shuffled
    map would score on average; taking the first in reading order would favour the top left corner.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1]. A constant map scores the region's share of the frame, a region that fills the frame 1;
        None where the region is empty.
    """
    return float(region[values == values.max()].mean()) if region.any() else None
