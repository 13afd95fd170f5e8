"""One sort of a map's pixels, from which every metric that looks at all thresholds is counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How many pixels lie below each level of a map; the last entry counts all of them.

    The levels are the map's k distinct values, ascending, from the region's lowest value up: what lies below that one
    is told apart by no threshold that finds a pixel of the region.

    Attributes:
        pixels: int64 [k + 1], rising to the number of pixels.
        inside: int64 [k + 1], those of them that lie in the region, from 0.
    """

    pixels: Counts
    inside: Counts

    @property
    def one_sided(self) -> bool:
        """Whether the region is empty or fills the frame, so that there is nothing to tell apart."""
        return int(self.inside[-1]) in (0, int(self.pixels[-1]))


def ranked(values: FloatArray, region: BoolArray) -> Ranking:
    """Rank a map's pixels. Equal values, among them -0 and 0, are one.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant; other real types are ranked as exactly.
        region: bool [H, W], the union of the sample's boxes, in the same frame. Where it is empty, k is 1 and no level
            holds a pixel.
    """
    values = values.astype(np.result_type(values, np.float32), copy=False)
    kept = values >= values[region].min(initial=np.inf)
    unsorted = values[kept]
    order = _ascending(unsorted)
    risen = unsorted[order]
    ends = np.concatenate(([0], np.flatnonzero(risen[1:] != risen[:-1]) + 1, [risen.size]))
    inside = np.concatenate(([0], np.cumsum(region[kept][order])))
    return Ranking(ends + (values.size - risen.size), inside[ends])


def _ascending(values: NDArray[np.floating]) -> NDArray[np.intp]:
    """The indices [n] that sort float32 or float64 [n]: a radix sort in words of 16 bits, the lowest word first.

    NumPy sorts 16-bit integers in linear time; its general sort of 512 x 512 floats takes about three times as long.
    """
    signed = np.dtype(f"i{values.itemsize}")
    bits = values.view(signed)
    # As unsigned integers these keys rise with the value: the sign bit of a positive one is set, every bit of a
    # negative one is flipped.
    keys = bits ^ ((bits >> (8 * signed.itemsize - 1)) | np.iinfo(signed).min)
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    for shift in range(16, 8 * signed.itemsize, 16):
        order = order[np.argsort((keys >> shift).astype(np.uint16)[order], kind="stable")]
    return order
