"""The paper's Tables 1 to 4: the published figures, and the same layout filled from a leaderboard.

Figures of MS-CXR as a whole stand beside the published ones, column by column. Those of any other data set, or of a
part of it, stand in a table of their own that names it: they are no comparison with the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.report.layouts import LAYOUTS, METRICS, SHOWN, Layout, Variant
from gtg_bench.benchmark.report.measured import AVERAGE_NAMES, AVERAGES, Board, choices, same_samples
from gtg_bench.benchmark.report.model import NOTHING, Block, Cell, Column, Document, Row, ranked
from gtg_bench.benchmark.report.published import AVERAGE, CATEGORIES, Figure, figures

_EXTRA_AVERAGES = {"Macro average": "macro", "Mean over samples": "overall"}


@dataclass(frozen=True)
class _Line:
    """A row of the layout: its section and label as printed, and what of the leaderboard it takes."""

    section: str
    label: str
    category: str | None
    average: str
    extra: bool = False


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


def paper_table(number: int, board: Board, average: str | None = None, biovil: Board | None = None) -> Document:
    """Table `number` of the paper and its layout filled from a leaderboard.

    Args:
        number: 1 to 4.
        board: the comparable rows of one data set.
        average: of Tables 2 and 4, one of `measured.AVERAGES`; Tables 1 and 3 have a row for each. None:
            frequency2 beside published figures (which are that), else the protocol's.
        biovil: rows of the same samples by protocol `biovil`, for the columns that the paper took over from BioViL;
            rows of other samples are left out.

    Raises:
        UsageError: an average for Table 1 or 3.
    """
    printed = figures(number)
    by_category = any(figure.row == AVERAGE for figure in printed)
    if average and by_category:
        raise UsageError(f"table {number} has a row for every average: leave --average out")
    twin = biovil if biovil is not None and same_samples(board, biovil) else None
    builder = _Builder(LAYOUTS[number], number, printed, board, by_category, average, twin)
    board = board.with_shared_weights(builder.cells())
    twin = None if twin is None else replace(twin, weights=board.weights)
    return replace(builder, board=board, biovil=twin).document()


@dataclass(frozen=True)
class _Builder:
    """What one table is made from.

    Attributes:
        layout, number: of the table.
        printed: its published cells.
        board: what is measured.
        by_category: whether its rows are categories.
        wished: the average that the user asked for.
        biovil: the same samples by protocol `biovil`, or None.
    """

    layout: Layout
    number: int
    printed: Sequence[Figure]
    board: Board
    by_category: bool
    wished: str | None
    biovil: Board | None = None

    @property
    def together(self) -> bool:
        """Whether measured figures may stand beside the published ones."""
        return self.board.dataset == "ms-cxr" and self.board.whole

    @property
    def average(self) -> str:
        return self.wished or ("frequency2" if self.together else self.board.rules.average)

    def document(self) -> Document:
        blocks = [] if self.together else [self._published()]
        blocks += [self._measured(variant) for variant in self.layout.variants]
        title = f"The paper's Table {self.number}: {self.layout.title}"
        notes = (*self.layout.notes, *(("", text) for text in self._notes()))
        return Document(f"table{self.number}", title, tuple(ranked(block) for block in blocks), notes)

    def _published(self) -> Block:
        filled = [self._printed_column(place) for place in self._places()]
        title = f"PUBLISHED: the paper, {self.layout.published_on}"
        return self._block(title, filled, self._lines(), paired=False)

    def _measured(self, variant: Variant) -> Block:
        paired = self.together and variant.alike
        filled: list[Filled] = []
        for place in self._places():
            filled += [self._printed_column(place)] if paired else []
            filled += [column for column in self._own_columns(place, variant) if paired or self._any(column)]
        heads = ["PUBLISHED (paper) and MEASURED (here)" if paired else "MEASURED here", f"on {self.board.title}"]
        title = " ".join(heads) + (f"; {variant.heading}" if variant.heading else "")
        title += "" if self.by_category else f"; {AVERAGE_NAMES[self.average]}"
        return self._block(title, filled, [*self._lines(), *self._extra_lines()], paired)

    def _block(self, title: str, filled: Sequence[Filled], lines: Iterable[_Line], paired: bool) -> Block:
        columns, rows = tuple(column for column, _ in filled), []
        noted = self.by_category or any(column.origin == "published" for column in columns)
        for line in lines:
            cells = tuple(fill(line) for _, fill in filled)
            if not line.extra or any(cell.exact for cell in cells):
                note = self.layout.row_notes.get((line.section, line.label), "") if noted else ""
                rows.append(Row(SHOWN.get(line.label, line.label), cells, line.section, note))
        return Block(title, columns, tuple(rows), self.layout.along, paired)

    def _lines(self) -> list[_Line]:
        labels = dict.fromkeys((figure.section, figure.row) for figure in self.printed)
        return [self._line(section, label) for section, label in labels]

    def _line(self, section: str, label: str) -> _Line:
        if not self.by_category:
            return _Line(section, label, None, self.average)
        return _Line(section, label, None if label == AVERAGE else CATEGORIES.get(label, label), "frequency2")

    def _extra_lines(self) -> list[_Line]:
        """Categories that the paper's data set does not have, and the averages that the paper does not print."""
        if not self.by_category:
            return []
        known = {line.category for line in self._lines()}
        names = sorted({row["category"] for row in self.board.parts} - known)
        found = [_Line("", name, name, "overall", extra=True) for name in names]
        return found + [_Line("", label, None, kind, extra=True) for label, kind in _EXTRA_AVERAGES.items()]

    def _places(self) -> list[_Place]:
        labels = dict.fromkeys((figure.column, figure.metric, figure.unit) for figure in self.printed)
        return [
            _Place(column, metric, unit, SHOWN.get(metric, metric), METRICS[metric]) for column, metric, unit in labels
        ]

    def _own_columns(self, place: _Place, variant: Variant) -> Iterator[Filled]:
        """Measured columns for a printed one: the quantity defined like it, and the one that all others have."""
        if self.biovil is not None and place.column in self.layout.twins:
            heading, metric = self.layout.twins[place.column][place.printed]
            yield self._own_column(replace(place, heading=heading, metric=metric, twin=True), variant)
        yield self._own_column(place, variant)

    def _own_column(self, place: _Place, variant: Variant) -> Filled:
        group, note = SHOWN.get(place.column, place.column), self.layout.column_notes.get(place.column, "")
        board = self.biovil if place.twin and self.biovil is not None else self.board
        column = Column(group, place.heading, place.metric, place.unit, "measured", board.title, not place.twin, note)

        def fill(line: _Line) -> Cell:
            runs = board.runs(self._wanted(line, place, variant))
            suffix = AVERAGES["overall" if line.category else line.average]
            return board.cell(runs, place.metric, line.category, suffix)

        return column, fill

    def _printed_column(self, place: _Place) -> Filled:
        group, note = SHOWN.get(place.column, place.column), self.layout.column_notes.get(place.column, "")
        ranks = place.column not in self.layout.unranked
        data = self.layout.published_on
        column = Column(group, place.heading, place.metric, place.unit, "published", data, ranks, note)
        found = {(f.section, f.row): f for f in self.printed if (f.column, f.metric) == (place.column, place.printed)}

        def fill(line: _Line) -> Cell:
            figure = found.get((line.section, line.label))
            if figure is None:
                return NOTHING
            note = self.layout.cell_notes.get((line.section, line.label, place.column, place.printed), "")
            return Cell(figure.value, figure.value, figure.spread, note=note, source=figure.source)

        return column, fill

    def _any(self, filled: Filled) -> bool:
        """Whether a column has a figure; printed quantities stay in any case."""
        column, fill = filled
        return column.ranked or any(fill(line).exact for line in (*self._lines(), *self._extra_lines()))

    def _wanted(self, line: _Line, place: _Place, variant: Variant) -> dict[str, str]:
        found = dict(variant.settings)
        for label in (line.section, line.label, place.column):
            found |= self.layout.wants.get(label, {})
        return found

    def cells(self) -> list[dict[str, str]]:
        """The settings of the runs that fill the layout, each once."""
        wanted = [
            self._wanted(line, place, variant)
            for variant in self.layout.variants
            for line in self._lines()
            for place in self._places()
        ]
        return list({tuple(sorted(settings.items())): settings for settings in wanted}.values())

    def _notes(self) -> list[str]:
        notes = [*self.board.notes, *choices(self.board, self.cells())]
        if self.board.rows and not self.together:
            what = f"Published figures are {self.layout.published_on}, measured ones on {self.board.title}"
            notes.insert(0, f"{what}: not the same samples or not the same rules, so no comparison between the two.")
        if any(line.average == "frequency2" for line in self._lines()) and not self._has("_freq2"):
            notes.append("Frequency-squared averages are not in this leaderboard.")
        return notes + [text for variant in self.layout.variants if (text := self._unfilled(variant))]

    def _unfilled(self, variant: Variant) -> str:
        """Says so where a whole table has nothing measured although the leaderboard has rows."""
        wanted = [self._wanted(line, place, variant) for line in self._lines() for place in self._places()]
        if not self.board.rows or any(self.board.runs(settings) for settings in wanted):
            return ""
        settings = ", ".join(f"{name} {text}" for name, text in variant.settings.items())
        return f"No run with {settings or 'these settings'} is in this leaderboard."

    def _has(self, suffix: str) -> bool:
        return any(row.get(metric + suffix) for row in self.board.rows for metric in METRICS.values())
