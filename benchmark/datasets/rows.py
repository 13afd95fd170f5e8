"""One row of a table or one entry of a JSON file, whose values are checked as they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.types import Box
from gtg_bench.benchmark.datasets.problems import Fault, Kind, Problem, fault

ROUNDING = 0.01
"""Pixels by which a box may stick out of its image: the rounding of decimal fractions, nothing more."""

_CORRECT = "correct the row"


@dataclass(frozen=True, slots=True)
class Row:
    """A row or an entry: where it stands and its values by name.

    Attributes:
        file: the annotation file.
        row: the line of a table, or the place in a JSON file ("annotations[3]").
        values: str in a table; whatever JSON gives otherwise.
        broken: what is wrong with the row as a whole; its values are then a guess.
    """

    file: Path
    row: int | str
    values: Mapping[str, Any]
    broken: Problem | None = None

    def problem(self, what: str, fix: str = _CORRECT, kind: Kind = "row") -> Problem:
        """A problem of this row."""
        return Problem(kind, self.file, self.row, what, fix)

    def fault(self, what: str, fix: str = _CORRECT, kind: Kind = "row") -> Fault:
        """The DataError of such a problem."""
        return Fault(self.problem(what, fix, kind))

    def has(self, name: str) -> bool:
        """Whether a value is there at all and not blank."""
        value = self.values.get(name)
        return value is not None and not (isinstance(value, str) and not value.strip())

    def text(self, name: str) -> str:
        """A text without blanks around it; "" where there is none. A number of a JSON file counts as its digits."""
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.fault(f"{name} is {shown(value)}, not a text")
        text = str(value).strip()
        if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
            raise self.fault(f"{name} holds characters that are none ({shown(text)})")
        return text

    def number(self, name: str, kind: Kind = "row") -> float:
        """A finite number; a table writes it as text, a JSON file must not."""
        value = self.values.get(name)
        return self._number(value, name, kind, textual=isinstance(self.row, int))

    def size(self, width: str, height: str) -> Size | None:
        """(width, height) in pixels, whole and positive; None where the row gives neither."""
        if not self.has(width) and not self.has(height):
            return None
        found = self.number(width, "size"), self.number(height, "size")
        for name, value in zip((width, height), found, strict=True):
            if value < 1 or value != int(value):
                raise self.fault(f"{name} is {value:g}, not a number of pixels", kind="size")
        return int(found[0]), int(found[1])

    def box_xywh(self, x: str, y: str, width: str, height: str) -> Box:
        """xyxy of a box that the row gives by its upper left corner, its width and its height; not checked yet."""
        x0, y0, w, h = (self.number(name, "region") for name in (x, y, width, height))
        return x0, y0, x0 + w, y0 + h

    def box_list(self, name: str) -> Box:
        """As `box_xywh`, of a list of four numbers."""
        values = self.values.get(name)
        if not isinstance(values, list) or len(values) != 4:
            raise self.fault(f"{name} is {shown(values)}, not [x, y, width, height]", kind="region")
        x, y, w, h = (self._number(value, name, "region", textual=False) for value in values)
        return x, y, x + w, y + h

    def _number(self, value: Any, name: str, kind: Kind, textual: bool) -> float:
        if textual:
            return number(str(value if value is not None else ""), self.file, self.row, name, kind)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
            raise self.fault(f"{name} is {shown(value)}, not a number", kind=kind)
        return float(value)


def number(value: str, path: Path, row: int | str, column: str, kind: Kind = "row") -> float:
    """A finite number from a table's cell.

    Raises:
        DataError: the cell is blank, NaN, infinite or no number; the text names file, row and column.
    """
    try:
        parsed = float(value)
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed) or "_" in value:
        raise fault(path, f"{column} is {shown(value.strip())}, not a number", _CORRECT, row, kind)
    return parsed


def box_from_xywh(xywh: Sequence[float], size: Size, path: Path, row: int | str) -> Box:
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
    return box_within((x, y, x + w, y + h), size, path, row)


def box_within(box: Box, size: Size, path: Path, row: int | str, slack: float = ROUNDING) -> Box:
    """A box cut to its image.

    Args:
        box: float xyxy in pixels of the image.
        size: (width, height) of the image.
        path: the file that the box stands in.
        row: its row there.
        slack: pixels by which it may stick out.

    Raises:
        DataError: the box has no area or sticks out by more than that; the text names file and row.
    """
    x0, y0, x1, y1 = box
    text = f"({x0:g}, {y0:g}, {x1 - x0:g}, {y1 - y0:g})"
    if x1 <= x0 or y1 <= y0:
        raise fault(path, f"the box {text} has no area (x, y, width, height)", _CORRECT, row, "region")
    width, height = size
    if min(x0, y0) < -slack or x1 > width + slack or y1 > height + slack:
        what = f"the box {text} (x, y, width, height) sticks out of its {width} x {height} image"
        raise fault(path, what, _CORRECT, row, "region")
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        what = f"the box {text} (x, y, width, height) lies beside its {width} x {height} image"
        raise fault(path, what, _CORRECT, row, "region")
    return cut


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """A value as an error message shows it: in one short piece, whatever it is."""
    text = repr(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
