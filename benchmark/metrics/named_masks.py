"""Mask rules by name, as protocols and `--mask` use them.

- mixture: the paper's Gaussian mixture, fitted on the map's native grid, then carried to the evaluation frame.
- otsu: Otsu's threshold of the pixels in the evaluation frame.
- 0.5, or any number in [0, 1): a fixed threshold on the min-max normalised pixels of the evaluation frame.
- best:0.37: the same, with a threshold that was chosen on another split (see `best_threshold`).
- none: an empty mask, for protocols without mask metrics.
"""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.metrics.masks import carried_mask, fixed_mask, mixture_mask, otsu_mask

MIXTURE, OTSU, NONE, BEST = "mixture", "otsu", "none", "best"


def mask_name(text: str) -> str:
    """The canonical spelling of a mask rule that a user names: "0.50" becomes "0.5".

    Raises:
        UsageError: neither a known name nor a threshold in [0, 1).
    """
    if text in (MIXTURE, OTSU):
        return text
    if text.startswith(BEST):
        raise UsageError("--mask best is chosen on another split: gtg-bench score RUN --mask best --tune-on OTHER_RUN")
    try:
        name = f"{float(text) + 0.0:g}"
        if 0 <= float(name) < 1:
            return name
    except ValueError:
        pass
    raise UsageError(f"--mask {text!r}: choose {MIXTURE}, {OTSU}, or a threshold from 0 to below 1 such as 0.5")


def best_name(threshold: float) -> str:
    """The name of a threshold that was chosen on another split."""
    return f"{BEST}:{threshold:g}"


def rule_of(mask: str) -> str:
    """The rule behind the name of a mask or smoothing: every value chosen on a validation split follows "best"."""
    return BEST if mask.startswith(f"{BEST}:") else mask


def named_mask(
    mask: str, grounding: GroundingMap, to: Frame, values: FloatArray, window: tuple[slice, slice]
) -> BoolArray:
    """The mask of a map in the part of the evaluation frame that counts.

    Args:
        mask: a name in the spelling of `mask_name` or `best_name`, or "none".
        grounding: the map as its method returned it.
        to: the evaluation frame.
        values: float32 [H, W], the map carried to `to`, finite; uncovered pixels hold its minimum.
        window: the rows and columns that count.

    Returns:
        bool [h, w] of the window's size; empty for a constant map. Under "mixture" it is False where the map's frame
        does not cover the pixel.
    """
    pixels = values[window]
    if mask == NONE or not pixels.size:
        return np.zeros(pixels.shape, dtype=bool)
    if mask == MIXTURE:
        return carried_mask(mixture_mask(grounding.values), grounding.frame, to)[window]
    return otsu_mask(pixels) if mask == OTSU else fixed_mask(pixels, float(mask.removeprefix(f"{BEST}:")))
