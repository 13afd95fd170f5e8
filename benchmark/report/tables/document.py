"""Tables as data: documents of blocks of rows and columns; `render` writes them in every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gtg_bench.benchmark.statistics import interval_note

Origin = Literal["published", "measured"]
Along = Literal["", "row", "column"]
Mark = Literal["", "best", "equal"]
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
    """Value as displayed; MISSING if the cell is empty."""
    exact: str = ""
    """Value with all known digits, "" if missing."""
    spread: str = ""
    """Standard deviation, or what the paper prints after the plus-minus sign; "" if missing."""
    low: str = ""
    """Lower limit of the 95 % CI with all known digits, "" if missing."""
    high: str = ""
    """Upper limit."""
    n: str = ""
    """What the value is a mean over, e.g. "367"."""
    n_patients: str = ""
    """Number of their patients; "" if unknown."""
    run_key: str = ""
    """Key of the run, or runs, that it was measured in."""
    method: str = ""
    """Their method."""
    weights: str = ""
    """Their weights."""
    category: str | None = None
    """Category of the samples, None for all."""
    average: str = "overall"
    """Average over the samples, a name in `statistics.AVERAGES`."""
    mark: Mark = ""
    """"best": see `marks.with_marks`; "equal": equal to a printed value."""
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
        """The 95 % CI in brackets, "" if missing."""
        return f"[{float(self.low):.3f}, {float(self.high):.3f}]" if self.low and self.high else ""


NOTHING = Cell()


@dataclass(frozen=True)
class Column:
    """A column's headings and meaning."""

    group: str
    """Upper heading, shared by neighbours; "" if missing."""
    name: str
    """Lower heading, usually the metric."""
    metric: str
    """Identifier of the quantity; only measured cells of one metric compete."""
    unit: str
    """Unit of the values."""
    origin: Origin
    """Who reports the values."""
    data: str
    """What they were measured on: a data set, its version and split."""
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
    along: Along = ""
    """Where competitors are: side by side in a row, below each other in a section, or nowhere."""
    paired: bool = False
    """Published and measured columns are side by side: the origin is an additional heading."""
    corner: str = ""
    """Heading of the row labels."""
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
    legend: str = "Bold: best, by a significant lead over every other (paired tests over patients, p < 0.05)."
    """What the marks mean."""

    @property
    def marked(self) -> bool:
        """Whether any cell has a mark, so that the legend is needed."""
        return any(cell.mark for block in self.blocks for row in block.rows for cell in row.cells)


def with_patients(document: Document) -> Document:
    """The document with a note that names its rows, or its categories, with too few patients for a good CI."""
    notes: dict[str, dict[str, None]] = {}
    for block in document.blocks:
        for row in block.rows:
            for cell in row.cells:
                if cell.exact and cell.n_patients:
                    name = cell.category or " ".join(row.label.split())
                    notes.setdefault(interval_note(int(cell.n_patients)), {})[name] = None
    alone = len(notes) == 1
    found = "; ".join(f"{'all rows' if alone else ', '.join(names)}: {note}" for note, names in notes.items() if note)
    return replace(document, notes=(*document.notes, ("", f"Few patients. {found}."))) if found else document


def joined(documents: Sequence[Document]) -> Document:
    """The first document, with what the others measured and their further notes."""
    first, *others = documents
    blocks = [block for one in others for block in one.blocks if any(c.origin == "measured" for c in block.columns)]
    notes = dict.fromkeys(note for one in documents for note in one.notes)
    return replace(first, blocks=(*first.blocks, *blocks), notes=tuple(notes))


def headings(block: Block, column: Column) -> tuple[str, ...]:
    """A column's headings from top to bottom, without empty ones."""
    origin = {"published": "paper", "measured": "here"}[column.origin] if block.paired else ""
    return tuple(filter(None, (column.group, column.name, origin)))


def sections(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each section with its heading, "" for none."""
    for name in dict.fromkeys(row.section for row in rows):
        yield name, [row for row in rows if row.section == name]


def with_weights(block: Block) -> Block:
    """The block with the weights in the row labels if a column has several, hence several training budgets."""
    columns = zip(*(row.cells for row in block.rows), strict=True)
    if all(len({cell.weights for cell in column if cell.weights}) < 2 for column in columns):
        return block
    rows = []
    for row in block.rows:
        names = " or ".join(dict.fromkeys(cell.weights for cell in row.cells if cell.weights))
        rows.append(replace(row, label=f"{row.label}, weights {names}") if names else row)
    return replace(block, rows=tuple(rows))
