"""Average precision: the area under the precision-recall curve of the map against the region."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.ranking import Ranking, ranked


def ap(values: FloatArray, region: BoolArray) -> float | None:
    """The precision at each threshold, weighted by the recall that the threshold adds; equal values enter together.

    With the thresholds t at the map's distinct values, from the highest down: the sum of
    (recall(t) - recall before t) x precision(t), nothing interpolated. Unlike the AUROC it depends on the region's
    share of the frame, so it tells how much of what is hottest is right even where the region is small.

    Source: as scikit-learn's average_precision_score; Davis and Goadrich, The Relationship Between Precision-Recall
    and ROC Curves, ICML 2006. Monotone changes of the map leave it as it is.

    Args:
        values: float32 [H, W], finite, any range, higher is more relevant.
        region: bool [H, W], the union of the sample's boxes, in the same frame.

    Returns:
        A value in (0, 1]; a constant map scores the region's share of the frame. None where the region is empty or
        fills the frame.
    """
    return ranked_ap(ranked(values, region))


def ranked_ap(ranking: Ranking) -> float | None:
    """As `ap`, from a ranking that is at hand."""
    if ranking.one_sided:
        return None
    found, hits = (counts[-1] - counts[:-1] for counts in (ranking.pixels, ranking.inside))
    return float(np.diff(ranking.inside) @ (hits / found) / ranking.inside[-1])
