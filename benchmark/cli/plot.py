"""`gtg-bench plot`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import DataRoot, LeaderboardsDir, RunsDir, choice, err, out, reports_errors
from gtg_bench.benchmark.statistics import AVERAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = "Plot runs: scores, differences, distributions, curves over steps and thresholds, trainings, image quality."
WIDTHS = ("column", "page")
BY = ("method", "category", "sampling")


class Kind(StrEnum):
    """What is plotted."""

    bars = "bars"
    forest = "forest"
    scatter = "scatter"
    distribution = "distribution"
    significance = "significance"
    steps = "steps"
    thresholds = "thresholds"
    training = "training"
    tradeoff = "tradeoff"


Out = Annotated[list[Path], typer.Option("--out", help="File to write, .pdf, .svg, .png or .jpg; repeatable.")]
Width = Annotated[str, choice(WIDTHS, "--width", help="3.4 inches (one column) or 7 (a page).")]
Caption = Annotated[bool, typer.Option("--caption/--no-caption", help="Print the caption below the plot.")]


@reports_errors
def plot(
    kind: Annotated[Kind, typer.Argument(help="What to plot.", show_choices=True)],
    to: Out,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN ...]",
            help="Runs as for `gtg-bench compare`; for training the folders of trainings. (default: all runs)",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric; repeatable for steps. (default: the protocol's primary metric)"),
    ] = None,
    by: Annotated[str, choice(BY, "--by", help="Rows of bars.")] = "method",
    average: Annotated[
        str | None, choice(list(AVERAGES), "--average", help="Average over all samples. (default: the protocol's)")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this data set. (default: phantom)")] = None,
    width: Width = "column",
    caption: Caption = True,
    features: Annotated[
        str, typer.Option(metavar="[inception|xrv|phantom]", help="Features of the FIDs of tradeoff.")
    ] = "phantom",
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    runs_dir: RunsDir = Path("runs"),
    data_root: DataRoot = None,
) -> None:
    """Plot runs."""
    from gtg_bench.benchmark.report.pictures.drawing import check_format

    for path in to:
        check_format(path)
    if len(metric or ()) > 1 and kind != Kind.steps:
        raise UsageError(f"{kind} shows one metric; give one --metric, or plot each metric on its own")
    look: dict[str, Any] = {"width": width, "caption": caption}
    if kind == Kind.tradeoff:
        if runs:
            raise UsageError("tradeoff shows all rows of the leaderboards; leave out the runs")
        place = leaderboards_dir, dataset or "phantom", next(iter(metric or ()), None), features
        write(_tradeoff(*place, look), to)
        return
    figure = _figure(kind, runs or [], metric or [], by, average, (runs_dir, dataset), data_root, look)
    write(figure, to)


def write(figure: Figure, paths: Sequence[Path]) -> None:
    """Save a figure and print where."""
    from gtg_bench.benchmark.report.pictures.drawing import save

    save(figure, *paths)
    for path in paths:
        out.say(f"Written: {path}")


def _figure(
    kind: Kind,
    names: list[str],
    metrics: list[str],
    by: str,
    average: str | None,
    place: tuple[Path, str | None],
    data_root: Path | None,
    look: dict[str, Any],
) -> Figure:
    """The plot of a kind."""
    from gtg_bench.benchmark.report import plots

    runs_dir, dataset = place
    metric = next(iter(metrics), None)
    if kind == Kind.training:
        return plots.training([Path(name) for name in names], **look)
    if kind == Kind.steps:
        return plots.steps(plots.sweeps(runs_dir, names, dataset), metrics, average, **look)
    if kind == Kind.scatter and len(names) not in (0, 2):
        raise UsageError(f"scatter shows two runs, not {len(names)}")
    pairs = kind in (Kind.forest, Kind.scatter, Kind.significance)
    controls = kind == Kind.bars and by == "method"
    runs = plots.find_runs(
        runs_dir, names, dataset, 2 if pairs else 1, controls, "iou" if kind == Kind.thresholds else metric
    )
    if kind == Kind.bars:
        return plots.bars(runs, metric, by, average, **look)
    if kind == Kind.forest:
        return plots.forest(runs, metric, average, **look)
    if kind == Kind.significance:
        return plots.significance(runs, metric, average, **look)
    if kind == Kind.scatter:
        return plots.scatter(runs[0], runs[1], metric, **look)
    if kind == Kind.distribution:
        return plots.distribution(runs, metric, **look)
    return _thresholds(runs, average, runs_dir, data_root, look)


def _tradeoff(folder: Path, dataset: str, metric: str | None, features: str, look: dict[str, Any]) -> Figure:
    """The runs of a leaderboard against quality.csv."""
    from gtg_bench.benchmark.api.registry import unknown
    from gtg_bench.benchmark.metrics import METRICS
    from gtg_bench.benchmark.report import plots
    from gtg_bench.benchmark.report.quality_board import FIDS
    from gtg_bench.benchmark.report.tables.selection import load, with_quality

    if metric is not None and metric not in METRICS:
        raise UsageError(unknown("metric", metric, METRICS))
    if features not in FIDS.values():
        raise UsageError(unknown("feature network", features, FIDS.values()))
    board = with_quality(load(folder, dataset, {}), folder)
    return plots.tradeoff(board, features, metric, **look)


def _thresholds(
    runs: list[Any], average: str | None, runs_dir: Path, root: Path | None, look: dict[str, Any]
) -> Figure:
    """Score stored maps at every threshold, and show the progress."""
    from gtg_bench.benchmark.analysis.thresholds import threshold_curve
    from gtg_bench.benchmark.report import plots
    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.benchmark.runs.rescore import Place

    kind, curves = plots.average_of(runs, average), []
    for run in runs:
        with counting(err, run.spec.method) as count:
            curves.append(threshold_curve(runs_dir, run, kind, Place(root), progress=count))
    return plots.thresholds(runs, curves, kind, **look)
