"""The figures that the paper prints in its Tables 1 to 4, as typed in, and which average its "Weighted Avg." is.

`leaderboards/published/table<N>.csv` holds one line a cell: table, section, row and column as the table prints them,
metric, unit, value and spread (without its sign), what the spread is, and whose result it is. Nothing in these files
is computed. `ms_cxr_pairs.csv` holds the number of image-phrase pairs of each category of MS-CXR.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.statistics import AVERAGES, average_of_categories

FOLDER = Path(__file__).parents[2] / "leaderboards" / "published"
"""Beside this package in a checkout and in an installed wheel alike."""

TABLES = (1, 2, 3, 4)
AVERAGE = "Weighted Avg."
"""What the paper calls the last row of Tables 1 and 3."""

CATEGORIES = {"Pl. Effusion": "Pleural Effusion"}
"""A category as the paper's tables abbreviate it -> as the data set spells it."""


@dataclass(frozen=True)
class Figure:
    """One printed cell.

    Attributes:
        table: 1 to 4.
        section: heading above the row, "" where the table has none.
        row, column: labels as printed (as text, so subscripts stand on the line); column is "" where the metric alone
            is the column.
        metric: as printed.
        unit: fraction (0 to 1), ratio or distance.
        value: as printed, all digits.
        spread: what stands behind the plus-minus sign, "" where nothing does.
        spread_of: what the paper says that the spread is.
        source: whose result it is, by the table's caption.
    """

    table: int
    section: str
    row: str
    column: str
    metric: str
    unit: str
    value: str
    spread: str
    spread_of: str
    source: str


@cache
def figures(table: int) -> tuple[Figure, ...]:
    """The cells of a table in reading order. Raises DataError where the packaged file is not there."""
    return tuple(_figure(**row) for row in _rows(f"table{table}.csv"))


@cache
def pairs() -> Mapping[str, int]:
    """Category -> image-phrase pairs of MS-CXR, all splits together."""
    return {row["category"]: int(row["pairs"]) for row in _rows("ms_cxr_pairs.csv")}


def _figure(table: str, **rest: str) -> Figure:
    return Figure(int(table), **rest)


def _rows(name: str) -> list[dict[str, str]]:
    path = FOLDER / name
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): reinstall gtg-bench") from error


WEIGHTINGS = tuple(AVERAGES)
"""Every sample alike; every category alike; every sample by its category's count: see `statistics.averages`."""


@dataclass(frozen=True)
class Recomputed:
    """A printed average beside the three that its column's categories give.

    Attributes:
        figure: the printed average.
        values: weighting -> average of the printed category figures, weighted by MS-CXR's pairs.
        tolerance: how far rounding alone can part them: half a last digit of the average and of the categories.
    """

    figure: Figure
    values: Mapping[str, float]
    tolerance: float

    @property
    def fits(self) -> tuple[str, ...]:
        """The weightings that rounding can explain, nearest first."""
        apart = {name: abs(value - float(self.figure.value)) for name, value in self.values.items()}
        return tuple(sorted((name for name in apart if apart[name] <= self.tolerance + 1e-9), key=apart.__getitem__))


def recomputed(table: int) -> list[Recomputed]:
    """Every printed average of a table that has category rows: Tables 1 and 3; none of the others."""
    return [_recomputed(figure) for figure in figures(table) if figure.row == AVERAGE]


def _recomputed(printed: Figure) -> Recomputed:
    column = [
        figure
        for figure in figures(printed.table)
        if (figure.column, figure.metric) == (printed.column, printed.metric) and figure.row != AVERAGE
    ]
    means = [float(figure.value) for figure in column]
    counts = [pairs()[CATEGORIES.get(figure.row, figure.row)] for figure in column]
    values = {name: average_of_categories(means, counts, name) for name in WEIGHTINGS}
    tolerance = _half_digit(printed.value) + max(_half_digit(figure.value) for figure in column)
    return Recomputed(printed, values, tolerance)


def _half_digit(text: str) -> float:
    return 0.5 * 10.0 ** -len(text.partition(".")[2])
