"""MIMIC-CXR-JPG's table of splits: which images and patients models of MIMIC-CXR were trained on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tabular import file_text

PATTERN = "mimic-cxr-2.*-split.csv*"
"""The table's name in the releases of MIMIC-CXR-JPG, gzipped or not."""

USUAL_NAME = "mimic-cxr-2.0.0-split.csv.gz"


@dataclass(frozen=True)
class TrainingSplit:
    """What of a choice of images and patients is in MIMIC-CXR's training split; patients as "p10000032"."""

    file: Path
    images: frozenset[str]
    patients: frozenset[str]

    def count(self, samples: Sequence[PhraseSample]) -> dict[str, int]:
        """Pairs in all, those on images of the training split, and those of patients of it."""
        images = sum(sample.image_id in self.images for sample in samples)
        patients = sum(sample.patient_id in self.patients for sample in samples)
        return {"pairs": len(samples), "images": images, "patients": patients}


def find_split_table(folders: Iterable[Path]) -> Path | None:
    """The table in the first of the folders that has one."""
    return next((path for folder in folders for path in sorted(folder.glob(PATTERN))), None)


def training_split(table: Path, images: set[str], patients: set[str]) -> TrainingSplit:
    """Which of the images (DICOM ids) and patients are in the training split.

    Raises:
        DataError: the table cannot be read, or lacks a column.
    """
    rows = [(dicom, patient) for dicom, patient, split in _rows(table) if split == "train"]
    return TrainingSplit(
        table,
        frozenset(dicom for dicom, _ in rows if dicom in images),
        frozenset(patient for _, patient in rows if patient in patients),
    )


def _rows(table: Path) -> Iterator[tuple[str, str, str]]:
    """(DICOM id, patient, split) of each row."""
    reader = csv.reader(io.StringIO(file_text(table), newline=""))
    header = next(reader, [])
    needed = ("dicom_id", "subject_id", "split")
    if missing := [name for name in needed if name not in header]:
        raise fault(table, f"has no column {missing[0]!r}", "download it again from MIMIC-CXR-JPG")
    dicom, patient, split = (header.index(name) for name in needed)
    for row in reader:
        if len(row) == len(header):
            yield row[dicom], f"p{row[patient]}", row[split]
