"""A block drawn with characters, and cut into parts that are no wider than a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from gtg_bench.benchmark.report.model import Block, Cell, Column, Row, headings, sections

_STYLES = {"": "", "best": "bold", "second": "underline", "equal": "bold"}
_GAP = "  "


def parts(block: Block, width: int) -> list[Block]:
    """The block cut between groups of columns wherever it would be wider than `width` characters."""
    found: list[list[int]] = []
    for group in _groups(block.columns):
        whole = _Drawing(_cut(block, group)).width <= width
        for piece in [group] if whole else _pieces(block, group):
            if found and _Drawing(_cut(block, [*found[-1], *piece])).width <= width:
                found[-1] += piece
            else:
                found.append([*piece])
    if len(found) == 1:
        return [block]
    cuts = [_cut(block, places) for places in found]
    return [replace(cut, title=f"{block.title} (part {i} of {len(cuts)})") for i, cut in enumerate(cuts, 1)]


def lines(block: Block) -> Iterator[Text]:
    """A block's headings and rows, drawn."""
    drawing = _Drawing(block)
    yield from drawing.heads()
    yield Text("─" * drawing.width)
    for name, rows in sections(block.rows):
        if name:
            yield Text(name, style="italic")
        for row in rows:
            yield from drawing.row(row)


def _groups(columns: Sequence[Column]) -> list[list[int]]:
    """Places of neighbours under one heading."""
    places = groupby(range(len(columns)), key=lambda i: columns[i].group or columns[i].name)
    return [list(group) for _, group in places]


def _pieces(block: Block, group: Sequence[int]) -> list[list[int]]:
    """A group's columns one by one; what is measured for a published column stays with it."""
    pieces: list[list[int]] = []
    for i in group:
        if pieces and block.paired and block.columns[i].origin == "measured":
            pieces[-1].append(i)
        else:
            pieces.append([i])
    return pieces


def _cut(block: Block, places: Sequence[int]) -> Block:
    rows = tuple(replace(row, cells=tuple(row.cells[i] for i in places)) for row in block.rows)
    return replace(block, columns=tuple(block.columns[i] for i in places), rows=rows)


@dataclass(frozen=True)
class _Drawing:
    """A block in characters: every column as wide as what stands in it."""

    block: Block

    @cached_property
    def tails(self) -> list[int]:
        """Of each column, how many characters stand behind its figures for footnotes."""
        return [max(cell_len(_tail(row.cells[i])) for row in self.block.rows) for i in range(len(self.block.columns))]

    @cached_property
    def left(self) -> int:
        """Width of the labels."""
        return max(cell_len(_label(row)) for row in self.block.rows)

    @cached_property
    def widths(self) -> list[int]:
        """Of the columns; the last of a group takes what the group's heading needs."""
        found = [max(map(cell_len, self._column(i))) for i in range(len(self.block.columns))]
        for group in _groups(self.block.columns):
            needed = cell_len(_heading(self.block.columns[group[0]]))
            found[group[-1]] += max(0, needed - _span(found, group))
        return found

    @property
    def width(self) -> int:
        """Of the whole table."""
        return self.left + sum(len(_GAP) + width for width in self.widths)

    def heads(self) -> Iterator[Text]:
        """Group headings centred over their columns, then the others, at the right as the figures are."""
        widths, columns = self.widths, self.block.columns
        if any(column.group for column in columns):
            groups = [(_heading(columns[group[0]]), _span(widths, group)) for group in _groups(columns)]
            yield Text((" " * self.left + "".join(_GAP + name.center(width) for name, width in groups)).rstrip())
        lower = [self._lower(i) for i in range(len(columns))]
        for level in range(max(map(len, lower))):
            names = [heads[level] if level < len(heads) else "" for heads in lower]
            cells = (_GAP + name.rjust(width) for name, width in zip(names, widths, strict=True))
            yield Text((" " * self.left + "".join(cells)).rstrip())

    def row(self, row: Row) -> Iterator[Text]:
        """A row's figures, and their bounds on a line below where there are any."""
        cells = [_texts(cell, tail) for cell, tail in zip(row.cells, self.tails, strict=True)]
        for level in range(max(map(len, cells))):
            line = Text(_label(row).ljust(self.left) if level == 0 else " " * self.left)
            for texts, width in zip(cells, self.widths, strict=True):
                text = texts[level] if level < len(texts) else Text("")
                line = Text.assemble(line, _GAP, " " * (width - cell_len(text.plain)), text)
            line.rstrip()
            yield line

    def _lower(self, i: int) -> list[str]:
        """A column's own headings, in line with its figures."""
        column = self.block.columns[i]
        return [name + " " * self.tails[i] for name in headings(self.block, column)[bool(column.group) :]]

    def _column(self, i: int) -> list[str]:
        """Everything that stands in a column."""
        texts = (text.plain for row in self.block.rows for text in _texts(row.cells[i], self.tails[i]))
        return [*self._lower(i), *texts]


def _span(widths: Sequence[int], group: Sequence[int]) -> int:
    return sum(widths[i] for i in group) + len(_GAP) * (len(group) - 1)


def _heading(column: Column) -> str:
    return column.group + (f" ({column.note})" if column.group and column.note else "")


def _label(row: Row) -> str:
    return f"{_GAP if row.section else ''}{row.label}" + (f" ({row.note})" if row.note else "")


def _tail(cell: Cell) -> str:
    return f" ({cell.note})" if cell.note else ""


def _texts(cell: Cell, tail: int) -> list[Text]:
    """The figure and its footnote in `tail` characters; its bounds as a second line."""
    figure = Text.assemble(Text(cell.figure, style=_STYLES[cell.mark]), _tail(cell).ljust(tail))
    return [figure, Text(cell.bounds.replace(" ", ""), style="dim")] if cell.bounds else [figure]
