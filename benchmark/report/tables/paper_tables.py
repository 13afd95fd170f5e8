"""The paper's Tables 1 to 4: the published values, and the same layout filled from a leaderboard.

Values measured on all of MS-CXR are shown beside the published ones, column by column. Those measured on any other
data set, or on a part of it, are in a separate table that names the data: the two cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.report.leaderboard import SUFFIXES
from gtg_bench.benchmark.report.tables.document import NOTHING, Block, Cell, Column, Document, Row, with_weights
from gtg_bench.benchmark.report.tables.paper_layouts import LAYOUTS, METRICS, SHOWN, Layout, Variant
from gtg_bench.benchmark.report.tables.published import (
    AVERAGE,
    CATEGORIES,
    TABLES,
    WEIGHTINGS,
    Figure,
    Recomputed,
    figures,
    pairs,
    recomputed,
)
from gtg_bench.benchmark.report.tables.quality_table import fid_notes
from gtg_bench.benchmark.report.tables.selection import AVERAGE_NAMES, Board, same_samples, settings_notes

_ADDED = "Added here"
"""Section of added rows."""

_EXTRA_AVERAGES = {"Macro average": "macro", "Mean over samples": "overall"}


@dataclass(frozen=True)
class _Line:
    """A row of the layout: its section and label as printed, and what it takes from the leaderboard."""

    section: str
    label: str
    category: str | None
    average: str
    extra: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of an added run, which then fills the row."""


@dataclass(frozen=True)
class _Place:
    """A column of the layout as printed, and the quantity that is measured for it."""

    column: str
    printed: str
    unit: str
    heading: str
    metric: str
    twin: bool = False


Filled = tuple[Column, Callable[[_Line], Cell]]


def paper_table(
    number: int, board: Board, average: str | None = None, biovil: Board | None = None, add: Sequence[str] = ()
) -> Document:
    """Table `number` of the paper and its layout filled from a leaderboard.

    Args:
        number: 1 to 4.
        board: the comparable rows of one data set.
        average: for Tables 2 and 4, a name in `statistics.AVERAGES`; Tables 1 and 3 have a row for each. None:
            frequency2 beside published values (which are that average), else the protocol's.
        biovil: rows of the same samples by protocol `biovil`, for the columns that the paper copied from BioViL; rows
            of other samples are ignored.
        add: runs that are not the paper's, see `Board.named`: a column each in Tables 1 and 3, a row each in Tables 2
            and 4. Rows and columns without a value are then left out.

    Raises:
        UsageError: an average for Table 1 or 3, or a name in `add` that the leaderboard does not have.
    """
    printed = figures(number)
    by_category = any(figure.row == AVERAGE for figure in printed)
    if average and by_category:
        raise UsageError(f"table {number} has a row for every average; leave out --average")
    twin = biovil if biovil is not None and same_samples(board, biovil) else None
    added = {_added_name(name, found := board.named(name), board): found for name in add}
    builder = _Builder(LAYOUTS[number], number, printed, board, by_category, average, twin, added)
    board = board.with_shared_weights(builder.cells())
    twin = None if twin is None else replace(twin, weights=board.weights)
    return replace(builder, board=board, biovil=twin).document()


