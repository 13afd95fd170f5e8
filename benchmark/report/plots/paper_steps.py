"""The paper's Figures 4 and 5 from one's own runs: four metrics over the number of steps, and over the last n steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from gtg_bench.benchmark.report.plots.curves import steps
from gtg_bench.benchmark.report.plots.step_runs import Swept
from gtg_bench.benchmark.runs.lookup import FinishedRun

MODES = {"gt1-cfg": "GT-1 + CFG", "gt-cfg": "GT"}
"""Sampling mode -> its name in the paper's Figure 4."""

STEPS = (1, 2, 3, 5, 10, 20, 30, 50)
"""Numbers of steps of Figure 4; the paper does not list its own."""

ALL_STEPS = 65
"""Steps of Figure 5 (Appendix C)."""

LAST_STEPS = (1, 2, 3, *range(5, ALL_STEPS + 1, 5))
"""Numbers of last steps of Figure 5."""


def figure4(runs: Mapping[str, Mapping[int, FinishedRun]], **look: Any) -> Figure:
    """Metrics over the number of denoising steps in two sampling modes.

    Args:
        runs: sampling mode, a key of MODES -> number of steps -> run.
        look: width and caption, see `curves.steps`.
    """
    found = [Swept("steps", MODES[mode], "Denoising steps", dict(own)) for mode, own in runs.items()]
    return steps(found, title=_title(4, found[0]), **look)


def figure5(runs: Mapping[int, FinishedRun], **look: Any) -> Figure:
    """Metrics over the last n steps that are averaged.

    Args:
        runs: number of last steps -> run.
        look: width and caption, see `curves.steps`.
    """
    first = next(iter(runs.values())).spec.settings
    found = Swept("last_steps", f"{first.method} {first.sampling}", f"Last n of {first.steps} steps", dict(runs))
    return steps([found], title=_title(5, found), **look)


def _title(number: int, swept: Swept) -> str:
    """What is repeated, with which method."""
    method = next(iter(swept.runs.values())).spec.method
    named = "" if number == 5 else f" with {method}"
    return f"The paper's Figure {number}, measured here{named}. "
