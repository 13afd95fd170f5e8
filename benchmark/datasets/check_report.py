"""What `data check` has found: problems, counts, notes, and each check in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gtg_bench.benchmark.datasets.counts import Published
from gtg_bench.benchmark.datasets.problems import Kind, Problem

State = Literal["ok", "note", "warning", "error"]
_KINDS: dict[str, tuple[tuple[Kind, ...], str]] = {
    "files": (("file", "disagreement"), "annotation files are whole and agree"),
    "rows": (("row", "category"), "every row can be read"),
    "images": (("missing",), "every image is there"),
    "readable": (("unreadable",), "every image's header can be read"),
    "sizes": (("size",), "images are of the size that the rows give"),
    "regions": (("region",), "boxes and masks have an area and lie in their images"),
    "duplicates": (("duplicate",), "no row is there twice"),
    "phrases": (("phrase",), "no phrase is empty, looks foreign or denies a finding"),
    "splits": (("split",), "every row has its split and every patient one alone"),
}
"""Check -> the kinds of problems that it counts, and what it says where there are none."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check in a line."""

    name: str
    state: State
    text: str


@dataclass
class Report:
    """What `check` found.

    Attributes:
        dataset, version, data_root, options: what was opened; version "" where it could not be.
        deep: whether every image was decoded.
        splits: split -> its counts of pairs, images and patients.
        counts: pairs, boxes, images and patients of the whole set, and the pairs that a run can use.
        categories: category -> pairs.
        by_category: split -> category -> pairs.
        published: what the publishers count.
        notes: what is worth knowing and no problem, by check.
        training: method -> what its card says of having been trained on these images.
        overlap: what the set itself knows of pairs that models were trained on.
        problems: everything that is wrong.
    """

    dataset: str
    data_root: Path | None
    options: Mapping[str, str]
    deep: bool
    version: str = ""
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    by_category: dict[str, dict[str, int]] = field(default_factory=dict)
    published: Published | None = None
    notes: list[Check] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)
    overlap: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def fine(self, strict: bool = False) -> bool:
        """Whether nothing is wrong; strictly: nothing even looks wrong."""
        return not any(strict or not problem.warning for problem in self.problems)

    def checks(self) -> list[Check]:
        """Every check in a line, then the notes. Where the set could not be opened, nothing else was looked at."""
        if not self.version:
            return [Check("files", "error", "the data set cannot be opened")]
        return [self._check(name) for name in _KINDS] + self.notes

    def as_json(self, strict: bool = False) -> dict[str, Any]:
        """As plain JSON values, whole paths."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            "data_root": None if self.data_root is None else str(self.data_root),
            "options": dict(self.options),
            "deep": self.deep,
            "ok": self.fine(strict),
            "counts": self.counts,
            "splits": self.splits,
            "categories": self.categories,
            "by_category": self.by_category,
            "published": self.published and self.published.as_json(),
            "checks": [asdict(check) for check in self.checks()],
            "training": self.training,
            "overlap": self.overlap,
            "problems": [problem.as_json() for problem in self.problems],
        }

    def _check(self, name: str) -> Check:
        kinds, text = _KINDS[name]
        found = [problem for problem in self.problems if problem.kind in kinds]
        if not found:
            return Check(name, "ok", text.replace("'s header can be read", " can be decoded") if self.deep else text)
        state: State = "warning" if all(problem.warning for problem in found) else "error"
        return Check(name, state, f"{len(found)} {'problem' if len(found) == 1 else 'problems'}")