@dataclass(frozen=True)
class _Builder:
    """What one table is made from."""

    layout: Layout
    number: int
    printed: Sequence[Figure]
    """Published cells."""
    board: Board
    """Measured rows."""
    by_category: bool
    """Whether the rows are categories."""
    asked: str | None
    """Average that the user asked for."""
    biovil: Board | None = None
    """The same samples by protocol `biovil`."""
    added: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Name -> settings of runs that are not the paper's."""

    @property
    def together(self) -> bool:
        """Whether measured values may be shown beside the published ones."""
        return self.board.dataset == "ms-cxr" and self.board.whole

    @property
    def average(self) -> str:
        return self.asked or ("frequency2" if self.together else self.board.rules.average)

    def document(self) -> Document:
        first, *more = self.layout.variants
        if self.added or any(map(self.board.runs, self.cells(first))):
            more = [variant for variant in more if any(map(self.board.runs, self.cells(variant)))]
        blocks = [block for variant in (first, *more) if (block := self._measured(variant)).columns]
        if not self.together:
            filled = [self._printed_column(place) for place in self._places()]
            blocks.insert(
                0, self._block(f"PUBLISHED: the paper, {self.layout.published_on}", filled, self._lines(), False)
            )
        title = f"The paper's Table {self.number}: {self.layout.title}"
        notes = (*self.layout.notes, *(("", text) for text in self._notes()))
        return Document(f"table{self.number}", title, tuple(blocks), notes)

    def _measured(self, variant: Variant) -> Block:
        paired = self.together and variant.alike
        lines = [*self._lines(), *self._extra_lines()]
        own_rows = self._added_lines() if self.layout.along == "column" else []
        known = any(map(self.board.runs, self.cells(variant)))
        alone = paired and bool(own_rows) and not known
        filled: list[Filled] = []
        for place in self._places():
            printed = [self._printed_column(place)] if paired else []
            own = list(self._own_columns(place, variant, paired))
            filled += [_joined(printed[0], own[-1])] if alone else [*printed, *own]
        for name in () if paired else self.layout.unpublished:
            column, fill = self._own_column(_Place("", name, "distance", name, METRICS[name]), variant)
            if any(fill(line).exact for line in (*lines, *own_rows)):
                filled.insert(len(filled) - 1, (column, fill))  # CNR stays the last
        filled += self._added_columns() if not own_rows else []
        title = "PUBLISHED (paper) and MEASURED (here)" if paired else "MEASURED here"
        title = f"PUBLISHED (paper) and, in section '{_ADDED}', MEASURED" if alone else title
        title += f" on {self.board.title}"
        if variant.heading and (paired or known or not self.added):
            title += f"; {variant.heading}"
        title += "" if self.by_category else f"; {AVERAGE_NAMES[self.average]}"
        return self._block(title, filled, [*lines, *own_rows], paired and not alone)

    def _block(self, title: str, filled: Sequence[Filled], lines: Iterable[_Line], paired: bool) -> Block:
        columns, rows = tuple(column for column, _ in filled), []
        noted = self.by_category or any(column.origin == "published" for column in columns)
        for line in lines:
            cells = tuple(fill(line) for _, fill in filled)
            if not line.extra or any(cell.exact for cell in cells):
                note = self.layout.letters.get((line.section, line.label), "") if noted else ""
                rows.append(Row(_label(line.label), cells, line.section, note))
        block = Block(title, columns, tuple(rows), self.layout.along, paired, self.layout.corner)
        return with_weights(_without_empty(block) if self.added else block)

    def _lines(self) -> list[_Line]:
        lines = []
        for section, label in dict.fromkeys((figure.section, figure.row) for figure in self.printed):
            if self.by_category:
                category = None if label == AVERAGE else CATEGORIES.get(label, label)
                lines.append(_Line(section, label, category, "frequency2"))
            else:
                lines.append(_Line(section, label, None, self.average))
        return lines

    def _extra_lines(self) -> list[_Line]:
        """Categories that the paper's data set does not have, and averages that the paper does not print."""
        if not self.by_category:
            return []
        known = {line.category for line in self._lines()}
        names = sorted({row["category"] for row in self.board.parts} - known)
        found = [_Line("", name, name, "overall", extra=True) for name in names]
        return found + [_Line("", label, None, kind, extra=True) for label, kind in _EXTRA_AVERAGES.items()]

    def _added_lines(self) -> list[_Line]:
        """Rows of added runs."""
        return [_Line(_ADDED, name, None, self.average, settings=found) for name, found in self.added.items()]

    def _added_columns(self) -> Iterator[Filled]:
        """Columns of added runs, with the metrics of the layout."""
        places = {place.printed: place for place in self._places()}
        for name, settings in self.added.items():
            for place in places.values():
                column = Column(name, place.heading, place.metric, place.unit, "measured", self.board.title)
                yield column, partial(self._cell, settings, place.metric)

    def _cell(self, settings: Mapping[str, str], metric: str, line: _Line) -> Cell:
        return self.board.cell(self.board.runs(settings), metric, line.average, line.category)

    def _places(self) -> list[_Place]:
        labels = dict.fromkeys((figure.column, figure.metric, figure.unit) for figure in self.printed)
        return [_Place(column, metric, unit, _label(metric), METRICS[metric]) for column, metric, unit in labels]

    def _own_columns(self, place: _Place, variant: Variant, paired: bool) -> Iterator[Filled]:
        """Measured columns for a printed one: its definition of the quantity if it was measured, and the usual one."""
        if self.biovil is not None and place.column in self.layout.twins:
            heading, metric = self.layout.twins[place.column][place.printed]
            column, fill = self._own_column(replace(place, heading=heading, metric=metric, twin=True), variant)
            if paired or any(fill(line).exact for line in (*self._lines(), *self._extra_lines())):
                yield column, fill
        yield self._own_column(place, variant)

    def _own_column(self, place: _Place, variant: Variant) -> Filled:
        note = self.layout.letters.get((place.column,), "")
        board = self.biovil if place.twin and self.biovil is not None else self.board
        column = Column(_label(place.column), place.heading, place.metric, place.unit, "measured", board.title, note)

        def fill(line: _Line) -> Cell:
            runs = board.runs(self._wanted(line, place, variant))
            return board.cell(runs, place.metric, line.average, line.category)

        return column, fill

    def _printed_column(self, place: _Place) -> Filled:
        note = self.layout.letters.get((place.column,), "")
        data = self.layout.published_on
        column = Column(_label(place.column), place.heading, place.metric, place.unit, "published", data, note)
        found = {(f.section, f.row): f for f in self.printed if (f.column, f.metric) == (place.column, place.printed)}

        def fill(line: _Line) -> Cell:
            figure = found.get((line.section, line.label))
            if figure is None:
                return NOTHING
            note = self.layout.letters.get((line.section, line.label, place.column, place.printed), "")
            return Cell(figure.value, figure.value, figure.spread, note=note, source=figure.source)

        return column, fill

    def _wanted(self, line: _Line, place: _Place, variant: Variant) -> dict[str, str]:
        if line.settings:
            return dict(line.settings)
        found = dict(variant.settings)
        for label in (line.section, line.label, place.column):
            found |= self.layout.wants.get(label, {})
        return found

    def cells(self, variant: Variant | None = None) -> list[dict[str, str]]:
        """The settings of the runs that fill the layout, or one variant of it, each once."""
        wanted = [
            self._wanted(line, place, each)
            for each in ([variant] if variant else self.layout.variants)
            for line in self._lines()
            for place in self._places()
        ]
        return list({tuple(sorted(settings.items())): settings for settings in wanted}.values())

    def _notes(self) -> list[str]:
        board = self.board
        notes = [*board.notes, *settings_notes(board, [*self.cells(), *map(dict, self.added.values())])]
        if board.rows and not self.together:
            what = f"Published values are {self.layout.published_on}, measured values on {board.title}"
            notes.insert(0, f"{what}: other samples or other rules, so the two cannot be compared.")
        if "FID" in {figure.metric for figure in self.printed}:
            notes += fid_notes(board.quality)
        if any(line.average == "frequency2" for line in self._lines()):
            columns = [f"{metric}{SUFFIXES['frequency2']}" for metric in METRICS.values()]
            if not any(row.get(column) for row in board.rows for column in columns):
                notes.append("This leaderboard has no frequency-squared averages.")
        for variant in () if self.added else self.layout.variants:
            if board.rows and not any(board.runs(settings) for settings in self.cells(variant)):
                settings = ", ".join(f"{name} {text}" for name, text in variant.settings.items())
                notes.append(f"This leaderboard has no run with {settings or 'these settings'}.")
        return notes


