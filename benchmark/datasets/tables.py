"""Annotation files as rows with checked values: CSV tables (plain, gzipped or zipped) and entries of JSON files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.mask_codes import MAX_PIXELS
from gtg_bench.benchmark.api.text import csv_text
from gtg_bench.benchmark.api.types import Box
from gtg_bench.benchmark.datasets.problems import Fault, Kind, Problem, fault

T = TypeVar("T")
ROUNDING = 0.01
"""Pixels by which a box may extend beyond its image, to allow for rounded decimals."""

_MAX_BYTES = 2**29
"""Bytes of the largest table or JSON file that is read, after unpacking; the published ones have at most 2**26."""

_CORRECT, _AGAIN = "correct the row", "download it again"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table or an entry of a JSON file. Every accessor raises Fault for a value of the wrong type.

    Attributes:
        file: the annotation file.
        row: the line in a table (the header is line 1), or the place in a JSON file ("annotations[3]").
        values: column -> value; always str in a table.
        broken: what is wrong with the row as a whole; its values are then unreliable.
    """

    file: Path
    row: int | str
    values: Mapping[str, Any]
    broken: Problem | None = None

    def problem(self, what: str, fix: str = _CORRECT, kind: Kind = "row") -> Problem:
        """A problem with this row."""
        return Problem(kind, self.file, self.row, what, fix)

    def fault(self, what: str, fix: str = _CORRECT, kind: Kind = "row") -> Fault:
        """The DataError for such a problem."""
        return Fault(self.problem(what, fix, kind))

    def has(self, name: str) -> bool:
        """Whether a value is present and not blank."""
        value = self.values.get(name)
        return value is not None and not (isinstance(value, str) and not value.strip())

    def text(self, name: str) -> str:
        """The stripped text; "" if absent. A number in a JSON file is accepted as its digits.

        The apostrophe with which `api.text.csv_cell` protects a cell of a table is removed.
        """
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.fault(f"{name} is {shown(value)}, not text")
        text = str(value).strip()
        if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
            raise self.fault(f"{name} contains invalid characters ({shown(text)})")
        return csv_text(text) if isinstance(self.row, int) else text

    def number(self, name: str, kind: Kind = "row") -> float:
        """A finite number: written as text in a table, as a number in a JSON file."""
        return self._number(self.values.get(name), name, kind)

    def size(self, width: str, height: str) -> Size | None:
        """(width, height) in whole pixels, at most MAX_PIXELS in all; None if the row gives neither."""
        if not self.has(width) and not self.has(height):
            return None
        found = self.number(width, "size"), self.number(height, "size")
        for name, value in zip((width, height), found, strict=True):
            if value < 1 or value != int(value):
                raise self.fault(f"{name} is {value:g}, not a number of pixels", kind="size")
        if found[0] * found[1] > MAX_PIXELS:
            what = f"its image has {found[0]:g} x {found[1]:g} pixels, more than any radiograph has"
            raise self.fault(f"{what} ({MAX_PIXELS:,} at most)", kind="size")
        return int(found[0]), int(found[1])

    def box_xywh(self, *names: str) -> Box:
        """An unchecked xyxy box from four values: upper left corner, width and height."""
        x, y, w, h = (self.number(name, "region") for name in names)
        return x, y, x + w, y + h

    def box_list(self, name: str) -> Box:
        """An unchecked xyxy box from one value, a list of four numbers: upper left corner, width and height."""
        values = self.values.get(name)
        if not isinstance(values, list) or len(values) != 4:
            raise self.fault(f"{name} is {shown(values)}, not [x, y, width, height]", kind="region")
        x, y, w, h = (self._number(value, name, "region") for value in values)
        return x, y, x + w, y + h

    def corners(self, value: Any, name: str) -> Box:
        """An unchecked xyxy box from a list of four numbers."""
        if not isinstance(value, list) or len(value) != 4:
            raise self.fault(f"{name} is {shown(value)}, not [x1, y1, x2, y2]", kind="region")
        x0, y0, x1, y1 = (self._number(side, name, "region") for side in value)
        return x0, y0, x1, y1

    def _number(self, value: Any, name: str, kind: Kind) -> float:
        textual = isinstance(self.row, int)
        number = math.nan
        if isinstance(value, str if textual else (int, float)) and not isinstance(value, bool):
            with suppress(ValueError, OverflowError):
                number = float(value) if "_" not in str(value) else math.nan
        if not math.isfinite(number):
            said = shown(value.strip() if isinstance(value, str) else value)
            raise self.fault(f"{name} is {said}, not a number", kind=kind)
        return number


