"""Every method as it returns its maps, at matched smoothing and at its own best: how much of a lead is smoothness?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gtg_bench.benchmark.analysis.sensitivity import is_ceiling
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.settings import SETTINGS
from gtg_bench.benchmark.metrics.named_masks import BEST
from gtg_bench.benchmark.report.leaderboard import Row as Found
from gtg_bench.benchmark.report.tables.document import NOTHING, Block, Column, Document, Row
from gtg_bench.benchmark.report.tables.selection import AVERAGE_NAMES, Board, load, measured_cell, value
from gtg_bench.benchmark.runs.labels import labels
from gtg_bench.benchmark.scoring.smoothing import SIGMAS, UNSMOOTHED

METRICS = ("cnr", "auroc", "top1")


def smoothing_document(
    folder: Path,
    dataset: str,
    where: Mapping[str, str],
    protocol: str,
    reference: bool,
    metrics: Sequence[str] = METRICS,
    average: str | None = None,
) -> Document:
    """A column group per smoothing that the leaderboards have: none, each matched one, the best of each method.

    Args:
        folder, dataset, where, protocol, reference: which leaderboards and rows, see `selection.find_rows`.
        metrics: a column each in every group.
        average: a name in `statistics.AVERAGES`; None takes the protocol's.

    Raises:
        UsageError: an unknown name, a metric that the protocol lacks, or `where` names the smoothing.
        DataError: a file is not a leaderboard.
    """
    if "smooth" in where:
        raise UsageError("this table has a column for every smoothing; leave out --where smooth=...")
    rules = [f"{sigma:g}" for sigma in SIGMAS] + [BEST]
    boards = {rule: load(folder, dataset, {**where, "smooth": rule}, protocol, reference) for rule in rules}
    boards = {rule: board for rule, board in boards.items() if board.rows}
    if not boards:
        raise UsageError(
            f"no leaderboard of {dataset} in {folder}; run methods, then score them: gtg-bench score RUN --smooth 0.06"
        )
    plain = next(iter(boards.values()))
    boards = {rule: board for rule, board in boards.items() if _data(board) == _data(plain)}  # the same samples
    if strange := [name for name in metrics if name not in plain.rules.metrics]:
        raise UsageError(unknown("metric", strange[0], plain.rules.metrics))
    average = average or plain.rules.average
    runs = {_setup(row): row for board in boards.values() for row in _own(board)}
    ordered = sorted(runs.values(), key=lambda row: (not is_ceiling(row["method"]), row["method"]))
    heads = tuple(
        Column(_heading(rule), metric, metric, "", "measured", board.title)
        for rule, board in boards.items()
        for metric in metrics
    )
    body = []
    for row, label in zip(ordered, labels([row | {"smooth": ""} for row in ordered]), strict=True):
        found = {rule: one for rule, board in boards.items() for one in _own(board) if _setup(one) == _setup(row)}
        cells = [measured_cell(found[r], m, average) if r in found else NOTHING for r in boards for m in metrics]
        chosen = [f"best {found[BEST]['smooth'].partition(':')[2]}"] if BEST in found else []
        body.append(Row(", ".join([*label, *chosen]), tuple(cells)))
    title = f"MEASURED on {_data(plain)}; {AVERAGE_NAMES[average]}"
    notes = (
        *plain.notes,
        "Smoothing: standard deviation of a Gaussian as a fraction of the image's shorter side. Best: chosen for each "
        "method on the validation split, by the protocol's primary metric. Scores against boxes reward smooth maps, so "
        "compare methods within a column group, and with the ceiling there.",
    )
    return Document(
        "smoothing", "Smoothing", (Block(title, heads, tuple(body), "column"),), tuple(("", n) for n in notes)
    )


def _own(board: Board) -> list[Found]:
    return [row for row in board.rows if value(row, "control") == "none"]


def _setup(row: Found) -> tuple[str, ...]:
    return tuple(value(row, name) for name in SETTINGS)


def _data(board: Board) -> str:
    """The title without the smoothing."""
    return board.title.partition(", smooth")[0]


def _heading(rule: str) -> str:
    return "not smoothed" if rule == UNSMOOTHED else "own best" if rule == BEST else f"all at {rule}"
