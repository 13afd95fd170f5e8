"""Plots of runs. Each function returns a matplotlib Figure; `save` writes it.

from gtg_bench.benchmark.report import plots

runs = plots.find_runs(Path("runs"), ["cxrbert-ldm", "class-prior"])
plots.save(plots.forest(runs, "cnr", width="page"), "forest.pdf", "forest.png")
"""

from __future__ import annotations

from gtg_bench.benchmark.report.pictures.drawing import save
from gtg_bench.benchmark.report.plots.bars import bars
from gtg_bench.benchmark.report.plots.curves import steps, thresholds, training
from gtg_bench.benchmark.report.plots.differences import forest, significance
from gtg_bench.benchmark.report.plots.samples import distribution, scatter
from gtg_bench.benchmark.report.plots.selection import average_of, find_runs
from gtg_bench.benchmark.report.plots.step_runs import sweeps
from gtg_bench.benchmark.report.plots.tradeoff import tradeoff

__all__ = [
    "average_of",
    "bars",
    "distribution",
    "find_runs",
    "forest",
    "save",
    "scatter",
    "significance",
    "steps",
    "sweeps",
    "thresholds",
    "tradeoff",
    "training",
]
