"""What is wrong with a data set, one `Problem` at a time: kind, file, row, what and fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from gtg_bench.benchmark.api.errors import DataError

T = TypeVar("T")
Kind = Literal[
    "file", "row", "category", "phrase", "region", "size", "missing", "unreadable", "duplicate", "split", "disagreement"
]
"""What a problem is about: an annotation file as a whole; a row's values; its category, its phrase, its box or mask;
the size that it gives for its image; an image that is not there or cannot be read; a row that is there twice; a split
or a patient's splits; two annotation files that say different things."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: what it is about.
        file: the annotation file, or the image where no annotation is at hand.
        row: the line of a table (the header is line 1), the place in a JSON file ("annotations[3]"), or None where
            the file as a whole is meant.
        what: what is wrong.
        fix: what to do about it.
        image: the image's file where the problem is with an image.
        warning: it changes no sample; it only looks wrong.
    """

    kind: Kind
    file: Path
    row: int | str | None
    what: str
    fix: str
    image: Path | None = None
    warning: bool = False

    def __str__(self) -> str:
        """One line: file, row, what and fix."""
        row = f", row {self.row}" if isinstance(self.row, int) else f", {self.row}" if self.row else ""
        return " ".join(f"{self.file}{row}: {self.what}; {self.fix}".split())

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, whole paths."""
        image = None if self.image is None else str(self.image)
        level = "warning" if self.warning else "error"
        place = {"kind": self.kind, "level": level, "file": str(self.file), "row": self.row, "image": image}
        return place | {"what": " ".join(self.what.split()), "fix": self.fix}


class Fault(DataError):
    """A DataError that carries its problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def fault(path: Path, what: str, fix: str, row: int | str | None = None, kind: Kind | None = None) -> Fault:
    """A DataError of one line: the file, the row where there is one, what is wrong and the fix."""
    return Fault(Problem(kind or ("file" if row is None else "row"), path, row, what, fix))


class HasText(Protocol):
    """A row whose values are checked as they are read."""

    def text(self, name: str) -> str: ...


class Faults(list[Problem]):
    """Collects what is wrong with one row, so that all of it can be said at once."""

    def text(self, row: HasText, name: str) -> str:
        """A row's text, or "": its fault is kept here."""
        return self.get(row.text, name) or ""

    def get(self, make: Callable[..., T], *arguments: Any) -> T | None:
        """What `make` returns, or None: its fault is kept here."""
        try:
            return make(*arguments)
        except Fault as error:
            self.append(error.problem)
            return None
