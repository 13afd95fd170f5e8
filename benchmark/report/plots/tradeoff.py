"""Grounding against image quality (the claim of the paper's appendix D), over methods and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from matplotlib.figure import Figure

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.plots import style
from gtg_bench.benchmark.report.quality_board import FLOOR, Row, comparable
from gtg_bench.benchmark.report.tables.selection import AVERAGE_NAMES, Board

_ENOUGH = 4
"""Fewest models of which a rank correlation is given."""


@dataclass(frozen=True)
class _Point:
    """A model: its method and weights, and (value, low, high) of FID and of the metric; limits may be missing."""

    method: str
    weights: str
    fid: tuple[float, float, float]
    score: tuple[float, float, float]


@style.styled
def tradeoff(
    board: Board, features: str, metric: str | None = None, width: str = "column", caption: bool = True
) -> Figure:
    """A metric of grounding against FID, one point for each method and weights that have both.

    Args:
        board: runs of one data set, with `quality`.
        features: network whose FID is shown.
        metric: name in METRICS; None takes the protocol's primary metric.
        width: "column" or "page".
        caption: print a caption below the plot.

    Raises:
        UsageError: no model has both numbers.
    """
    metric = metric or board.rules.primary
    rows = comparable(board.quality, features)
    points = [point for row in rows if row["method"] and (point := _point(board, row, metric))]
    if not points:
        raise UsageError(_missing(board, rows, features, metric))
    methods = list(dict.fromkeys(point.method for point in points))
    text = _caption(board, rows, points, features, metric) if caption else ""
    figure = style.new_figure(width, 2.3 + style.legend_height(methods, width), text)
    axes = figure.add_subplot()
    for number, method in enumerate(methods):
        own = [point for point in points if point.method == method]
        colour = style.COLOURS[number % len(style.COLOURS)]
        axes.errorbar(
            [point.fid[0] for point in own],
            [point.score[0] for point in own],
            xerr=_arms([point.fid for point in own]),
            yerr=_arms([point.score for point in own]),
            fmt=style.MARKERS[number % len(style.MARKERS)],
            color=colour,
            elinewidth=0.7,
            label=method,
        )
        for point, name in zip(own, _tails([point.weights for point in own]), strict=True) if len(own) > 1 else ():
            place = (point.fid[0], point.score[0])
            axes.annotate(name, place, (3, 3), textcoords="offset points", fontsize=5.5, color=colour)
    if rows[0]["images"] == FLOOR and rows[0]["fid"]:
        floor = float(rows[0]["fid"])
        axes.axvline(floor, color=style.FAINT, linewidth=0.8, zorder=0.9, gid="floor")
        place, beside = (floor, 0.02), axes.get_xaxis_transform()
        label = axes.annotate("floor", place, (2, 0), beside, "offset points", fontsize=5.5, color=style.GREY)
        label.set_rotation(90)
    axes.set_xlabel(f"FID, {features} features (lower is better)")
    axes.set_ylabel(style.axis_label(metric, 2.2))
    axes.grid(axis="both")
    style.legend(figure, axes, methods, width)
    return figure


def _tails(places: Sequence[str]) -> list[str]:
    """The shortest ends of paths that distinguish them, such as the names of checkpoints."""
    parts = [PurePath(place).parts[-4:] for place in places]
    for length in range(1, 4):
        tails = ["/".join(each[-length:]) for each in parts]
        if len(set(tails)) == len(set(places)):
            return tails
    return list(places)


def _point(board: Board, row: Row, metric: str) -> _Point | None:
    """The model of a row of quality.csv, if it was also run."""
    runs = board.runs({"method": row["method"], "weights_version": row["weights_version"]})
    cell = board.cell(runs, metric, board.rules.average)
    if not cell.exact or not row["fid"]:
        return None
    fid = tuple(float(row[name] or row["fid"]) for name in ("fid", "fid_low", "fid_high"))
    score = tuple(float(text or cell.exact) for text in (cell.exact, cell.low, cell.high))
    return _Point(row["method"], row["weights"], fid, score)  # type: ignore[arg-type]


def _arms(values: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """Lengths of error bars below and above."""
    return [[value - low for value, low, _ in values], [high - value for value, _, high in values]]


def _missing(board: Board, rows: Sequence[Row], features: str, metric: str) -> str:
    made = [row["method"] for row in rows if row["method"]]
    if not made:
        return (
            f"no FID with features {features} of generated images; make some with `gtg-bench generate -m METHOD --out "
            f"DIR` and `gtg-bench quality DIR --real {board.dataset} --features {features}`"
        )
    names = ", ".join(dict.fromkeys(made))
    return f"no run of {names} with the weights of the images has {metric} on {board.title}; `gtg-bench run` makes them"


def _caption(board: Board, rows: Sequence[Row], points: Sequence[_Point], features: str, metric: str) -> str:
    from scipy.stats import spearmanr

    first = rows[0]
    name = style.NAMES.get(metric, metric)
    sentences = [f"{name}, {AVERAGE_NAMES[board.rules.average]} of {board.title}, against FID of generated images"]
    floor = ", grey line: floor, the two halves of the real images" if first["images"] == FLOOR else ""
    sentences.append(f"FID: {first['real']}, n = {first['n']} on each side{floor}. Bars: 95 % CI")
    if len(points) >= _ENOUGH:
        rank = float(spearmanr([point.fid[0] for point in points], [point.score[0] for point in points]).statistic)
        meaning = " (positive: a trade-off)" if METRICS[metric].higher_is_better else ""
        sentences.append(f"Spearman's rank correlation over {len(points)} models: {rank:.2f}{meaning}")
    if features == "phantom":
        sentences.append("Features of the packaged phantom encoder: not comparable with published FIDs")
    if any(of_phantom(point.weights) for point in points):
        sentences.append("Phantom weights")
    return " ".join(f"{sentence}." for sentence in sentences)
