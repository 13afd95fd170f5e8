"""Bringing a map to the range from 0 to 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def minmax(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """A map with its lowest value at 0 and its highest at 1.

    Args:
        values: float [h, w], finite, any range and frame.

    Returns:
        float64 [h, w], same frame, a new array. A constant map has no range and becomes 0 everywhere.
    """
    spread = np.array(values, dtype=np.float64)
    spread -= spread.min()
    highest = spread.max()
    if highest > 0:
        spread /= highest
    return spread
