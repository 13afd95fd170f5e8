"""Comparisons, controls, priors and subgroups for the terminal. Every difference is A - B."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gtg_bench.benchmark.analysis.compare import ALL, LEVEL, in_words
from gtg_bench.benchmark.analysis.comparison import Report, Subject
from gtg_bench.benchmark.analysis.seeds import seeds_note, spread
from gtg_bench.benchmark.analysis.sensitivity import Contrast, control_in_words, prior_in_words
from gtg_bench.benchmark.analysis.subgroups import CSV_COLUMNS, Subgroup, as_rows
from gtg_bench.benchmark.report.leaderboard import write_csv
from gtg_bench.benchmark.report.tables.document import HEADINGS
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.statistics import Comparison, Estimate

_P = "p: sign-flip permutation test over patients"
_CI = "95 % CI: bootstrap over patients."


def show(report: Report, console: Console) -> None:
    """Print a comparison: a table for each other run, sentences, then each run against its controls and the priors."""
    first, *others = report.subjects
    for subject in others:
        console.print(Text(f"A: {first.label}\nB: {subject.label}"))
        table = _table(("", "A", "B", "A - B", "95 % CI", "p", "p corr.", "d_z", "w/t/l"))
        for row in subject.rows:
            label = HEADINGS.get(row.metric, row.metric) if row.category == ALL else f"  {row.category}"
            found = row.found
            effect = "-" if found.effect_size is None else f"{found.effect_size:.2f}"
            values = [_number(value) for value in (found.ours, found.theirs, found.difference)]
            p_values = (_p_value(found.p_value), _p_value(row.p_value, "*"))
            counts = f"{found.wins}/{found.ties}/{found.losses}"
            table.add_row(Text(label), *values, _interval(found), *p_values, effect, counts)
        console.print(table)
    for subject in others:
        for row in subject.rows:
            _print(console, in_words(row, first.label, subject.label))
    families = sorted({row.family for subject in others for row in subject.rows} - {0}) or [1]
    family = f"over the {' or '.join(map(str, families))} comparison{'s' * (families != [1])} of a metric shown here"
    _print(
        console,
        f"{_CI} {_P}; p corr.: Holm-corrected {family}; * p corr. < {LEVEL:g}. d_z: standardised mean difference. "
        f"w/t/l: samples on which A is better, equal, worse.{_short(row.metric for s in others for row in s.rows)}",
    )
    rows = [row for subject in others for row in subject.rows]
    _show_few(((row.category, row.metric, row.found) for row in rows), console)
    if any(row.equivalence for row in rows):
        _print(console, "Equivalent: the 90 % CI of A - B is within the margin (TOST), not corrected for comparisons.")
    for subject in report.subjects:
        if note := seeds_note(subject.run):
            spreads = {metric: spread(subject.run, metric, report.average) for metric in report.metrics}
            parts = [f"{m} {one.mean:.3f} ± {one.deviation:.3f}" for m, one in spreads.items() if one and one.deviation]
            over = f"; mean ± SD over the runs: {', '.join(parts)}" if parts else ""
            _print(console, f"{subject.label}: {note}{over}. The CI covers patients, not runs.")
    for subject in report.subjects:
        show_context(subject, console)


def show_context(subject: Subject, console: Console, impossible: Mapping[str, str] | None = None) -> None:
    """Print a run against its controls and the priors, and what they show.

    Args:
        subject: the run.
        console: where to print.
        impossible: control -> why the data does not allow it.
    """
    for what, found in {"its controls": subject.controls, "the priors": subject.priors}.items():
        if found:
            _print(console, f"\nA: {subject.label}; B: {what}, on the samples that both have")
            _show_contrasts(found, console)
    for contrast in subject.controls:
        row = next(row for row in contrast.rows if row.metric == subject.primary)
        _print(console, control_in_words(row, subject.label, contrast.name))
    for contrast in subject.priors:
        _print(console, prior_in_words(contrast, subject.label))
    if subject.missing:
        how = f": {subject.command}" if subject.command else ""
        _print(console, f"{subject.label} was not run under {', '.join(subject.missing)}{how}")
    for control, reason in (impossible or {}).items():
        _print(console, f"{control} was skipped: {reason}")


def _show_contrasts(found: Sequence[Contrast], console: Console) -> None:
    """Print one column per control or prior: A - B with half the width of its 95 % CI, metric by metric."""
    table = _table(("B:", *(one.name.replace("-", "-\n") for one in found)), "left")
    table.add_row("n", *(str(max(row.found.n for row in one.rows)) for one in found))
    for metric, *rows in zip([row.metric for row in found[0].rows], *(one.rows for one in found), strict=True):
        cells = []
        for one, row in ((row.found, row) for row in rows):
            half = "" if one.low is None or one.high is None else f"±{(one.high - one.low) / 2:.3f}"
            text = "-" if one.difference is None else f"{one.difference:+.3f}{half}{'*' if row.better else ''}"
            cells.append(text.replace("+0.", "+.").replace("-0.", "-.").replace("±0.", "±."))
        table.add_row(HEADINGS.get(metric, metric), *cells)
        table.add_row("  p", *(f"{_p_value(row.found.p_value)} {_p_value(row.p_value)}" for row in rows))
    console.print(table)
    _show_few(((one.name, row.metric, row.found) for one in found for row in one.rows), console)
    corrected = f"A - B ± half-width of the 95 % CI; p: raw, and Holm-corrected over the row; * corrected < {LEVEL:g}."
    _print(console, corrected + _short(row.metric for row in found[0].rows))


def _show_few(named: Iterable[tuple[str, str, Estimate | Comparison]], console: Console) -> None:
    """Print which parts of the data, and of these which metrics, have too few patients for a reliable CI."""
    known = [(name, metric, one) for name, metric, one in named if one.n]
    most: dict[str, int] = {}
    for name, _, one in known:
        most[name] = max(most.get(name, 0), one.n_patients)
    notes = {}
    for name, metric, one in known:
        shown = "all samples" if name == ALL else name
        notes[shown if one.n_patients == most[name] else f"{shown} {metric}"] = one.note
    if few := [f"{name}: {note}" for name, note in notes.items() if note]:
        _print(console, f"Few patients. {'; '.join(few)}.")


def _short(metrics: Iterable[str]) -> str:
    """The shortened names of metrics spelt out."""
    return "".join(f" {HEADINGS[name]} = {name}." for name in dict.fromkeys(metrics) if name in HEADINGS)


GROUPS = {
    "size": "region / frame",
    "boxes": "number of boxes",
    "side": "side named",
    "length": "phrase length",
    "category": "category",
    "view": "view",
    "sex": "sex",
    "age": "age in years",
}
"""What defines subgroups, a key of `analysis.subgroups.BY` -> its heading."""


def show_subgroups(found: Sequence[Subgroup], runs: Sequence[FinishedRun], console: Console) -> None:
    """Print a table of subgroups for each metric."""
    letters = [chr(ord("A") + index) for index in range(len(runs))]
    several = len(runs) > 1
    for metric, part in groupby(found, key=lambda subgroup: subgroup.metric):
        console.print(Text(metric, style="bold"))
        differences = ("A -\nrun", "95 % CI", "p", "p corr.") if several else ()
        table = _table(("", *([""] if several else []), "samples/\npatients", "mean", "95 % CI", *differences))
        by = ALL
        for subgroup in part:
            if subgroup.by != by:
                by = subgroup.by
                table.add_row(GROUPS[by])
            label = "all samples" if by == ALL else f"  {subgroup.name}"
            for index, one in enumerate(subgroup.estimates):
                cells = [f"{one.n}/{one.n_patients}", _number(one.value), _interval(one)]
                if index:
                    each = subgroup.differences[index - 1]
                    cells += [_number(each.found.difference, "+"), _interval(each.found)]
                    cells += [_p_value(each.found.p_value), _p_value(each.p_value, "*")]
                table.add_row(Text("" if index else label), *([letters[index]] if several else []), *cells)
        console.print(table)
    for letter, run in zip(letters, runs, strict=True):
        note = f"; {seeds_note(run)}" if run.parts else ""
        _print(console, f"{letter}: {run.name} ({' '.join(run.keys)}{note})")
    _show_few(((part.name, part.metric, one) for part in found for one in part.estimates), console)
    corrected = f"p corr.: Holm-corrected over all rows of a metric; * p corr. < {LEVEL:g}"
    legend = f"A - run: on shared samples. {_P}; {corrected}." if several else ""
    console.print(f"{_CI} {legend}".strip(), highlight=False)


def write_subgroups(found: Sequence[Subgroup], runs: Sequence[FinishedRun], path: Path) -> None:
    """Write one CSV row per subgroup and run, atomically; missing values are empty."""
    rows = as_rows(found, runs)
    texts = [{name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows]
    write_csv(path, CSV_COLUMNS, texts)


def _table(headings: Sequence[str], justify: Literal["left", "right"] = "right") -> Table:
    """A table with text in its first column and numbers in the others."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify=justify if i else "left", no_wrap=bool(i), overflow="fold")
    return table


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _interval(found: Estimate | Comparison) -> str:
    if not found.n:
        return "-"
    return "no CI" if found.low is None or found.high is None else f"{found.low:.3f} {found.high:.3f}"


def _p_value(p: float | None, star: str = "") -> str:
    if p is None:
        return "-"
    return ("<.001" if p < 0.001 else f"{p:.3f}") + (star if p < LEVEL else " " * len(star))


def _print(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
