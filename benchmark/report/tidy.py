"""A document as CSV for machines: one line a cell, published and measured told apart, a missing figure left empty."""

from __future__ import annotations

import csv
import io

from gtg_bench.benchmark.report.model import Document

COLUMNS = (
    *("table", "origin", "data", "section", "row", "column", "metric", "unit"),
    *("value", "spread", "low", "high", "n", "run_key", "mark", "source", "note"),
)


def tidy(document: Document) -> str:
    """The cells of all blocks in reading order; `note` is the letter and the sentence of the nearest footnote."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    notes = dict(document.notes)
    for block in document.blocks:
        for row in block.rows:
            for column, cell in zip(block.columns, row.cells, strict=True):
                letters = [letter for letter in (cell.note, row.note, column.note) if letter]
                note = " ".join(f"({letter}) {notes[letter]}" for letter in letters)
                where = (document.name, column.origin, column.data, row.section, row.label, column.group, column.name)
                figure = (cell.exact, cell.spread, cell.low, cell.high, cell.n, cell.run_key, cell.mark, cell.source)
                writer.writerow((*where, column.unit, *figure, note))
    return text.getvalue()
