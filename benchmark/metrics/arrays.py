"""Checks and scaling that the metrics share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray


def check_arrays(*masks: BoolArray, values: NDArray[np.floating] | None = None) -> None:
    """Raise ValueError unless all arrays are 2-D, have one shape, and every mask is boolean.

    NumPy reads a mask of integers as indices, so without this check a wrong number would come out.
    """
    shapes = {array.shape for array in (masks if values is None else (values, *masks))}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"maps, masks and regions must share one 2-D shape, not {sorted(shapes)}")
    if types := {str(mask.dtype) for mask in masks} - {"bool"}:
        raise ValueError(f"masks and regions must be boolean, not {', '.join(sorted(types))}")


BLOCK = 4_000_000
"""Maximum number of values that are converted to double precision at a time, to bound memory."""


def blocks(values: NDArray) -> Iterator[NDArray]:
    """Views of at most BLOCK values, in order, of a one-dimensional array."""
    return (values[start : start + BLOCK] for start in range(0, len(values), BLOCK))


def minmax(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale a map linearly so that its minimum is 0 and its maximum 1.

    Args:
        values: float [h, w], finite, any range and frame.

    Returns:
        float64 [h, w], same frame, a new array. A constant map becomes 0 everywhere.
    """
    spread = np.array(values, dtype=np.float64)
    spread -= spread.min()
    highest = spread.max()
    if highest > 0:
        spread /= highest
    return spread
