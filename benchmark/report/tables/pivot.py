"""A leaderboard as a table of any two of its columns."""

from __future__ import annotations

from collections.abc import Sequence

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.leaderboard import COUNTS
from gtg_bench.benchmark.report.tables.document import Along, Block, Cell, Column, Document, Row, with_weights
from gtg_bench.benchmark.report.tables.selection import AVERAGE_NAMES, SAMPLES, Board, settings_notes, value
from gtg_bench.benchmark.runs.spec import COLUMNS

DIMENSIONS = (*(name for name in COLUMNS if name not in ("dataset", *SAMPLES)), "category", "metric")
"""Names that rows and columns can have; "metric" is for columns only. Rows of other samples never share a table."""

_OVERALL = "all samples"


def pivot(board: Board, rows: str, columns: str, metrics: Sequence[str], average: str = "overall") -> Document:
    """A table of a leaderboard's rows.

    Args:
        board: the comparable rows of one data set.
        rows, columns: names in DIMENSIONS.
        metrics: one column each, below each value of `columns` unless that is "metric".
        average: name in `statistics.AVERAGES`, for means over all categories.

    Raises:
        UsageError: an unknown name, rows of several methods in one cell, or an empty board.
    """
    if strange := [name for name in (rows, columns) if name not in DIMENSIONS]:
        raise UsageError(unknown("row or column", strange[0], DIMENSIONS))
    if rows == columns or rows == "metric":
        raise UsageError(f"--rows {rows} --columns {columns}: name two different settings; metrics are columns")
    if not board.rows:
        raise UsageError(" ".join(board.notes))
    no_metrics = {*COLUMNS, *COUNTS, "run_key", "category"}
    own = [name for row in board.rows for name in row if name not in no_metrics and not name.startswith("n_")]
    known = dict.fromkeys((*METRICS, *own))
    if strange := [name for name in metrics if name not in known]:
        raise UsageError(unknown("metric", strange[0], known))
    if "method" not in (rows, columns) and len({row["method"] for row in board.rows}) > 1:
        raise UsageError(f"{rows} by {columns} is a table of one method: add --where method=NAME")

    labels = _values(board, rows)
    places = [(name, metric) for name in _values(board, columns) for metric in metrics]

    def settings(row: str, column: str) -> dict[str, str]:
        return {name: text for name, text in {rows: row, columns: column}.items() if name not in ("category", "metric")}

    def cell(row: str, column: str, metric: str) -> Cell:
        category = {rows: row, columns: column}.get("category", _OVERALL)
        runs = board.runs(settings(row, column))
        return board.cell(runs, metric, average, None if category == _OVERALL else category)

    heads = tuple(
        Column("" if columns == "metric" else name or f"no {columns}", metric, metric, "", "measured", board.title)
        for name, metric in places
    )
    body = tuple(Row(label or f"no {rows}", tuple(cell(label, *place) for place in places)) for label in labels)
    along: Along = "row" if rows == "category" or columns == "method" else "column"
    along = "" if "control" in (rows, columns) else along  # a run does not compete with its controls
    block = with_weights(Block(f"MEASURED on {board.title}; {AVERAGE_NAMES[average]}", heads, body, along))
    wanted = [settings(label, name) for label in labels for name, _ in places]
    unique = list({tuple(sorted(found.items())): found for found in wanted}.values())
    notes = tuple(("", note) for note in (*board.notes, *settings_notes(board, unique)))
    return Document(f"{rows}-by-{columns}", f"{rows} by {columns}", (block,), notes)


def _values(board: Board, name: str) -> list[str]:
    """The values of a setting in the board's rows, in the table's order; the overall row follows the categories."""
    if name == "metric":
        return [""]
    if name == "category":
        return [*sorted({row["category"] for row in board.parts}), _OVERALL]
    found = dict.fromkeys(value(row, name) for row in board.shown(name))
    if name == "sampling":
        return [mode for mode in ("", *SAMPLINGS) if mode in found]
    return sorted(found)
