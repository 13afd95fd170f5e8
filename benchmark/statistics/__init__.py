"""Averages over samples, their confidence intervals, and paired comparisons. Imports nothing but NumPy.

Phrases of one image and images of one patient are not independent, so resampling and permutation tests draw whole
patients. Undefined values (None) are left out and counted, never read as 0.
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
from gtg_bench.benchmark.statistics.bounds import Estimate, bootstrap, bootstrap_averages
from gtg_bench.benchmark.statistics.comparison import Comparison, Pairs, compare, holm, paired
from gtg_bench.benchmark.statistics.permutation import sign_flip

__all__ = [
    "AVERAGES",
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
    "sign_flip",
]
