"""A leaderboard as a table of any two of its columns: rows by one setting, columns by another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gtg_bench.benchmark.api.choices import SAMPLINGS
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.leaderboard import COUNTS, RANK_GROUP
from gtg_bench.benchmark.report.measured import AVERAGE_NAMES, AVERAGES, SAMPLES, Board, choices, value
from gtg_bench.benchmark.report.model import Block, Cell, Column, Document, Row, ranked
from gtg_bench.benchmark.runs.spec import COLUMNS

DIMENSIONS = (*(name for name in COLUMNS if name not in ("dataset", *SAMPLES)), "category", "metric")
"""What columns can be; rows too, but for "metric". Rows of other samples never share a table."""

_OVERALL = "all samples"


@dataclass(frozen=True)
class _Pivot:
    board: Board
    rows: str
    columns: str
    metrics: Sequence[str]
    average: str

    def document(self) -> Document:
        title = f"{self.rows} by {self.columns}"
        block = Block(
            f"MEASURED on {self.board.title}; {AVERAGE_NAMES[self.average]}",
            tuple(self._column(name, metric) for name, metric in self._places()),
            tuple(self._row(label) for label in self._values(self.rows)),
            self._along(),
        )
        wanted = [self._wanted(row, name) for row in self._values(self.rows) for name, _ in self._places()]
        unique = list({tuple(sorted(settings.items())): settings for settings in wanted}.values())
        notes = tuple(("", note) for note in (*self.board.notes, *choices(self.board, unique)))
        return Document(f"{self.rows}-by-{self.columns}", title, (ranked(block),), notes)

    def _along(self) -> Literal["row", "column"]:
        """Methods compete with each other, else what stands below each other, but never categories."""
        return "row" if self.rows == "category" or self.columns == "method" else "column"

    def _places(self) -> list[tuple[str, str]]:
        """Value of the column setting and metric, for each column."""
        if self.columns == "metric":
            return [("", metric) for metric in self.metrics]
        return [(name, metric) for name in self._values(self.columns) for metric in self.metrics]

    def _values(self, name: str) -> list[str]:
        """What a setting is in the rows at hand, in the table's order; for categories the overall line comes last."""
        if name == "category":
            return [*sorted({row["category"] for row in self.board.parts}), _OVERALL]
        found = dict.fromkeys(value(row, name) for row in self.board.shown(name))
        if name == "sampling":
            return [mode for mode in ("", *SAMPLINGS) if mode in found]
        return sorted(found)

    def _column(self, name: str, metric: str) -> Column:
        group = "" if self.columns == "metric" else self._label(self.columns, name)
        ranks = "control" not in (self.rows, self.columns)
        return Column(group, metric, metric, "", "measured", self.board.title, ranks)

    def _row(self, label: str) -> Row:
        cells = tuple(self._cell(label, name, metric) for name, metric in self._places())
        return Row(self._label(self.rows, label), cells)

    def _cell(self, row: str, column: str, metric: str) -> Cell:
        found = {self.rows: row, self.columns: column}
        category = found.get("category", _OVERALL)
        runs = self.board.runs(self._wanted(row, column))
        if category == _OVERALL:
            return self.board.cell(runs, metric, None, AVERAGES[self.average])
        return self.board.cell(runs, metric, category)

    def _wanted(self, row: str, column: str) -> dict[str, str]:
        found = {self.rows: row, self.columns: column}
        return {name: text for name, text in found.items() if name not in ("category", "metric")}

    def _label(self, name: str, text: str) -> str:
        return text or f"no {name}"


def pivot(board: Board, rows: str, columns: str, metrics: Sequence[str], average: str = "overall") -> Document:
    """A table of a leaderboard's rows.

    Args:
        board: the comparable rows of one data set.
        rows, columns: of DIMENSIONS.
        metrics: a column each; below each value of `columns` unless that is "metric".
        average: of `measured.AVERAGES`, for what is a mean over all categories.

    Raises:
        UsageError: a name that there is not; rows of several methods in one cell; nothing is measured.
    """
    if strange := [name for name in (rows, columns) if name not in DIMENSIONS]:
        raise UsageError(unknown("row or column", strange[0], DIMENSIONS))
    if rows == columns or rows == "metric":
        raise UsageError(f"--rows {rows} --columns {columns}: take two different names; metrics are columns")
    if not board.rows:
        raise UsageError(" ".join(board.notes))
    known = dict.fromkeys((*METRICS, *(name for row in board.rows for name in row if _is_metric(name))))
    if strange := [name for name in metrics if name not in known]:
        raise UsageError(unknown("metric", strange[0], known))
    if "method" not in (rows, columns) and len({row["method"] for row in board.rows}) > 1:
        raise UsageError(f"{rows} by {columns} is a table of one method: add --where method=NAME")
    return _Pivot(board, rows, columns, metrics, average).document()


def _is_metric(name: str) -> bool:
    return name not in (*COLUMNS, *COUNTS, RANK_GROUP, "run_key", "category") and not name.startswith("n_")
