"""Which average the paper's "Weighted Avg." is: recomputed from the categories that the same tables print."""

from __future__ import annotations

from collections.abc import Sequence

from gtg_bench.benchmark.report.layouts import SHOWN
from gtg_bench.benchmark.report.model import Block, Cell, Column, Document, Row
from gtg_bench.benchmark.report.published import TABLES, WEIGHTINGS, Figure, Recomputed, pairs, recomputed

_DATA = "on MS-CXR"


def averages() -> Document:
    """Printed averages beside the three weightings; those that rounding can explain are bold."""
    found = {number: rows for number in TABLES if (rows := recomputed(number))}
    counts = pairs()
    notes = [
        *(_finding(number, rows) for number, rows in found.items()),
        "overall: every image-phrase pair alike. macro: every category alike. frequency2, frequency-squared: every "
        "pair weighted by its category's count, so a category by its count squared.",
        f"Weights: MS-CXR's {sum(counts.values()):,} pairs, {', '.join(f'{name} {n}' for name, n in counts.items())}.",
        "Tables 2 and 4 print no categories.",
    ]
    return Document(
        "averages",
        'Which average is "Weighted Avg."? Recomputed from the published categories',
        tuple(_block(number, rows) for number, rows in found.items()),
        tuple(("", note) for note in notes),
        "Bold: equal to the printed average within rounding (half a last digit of the average and of the categories).",
    )


def _block(number: int, rows: Sequence[Recomputed]) -> Block:
    columns = [Column("", name, name, "", "published", _DATA) for name in ("metric", "printed")]
    columns += [Column("recomputed", name, name, "", "published", _DATA) for name in WEIGHTINGS]
    columns += [Column("", "which", "which", "", "published", _DATA)]
    return Block(f"PUBLISHED: Table {number}, averages of its columns", tuple(columns), tuple(map(_row, rows)))


def _row(found: Recomputed) -> Row:
    words = [found.figure.metric, found.figure.value]
    values = [
        Cell(f"{value:.4f}", f"{value:.4f}", mark="equal" if name in found.fits else "")
        for name, value in found.values.items()
    ]
    which = ", ".join(found.fits) or "none"
    return Row(_label(found.figure), (*(Cell(word, word) for word in words), *values, Cell(which, which)))


def _finding(number: int, rows: Sequence[Recomputed]) -> str:
    """The weighting that explains every average of a column, and averages that none explains."""
    columns: dict[str, set[str]] = {}
    for row in rows:
        columns.setdefault(_label(row.figure), set(WEIGHTINGS)).intersection_update(row.fits or WEIGHTINGS)
    parts = [
        f"{name} for {', '.join(fitting)}"
        for name in WEIGHTINGS
        if (fitting := [label for label, fits in columns.items() if name in fits])
    ]
    none = [f"{_label(row.figure)} {row.figure.metric}" for row in rows if not row.fits]
    parts += [f"none of the three gives {', '.join(none)}"] if none else []
    return f"Table {number}: {'; '.join(parts)}."


def _label(figure: Figure) -> str:
    return SHOWN.get(figure.column, figure.column)
