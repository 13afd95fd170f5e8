"""Masks by name, as a protocol or `--mask` gives them.

- mixture: the paper's, of the map's native grid, then carried to the frame.
- otsu: Otsu's threshold of the frame's pixels, after the map was carried.
- 0.5, or any number in [0, 1): a fixed threshold on the min-max normalised pixels of the frame.
- best:0.37: the same, and says that the threshold was chosen on another split (`best_threshold`).
- none: of protocols without a metric of a mask; it is empty.
"""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame
from gtg_bench.benchmark.metrics.masks import carried_mask, fixed_mask, mixture_mask, otsu_mask

MIXTURE, OTSU, NONE, BEST = "mixture", "otsu", "none", "best"


def mask_name(text: str) -> str:
    """The one spelling of a mask that a user names: "0.50" is "0.5".

    Raises:
        UsageError: it is no name and no threshold in [0, 1).
    """
    if text in (MIXTURE, OTSU):
        return text
    if text.startswith(BEST):
        raise UsageError("--mask best is chosen on another split: gtg-bench score RUN --mask best --tune-on OTHER_RUN")
    threshold = _number(text)
    name = "" if threshold is None else f"{threshold + 0.0:g}"
    if not name or not 0 <= float(name) < 1:
        raise UsageError(f"--mask {text!r} is neither {MIXTURE}, {OTSU}, nor a threshold from 0 to below 1 such as 0.5")
    return name


def best_name(threshold: float) -> str:
    """The name of a threshold that was chosen on another split."""
    return f"{BEST}:{threshold:g}"


def rule_of(mask: str) -> str:
    """How a mask was chosen: thresholds that were each chosen on a validation split are one rule, "best"."""
    return BEST if mask.startswith(f"{BEST}:") else mask


def named_mask(mask: str, native: FloatArray, frame: Frame, to: Frame) -> BoolArray | None:
    """The mask of a map that is made before it is carried; None where it is made of the frame's pixels.

    Args:
        mask: as `mask_name` spells it, or "none".
        native: float32 [h, w], the map as its method gave it.
        frame: what the map spans.
        to: the evaluation frame.

    Returns:
        bool [H, W] of the size of `to`, never true where `frame` does not cover the pixel.
    """
    if mask == NONE:
        return np.zeros(to.size[::-1], dtype=bool)
    return carried_mask(mixture_mask(native), frame, to) if mask == MIXTURE else None


def mask_of_pixels(mask: str, values: FloatArray) -> BoolArray:
    """The mask of a carried map.

    Args:
        mask: "otsu" or a threshold, as `mask_name` spells it.
        values: float32 [H, W], finite, the pixels that count; what the method did not cover holds its lowest value.

    Returns:
        bool [H, W]; empty for a constant map.
    """
    if mask == OTSU:
        return otsu_mask(values)
    threshold = _number(mask.removeprefix(f"{BEST}:"))
    if threshold is None:
        raise ValueError(f"{mask!r} is no mask of a frame's pixels")
    return fixed_mask(values, threshold)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
