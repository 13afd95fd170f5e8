"""What single samples score: one run against another, and the distribution over samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gtg_bench.benchmark.analysis.compare import check_comparable, compare_with_all
from gtg_bench.benchmark.analysis.estimates import estimate, values_of
from gtg_bench.benchmark.report.plots import style
from gtg_bench.benchmark.report.plots.intervals import series_of
from gtg_bench.benchmark.report.plots.selection import average_of, caption_of, is_reference, metric_of, names_of
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.statistics import Pairs, paired
from gtg_bench.benchmark.statistics.averages import Doubles

Captioned = Callable[[str], str]
"""The caption, given what is shown."""

CURVES = 6
"""Largest number of distribution functions in one plot; more runs become box plots."""


@style.styled
def scatter(
    a: FinishedRun, b: FinishedRun, metric: str | None = None, width: str = "column", caption: bool = True
) -> Figure:
    """Each sample's score under A against that under B, with the diagonal and the counts on both sides of it.

    Args:
        a, b: runs under the same conditions; A is on the vertical axis.
        metric: name in METRICS; None takes the protocol's primary metric.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: runs that cannot be compared, or an unknown metric.
        DataError: the runs share no sample.
    """
    runs = [a, b]
    metric = metric_of(runs, metric)
    found = compare_with_all(a, [b], [metric], "overall")[0][0].found
    pairs = paired(a.records, b.records, metric)
    one, other = names_of(runs)
    side = min(style.WIDTHS[width], 4.5)
    text = ""
    if caption:
        note = "Larger points: several samples with the same scores" if found.n > _distinct(pairs)[1].size else ""
        counts = [estimate(run, metric, average_of(runs, None)) for run in runs]
        text = caption_of(runs, f"{style.NAMES.get(metric, metric)} per sample", counts, note)
    figure = style.new_figure(width, side, text)
    axes = figure.add_subplot(aspect="equal")
    points, counts_of = _distinct(pairs)
    axes.scatter(
        points[:, 1], points[:, 0], 9.0 * counts_of, color=style.COLOURS[0], alpha=0.55, linewidths=0, clip_on=False
    )
    low, high = float(points.min()), float(points.max())
    pad = 0.05 * ((high - low) or 1)
    axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
    axes.axline((low, low), slope=1, color=style.GREY, linewidth=0.7, zorder=0.9)
    axes.locator_params(nbins=5)
    for axis, name, letter in ((axes.set_xlabel, other, "B"), (axes.set_ylabel, one, "A")):
        axis("\n".join(style.label_lines(f"{style.NAMES.get(metric, metric)}, {letter}: {name}", 0.8 * side)))
    tied = f"equal: {found.ties}   " if found.ties else ""
    axes.set_title(f"A better: {found.wins}   {tied}B better: {found.losses}", loc="left")
    return figure


def _distinct(pairs: Pairs) -> tuple[Doubles, NDArray[np.int64]]:
    """Distinct points float64 [n, 2] of ours and theirs, and the number of samples at each."""
    both = np.round(np.stack([pairs.ours, pairs.theirs], axis=1), 9)
    return np.unique(both, axis=0, return_counts=True)


@style.styled
def distribution(
    runs: Sequence[FinishedRun], metric: str | None = None, width: str = "column", caption: bool = True
) -> Figure:
    """The distribution of a metric over samples: cumulative distribution functions, or box plots of many runs.

    A distribution function needs neither bins nor a bandwidth: its height at x is the share of samples that score at
    most x, so the curve further to the right scores higher.

    Args:
        runs: at least one run.
        metric: name in METRICS; None takes the protocol's primary metric.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: an unknown metric.
        DataError: a run without values.
    """
    for run in runs:
        check_comparable(runs[0], run)
    metric = metric_of(runs, metric)
    values = [values_of(run, metric) for run in runs]
    counts = [estimate(run, metric, average_of(runs, None)) for run in runs]
    draw = _curves if len(runs) <= CURVES else _boxes
    return draw(runs, values, metric, width, lambda what: caption_of(runs, what, counts) if caption else "")


def _curves(
    runs: Sequence[FinishedRun], values: Sequence[list[float]], metric: str, width: str, captioned: Captioned
) -> Figure:
    names = names_of(runs)
    series = series_of(names, [is_reference(run) for run in runs])
    what = f"{names[0]}. " if len(runs) == 1 else ""
    what += "Empirical distribution function over samples (dot: median)"
    figure = style.new_figure(width, 2.1 + style.legend_height(names, width), captioned(what))
    axes = figure.add_subplot()
    for one, found in zip(series, values, strict=True):
        axes.ecdf(found, color=one.colour, linestyle=one.dash, label=one.name)
        axes.plot(np.median(found), 0.5, "o", color=one.colour, zorder=3)
    axes.set_xlabel(style.axis_label(metric, 0.8 * style.WIDTHS[width]))
    axes.set_ylabel("Share of samples")
    axes.set_ylim(0, 1.01)
    axes.grid(axis="both")
    style.legend(figure, axes, names, width)
    return figure


def _boxes(
    runs: Sequence[FinishedRun], values: Sequence[list[float]], metric: str, width: str, captioned: Captioned
) -> Figure:
    names, room = names_of(runs), 0.42 * style.WIDTHS[width]
    lines = [style.label_lines(name, room, 6.5) for name in names]
    what = "Median, quartiles, and 5th to 95th percentile over samples (dots: samples outside)"
    row = max(0.17, 0.115 * max(map(len, lines)) + 0.05)
    figure = style.new_figure(width, 0.55 + row * len(runs), captioned(what))
    axes = figure.add_subplot()
    drawn = axes.boxplot(
        values,
        positions=range(len(runs)),
        orientation="horizontal",
        widths=0.6,
        whis=(5, 95),
        patch_artist=True,
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": style.GREY},
        medianprops={"color": "black"},
        whiskerprops={"linewidth": 0.6},
        showcaps=False,
        manage_ticks=False,
    )
    for box, run in zip(drawn["boxes"], runs, strict=True):
        box.set(facecolor=style.FAINT if is_reference(run) else style.COLOURS[5], linewidth=0.6)
    axes.set_yticks(range(len(runs)), ["\n".join(text) for text in lines])
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.set_xlabel(style.axis_label(metric, 0.5 * style.WIDTHS[width]))
    style.grid(axes)
    style.reference_line(axes, metric)
    return figure
