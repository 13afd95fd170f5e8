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
from gtg_bench.benchmark.statistics.bounds import (
    ENOUGH_PATIENTS,
    LEAST_PATIENTS,
    Estimate,
    bootstrap,
    bootstrap_averages,
    bounds_of,
    interval_note,
)
from gtg_bench.benchmark.statistics.comparison import Comparison, Equivalence, Pairs, compare, equivalence, holm, paired
from gtg_bench.benchmark.statistics.permutation import sign_flip
from gtg_bench.benchmark.statistics.planning import detectable
from gtg_bench.benchmark.statistics.presence import presence_auroc
from gtg_bench.benchmark.statistics.two_level import over_runs_and_patients

__all__ = [
    "AVERAGES",
    "ENOUGH_PATIENTS",
    "LEAST_PATIENTS",
    "Average",
    "Comparison",
    "Equivalence",
    "Estimate",
    "Pairs",
    "Spread",
    "average",
    "average_of_categories",
    "bootstrap",
    "bootstrap_averages",
    "bounds_of",
    "compare",
    "detectable",
    "equivalence",
    "holm",
    "interval_note",
    "over_runs",
    "over_runs_and_patients",
    "paired",
    "presence_auroc",
    "sign_flip",
]
