"""The log of items that cannot be made: which one, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock


@dataclass(frozen=True)
class Skip:
    """An item that could not be made.

    Attributes:
        number: of the item.
        id: its name in its data set.
        reason: what went wrong.
    """

    number: int
    id: str
    reason: str


class SkipLog:
    """`skipped.jsonl`: one line a failed attempt, appended by any number of processes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "skipped.jsonl"

    def read(self) -> dict[int, list[Skip]]:
        """The failed attempts by item, the last one last; a line that a kill tore is passed over."""
        found: dict[int, list[Skip]] = {}
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                skip = Skip(**json.loads(line))
            except (json.JSONDecodeError, TypeError):
                continue
            found.setdefault(skip.number, []).append(skip)
        return found

    def append(self, skips: Iterable[Skip]) -> None:
        """Note failed attempts; they are on the disk when this returns."""
        lines = "".join(json.dumps(asdict(skip)) + "\n" for skip in skips).encode()
        if not lines:
            return
        with FileLock(self.path.with_name(".skipped.lock")), self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + lines)
