"""Averages over samples, their bounds, and paired comparisons. Numpy alone at import.

The patient is the unit that is drawn: phrases of one image and images of one patient are not independent. A value
that is undefined (None) is left out and counted, never read as 0.
"""

from __future__ import annotations

from gtg_bench.benchmark.statistics.averages import (
    AVERAGES,
    Average,
    Spread,
    average,
    average_of_categories,
    over_runs,
)
from gtg_bench.benchmark.statistics.bounds import METHODS, Estimate, bootstrap, bootstrap_averages
from gtg_bench.benchmark.statistics.comparison import Comparison, Pairs, compare, paired
from gtg_bench.benchmark.statistics.pairwise import pairwise_p_values
from gtg_bench.benchmark.statistics.permutation import sign_flip
from gtg_bench.benchmark.statistics.ranks import holm, rank_groups

__all__ = [
    "AVERAGES",
    "METHODS",
    "Average",
    "Comparison",
    "Estimate",
    "Pairs",
    "Spread",
    "average",
    "average_of_categories",
    "bootstrap",
    "bootstrap_averages",
    "compare",
    "holm",
    "over_runs",
    "paired",
    "pairwise_p_values",
    "rank_groups",
    "sign_flip",
]
