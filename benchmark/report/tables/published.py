"""The values that the paper prints in its Tables 1 to 4, and which average its "Weighted Avg." is.

`leaderboards/published/table<N>.csv` has one line per cell: table, section, row and column as printed, metric, unit,
value and spread (without its sign), what the spread is, and whose result it is. Nothing in these files is computed.
`ms_cxr_pairs.csv` has the number of image-phrase pairs of each category of MS-CXR.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.statistics import AVERAGES, average_of_categories

FOLDER = Path(__file__).parents[3] / "leaderboards" / "published"
"""Folder of the files, in a checkout and in an installed wheel alike."""

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
        section: heading above the row, "" if missing.
        row, column: labels as printed, without subscripts; column is "" if the metric alone is the column.
        metric: as printed.
        unit: fraction (0 to 1), ratio or distance.
        value: as printed, with all digits.
        spread: value after the plus-minus sign, "" if missing.
        spread_of: what the spread is, according to the paper.
        source: whose result it is, according to the table's caption.
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
    """The cells of a table in reading order. Raises DataError if the packaged file is missing."""
    return tuple(Figure(int(row.pop("table")), **row) for row in _rows(f"table{table}.csv"))


@cache
def pairs() -> Mapping[str, int]:
    """Category -> number of image-phrase pairs in MS-CXR, all splits together."""
    return {row["category"]: int(row["pairs"]) for row in _rows("ms_cxr_pairs.csv")}


def _rows(name: str) -> list[dict[str, str]]:
    path = FOLDER / name
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): reinstall gtg-bench") from error


WEIGHTINGS = tuple(AVERAGES)
"""Names of the averages, see `statistics.averages`."""


@dataclass(frozen=True)
class Recomputed:
    """A printed average and the three averages of its column's categories.

    Attributes:
        figure: the printed average.
        values: weighting -> average of the printed category values, weighted by MS-CXR's pairs.
        tolerance: largest difference that rounding explains: half a last digit of the average and of the categories.
    """

    figure: Figure
    values: Mapping[str, float]
    tolerance: float

    @property
    def fits(self) -> tuple[str, ...]:
        """The weightings that agree with the printed average within rounding, nearest first."""
        gaps = {name: abs(value - float(self.figure.value)) for name, value in self.values.items()}
        return tuple(sorted((name for name in gaps if gaps[name] <= self.tolerance + 1e-9), key=gaps.__getitem__))


def recomputed(table: int) -> list[Recomputed]:
    """Every printed average of a table with category rows: Tables 1 and 3; none for the others."""
    found = []
    for printed in (figure for figure in figures(table) if figure.row == AVERAGE):
        column = [
            figure
            for figure in figures(table)
            if (figure.column, figure.metric) == (printed.column, printed.metric) and figure.row != AVERAGE
        ]
        means = [float(figure.value) for figure in column]
        counts = [pairs()[CATEGORIES.get(figure.row, figure.row)] for figure in column]
        values = {name: average_of_categories(means, counts, name) for name in WEIGHTINGS}
        tolerance = _half_digit(printed.value) + max(_half_digit(figure.value) for figure in column)
        found.append(Recomputed(printed, values, tolerance))
    return found


def _half_digit(text: str) -> float:
    return 0.5 * 10.0 ** -len(text.partition(".")[2])