class Readable(Protocol):
    """An open binary file, packed or not."""

    def read(self, size: int, /) -> bytes: ...


class Faults(list[Problem]):
    """Collects every problem with one row, so that all of them are reported at once."""

    def text(self, row: Row, name: str) -> str:
        """A row's text; "" if it is invalid, and the problem is added."""
        return self.get(row.text, name) or ""

    def get(self, make: Callable[..., T], *arguments: Any) -> T | None:
        """What `make` returns; None if it raises Fault, and the problem is added."""
        try:
            return make(*arguments)
        except Fault as error:
            self.append(error.problem)
            return None


def box_within(box: Box, size: Size, path: Path, row: int | str, slack: float = ROUNDING) -> Box:
    """Clip a box to its image.

    Args:
        box: float xyxy in pixels of the image.
        size: (width, height) of the image.
        path: the file that contains the box.
        row: its row in the file.
        slack: pixels by which the box may extend beyond the image.

    Raises:
        DataError: the box has no area, or extends further beyond the image; names file and row.
    """
    x0, y0, x1, y1 = box
    said = f"the box ({x0:g}, {y0:g}, {x1 - x0:g}, {y1 - y0:g})"
    if x1 <= x0 or y1 <= y0:
        raise fault(path, f"{said} has no area (x, y, width, height)", _CORRECT, row, "region")
    width, height = size
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    outside = clipped[2] <= clipped[0] or clipped[3] <= clipped[1]
    if outside or min(x0, y0) < -slack or x1 > width + slack or y1 > height + slack:
        what = f"{said} (x, y, width, height) extends beyond its {width} x {height} image"
        raise fault(path, what, _CORRECT, row, "region")
    return clipped


