"""A comparison table as data: blocks of rows and columns; the renderers beside this file only draw it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Origin = Literal["published", "measured"]
Mark = Literal["", "best", "second", "equal"]
LOWER_IS_BETTER = frozenset({"fid", "fid_xrv", "distance"})
MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """One figure, or its absence.

    Attributes:
        shown: what a reader sees; MISSING where there is no figure.
        exact: the figure with all known digits, "" where there is none.
        spread: standard deviation or what else stands behind a plus-minus sign, "" where nothing does.
        low, high: bounds as shown, "" where there are none.
        n: what it is a mean over, e.g. "367".
        run_key: of the run, or runs, that it was measured in.
        mark: its rank among the cells that it may be compared with, or that it equals a printed figure.
        note: letter of a footnote.
        source: whose result it is, where the table's caption says so.
    """

    shown: str = MISSING
    exact: str = ""
    spread: str = ""
    low: str = ""
    high: str = ""
    n: str = ""
    run_key: str = ""
    mark: Mark = ""
    note: str = ""
    source: str = ""

    @property
    def figure(self) -> str:
        """The figure with its spread, as on paper."""
        return f"{self.shown}±{self.spread.removeprefix('0')}" if self.spread else self.shown

    @property
    def bounds(self) -> str:
        """The bounds in brackets, "" where there are none."""
        return f"[{self.low}, {self.high}]" if self.low and self.high else ""


NOTHING = Cell()


@dataclass(frozen=True)
class Column:
    """A column's headings and meaning.

    Attributes:
        group: upper heading, shared by neighbours; "" where there is none.
        name: lower heading, usually the metric.
        metric: identifier of the quantity; only cells of one metric and origin are ranked together.
        unit: of the figures.
        origin: whose figures they are.
        data: what they were measured on: a data set, its version and split.
        ranked: whether its cells take part in best and second.
        note: letter of a footnote.
    """

    group: str
    name: str
    metric: str
    unit: str
    origin: Origin
    data: str
    ranked: bool = True
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A line: its label, one cell for each column, the section it stands in and the letter of a footnote."""

    label: str
    cells: tuple[Cell, ...]
    section: str = ""
    note: str = ""


@dataclass(frozen=True)
class Block:
    """One table with a heading that says what data the figures come from.

    Attributes:
        title: the heading.
        columns, rows: see there.
        along: where competitors stand: side by side in a row, or below each other in a section.
        paired: published and measured columns stand side by side: the origin is a heading of its own.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    along: Literal["row", "column"] = "row"
    paired: bool = False


@dataclass(frozen=True)
class Document:
    """What one call shows.

    Attributes:
        name: of its files, without ending.
        title, blocks: see there.
        notes: (letter or "", sentence) each; sentences may hold commands in backticks.
        legend: what the marks mean.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    notes: tuple[tuple[str, str], ...] = ()
    legend: str = "Bold: best; underlined: second."

    @property
    def marked(self) -> bool:
        """Whether any cell has a mark, so that the legend is needed."""
        return any(cell.mark for block in self.blocks for row in block.rows for cell in row.cells)


def headings(block: Block, column: Column) -> tuple[str, ...]:
    """A column's headings from top to bottom, empty ones left out."""
    origin = {"published": "paper", "measured": "here"}[column.origin] if block.paired else ""
    return tuple(filter(None, (column.group, column.name, origin)))


def sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows that stand together under one section heading, "" for none."""
    for name in dict.fromkeys(row.section for row in rows):
        yield name, [row for row in rows if row.section == name]


def ranked(block: Block) -> Block:
    """The block with best and second marked, among at least two different figures of one metric and origin.

    Equal figures share a mark. Which direction is better is the metric's: see LOWER_IS_BETTER.
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
    """Places whose figures compete."""
    found: dict[tuple, list[tuple[int, int]]] = {}
    for i, row in enumerate(block.rows):
        for j, column in enumerate(block.columns):
            if column.ranked and row.cells[j].exact:
                line = (i, column.metric, column.origin) if block.along == "row" else (row.section, j)
                found.setdefault(line, []).append((i, j))
    return found.values()
