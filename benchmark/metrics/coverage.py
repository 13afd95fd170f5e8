"""How much of the region the method could see at all."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray


def coverage(covered: BoolArray, region: BoolArray) -> float | None:
    """Share of the region that the method's frame covers.

    It bounds what a score can mean: a method that cuts off a lung's apex cannot find what lies there. What the
    evaluation frame itself cuts off is in neither count.

    Source: this benchmark's own; the paper has no counterpart.

    Args:
        covered: bool [H, W], the pixels of the evaluation frame that lie in the method's frame.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], whatever map and mask are. None where the region is empty.
    """
    return float(np.count_nonzero(covered & region) / np.count_nonzero(region)) if region.any() else None
