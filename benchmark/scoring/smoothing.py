"""Smoothing of maps before they are scored: a declared variable, since CNR and AUROC against boxes reward smooth maps.

The rule is named as a mask is: "0.06", a standard deviation; "best", one to be chosen on the validation split; or
"best:0.06", one that was chosen there.
"""

from __future__ import annotations

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.metrics.named_masks import BEST

UNSMOOTHED = "0"
"""The default: maps are scored as their methods return them."""

SIGMAS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15)
"""The candidates of `--smooth best`."""

_LARGEST = 0.5


def smooth_name(text: str) -> str:
    """The canonical spelling of a standard deviation that a user names: "0.060" becomes "0.06"; "best" stays.

    Raises:
        UsageError: not a number in [0, 0.5], or "best".
    """
    if text == BEST:
        return text
    try:
        if 0 <= float(text) <= _LARGEST:
            return f"{float(text) + 0.0:g}"
    except ValueError:
        pass
    raise UsageError(
        f"--smooth {text!r}: give a fraction of the image's shorter side, 0 to {_LARGEST}, such as 0.06, or {BEST}"
    )


def smoothed(grounding: GroundingMap, smooth: str, of_longer: bool = False) -> GroundingMap:
    """The map under a Gaussian filter on its own grid.

    Args:
        grounding: values float32 [h, w] on the grid of its frame.
        smooth: the standard deviation as a fraction of the image's shorter side, in the spelling of `smooth_name`, or
            with the prefix "best:". 0 returns the map itself, and so does a box answer.
        of_longer: the fraction is one of the longer side, as in a frame that is padded to a square.

    Returns:
        float32 [h, w], same frame. Beyond its edges the map counts as constant; cells outside its frame have no
        influence.
    """
    sigma = float(smooth.removeprefix(f"{BEST}:"))
    if not sigma or grounding.answer is not None:
        return grounding
    from scipy.ndimage import gaussian_filter

    frame = grounding.frame
    side = max(frame.image_size) if of_longer else min(frame.image_size)
    pixels = [sigma * side * r / s for r, s in zip(frame.resized, frame.image_size, strict=True)]
    (x, y), (height, width) = pixels, grounding.values.shape
    cells = y * height / frame.size[1], x * width / frame.size[0]
    return GroundingMap(gaussian_filter(grounding.values, cells, mode="nearest"), frame, grounding.note)
