"""The contrast-to-noise ratio without its sign, for tables of those who report it so."""

from __future__ import annotations

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.cnr import cnr


def cnr_abs(values: FloatArray, region: BoolArray) -> float | None:
    """|mean inside - mean outside| / sqrt(variance inside + variance outside), with unbiased variances.

    Source: Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV
    2022, and the formula of paper, section 3.3. The absolute value is taken for each sample, before any mean: a map
    that is cold in the region scores as a hot one, so compare it only with figures of the same kind and read it
    beside `cnr`.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value of at least 0; None where `cnr` is: the region is empty or fills the frame, either side is a single
        pixel, or both sides are constant.
    """
    signed = cnr(values, region)
    return None if signed is None else abs(signed)
