"""Data sets whose rows have a label and no text: the label is the phrase. Images without a finding are only counted."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Mask, Size
from gtg_bench.benchmark.api.types import Box
from gtg_bench.benchmark.datasets.annotated import AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.places import chosen_file, existing, is_within
from gtg_bench.benchmark.datasets.problems import Faults, fault
from gtg_bench.benchmark.datasets.rows import Row
from gtg_bench.benchmark.datasets.tabular import carried_file, read_rows

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
"""What an image's id may end in as a file."""


class LabelledDataset(AnnotatedDataset):
    """A set of image ids, labels and regions in one table, the user's own copy or the one in torchxrayvision.

    Options beside those of every annotated set: `annotations` (the table, from the data root or the working folder) and
    `phrase` (template of the phrase with `{label}` in it, default the bare label).

    Attributes:
        negatives: images of which the table says that there is no finding; they have no sample.
    """

    own_options: ClassVar[tuple[str, ...]] = ("annotations", "phrase")
    rescaled = True

    tables: ClassVar[tuple[str, ...]]
    """Names of the publisher's table in the data root, the likeliest first; each may be gzipped or zipped."""

    carried: ClassVar[str]
    """The table's name among the data of torchxrayvision."""

    columns: ClassVar[tuple[str, ...]]
    """The columns that the table must have, the image's id first."""

    subfolders: ClassVar[tuple[str, ...]] = ("images",)
    """Where images may lie below a base, beside the base itself."""

    one_verdict: ClassVar[bool] = True
    """Whether rows that deny and rows that give a finding of one image contradict one another."""

    negatives: int = 0

    @abstractmethod
    def is_negative(self, row: Row) -> bool:
        """Whether a row says that its image has no finding."""

    @abstractmethod
    def annotation(self, row: Row) -> Annotation | None:
        """The annotation of a row that gives a finding; None for a row that the options leave out."""

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Also that the phrase has its label. Raises UsageError."""
        if "{label}" not in options.get("phrase", "{label}"):
            raise UsageError(f"{self.name}'s phrase must have {{label}} in it; {options['phrase']!r} has not")
        return super().checked_options(options)

    def read(self) -> list[Annotation]:
        """The rows with a finding; those without are counted in `negatives`."""
        found: list[Annotation] = []
        denied: dict[str, Row] = {}
        for row in read_rows(self._table(), self.columns):
            if not self.is_negative(row):
                found += [made] if (made := self.annotation(row)) else []
            elif row.broken:
                self.problems.append(row.broken)
            else:
                denied.setdefault(row.text(self.columns[0]), row)
        self.negatives = len(denied.keys() - {row.image for row in found})
        return [_disputed(row, denied.get(row.image)) for row in found] if self.one_verdict else found

    def notes(self) -> dict[str, str]:
        """How many images without a finding there are."""
        return {"negatives": f"{self.negatives} images without a finding have no region and are left out"}

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The image's id with each suffix."""
        return [f"{row.image}{suffix}" for suffix in SUFFIXES]

    def image_folders(self, base: Path) -> list[Path]:
        """The publisher's folders and the base itself."""
        return existing([*(base / name for name in self.subfolders), base])

    def made(
        self,
        row: Row,
        label: str,
        faults: Faults,
        box: Box | None = None,
        mask: Mask | None = None,
        size: Size | None = None,
    ) -> Annotation:
        """The annotation of a row; every image is a patient of its own, since no table says more."""
        image = row.text(self.columns[0])
        image_id = _image_id(image)
        return Annotation(
            file=row.file,
            row=row.row,
            image=image,
            image_id=image_id,
            patient_id=image_id,
            category=label,
            phrase=self.options.get("phrase", "{label}").replace("{label}", label),
            box=box,
            mask=mask,
            size=size,
            problems=(row.broken,) if row.broken else tuple(faults),
        )

    def _table(self) -> Path:
        if chosen := self.options.get("annotations"):
            return chosen_file(self.name, self.root, chosen)
        own = (self.root / f"{name}{packed}" for name in self.tables for packed in ("", ".gz", ".zip"))
        found = next((path for path in own if os.path.exists(path)), None) or carried_file(self.carried)
        if found is None:
            fix = "put it there, name it with --dataset-option annotations=FILE, or pip install torchxrayvision"
            raise fault(self.root / self.tables[0], "there is no such file", fix)
        return found


@lru_cache(maxsize=1)  # the rows of an image often follow one another
def _image_id(image: str) -> str:
    return image.rpartition("/")[2] if is_within(image) else ""


def _disputed(row: Annotation, denied: Row | None) -> Annotation:
    """The annotation, with a problem where another row denies it."""
    if denied is None:
        return row
    what = f"image {row.image} has a finding here, but row {denied.row} says that it has none"
    return row.wrong(row.problem(what, "take the wrong one of the two rows out"))
