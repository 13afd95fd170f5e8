"""AUROC and average precision of the map's pixels, both from a single sort."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.arrays import blocks, check_arrays


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


class Ranking(NamedTuple):
    """What a single sort of a map's pixels yields; both None if the region is empty or fills the frame."""

    auroc: float | None
    ap: float | None


def ranked(values: FloatArray, region: BoolArray) -> Ranking:
    """Compute `auroc` and `ap` of a map together. Equal values, among them -0 and 0, tie.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant; other real types are ranked exactly too.
        region: bool [H, W], the union of the sample's boxes, in the same frame.
    """
    check_arrays(region, values=values)
    inside, outside = values[region], values[~region]
    if not inside.size or not outside.size:
        return Ranking(None, None)
    inside.sort()
    outside.sort()
    starts = np.concatenate(([0], np.flatnonzero(inside[1:] != inside[:-1]) + 1))
    ties = np.diff(starts, append=inside.size)
    wins_twice, precisions = 0, 0.0
    for first, pixels in zip(blocks(starts), blocks(ties), strict=True):
        # Each of these pixels inside beats all outside pixels below its value and ties with those at its value.
        below, up_to = (outside.searchsorted(inside[first], side) for side in ("left", "right"))
        wins_twice += int(pixels @ (below + up_to))
        hits = inside.size - first
        precisions += float(pixels @ (hits / (hits + outside.size - below)))
    return Ranking(wins_twice / (2 * inside.size * outside.size), precisions / inside.size)
