"""Area under the ROC curve of the map against the region, exactly."""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.metrics.ranking import Ranking, ranked


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
    return ranked_auroc(ranked(values, region))


def ranked_auroc(ranking: Ranking) -> float | None:
    """As `auroc`, from a ranking that is at hand."""
    if ranking.one_sided:
        return None
    outside = ranking.pixels - ranking.inside
    # A pixel of the region beats those below its value and shares the point with those at its value.
    wins_twice = int(np.diff(ranking.inside) @ (outside[:-1] + outside[1:]))
    return wins_twice / (2 * int(ranking.inside[-1]) * int(outside[-1]))
