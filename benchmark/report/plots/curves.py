"""Curves: a metric over the number of steps, IoU and Dice over the threshold, and training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gtg_bench.benchmark.analysis.estimates import estimate
from gtg_bench.benchmark.analysis.thresholds import ThresholdCurve
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.report.plots import style
from gtg_bench.benchmark.report.plots.intervals import Series, series_of
from gtg_bench.benchmark.report.plots.selection import (
    average_name,
    average_of,
    caption_of,
    is_reference,
    metric_of,
    names_of,
)
from gtg_bench.benchmark.report.plots.step_runs import Swept
from gtg_bench.benchmark.report.training_files import read_training
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.statistics import Estimate

Points = Mapping[float, Estimate]
"""x -> value with its CI."""

BANDS = 3
"""Largest number of threshold curves that are drawn with their CIs; more bands would hide each other."""

METRICS_OVER_STEPS = ("cnr", "miou", "top1", "auroc")
"""The metrics of the paper's Figures 4 and 5."""


@style.styled
def steps(
    swept: Sequence[Swept],
    metrics: Sequence[str] | None = None,
    average: str | None = None,
    width: str = "column",
    caption: bool = True,
    title: str = "",
) -> Figure:
    """Metrics over the number of denoising steps, or over the last n steps that are averaged.

    Args:
        swept: runs that differ in that setting alone, see `step_runs.sweeps`; a column of panels for each setting.
        metrics: names in METRICS, a row of panels each; None takes the paper's four, as far as they were scored.
        average: over all samples; None takes the protocol's.
        width: "column" or "page".
        caption: print a caption below the plot.
        title: start of the caption.

    Raises:
        UsageError: no runs, or a metric that was not scored.
    """
    runs = [run for one in swept for run in one.runs.values()]
    if not runs:
        raise UsageError("no runs differ in their number of steps")
    scored = {name for run in runs for record in run.records for name in record.metrics}
    wanted: Sequence[str | None] = metrics or [m for m in METRICS_OVER_STEPS if m in scored] or [None]
    chosen = [metric_of(runs, name) for name in wanted]
    kind = average_of(runs, average)
    settings = list(dict.fromkeys((one.over, one.label) for one in swept))
    names = list(dict.fromkeys(one.name for one in swept))
    series = dict(zip(names, series_of(names, [False] * len(names)), strict=True))
    counts = [estimate(run, chosen[0], kind) for run in runs]
    single = f"{names[0]}. " if len(names) == 1 else ""
    what = f"{title}{single}{average_name(kind).capitalize()} with 95 % CI (bootstrap over patients)"
    note = "All points are on the same samples, so the bands overstate the uncertainty of differences between them"
    text = caption_of(runs, what, counts, note) if caption else ""
    rows, columns = _shape(len(chosen), len(settings), width)
    height = (1.65 if columns > 1 else 2.0) * rows + style.legend_height(names, width)
    figure = style.new_figure(width, height, text)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    room = style.WIDTHS[width] / columns - 0.5
    places = [(metric, place) for metric in chosen for place in settings]
    for axes, (metric, (over, label)) in zip(panels, places, strict=False):
        for one in (one for one in swept if (one.over, one.label) == (over, label)):
            points = {float(x): estimate(run, metric, kind) for x, run in sorted(one.runs.items())}
            _band(axes, points, series[one.name])
        axes.set_xlabel("\n".join(style.wrapped(label, room)))
        axes.set_title(style.axis_label(metric, room), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="both")
    for axes in panels[len(places) :]:
        axes.remove()
    style.legend(figure, figure.axes[0], names, width)
    return figure


