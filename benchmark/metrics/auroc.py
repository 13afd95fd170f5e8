"""Area under the ROC curve of the map against the region, exactly and fast.

The area is the share of (inside, outside) pixel pairs that the inside pixel wins, a tie counting half (the
Mann-Whitney statistic). Pixels are put into bins whose order is that of the values: pairs in different bins are
settled by counting, and only the pixels of bins that hold both kinds have to be sorted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray

Counts = NDArray[np.int64]
_BINS = 1 << 16


def auroc(values: FloatArray, region: BoolArray) -> float | None:
    """The chance that a random pixel of the region is hotter than a random pixel outside; ties count half.

    Source: paper, Table 2 (AUC-ROC of the map against the boxes); as a share of pairs, Hanley and McNeil, Radiology
    143, 1982. Monotone changes of the map leave it as it is.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 0.5 for a constant map. None where the region is empty or fills the frame.
    """
    inside, outside = values[region], values[~region]
    if not inside.size or not outside.size:
        return None
    return _wins_twice(inside, outside) / (2 * inside.size * outside.size)


def _wins_twice(ours: FloatArray, theirs: FloatArray) -> int:
    """Twice the pairs that `ours` wins, a tie counting half, of two float arrays [n] and [m]; an exact integer."""
    low, high = min(ours.min(), theirs.min()), max(ours.max(), theirs.max())
    our_bins, their_bins = _bins(ours, low, high), _bins(theirs, low, high)
    our_counts, their_counts = (np.bincount(bins, minlength=_BINS) for bins in (our_bins, their_bins))
    shared = (our_counts > 0) & (their_counts > 0)
    settled = _wins_between_bins(our_counts, their_counts) - _wins_between_bins(
        our_counts * shared, their_counts * shared
    )
    return 2 * settled + _wins_twice_by_sorting(ours[shared[our_bins]], theirs[shared[their_bins]])


def _bins(values: FloatArray, low: np.float32, high: np.float32) -> NDArray[np.intp]:
    """The bin, in [0, _BINS), of each value in [low, high]; never falls where the value rises."""
    width = float(high) - float(low) or 1.0
    return (np.subtract(values, low, dtype=np.float64) * ((_BINS - 1) / width)).astype(np.intp)


def _wins_between_bins(ours: Counts, theirs: Counts) -> int:
    """The pairs in which ours lies in a higher bin, from int64 counts [_BINS] of each."""
    return int(ours @ (np.cumsum(theirs) - theirs))


def _wins_twice_by_sorting(ours: FloatArray, theirs: FloatArray) -> int:
    """As `_wins_twice`, from one sort of each group and a search of the smaller in the larger."""
    few, many = sorted((np.sort(ours), np.sort(theirs)), key=len)
    below = sum(int(np.searchsorted(many, few, side).sum()) for side in ("left", "right"))
    return below if len(few) == len(ours) else 2 * len(few) * len(many) - below