def _added_name(name: str, settings: Mapping[str, str], board: Board) -> str:
    """What an added run is called: as the user does, but a key with its method."""
    key = settings.get("run_key")
    return f"{board.runs(settings)[0]['method']} {key}" if key else name.replace(":", ", ").replace("=", " ")


def _joined(printed: Filled, own: Filled) -> Filled:
    """One column for both: published values in the paper's rows, measured ones in added rows."""
    return printed[0], lambda line: own[1](line) if line.settings else printed[1](line)


def _without_empty(block: Block) -> Block:
    """The block without rows and columns that have no value."""
    rows = [row for row in block.rows if any(cell.exact for cell in row.cells)]
    kept = [i for i in range(len(block.columns)) if any(row.cells[i].exact for row in rows)]
    cut = (replace(row, cells=tuple(row.cells[i] for i in kept)) for row in rows)
    return replace(block, columns=tuple(block.columns[i] for i in kept), rows=tuple(cut))


def _label(text: str) -> str:
    return SHOWN.get(text, text)


def averages() -> Document:
    """The paper's "Weighted Avg." beside the three averages of the categories that the same tables print."""
    found = {number: rows for number in TABLES if (rows := recomputed(number))}
    counts = pairs()
    notes = [
        *(_finding(number, rows) for number, rows in found.items()),
        "overall: every image-phrase pair has the same weight. macro: every category has the same weight. frequency2, "
        "frequency-squared: every pair is weighted by its category's count, so a category by its squared count.",
        f"Weights: MS-CXR's {sum(counts.values()):,} pairs, {', '.join(f'{name} {n}' for name, n in counts.items())}.",
        "Tables 2 and 4 do not print categories.",
    ]
    return Document(
        "averages",
        'Which average is "Weighted Avg."? Recomputed from the published categories',
        tuple(_averages_of(number, rows) for number, rows in found.items()),
        tuple(("", note) for note in notes),
        "Bold: equal to the printed average within rounding (half a last digit of the average and of the categories).",
    )


