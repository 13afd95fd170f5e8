"""Tables as data: documents of blocks of rows and columns; `render` writes them in every format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Origin = Literal["published", "measured"]
Mark = Literal["", "best", "second", "equal"]
LOWER_IS_BETTER = frozenset({"fid", "fid_xrv", "distance"})
MISSING = "-"

HEADINGS = {
    "phrase_discrimination": "discrim.",
    "box_iou_full": "box iou",
    "miou_thresholds": "miou-t",
    "miou_thresholds_minmax": "miou-mm",
}
"""Metric -> shorter heading where room is scarce."""


@dataclass(frozen=True)
class Cell:
    """One value, or its absence."""

    shown: str = MISSING
    """Value as displayed; MISSING if there is none."""
    exact: str = ""
    """Value with all known digits, "" if there is none."""
    spread: str = ""
    """Standard deviation, or whatever the paper prints after the plus-minus sign; "" if there is none."""
    low: str = ""
    """Lower limit of the 95 % CI with all known digits, "" if there is none."""
    high: str = ""
    """Upper limit."""
    n: str = ""
    """What the value is a mean over, e.g. "367"."""
    run_key: str = ""
    """Key of the run, or runs, that it was measured in."""
    mark: Mark = ""
    """Rank among the cells that it may be compared with, or "equal": equal to a printed value."""
    note: str = ""
    """Letter of a footnote."""
    source: str = ""
    """Whose result it is, if the table's caption says so."""

    @property
    def figure(self) -> str:
        """The value with its spread, as printed on paper."""
        return f"{self.shown}±{self.spread.removeprefix('0')}" if self.spread else self.shown

    @property
    def interval(self) -> str:
        """The 95 % CI in brackets, "" if there is none."""
        return f"[{float(self.low):.3f}, {float(self.high):.3f}]" if self.low and self.high else ""


NOTHING = Cell()


@dataclass(frozen=True)
class Column:
    """A column's headings and meaning."""

    group: str
    """Upper heading, shared by neighbours; "" if there is none."""
    name: str
    """Lower heading, usually the metric."""
    metric: str
    """Identifier of the quantity; only cells of one metric and origin are ranked together."""
    unit: str
    """Unit of the values."""
    origin: Origin
    """Who reports the values."""
    data: str
    """What they were measured on: a data set, its version and split."""
    ranked: bool = True
    """Whether best and second are marked."""
    note: str = ""
    """Letter of a footnote."""


@dataclass(frozen=True)
class Row:
    """A row: its label, one cell per column, the section it belongs to, the letter of a footnote, and its style."""

    label: str
    cells: tuple[Cell, ...]
    section: str = ""
    note: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Block:
    """One table whose title says what data the values come from."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    along: Literal["row", "column"] = "row"
    """Where competitors are: side by side in a row, or below each other in a section."""
    paired: bool = False
    """Published and measured columns are side by side: the origin is an additional heading."""
    compact: bool = False
    """Terminal: a CI is plus-minus half its width, or left out if labels do not fit."""


@dataclass(frozen=True)
class Document:
    """Everything that one call shows."""

    name: str
    """Name of its files, without suffix."""
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[tuple[str, str], ...] = ()
    """(letter or "", sentence) pairs; sentences may contain commands in backticks."""
    legend: str = "Bold: best; underlined: second."
    """What the marks mean."""

    @property
    def marked(self) -> bool:
        """Whether any cell has a mark, so that the legend is needed."""
        return any(cell.mark for block in self.blocks for row in block.rows for cell in row.cells)


def headings(block: Block, column: Column) -> tuple[str, ...]:
    """A column's headings from top to bottom, without empty ones."""
    origin = {"published": "paper", "measured": "here"}[column.origin] if block.paired else ""
    return tuple(filter(None, (column.group, column.name, origin)))


def sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each section with its heading, "" for none."""
    for name in dict.fromkeys(row.section for row in rows):
        yield name, [row for row in rows if row.section == name]


def ranked(block: Block) -> Block:
    """The block with best and second marked among cells of one metric and origin, if at least two values differ.

    Equal values share a mark. LOWER_IS_BETTER says in which direction a metric is better.
    """
    marks: dict[tuple[int, int], Mark] = {}
    for pool in _pools(block):
        values = {place: float(block.rows[place[0]].cells[place[1]].exact) for place in pool}
        lower = block.columns[pool[0][1]].metric in LOWER_IS_BETTER
        order = sorted(set(values.values()), reverse=not lower)
        if len(order) > 1:
            marks |= {place: "best" for place in pool if values[place] == order[0]}
            marks |= {place: "second" for place in pool if values[place] == order[1]}
    rows = (
        replace(row, cells=tuple(replace(cell, mark=marks.get((i, j), "")) for j, cell in enumerate(row.cells)))
        for i, row in enumerate(block.rows)
    )
    return replace(block, rows=tuple(rows))


def _pools(block: Block) -> Iterable[list[tuple[int, int]]]:
    """Row and column of cells that are ranked together."""
    found: dict[tuple, list[tuple[int, int]]] = {}
    for i, row in enumerate(block.rows):
        for j, column in enumerate(block.columns):
            if column.ranked and row.cells[j].exact:
                line = (i, column.metric, column.origin) if block.along == "row" else (row.section, j)
                found.setdefault(line, []).append((i, j))
    return found.values()
