"""What every image file has in common: the bound of its size, and how its pixel values become [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.mask_codes import MAX_PIXELS
from gtg_bench.benchmark.datasets.problems import Fault, fault

RANGES = ("file", "bits", "percentile")
"""How pixel values become [0, 1]: "file" as the file says; "bits" by the fewest bits, at least 8, that hold the image's
largest value (12-bit data in a 16-bit file: 4095 is white); "percentile" from the 1st to the 99th percentile. The last
two replace a DICOM file's window or VOI LUT."""


def unreadable(path: Path, what: str, fix: str) -> Fault:
    """The DataError for an image file that cannot be used."""
    return fault(path, what, fix, kind="unreadable")


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raise Fault, before memory is taken, if an image has more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        what = f"claims {width} x {height} pixels, more than any radiograph has ({MAX_PIXELS:,} at most)"
        raise unreadable(path, what, "check where it comes from, or shrink it")


def limits(values: NDArray[Any], grey_range: str) -> tuple[float, float]:
    """The values that become 0 and 1 under one of RANGES; "file" is from the smallest to the largest."""
    if not values.size:
        return 0.0, 1.0
    if grey_range == "percentile":
        low, high = np.percentile(values, (1, 99))
        return float(low), float(high)
    low, high = float(values.min()), float(values.max())
    if grey_range == "bits":
        low = -float(2 ** int(-low).bit_length()) if low < 0 else 0.0
        high = float(2 ** max(8, int(max(high, 0)).bit_length()) - 1)
    return low, high


def stretched(values: NDArray[Any], low: float, high: float) -> FloatArray:
    """float32 in [0, 1]: `low` and everything below it becomes 0, `high` and everything above it 1."""
    return np.clip((values - low) / (high - low or 1.0), 0, 1).astype(np.float32)
