"""CSV files of data sets, read so that whatever is wrong in them is named with its file and row."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.types import Box

_TOLERANCE = 0.01
"""Pixels by which a box may stick out of its image: the rounding of decimal fractions, nothing more."""


def fault(path: Path, what: str, fix: str, row: int | None = None) -> DataError:
    """A DataError of one line: the file, the row where there is one, what is wrong and the fix."""
    place = str(path) if row is None else f"{path}, row {row}"
    return DataError(" ".join(f"{place}: {what}; {fix}".split()))


def read_table(path: Path, columns: Sequence[str] | Mapping[str, str]) -> pd.DataFrame:
    """Read a CSV file (also gzipped) in UTF-8, with or without a byte order mark.

    Args:
        path: the file; its first line names the columns.
        columns: the columns that must be there; a mapping also renames them (new name -> name in the file).

    Returns:
        All named columns, the needed ones first, every value a str (an absent one is ""). The index is the
        line of the file on which the row starts, where the header is line 1. Blank rows are left out.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or no CSV, a row has too many values, or a column is
            missing; the text names the file, the row or column, and the fix.
    """
    lines = _lines(path, _text(path))
    if not lines:
        raise fault(path, "is empty", "download it again")
    header = [name.strip() for name in lines[0][1]]
    wanted = dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}
    _check_columns(path, header, list(wanted.values()))
    others = [name for name in dict.fromkeys(header) if name and name not in {*wanted, *wanted.values()}]
    chosen = wanted | {name: name for name in others}
    rows = [(line, _fitted(path, line, row, len(header))) for line, row in lines[1:] if any(map(str.strip, row))]
    if not rows:
        raise fault(path, "has a header but no rows", "download it again")
    values = {name: [row[header.index(source)] for _, row in rows] for name, source in chosen.items()}
    return pd.DataFrame(values, index=pd.Index([line for line, _ in rows], name="row"), dtype=str)


def number(value: str, path: Path, row: int, column: str) -> float:
    """A finite number from a table's cell.

    Raises:
        DataError: the cell is blank, NaN, infinite or no number; the text names file, row and column.
    """
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed) or "_" in value:
        raise fault(path, f"{column} is {value.strip()!r}, not a number", "correct the row", row)
    return parsed


def box_from_xywh(xywh: Sequence[float], size: Size, path: Path, row: int) -> Box:
    """A box from its upper left corner, width and height.

    Args:
        xywh: x, y, width, height in pixels of the image.
        size: (width, height) of the image.
        path: the file that the box stands in.
        row: its row there.

    Returns:
        float xyxy, half open, within the image.

    Raises:
        DataError: the box has no area or sticks out of the image; the text names file and row.
    """
    x, y, w, h = xywh
    text = f"({', '.join(f'{value:g}' for value in xywh)})"
    if w <= 0 or h <= 0:
        raise fault(path, f"the box {text} has no area (x, y, width, height)", "correct the row", row)
    width, height = size
    if min(x, y) < -_TOLERANCE or x + w > width + _TOLERANCE or y + h > height + _TOLERANCE:
        what = f"the box {text} (x, y, width, height) sticks out of its {width} x {height} image"
        raise fault(path, what, "correct the row", row)
    return max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))


def _text(path: Path) -> str:
    """The file's text."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except FileNotFoundError as error:
        raise fault(path, "there is no such file", "check the data folder, or download it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise fault(path, f"cannot be read ({error})", "check the file, or download it again") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise fault(path, "is not UTF-8 text (it looks like UTF-16)", "save it as CSV in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise fault(path, "is not UTF-8 text", "save it as CSV in UTF-8", row) from error


def _lines(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line on which it starts, values) of each row that is not blank, the header among them."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, start = [], 1
    try:
        for row in reader:
            if row:
                rows.append((start, row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise fault(path, f"is not a valid CSV file ({error})", "check the quotes of this row", start) from error
    return rows


def _check_columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in header:
            there = ", ".join(repr(column) for column in header if column)[:300]
            what = f"has no column {name!r}; it has {there or 'no named column'}"
            raise fault(path, what, "use the file as it was released, with commas between its values")
        if header.count(name) > 1:
            raise fault(path, f"has {header.count(name)} columns {name!r}", "keep one of them")


def _fitted(path: Path, line: int, row: list[str], count: int) -> list[str]:
    """A row as long as the header: absent values are "", surplus blank ones dropped."""
    if any(map(str.strip, row[count:])):
        what = f"has {len(row)} values for {count} columns"
        raise fault(path, what, "put text that holds commas in double quotes", line)
    return row[:count] + [""] * (count - len(row))
