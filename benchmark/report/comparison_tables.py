"""Comparisons for the terminal: runs against each other, under their controls, beside the priors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gtg_bench.benchmark.analysis.compare import ALL, Line, in_words
from gtg_bench.benchmark.analysis.comparison import Report, Subject
from gtg_bench.benchmark.analysis.control_battery import Listening
from gtg_bench.benchmark.analysis.seeds import spread, told
from gtg_bench.benchmark.analysis.sensitivity import Beside, control_in_words, prior_in_words

_LEGEND = (
    "Bounds: bootstrap over patients. effect: mean difference over its deviation. w/t/l: samples won, tied, lost by A."
)
_PAIRED = (
    "On the samples that both have. Bounds: bootstrap over patients; w/t/l: samples won, tied, lost by the plain run."
)
_P = "p: sign flips of patients, Holm-corrected"


def lines_table(
    title: str, names: tuple[str, str], lines: Iterable[tuple[str, Line | None]], difference: str = ""
) -> Table:
    """One row a comparison: label, both averages, difference with bounds and p-value, effect size, wins, ties, losses.

    Args:
        title: above the table.
        names: headings of both averages.
        lines: label and comparison; a label alone is a heading for what follows.
        difference: heading of the first less the second; "" names both.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("", overflow="fold")
    for heading in (*names, difference or f"{names[0]} - {names[1]}", "95 % bounds", "p", "effect", "w/t/l"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, line in lines:
        table.add_row(label, *(_cells(line) if line else ()))
    return table


def _cells(line: Line) -> list[str]:
    found = line.found
    values = [number(value) for value in (found.ours, found.theirs, found.difference)]
    bounds = f"{number(found.low)} {number(found.high)}"
    p = "-" if line.p_value is None else "<.001" if line.p_value < 0.001 else number(line.p_value)
    effect = "-" if found.effect_size is None else f"{found.effect_size:.2f}"
    return [*values, bounds, p, effect, f"{found.wins}/{found.ties}/{found.losses}"]


def labelled(lines: Sequence[Line], by_category: bool) -> list[tuple[str, Line]]:
    """Lines with what they are about, categories only where they are wanted."""
    kept = [line for line in lines if by_category or line.category == ALL]
    return [(line.metric if line.category == ALL else f"  {line.category}", line) for line in kept]


def controls_table(title: str, found: Sequence[Beside]) -> Table:
    """A run under its controls, metric by metric, with bounds."""
    lines: list[tuple[str, Line | None]] = []
    for beside in found:
        lines.append((beside.name, None))
        lines += [(f"  {line.metric}", line) for line in beside.lines]
    return lines_table(title, ("plain", "changed"), lines, "fall")


def beside_table(found: Sequence[Beside]) -> Table:
    """One row a control or prior: how far its average lies above or below the run's, metric by metric."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for line in found[0].lines:
        table.add_column(line.metric, justify="right", no_wrap=True)
    for beside in found:
        n = max(line.found.n for line in beside.lines)
        table.add_row(beside.name, str(n), *map(_change, beside.lines))
    return table


def _change(line: Line) -> str:
    """What the other's average has more than the run's; a star where that is more than chance."""
    return "-" if line.found.difference is None else f"{0 - line.found.difference:+.3f}{'*' if line.gain else ' '}"


def number(value: float | None) -> str:
    """Three decimals, "-" for None."""
    return "-" if value is None else f"{value:.3f}"


def show(report: Report, by_category: bool, console: Console) -> None:
    """Print a comparison: a table for each other run, sentences, then what stands beside the runs."""
    first, *others = report.subjects
    for subject in others:
        title = f"A: {first.label}\nB: {subject.label}"
        console.print(lines_table(title, ("A", "B"), labelled(subject.lines, by_category)))
    for subject in others:
        for _, line in labelled(subject.lines, by_category):
            console.print(in_words(line, first.label, subject.label), soft_wrap=True, highlight=False)
    family = "categories included" if len(others) == 1 else "categories and all runs compared included"
    console.print(
        f"{_LEGEND} p: sign flips of patients, Holm-corrected over a metric's rows, {family}.", highlight=False
    )
    for subject in report.subjects:
        _show_spread(report, subject, console)
    for subject in report.subjects:
        _show_neighbours(report, subject, console)


def _show_spread(report: Report, subject: Subject, console: Console) -> None:
    found = {metric: spread(subject.run, metric, report.average) for metric in report.metrics}
    parts = [
        f"{metric} {one.mean:.3f} +- {one.deviation:.3f}" for metric, one in found.items() if one and one.deviation
    ]
    if note := told(subject.run):
        over = f"; mean +- sd over the runs: {', '.join(parts)}" if parts else ""
        text = f"{subject.label}: {note}{over}. Bounds are over patients, not over runs."
        console.print(text, soft_wrap=True, highlight=False)


def _show_neighbours(report: Report, subject: Subject, console: Console) -> None:
    for what, found in {"under its controls": subject.controls, "beside the priors": subject.priors}.items():
        if found:
            text = f"\n{subject.label} {what}: what they have more (* by more than chance, corrected over these rows)"
            console.print(text, soft_wrap=True, highlight=False)
            console.print(beside_table(found))
    for beside in subject.controls:
        line = next(line for line in beside.lines if line.metric == report.primary)
        console.print(control_in_words(line, subject.label, beside.name), soft_wrap=True, highlight=False)
    for beside in subject.priors:
        console.print(prior_in_words(beside, subject.label), soft_wrap=True, highlight=False)
    if subject.missing:
        text = f"{subject.label} was not run under {', '.join(subject.missing)}: {subject.command}"
        console.print(text, soft_wrap=True, highlight=False)


def show_listening(listening: Listening, impossible: Mapping[str, str], console: Console) -> None:
    """Print what a method was shown to listen to: every control and metric with its bounds, then sentences.

    Args:
        listening: of one method.
        impossible: control -> why it could not be made.
        console: where to.
    """
    name = listening.run.name
    if listening.controls:
        console.print(controls_table(f"{name}, plain and changed", listening.controls))
    for beside in listening.controls:
        line = next(line for line in beside.lines if line.metric == listening.primary)
        console.print(control_in_words(line, name, beside.name), soft_wrap=True, highlight=False)
    for control, reason in impossible.items():
        console.print(f"{control} was passed over: {reason}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"{_PAIRED} {_P} over a metric's controls.", highlight=False)