def _averages_of(number: int, found: Sequence[Recomputed]) -> Block:
    heads = [("", "metric"), ("", "printed"), *(("recomputed", name) for name in WEIGHTINGS), ("", "which")]
    columns = tuple(Column(group, name, name, "", "published", "on MS-CXR") for group, name in heads)
    rows = []
    for one in found:
        metric, printed, which = one.figure.metric, one.figure.value, ", ".join(one.fits) or "none"
        values = [
            Cell(f"{value:.4f}", f"{value:.4f}", mark="equal" if name in one.fits else "")
            for name, value in one.values.items()
        ]
        cells = (Cell(metric, metric), Cell(printed, printed), *values, Cell(which, which))
        rows.append(Row(_label(one.figure.column), cells))
    return Block(f"PUBLISHED: Table {number}, averages of its columns", columns, tuple(rows))


def _finding(number: int, rows: Sequence[Recomputed]) -> str:
    """Which weighting explains every average of a column, and which averages no weighting explains."""
    columns: dict[str, set[str]] = {}
    for row in rows:
        columns.setdefault(_label(row.figure.column), set(WEIGHTINGS)).intersection_update(row.fits or WEIGHTINGS)
    parts = [
        f"{name} for {', '.join(fitting)}"
        for name in WEIGHTINGS
        if (fitting := [label for label, fits in columns.items() if name in fits])
    ]
    none = [f"{_label(row.figure.column)} {row.figure.metric}" for row in rows if not row.fits]
    parts += [f"none of the three gives {', '.join(none)}"] if none else []
    return f"Table {number}: {'; '.join(parts)}."
