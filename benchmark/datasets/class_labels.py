"""The base of readers whose tables have class labels and no text: the label is the phrase."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.base import AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.locate import chosen_file, existing, is_within
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, read_rows, torchxrayvision_file

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg")
"""Suffixes to try for the file of an image id."""


class LabelPhraseDataset(AnnotatedDataset):
    """A set without text. Option `phrase`: a template with `{label}` in it; default: the bare label."""

    own_options: ClassVar[tuple[str, ...]] = ("annotations", "phrase")
    rescaled = True

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options, with `{label}` in the phrase. Raises UsageError."""
        if "{label}" not in options.get("phrase", "{label}"):
            raise UsageError(f"{self.name}: phrase must contain {{label}}; {options['phrase']!r} does not")
        return super().checked_options(options)

    def phrase_of(self, label: str) -> str:
        """The phrase for a label."""
        return self.options.get("phrase", "{label}").replace("{label}", label)


class ClassLabelDataset(LabelPhraseDataset):
    """A set of image ids, labels and regions in one table: the user's own copy, or the one in torchxrayvision.

    Further options: `annotations` (the table, relative to the data root or the working folder) and `phrase` (a template
    with `{label}` in it; default: the bare label).

    Attributes:
        negatives: images that the table says have no finding; they have no sample.
    """

    tables: ClassVar[tuple[str, ...]]
    """Names of the publisher's table in the data root, the likeliest first; each may be gzipped or zipped."""

    packaged: ClassVar[str]
    """The table's name among torchxrayvision's data."""

    columns: ClassVar[tuple[str, ...]]
    """The columns that the table must have, the image id first."""

    subfolders: ClassVar[tuple[str, ...]] = ("images",)
    """Where images may be below a base, besides the base itself."""

    one_reading: ClassVar[bool] = True
    """Whether an image must not have both a row with a finding and a row without."""

    negatives: int = 0

    @abstractmethod
    def is_negative(self, row: Row) -> bool:
        """Whether a row says that its image has no finding."""

    @abstractmethod
    def annotation(self, row: Row) -> Annotation | None:
        """The annotation for a row with a finding; None if the options exclude the row."""

    def read(self) -> list[Annotation]:
        """The rows with a finding; images without one are counted in `negatives`."""
        found: list[Annotation] = []
        negative: dict[str, Row] = {}
        for row in read_rows(self._table(), self.columns):
            if not self.is_negative(row):
                found += [positive] if (positive := self.annotation(row)) else []
            elif row.broken:
                self.problems.append(row.broken)
            else:
                negative.setdefault(row.text(self.columns[0]), row)
        self.negatives = len(negative.keys() - {row.image for row in found})
        for number, made in enumerate(found if self.one_reading else ()):
            if other := negative.get(made.image):
                what = f"image {made.image} has a finding here, but row {other.row} says that it has none"
                found[number] = made.wrong(made.problem(what, "remove the wrong row"))
        return found

    def notes(self) -> dict[str, str]:
        """The number of images without a finding."""
        text = f"{self.negatives} images without a finding have no region and are left out"
        return {"negatives": text} if self.negatives else {}

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The image id with each suffix."""
        return [f"{row.image}{suffix}" for suffix in SUFFIXES]

    def image_folders(self, base: Path) -> list[Path]:
        """The publisher's folders and the base itself."""
        return existing([*(base / name for name in self.subfolders), base])

    def made(self, row: Row, label: str, faults: Faults, **region: Any) -> Annotation:
        """The annotation for a row.

        Args:
            row: the row.
            label: its category.
            faults: what is wrong with it.
            region: the `box` or `mask` and the image `size`, as `Annotation` has them.

        Returns:
            An annotation whose patient is the image: the tables do not name patients.
        """
        image = row.text(self.columns[0])
        image_id = image.rpartition("/")[2] if is_within(image) else ""
        return Annotation(
            file=row.file,
            row=row.row,
            image=image,
            image_id=image_id,
            patient_id=image_id,
            category=label,
            phrase=self.phrase_of(label),
            problems=(row.broken,) if row.broken else tuple(faults),
            **region,
        )

    def _table(self) -> Path:
        if chosen := self.options.get("annotations"):
            return chosen_file(self.name, self.root, chosen)
        own = (self.root / f"{name}{packed}" for name in self.tables for packed in ("", ".gz", ".zip"))
        found = next((path for path in own if os.path.exists(path)), None) or torchxrayvision_file(self.packaged)
        if found is None:
            fix = "download it, name it with --dataset-option annotations=FILE, or pip install torchxrayvision"
            raise fault(self.root / self.tables[0], "file not found", fix)
        return found
