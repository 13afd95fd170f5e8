"""Paired differences A - B: a forest plot by category, and a matrix of all pairs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gtg_bench.benchmark.analysis.compare import ALL, LEVEL, Difference, compare_with_all
from gtg_bench.benchmark.analysis.estimates import estimate, pairwise
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.pictures.drawing import text_width
from gtg_bench.benchmark.report.plots import style
from gtg_bench.benchmark.report.plots.intervals import Interval, Layout, intervals, series_of
from gtg_bench.benchmark.report.plots.selection import (
    average_name,
    average_of,
    caption_of,
    is_reference,
    metric_of,
    names_of,
)
from gtg_bench.benchmark.runs.lookup import FinishedRun

_OVERALL = "All samples"


@style.styled
def forest(
    runs: Sequence[FinishedRun],
    metric: str | None = None,
    average: str | None = None,
    by_category: bool = True,
    width: str = "column",
    caption: bool = True,
) -> Figure:
    """Paired differences of the first run (A) to each other run (B) with 95 % CIs, overall and by category.

    Args:
        runs: at least two runs under the same conditions.
        metric: name in METRICS; None takes the protocol's primary metric.
        average: over all samples; None takes the protocol's.
        by_category: also compare within each category.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: a single run, runs that cannot be compared, or an unknown name.
        DataError: two runs share no sample.
    """
    _at_least_two(runs)
    metric, average = metric_of(runs, metric), average_of(runs, average)
    first, *others = names_of(runs)
    found = compare_with_all(runs[0], runs[1:], [metric], average, by_category)
    named = {(row.category, name): row for name, rows in zip(others, found, strict=True) for row in rows}
    groups = [ALL, *sorted({category for category, _ in named} - {ALL})]
    titles = {category: _OVERALL if category == ALL else category for category in groups}
    higher = METRICS[metric].higher_is_better
    label = [f"{style.NAMES.get(metric, metric)}, A - B", f"above 0: {'A' if higher else 'B'} is better"]
    against = f"B: {others[0]}. " if len(others) == 1 else ""
    family = max(row.family for row in named.values())
    notes = f"Filled: significant at {LEVEL:g}, Holm-corrected for {number_of(family, 'comparison')}"
    what = f"A: {first}. {against}Paired differences with 95 % CI (bootstrap over patients), {average_name(average)},"
    counts = [estimate(run, metric, average) for run in runs]
    layout = Layout(
        "\n".join(line for part in label for line in style.wrapped(part, 0.55 * style.WIDTHS[width])),
        caption_of(runs, what, counts, notes) if caption else "",
        width,
        line=0.0,
    )
    if len(groups) == 1:  # each B has its own row
        rows = {(name, ""): _interval(row) for (_, name), row in named.items()}
        return intervals(others, series_of([""], [False]), rows, layout)
    grey = [is_reference(run) for run in runs[1:]]
    cells = {(titles[category], f"A - {name}"): _interval(row) for (category, name), row in named.items()}
    return intervals(list(titles.values()), series_of([f"A - {name}" for name in others], grey), cells, layout)


def _interval(row: Difference) -> Interval:
    return Interval(row.found.difference, row.found.low, row.found.high, row.found.n, row.better != 0)


@style.styled
def significance(
    runs: Sequence[FinishedRun],
    metric: str | None = None,
    average: str | None = None,
    width: str = "column",
    caption: bool = True,
) -> Figure:
    """A matrix of all paired differences, row minus column; significant ones are coloured and have an asterisk.

    Args:
        runs: at least two runs under the same conditions.
        metric: name in METRICS; None takes the protocol's primary metric.
        average: over all samples; None takes the protocol's.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: a single run, runs that cannot be compared, or an unknown name.
    """
    _at_least_two(runs)
    metric, average = metric_of(runs, metric), average_of(runs, average)
    found, names = pairwise(runs, metric, average), names_of(runs)
    family = max(row.family for row in found.values())
    shown = found | {(j, i): row for (i, j), row in found.items()}
    better = "row" if METRICS[metric].higher_is_better else "column"
    notes = [
        f"Positive: the {better} is better",
        f"Coloured with an asterisk: significant at {LEVEL:g}, Holm-corrected for {family} pairs; blue if the row is "
        "better, orange if the column is",
    ]
    what = f"{style.NAMES.get(metric, metric)}: paired differences, row - column, {average_name(average)},"
    counts = [estimate(run, metric, average) for run in runs]
    numbers = [str(number + 1) for number in range(len(runs))]
    lines = [
        style.label_lines(f"{n}. {name}", 0.42 * style.WIDTHS[width], 6.5)
        for n, name in zip(numbers, names, strict=True)
    ]
    room = max(text_width(line, 6.5) for text in lines for line in text) + 0.2
    cell = min((style.WIDTHS[width] - room) / len(runs), 0.5)
    row = max(min(cell, 0.26), 0.115 * max(map(len, lines)) + 0.03)
    text = caption_of(runs, what, counts, *notes) if caption else ""
    figure = style.new_figure(width, 0.3 + row * len(runs), text)
    axes = figure.add_subplot()
    _matrix(axes, len(runs), shown, min(6.5, cell * 72 / 4))
    axes.set_yticks(range(len(runs)), ["\n".join(text) for text in lines])
    axes.set_xticks(range(len(runs)), numbers)
    return figure


def _matrix(axes: Axes, size: int, shown: Mapping[tuple[int, int], Difference], font: float) -> None:
    """Colour the significant cells by how large the difference is; write the difference where it is legible."""
    colours = LinearSegmentedColormap.from_list("differences", [style.WORSE, "white", style.BETTER])
    largest = max((abs(row.found.difference) for row in shown.values() if row.found.difference is not None), default=1)
    values = np.full((size, size), np.nan)
    for (i, j), row in shown.items():
        values[i, j] = row.better * (1 if i < j else -1) * abs(row.found.difference or 0) / (largest or 1)
    axes.imshow(0.75 * values, cmap=colours, vmin=-1, vmax=1, aspect="auto")
    for (i, j), row in shown.items():
        if row.found.difference is None:
            continue
        difference = row.found.difference if i < j else -row.found.difference
        star = "*" if row.better else ""
        number = re.sub(r"^(-?)0\.", r"\1.", f"{difference:.2f}").replace("-", "\N{MINUS SIGN}")
        text = f"{number}{star}" if font >= 4.5 else star
        grey = "black" if star else style.GREY
        axes.text(j, i, text, ha="center", va="center", fontsize=max(font, 4.5), color=grey)
    for place in range(size):
        axes.text(place, place, "–", ha="center", va="center", fontsize=6, color=style.FAINT)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)


def _at_least_two(runs: Sequence[FinishedRun]) -> None:
    if len(runs) < 2:
        raise UsageError("differences need at least two runs; name them, the first is A")