def shown(value: Any) -> str:
    """Any value as one short piece of an error message."""
    text = repr(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


def torchxrayvision_file(name: str) -> Path | None:
    """An annotation file shipped with the package torchxrayvision, which is not imported; None if it is missing."""
    spec = find_spec("torchxrayvision")
    places = [Path(folder) / "data" / name for folder in (spec and spec.submodule_search_locations) or []]
    return next((place for place in places if place.is_file()), None)


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV file; see `iter_rows`. Also raises DataError if there are none."""
    rows = list(iter_rows(path, columns))
    if not rows:
        raise fault(path, "has a header but no rows", _AGAIN)
    return rows


def iter_rows(path: Path, columns: Sequence[str], complete: bool = False) -> Iterator[Row]:
    """Read a UTF-8 CSV file, plain, gzipped, or the only file in a zip archive, with or without a byte order mark.

    Args:
        path: the file; its first line names the columns.
        columns: the columns that must be present.
        complete: a row with fewer values than columns is broken; by default the missing ones are "".

    Yields:
        Rows that are not blank, with every column as str. A row with too many values, or that is not UTF-8, is
        `broken`; the others are unaffected.

    Raises:
        DataError: the file is missing, empty or not CSV, or a column is missing; names file, column and fix.
    """
    csv.field_size_limit(_MAX_BYTES)  # the default of 131,072 characters is less than a mask can have
    file = io.TextIOWrapper(io.BytesIO(_content(path)), encoding="utf-8-sig", errors="replace", newline="")
    reader = csv.reader(file, strict=True)
    header: list[str] = []
    start = 1
    try:
        for values in reader:
            line, start = start, reader.line_num + 1
            if not header and values:
                header = [name.strip() for name in values]
                _check_columns(path, header, columns)
            elif any(map(str.strip, values)):
                yield _row(path, line, header, values, complete)
    except csv.Error as error:
        raise fault(path, f"is not a valid CSV file ({error})", "check the quotes in this row", start) from error
    if not header:
        raise fault(path, "is empty", _AGAIN)


def _check_columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in header:
            there = ", ".join(repr(column) for column in header if column)[:300]
            what = f"has no column {name!r}; it has {there or 'no named columns'}"
            excel = any(";" in column or "\t" in column for column in header)
            fix = "save it with commas between the columns" if excel else "use the file as it was released"
            raise fault(path, what, fix)
        if header.count(name) > 1:
            raise fault(path, f"has {header.count(name)} columns {name!r}", "keep one of them")


def _row(path: Path, line: int, header: list[str], values: list[str], complete: bool) -> Row:
    padded = (values + [""] * len(header))[: len(header)]
    named = dict(zip(reversed(header), reversed(padded), strict=True))  # the first of several equal names counts
    broken = None
    if any(map(str.strip, values[len(header) :])) or (complete and len(values) < len(header)):
        what = f"has {len(values)} values for {len(header)} columns"
        broken = Problem("row", path, line, what, "put text that contains commas in double quotes")
    elif any("\ufffd" in value or "\0" in value for value in values):
        broken = Problem("row", path, line, "is not UTF-8 text", "save the file as UTF-8")
        named = {name: value.replace("\0", "\ufffd") for name, value in named.items()}
    return Row(path, line, named, broken)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, plain, gzipped, or alone in a zip archive; invalid bytes become U+FFFD.

    Raises:
        DataError: the file is missing, cannot be read, is too large, is a web page, or is UTF-16.
    """
    return _content(path).decode("utf-8-sig", errors="replace")


def read_json(path: Path) -> Any:
    """The value in a JSON file, plain, gzipped, or alone in a zip archive.

    Raises:
        DataError: as `read_text`, and for a file that is empty or not JSON.
    """
    text = read_text(path)
    if not text.strip():
        raise fault(path, "is empty", _AGAIN)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise fault(path, f"is not valid JSON ({error.msg})", _AGAIN, error.lineno, "file") from error
    except (ValueError, RecursionError) as error:
        raise fault(path, f"cannot be read as JSON ({error})", _AGAIN) from error


def _content(path: Path) -> bytes:
    """The unpacked bytes of a text file. Raises DataError as `read_text`."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file")
        with path.open("rb") as file:
            data = _unpacked(file)
    except FileNotFoundError as error:
        raise fault(path, "file not found", "check the data folder, or download it") from error
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, LZMAError, zipfile.BadZipFile) as error:
        raise fault(path, f"cannot be read ({error})", "check the file, or download it again") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        raise fault(path, "is not UTF-8 text (it looks like UTF-16)", "save it as UTF-8")
    if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise fault(path, "is a web page (often a login page), not data", "log in and download it again")
    return data


def _unpacked(file: IO[bytes]) -> bytes:
    start = file.read(4)
    file.seek(0)
    if start == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise ValueError(f"the zip archive holds {len(names)} files instead of one")
            with archive.open(names[0]) as member:
                return read_bounded(member, _MAX_BYTES)
    if start.startswith(b"\x1f\x8b"):
        with gzip.open(file) as unpacked:
            return read_bounded(unpacked, _MAX_BYTES)
    return read_bounded(file, _MAX_BYTES)


def read_bounded(file: Readable, most: int) -> bytes:
    """The bytes of a file that may unpack itself. Raises ValueError if there are more than `most`."""
    data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return data
