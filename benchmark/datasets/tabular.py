"""CSV files of data sets, read so that whatever is wrong in them is named with its file and row."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gtg_bench.benchmark.datasets.problems import Fault, Problem, fault
from gtg_bench.benchmark.datasets.rows import Row, box_from_xywh, number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["box_from_xywh", "carried_file", "fault", "file_text", "number", "read_rows", "read_table"]

_AGAIN = "download it again"
_ZIP = b"PK\x03\x04"


def carried_file(name: str) -> Path | None:
    """A file of annotations that the package torchxrayvision carries; None where it is not. Imports nothing."""
    spec = find_spec("torchxrayvision")
    folders = spec.submodule_search_locations if spec else None
    places = [Path(folder) / "data" / name for folder in folders or []]
    return next((place for place in places if place.is_file()), None)


def read_rows(path: Path, columns: Sequence[str] | Mapping[str, str]) -> list[Row]:
    """Read a CSV file (also gzipped, or alone in a zip file) in UTF-8, with or without a byte order mark.

    Args:
        path: the file; its first line names the columns.
        columns: the columns that must be there; a mapping also renames them (new name -> name in the file).

    Returns:
        The rows that are not blank, every value a str (an absent one is ""), the needed columns first. A row that
        does not fit the header or is not UTF-8 is `broken`; it harms no other.

    Raises:
        DataError: the file is missing, empty or no CSV, or a column is missing; the text names the file, the column
            and the fix.
    """
    text = file_text(path)
    lines = _lines(path, text)
    if not lines:
        raise fault(path, "is empty", _AGAIN)
    header = [name.strip() for name in lines[0][1]]
    wanted = dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}
    _check_columns(path, header, list(wanted.values()))
    others = [name for name in dict.fromkeys(header) if name and name not in {*wanted, *wanted.values()}]
    places = {name: header.index(source) for name, source in (wanted | {name: name for name in others}).items()}
    rows = [_row(path, line, row, len(header), places) for line, row in lines[1:] if any(map(str.strip, row))]
    if not rows:
        raise fault(path, "has a header but no rows", _AGAIN)
    return rows


def read_table(path: Path, columns: Sequence[str] | Mapping[str, str]) -> pd.DataFrame:
    """As `read_rows`, as a table whose index is the line of the file on which the row starts (the header is line 1).

    Raises:
        DataError: as `read_rows`; or the first row that is broken.
    """
    import pandas as pd

    rows = read_rows(path, columns)
    if broken := next((row.broken for row in rows if row.broken), None):
        raise Fault(broken)
    index = pd.Index([int(row.row) for row in rows], name="row")
    return pd.DataFrame([dict(row.values) for row in rows], index=index, dtype=str)


def file_text(path: Path) -> str:
    """The text of a file in UTF-8 (also gzipped, or alone in a zip file); bytes that are none become U+FFFD.

    Raises:
        DataError: the file is missing, cannot be read, holds a web page, or is UTF-16.
    """
    try:
        data = _unpacked(path.read_bytes())
    except FileNotFoundError as error:
        raise fault(path, "there is no such file", "check the data folder, or download it") from error
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise fault(path, f"cannot be read ({error})", "check the file, or download it again") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise fault(path, "is not UTF-8 text (it looks like UTF-16)", "save it in UTF-8")
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise fault(path, "holds a web page (often a log-in page), not data", "download it again, logged in")
    return data.decode("utf-8-sig", errors="replace")


def _unpacked(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if not data.startswith(_ZIP):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise ValueError(f"a zip file of {len(names)} files, not of one")
        return archive.read(names[0])


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


def _row(path: Path, line: int, values: list[str], count: int, places: Mapping[str, int]) -> Row:
    """The row by column names: absent values are "", surplus ones break it unless they are blank."""
    whole = values + [""] * (count - len(values))
    row = Row(path, line, {name: whole[place] for name, place in places.items()})
    broken = None
    if any(map(str.strip, values[count:])):
        what = f"has {len(values)} values for {count} columns"
        broken = Problem("row", path, line, what, "put text that holds commas in double quotes")
    elif any("\ufffd" in value for value in values):
        broken = Problem("row", path, line, "is not UTF-8 text", "save the file in UTF-8")
    return replace(row, broken=broken) if broken else row
