"""AUROC and average precision of the map's pixels, both from a single sort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.arrays import check_arrays

Counts = NDArray[np.int64]


def auroc(values: FloatArray, region: BoolArray) -> float | None:
    """Area under the ROC curve: the share of (inside, outside) pixel pairs where inside is hotter; ties count half.

    Source: paper, Table 2 (AUC-ROC of the map against the boxes); as a share of pairs, Hanley and McNeil, Radiology
    143, 1982. Invariant to monotone rescaling of the map.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in [0, 1], 0.5 for a constant map. None if the region is empty or fills the frame.
    """
    return ranked(values, region).auroc


def ap(values: FloatArray, region: BoolArray) -> float | None:
    """Average precision: the precision at every threshold, weighted by the recall that the threshold adds.

    The thresholds t are the map's distinct values in falling order: the sum of
    (recall(t) - recall(previous t)) x precision(t), without interpolation; equal values enter together. Unlike AUROC,
    it depends on the region's share of the frame, so it shows how much of the hottest area is right even where the
    region is small.

    Source: scikit-learn's average_precision_score; Davis and Goadrich, The Relationship Between Precision-Recall and
    ROC Curves, ICML 2006. Invariant to monotone rescaling of the map.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in (0, 1]; a constant map scores the region's share of the frame. None if the region is empty or
        fills the frame.
    """
    return ranked(values, region).ap


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Cumulative pixel counts below each level of a map; the last entry counts all pixels.

    The levels are the map's k distinct values in rising order, from the region's lowest value up: no threshold that
    includes a pixel of the region separates the pixels below that value.

    Attributes:
        pixels: int64 [k + 1], rising to the number of pixels.
        inside: int64 [k + 1], those inside the region, from 0.
    """

    pixels: Counts
    inside: Counts

    @property
    def auroc(self) -> float | None:
        """See the function `auroc`."""
        if self._one_sided:
            return None
        outside = self.pixels - self.inside
        # A pixel inside beats all outside pixels below its value and ties with those at its value.
        wins_twice = int(np.diff(self.inside) @ (outside[:-1] + outside[1:]))
        return wins_twice / (2 * int(self.inside[-1]) * int(outside[-1]))

    @property
    def ap(self) -> float | None:
        """See the function `ap`."""
        if self._one_sided:
            return None
        found, hits = (counts[-1] - counts[:-1] for counts in (self.pixels, self.inside))
        return float(np.diff(self.inside) @ (hits / found) / self.inside[-1])

    @property
    def _one_sided(self) -> bool:
        """Whether the region is empty or fills the frame."""
        return int(self.inside[-1]) in (0, int(self.pixels[-1]))


def ranked(values: FloatArray, region: BoolArray) -> Ranking:
    """Rank a map's pixels. Equal values, among them -0 and 0, share a level.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant; other real types are ranked exactly too.
        region: bool [H, W], the union of the sample's boxes, in the same frame. If it is empty, k is 1 and no level
            holds a pixel.
    """
    check_arrays(region, values=values)
    values = values.astype(np.result_type(values, np.float32), copy=False)
    kept = values >= values[region].min(initial=np.inf)
    unsorted = values[kept]
    order = _ascending(unsorted)
    risen = unsorted[order]
    ends = np.concatenate(([0], np.flatnonzero(risen[1:] != risen[:-1]) + 1, [risen.size]))
    inside = np.concatenate(([0], np.cumsum(region[kept][order])))
    return Ranking(ends + (values.size - risen.size), inside[ends])


def _ascending(values: NDArray[np.floating]) -> NDArray[np.intp]:
    """Indices [n] that sort float32 or float64 [n]: a radix sort in 16-bit words, lowest word first.

    NumPy sorts 16-bit integers in linear time; its general sort of 512 x 512 floats takes about three times as long.
    """
    signed = np.dtype(f"i{values.itemsize}")
    bits = values.view(signed)
    # As unsigned integers these keys rise with the value: the sign bit of a positive value is set, every bit of a
    # negative one is flipped.
    keys = bits ^ ((bits >> (8 * signed.itemsize - 1)) | np.iinfo(signed).min)
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, 8 * signed.itemsize, 16):
        order = order[np.argsort((keys >> shift).astype(np.uint16)[order], kind="stable")]
    return order
