"""A problem in a data set: which file and row, what is wrong, and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.text import printable

Kind = Literal[
    "file",
    "row",
    "category",
    "phrase",
    "region",
    "size",
    "missing",
    "unreadable",
    "range",
    "duplicate",
    "split",
    "disagreement",
]
"""What a problem is about: the annotation file as a whole; a row's values; its category, phrase, or box or mask; the
image size it gives; an image that is missing, unreadable, or much too dark; a repeated row; a split, or a patient in
two splits; two annotation files that disagree."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: what it is about.
        file: the annotation file, or the image if no annotation refers to it.
        row: the line in a table (the header is line 1), the place in a JSON file ("annotations[3]"), or None for the
            whole file.
        what: what is wrong.
        fix: what to do about it.
        image: the image file, for a problem with an image.
        warning: the entry looks wrong, but its sample is used.
    """

    kind: Kind
    file: Path
    row: int | str | None
    what: str
    fix: str
    image: Path | None = None
    warning: bool = False

    def __str__(self) -> str:
        """One line: file, row, what and fix, with control characters and lone surrogates escaped."""
        row = f", row {self.row}" if isinstance(self.row, int) else f", {self.row}" if self.row else ""
        text = " ".join(f"{self.file}{row}: {self.what}; {self.fix}".split())
        return printable(text)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "level": "warning" if self.warning else "error",
            "file": str(self.file),
            "row": self.row,
            "image": None if self.image is None else str(self.image),
            "what": " ".join(self.what.split()),
            "fix": self.fix,
        }


class Fault(DataError):
    """A DataError that carries its problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def fault(path: Path, what: str, fix: str, row: int | str | None = None, kind: Kind | None = None) -> Fault:
    """A DataError of one line: file, row if given, what is wrong, and the fix."""
    return Fault(Problem(kind or ("file" if row is None else "row"), path, row, what, fix))