def _shape(metrics: int, settings: int, width: str) -> tuple[int, int]:
    """Rows and columns of panels."""
    if settings > 1 or metrics == 1:
        return metrics, settings
    columns = 2 if width == "column" or metrics < 4 else 4
    return -(-metrics // columns), columns


def _band(axes: Axes, points: Points, one: Series, marked: bool = True, filled: bool = True) -> None:
    """A line through values, with their CIs as a band if `filled`; a single value has an error bar."""
    known = {x: found for x, found in points.items() if found.value is not None}
    values = style.numbers(found.value for found in known.values())
    marker = one.marker if marked else ""
    dash = "-" if marked else one.dash
    look: dict[str, Any] = {"linestyle": dash, "marker": marker, "markersize": 2.5, "color": one.colour}
    axes.plot(list(known), values, label=one.title, **look)
    if not filled:
        return
    spans = {x: found for x, found in known.items() if found.low is not None}
    low, high = (style.numbers(getattr(found, end) for found in spans.values()) for end in ("low", "high"))
    axes.fill_between(list(spans), low, high, color=one.colour, alpha=0.18, linewidth=0)
    if len(spans) == 1:
        axes.vlines(list(spans), low, high, one.colour, linewidth=0.9)


@style.styled
def thresholds(
    runs: Sequence[FinishedRun],
    curves: Sequence[ThresholdCurve],
    average: str | None = None,
    width: str = "column",
    caption: bool = True,
) -> Figure:
    """IoU and Dice over the threshold of the min-max normalised map; the protocol's own mask is marked.

    Args:
        runs: at least one run.
        curves: `analysis.thresholds.threshold_curve` of each.
        average: that the curves were made with; None is the protocol's.
        width: "column" or "page".
        caption: print a caption below the plot.
    """
    names = names_of(runs)
    series = series_of(names, [is_reference(run) for run in runs])
    filled = len(runs) <= BANDS
    interval = " with 95 % CI (bootstrap over patients)" if filled else ""
    masks = sorted({curve.mask for curve in curves})
    mark = f"Marks: the protocol's own mask ({', '.join(masks)}), at the median of its thresholds with their quartiles"
    note = "A threshold chosen as the maximum on these samples would overestimate a method"
    single = f"{names[0]}. " if len(runs) == 1 else ""
    what = f"{single}{average_name(average_of(runs, average)).capitalize()}{interval}"
    text = caption_of(runs, what, [curve.own[0] for curve in curves], mark, note) if caption else ""
    rows = 2 if width == "column" else 1
    figure = style.new_figure(width, 1.7 * rows + 0.3 + style.legend_height(names, width), text)
    panels = figure.subplots(rows, 3 - rows, sharex=True, squeeze=False).flat
    for axes, name, number in zip(panels, ("iou", "dice"), (0, 1), strict=True):
        for one, curve in zip(series, curves, strict=True):
            found = curve.dice if number else curve.iou
            _band(axes, dict(zip(curve.thresholds, found, strict=True)), one, False, filled)
            low, middle, high = curve.own_thresholds
            axes.hlines(curve.own[number].value, low, high, one.colour, linewidth=0.9)
            axes.plot(middle, curve.own[number].value, one.marker, color=one.colour, markeredgecolor="black", zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, None))
        axes.set_ylabel(style.axis_label(name, 1.6))
        axes.grid(axis="both")
    for axes in figure.axes if rows == 1 else figure.axes[1:]:
        axes.set_xlabel("Threshold on the min-max normalised map")
    style.legend(figure, figure.axes[0], names, width)
    return figure


@style.styled
def training(folders: Sequence[Path], width: str = "column", caption: bool = True) -> Figure:
    """Training curves: the loss, and each number that validations measured, over the step.

    Args:
        folders: see `training_files.read_training`.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: no folder.
        DataError: a folder without a loss curve.
    """
    if not folders:
        raise UsageError("name the --out folder of a training: gtg-bench plot training FOLDER --out FILE")
    found = [read_training(folder) for folder in folders]
    losses, seen = [one.loss for one in found], [one.validations for one in found]
    names = [folder.resolve().name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    series = series_of(names, [False] * len(names))
    numbers = list(dict.fromkeys(name for rows in seen for row in rows for name in row if name != "step"))
    columns = 1 if not numbers else 2
    rows = -(-(1 + len(numbers)) // columns)
    last = max(step for curve in losses for step, _ in curve)
    what = f"Training of {', '.join(names)} to step {last:,}. The loss is a mean over the steps between two points."
    more = " Validation numbers are measured on held-out samples, without confidence intervals." if numbers else ""
    height = (1.5 if columns > 1 else 2.1) * rows + style.legend_height(names, width)
    figure = style.new_figure(width, height, what + more if caption else "")
    first, *others = figure.subplots(rows, columns, squeeze=False).flat
    for one, curve in zip(series, losses, strict=True):
        first.plot([s for s, _ in curve], [v for _, v in curve], color=one.colour, label=one.name)
    first.set_ylabel("Training loss")
    values = [value for curve in losses for _, value in curve]
    if min(values) > 0 and max(values) > 10 * min(values):
        first.set_yscale("log")
    for axes, name in zip(others, numbers, strict=False):
        for one, validations in zip(series, seen, strict=True):
            points = [(row["step"], row[name]) for row in validations if name in row]
            axes.plot([s for s, _ in points], [v for _, v in points], color=one.colour, marker=".", markersize=4)
        shown = f"Validation: {style.NAMES.get(name, name)}"
        axes.set_ylabel("\n".join(style.wrapped(shown, 1.1)))
    for axes in others[len(numbers) :]:
        axes.remove()
    for axes in figure.axes:
        axes.set_xlabel("Optimiser step")
        axes.grid(axis="both")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    style.legend(figure, first, names, width)
    return figure
