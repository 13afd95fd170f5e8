"""Subgroups as a table for people and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gtg_bench.benchmark.analysis.compare import ALL
from gtg_bench.benchmark.analysis.seeds import told
from gtg_bench.benchmark.analysis.subgroups import CSV_COLUMNS, Difference, Subgroup, as_rows
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.statistics import Estimate

_HEADINGS = {
    "size": "share of the frame",
    "boxes": "number of boxes",
    "side": "side in the phrase",
    "length": "length of the phrase",
    "category": "category",
}
_LEGEND = "Means over n samples of so many patients (pat.); bounds: bootstrap over patients."
_ALONE = "No bounds: fewer than two patients, of whom nothing can be said."
_P = "less A: difference to A on shared samples; p: sign flips of patients, Holm-corrected over all rows and runs."


def show(found: Sequence[Subgroup], runs: Sequence[FinishedRun], console: Console) -> None:
    """Print a table for each metric."""
    letters = [chr(ord("A") + index) for index in range(len(runs))]
    for metric, part in groupby(found, key=lambda subgroup: subgroup.metric):
        console.print(_table(metric, list(part), letters))
    for letter, run in zip(letters, runs, strict=True):
        note = f"; {told(run)}" if run.parts else ""
        console.print(f"{letter}: {run.name} ({' '.join(run.keys)}{note})", soft_wrap=True, highlight=False)
    alone = any(estimate.n and estimate.low is None for subgroup in found for estimate in subgroup.estimates)
    legend = " ".join([_LEGEND, *([_ALONE] if alone else []), *([_P] if len(runs) > 1 else [])])
    console.print(legend, highlight=False)


def _table(metric: str, found: Sequence[Subgroup], letters: Sequence[str]) -> Table:
    """One row a subgroup; of several runs one row each."""
    several = len(letters) > 1
    table = Table(title=metric, title_justify="left", box=SIMPLE_HEAD, padding=0 if several else (0, 1, 0, 0))
    table.add_column("", overflow="fold")
    runs, differences = (["run"], [f"less {letters[0]}", "95 % bounds", "p"]) if several else ([], [])
    for heading in (*runs, "n", "pat.", "mean", "95 % bounds", *differences):
        table.add_column(heading, justify="right", no_wrap=True)
    by = ALL
    for subgroup in found:
        if subgroup.by != by:
            by = subgroup.by
            table.add_row(_HEADINGS[by])
        label = "all samples" if by == ALL else f"  {subgroup.name}"
        for index, estimate in enumerate(subgroup.estimates):
            run = [letters[index]] if several else []
            less = _difference(subgroup.differences[index - 1]) if index else ()
            table.add_row("" if index else label, *run, *_estimate(estimate), *less)
    return table


def _estimate(found: Estimate) -> tuple[str, str, str, str]:
    """Samples, patients, mean and bounds."""
    mean = "-" if found.value is None else f"{found.value:.3f}"
    return str(found.n), str(found.n_patients), mean, _bounds(found.value, found.low, found.high)


def _difference(difference: Difference) -> tuple[str, str, str]:
    """The difference, its bounds and its p-value."""
    found, p = difference.found, difference.p_value
    if found.difference is None:
        return "-", "-", "-"
    told = "-" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"
    return f"{found.difference:+.3f}", _bounds(found.difference, found.low, found.high), told


def _bounds(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return "no bounds" if low is None or high is None else f"{low:.3f} {high:.3f}"


def write_csv(found: Sequence[Subgroup], runs: Sequence[FinishedRun], path: Path) -> None:
    """Write one row a subgroup and run, atomically; a cell is empty where there is nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in as_rows(found, runs):
        writer.writerow({name: _text(value) for name, value in row.items()})
    with atomic(path) as part:
        part.write_text(text.getvalue())


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
