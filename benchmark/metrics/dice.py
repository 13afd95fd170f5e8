"""Dice coefficient of the predicted mask and the named region."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray


def dice(mask: BoolArray, region: BoolArray) -> float | None:
    """2 |mask and region| / (|mask| + |region|): the F1 score of the mask's pixels, a monotone function of `iou`.

    Source: Dice, Measures of the Amount of Ecologic Association Between Species, Ecology 26 (3), 1945.

    Args:
        mask: bool [H, W], the prediction.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 1 for a perfect mask. An empty mask scores 0; None where the region is empty.
    """
    if not region.any():
        return None
    return float(2 * np.count_nonzero(mask & region) / (np.count_nonzero(mask) + np.count_nonzero(region)))
