"""Mask encodings of data sets: run lengths, COCO's compressed text, polygons.

Run lengths go column by column from the upper left corner. The codings:

- "counts": blank-separated numbers of pixels outside and inside in turn, outside first (COCO's uncompressed RLE; also
  SIIM-ACR's, which omits the last number);
- "coco": the same as COCO's compressed text;
- "polygon": blank-separated x and y of the corners in turn, in pixels whose centres are at half integers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Coding = Literal["counts", "coco", "polygon"]

MAX_PIXELS = 2**26
"""Pixels of the largest image or mask that is read, 8,192 x 8,192: about twice as many as any radiograph has."""

_SLACK = 1.0
"""Pixels by which a polygon may extend beyond its image; the excess is clipped."""


def unpack(coding: Coding, code: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode a mask to bool [H, W] on a grid of (width, height) `size`. Raises ValueError as `check_code`."""
    check_code(coding, code, size)
    return _filled(_corners(code), size) if coding == "polygon" else _unpacked(_counts(coding, code), size)


class NoAreaError(ValueError):
    """A polygon of fewer than three corners, or with all corners on one line; run lengths without a pixel inside."""


def check_code(coding: Coding, code: str, size: tuple[int, int]) -> None:
    """Raise ValueError if a code is invalid, has no pixels, or does not fit a grid of (width, height) `size`."""
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"it is for {size[0]} x {size[1]} pixels, more than any radiograph has")
    if coding == "polygon":
        _check_polygon(_corners(code), size)
    else:
        _check_counts(_counts(coding, code), size)


def _numbers(code: str, dtype: type[np.generic]) -> NDArray[Any]:
    try:
        return np.array(code.split(), dtype=dtype)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"its code {code[:40]!r} does not consist of numbers") from error


def _counts(coding: Coding, code: str) -> NDArray[np.int64]:
    """int64 [N]: pixels outside and inside in turn."""
    if coding == "counts":
        return _numbers(code, np.int64)
    return _coco_counts(code)


def _coco_counts(code: str) -> NDArray[np.int64]:
    """The counts of COCO's compressed text.

    A number is written in groups of five bits, lowest first, one character (from "0" on) per group, whose sixth bit
    says that more follow; the last group's fifth bit is the sign. From the fourth number on, the difference from the
    number two places before is written.
    """
    symbols = np.frombuffer(code.encode(errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(symbols) or symbols.min() < 0 or symbols.max() > 63 or symbols[-1] & 32:
        raise ValueError(f"its code {code[:40]!r} is not compressed RLE")
    last = np.flatnonzero(symbols & 32 == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    if (last - first).max() > 8:
        raise ValueError(f"its code {code[:40]!r} contains a number that is too large")
    position = np.arange(len(symbols)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((symbols & 31) << (5 * position), first)
    values -= np.where(symbols[last] & 16, 1 << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _check_counts(counts: NDArray[np.int64], size: tuple[int, int]) -> None:
    pixels = size[0] * size[1]
    if (counts < 0).any() or (counts > pixels).any():
        raise ValueError("it counts a negative number of pixels, or more than the image has")
    if counts.sum() > pixels:
        raise ValueError(f"it covers {counts.sum()} pixels, but {size[0]} x {size[1]} has {pixels}")
    if not counts[1::2].any():
        raise NoAreaError("it has no pixels")


def _unpacked(counts: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    flat = np.zeros(size[0] * size[1], dtype=bool)
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    flat[: len(runs)] = runs
    return flat.reshape(size).T


def _corners(code: str) -> NDArray[np.float64]:
    """float64 [N, 2]: x and y of a polygon's corners."""
    values = _numbers(code, np.float64)
    if len(values) < 6 or len(values) % 2:
        kind = ValueError if len(values) % 2 else NoAreaError
        raise kind(f"a polygon of {len(values)} numbers is invalid; it needs x and y of at least three corners")
    return values.reshape(-1, 2)


def _check_polygon(corners: NDArray[np.float64], size: tuple[int, int]) -> None:
    if not np.isfinite(corners).all():
        raise ValueError("its polygon has a corner that is not finite")
    if corners.min() < -_SLACK or (corners.max(axis=0) > np.array(size) + _SLACK).any():
        raise ValueError(f"its polygon extends beyond its {size[0]} x {size[1]} image")
    if np.linalg.matrix_rank(corners - corners.mean(axis=0), tol=1e-6) < 2:
        raise NoAreaError("its polygon has no area")


def _filled(corners: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centre is inside a polygon (even-odd rule)."""
    width, height = size
    found = np.zeros((height, width), dtype=bool)
    start, end = corners, np.roll(corners, -1, axis=0)
    low = np.clip(np.ceil(corners[:, 1].min() - 0.5), 0, height).astype(int)
    high = np.clip(np.ceil(corners[:, 1].max() - 0.5), 0, height).astype(int)
    for row in range(low, high):
        y = row + 0.5
        crossed = (start[:, 1] <= y) != (end[:, 1] <= y)
        a, b = start[crossed], end[crossed]
        x = np.sort(a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]))
        edges = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
        for left, right in edges.reshape(-1, 2):
            found[row, left:right] = True
    return found
