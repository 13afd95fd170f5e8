"""A metric with its 95 % CI by method, by category or by sampling mode."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from gtg_bench.benchmark.analysis.compare import check_comparable
from gtg_bench.benchmark.analysis.estimates import categories_of, estimate
from gtg_bench.benchmark.analysis.sensitivity import PLAIN, is_prior
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.report.plots import style
from gtg_bench.benchmark.report.plots.intervals import (
    MANY,
    Interval,
    Layout,
    Series,
    intervals,
    rows_of_runs,
    series_of,
)
from gtg_bench.benchmark.report.plots.selection import (
    average_name,
    average_of,
    caption_of,
    is_reference,
    metric_of,
    names_of,
)
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.statistics import Estimate

BY = ("method", "category", "sampling")


@style.styled
def bars(
    runs: Sequence[FinishedRun],
    metric: str | None = None,
    by: str = "method",
    average: str | None = None,
    width: str = "column",
    caption: bool = True,
) -> Figure:
    """A metric with 95 % CIs: bars where 0 is a meaningful origin, points where it is not.

    Args:
        runs: runs under the same conditions, in the order of the plot.
        metric: name in METRICS; None takes the protocol's primary metric.
        by: "method", "category" or "sampling".
        average: over all samples; None takes the protocol's.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: runs that cannot be compared, an unknown name, or no run with a sampling mode.
    """
    if by not in BY:
        raise UsageError(f"unknown grouping {by!r}; choose from {', '.join(BY)}")
    for run in runs:
        check_comparable(runs[0], run)
    if by == "sampling":
        runs = [run for run in runs if run.spec.settings.sampling]
        if not runs:
            raise UsageError("no run has a sampling mode; make some with `gtg-bench run -m cxrbert-ldm --sampling cfg`")
    metric, average = metric_of(runs, metric), average_of(runs, average)
    overall = [estimate(run, metric, average) for run in runs]
    grey = [is_reference(run) for run in runs]
    notes = ["Grey: priors and baselines"] if any(is_prior(run.spec.method) for run in runs) else []
    notes += ["*: sanity-check control of the method above"] if any(run.spec.control != PLAIN for run in runs) else []
    averaged = average_name("overall" if by == "category" else average)
    single = f"{names_of(runs)[0]}. " if len(runs) == 1 and by != "method" else ""
    what = f"{single}{averaged.capitalize()} with 95 % CI (bootstrap over patients)"
    layout = Layout(
        style.axis_label(metric, style.WIDTHS[width] * 0.5),
        caption_of(runs, what, overall, *notes) if caption else "",
        width,
        metric not in style.NOT_FROM_ZERO,
        style.CHANCE.get(metric),
    )
    names = names_of(runs)
    if by == "method":
        cells = {name: _interval(one) for name, one in zip(names, overall, strict=True)}
        return rows_of_runs(_rows(runs, names), cells, layout)
    if by == "sampling":
        return _by_sampling(runs, names, overall, layout)
    groups = categories_of(runs)
    series = series_of(names, grey) if len(runs) <= MANY else _rows(runs, names)
    found = {
        (group, name): _interval(estimate(run, metric, average, group))
        for group in groups
        for run, name in zip(runs, names, strict=True)
    }
    return intervals(groups, series, {key: one for key, one in found.items() if one.n}, layout)


def _by_sampling(
    runs: Sequence[FinishedRun], names: Sequence[str], found: Sequence[Estimate], layout: Layout
) -> Figure:
    """Rows are everything else about a run, series its sampling modes; rows are modes if there is nothing else."""
    modes = [str(run.spec.settings.sampling) for run in runs]
    others = [name.replace(f" {mode}", "", 1) for name, mode in zip(names, modes, strict=True)]
    shown = [mode for mode in SAMPLINGS if mode in modes]
    places = zip(others, modes, strict=True)
    cells = {place: _interval(one) for place, one in zip(places, found, strict=True)}
    if len(set(others)) == 1:
        turned = {(mode, other): one for (other, mode), one in cells.items()}
        return intervals(shown, [Series(others[0], style.COLOURS[0])], turned, layout)
    return intervals(list(dict.fromkeys(others)), series_of(shown, [False] * len(shown)), cells, layout)


def _rows(runs: Sequence[FinishedRun], names: Sequence[str]) -> list[Series]:
    """One colour, since each run has its own row: blue for methods, grey for the others; controls are indented."""
    found, above = [], None
    for run, name in zip(runs, names, strict=True):
        control = run.spec.control
        above = run if control == PLAIN else above
        indented = control != PLAIN and above is not None and above.spec.method == run.spec.method
        colour = style.FAINT if is_reference(run) else style.COLOURS[0]
        found.append(Series(name, colour, shown=f"{control}*" if indented else ""))
    return found


def _interval(one: Estimate) -> Interval:
    return Interval(one.value, one.low, one.high, one.n)
