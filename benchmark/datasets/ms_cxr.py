"""MS-CXR (Boecking et al., ECCV 2022; PhysioNet): radiologists' phrases with boxes on images of MIMIC-CXR."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import Box, PhraseSample
from gtg_bench.benchmark.datasets.base import ALL, AnnotatedDataset, Annotation, Published
from gtg_bench.benchmark.datasets.coco import CocoEntry, read_coco
from gtg_bench.benchmark.datasets.locate import chosen_file, existing
from gtg_bench.benchmark.datasets.problems import Fault, fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, iter_rows, read_rows

MIMIC_SPLIT = "mimic-cxr-2.0.0-split.csv.gz"
"""MIMIC-CXR-JPG's table of splits; other releases of it, and unpacked copies, are found too."""

_ORDER = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema"),
    *("Lung Opacity", "Pleural Effusion", "Pneumonia", "Pneumothorax"),
)
PUBLISHED = Published(
    pairs=dict(zip(_ORDER, (61, 333, 117, 46, 82, 96, 182, 245), strict=True)),
    source="Boecking et al., ECCV 2022, and the release notes of MS-CXR 1.1.0 (its splits)",
    boxes=1448,
    images=1047,
    patients=851,
    splits={"test": dict(zip(_ORDER, (8, 53, 15, 8, 12, 14, 30, 36), strict=True))},
)
SPLITS = {
    **{"train": "train", "training": "train", "test": "test"},
    **{"validate": "validate", "validation": "validate", "valid": "validate", "val": "validate"},
}
"""A split as files and users spell it -> its name here."""

_RELEASES = {"1.0.0": "0.1"}
"""The version in a file name -> the release on PhysioNet, if they differ."""

_COLUMNS = ("dicom_id", "path", "category_name", "label_text", "x", "y", "w", "h")
_SUFFIXES = (".jpg", ".dcm", ".png")
_IMAGES = {*_SUFFIXES, ".jpeg", ".dicom"}
_NAME = re.compile(r"MS_CXR_Local_Alignment_v(\d+(?:\.\d+)*)\.(csv|json)(\.gz)?")
Key = tuple[str, str, str]
_ONE_OF_THEM = "correct one of them, or choose one with --dataset-option annotations=FILE"


class MsCxrDataset(AnnotatedDataset):
    """MS-CXR 0.1 or 1.1.0; one sample is a DICOM id, a category and a phrase, with all its boxes.

    The newest release in the data root is read, preferably its CSV; if the JSON is there too, they must agree. Images
    are laid out as in MIMIC-CXR-JPG (`files/p10/p10000032/s50414267/<dicom>.jpg`), as .jpg, .dcm or .png regardless of
    the suffix in the annotation file, or all in one folder.

    A further option: `annotations` (the CSV or JSON file, relative to the data root or the working folder).
    """

    name = "ms-cxr"
    needs = "the folder with MS_CXR_Local_Alignment_v1.1.0.csv (or .json, or v1.0.0) and the images in files/"
    own_options = ("annotations",)
    published = PUBLISHED

    def read(self) -> list[Annotation]:
        """The rows of the CSV or JSON file, compared with the other one."""
        file, other = self._files()
        match = _NAME.fullmatch(file.name)
        rows = self._read(file)
        known = match and _RELEASES.get(match[1], match[1])
        self.release = known or ("1.1.0" if any(row.split for row in rows) else "0.1")
        self.splits = (*dict.fromkeys(row.split for row in rows if row.split), ALL)
        return self._compared(rows, other) if other else rows

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The path with each suffix, with and without `files/`, then the bare name."""
        path = PurePosixPath(row.image)
        bare = path.parent / path.stem if path.suffix.lower() in _IMAGES else path
        inside = PurePosixPath(*bare.parts[1:]) if bare.parts[0] == "files" and len(bare.parts) > 1 else bare
        paths = dict.fromkeys((bare, inside, PurePosixPath(bare.name)))
        tried = [f"{each}{suffix}" for each in paths for suffix in _SUFFIXES]
        return list(dict.fromkeys([*tried, row.image]))

    def image_folders(self, base: Path) -> list[Path]:
        """The base itself."""
        return existing([base])

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """The samples of a split (val, valid and validation mean `validate`). Raises UsageError for an unknown one."""
        return super().samples(split if split in self.splits else SPLITS.get(split, split))

    def no_split(self, split: str) -> UsageError:
        """The error for an unknown split, or for a release without splits."""
        if self.splits == (ALL,):
            what = f"ms-cxr {self.release} has no official splits, so no {split!r}"
            return UsageError(f"{what}; use --split all, or the CSV file of release 1.1.0")
        return super().no_split(split)

    def overlap(self) -> dict[str, Any]:
        """How many pairs are on images, or of patients, in MIMIC-CXR's training split."""
        folders = dict.fromkeys([*self.bases, *(base.parent for base in self.bases), self.root])
        tables = (path for folder in folders for path in sorted(folder.glob("mimic-cxr-2.*-split.csv*")))
        if (table := next(tables, None)) is None:
            text = f"unknown: {MIMIC_SPLIT} (from MIMIC-CXR-JPG) was not found in {', '.join(map(str, folders))}"
            return {"table": None, "text": text}
        images, patients = set(), set()
        for row in iter_rows(table, ("dicom_id", "subject_id", "split")):
            if row.values["split"] == "train":
                images.add(row.values["dicom_id"])
                patients.add(f"p{row.values['subject_id']}")
        counts = {name: _overlap(self.samples(name), images, patients) for name in self.splits}
        said = ", ".join(f"{name} {found['images']} of {found['pairs']}" for name, found in counts.items())
        text = f"pairs on images in MIMIC-CXR's training split: {said} (by patient: {counts[ALL]['patients']})"
        return {"table": str(table), "splits": counts, "text": text}

    def _files(self) -> tuple[Path, Path | None]:
        """The file to read, and the other one of the same release, which must agree with it."""
        if chosen := self.options.get("annotations"):
            return chosen_file(self.name, self.root, chosen), None
        try:
            matches = [match for name in sorted(os.listdir(self.root)) if (match := _NAME.fullmatch(name))]
        except OSError as error:
            raise fault(self.root, f"cannot be read ({error.strerror})", "check the folder's permissions") from error
        if not matches:
            fix = "point --data-root at its folder, or --dataset-option annotations=FILE at the file"
            raise fault(self.root / "MS_CXR_Local_Alignment_v1.1.0.csv", "file not found", fix)
        newest = max((match[1] for match in matches), key=lambda release: [int(part) for part in release.split(".")])
        found = {match[2]: self.root / match[0] for match in reversed(matches) if match[1] == newest}
        files = [found[kind] for kind in ("csv", "json") if kind in found]
        return files[0], files[1] if len(files) > 1 else None

    def _read(self, file: Path) -> list[Annotation]:
        if ".json" in file.suffixes:
            return [_from_json(entry) for entry in read_coco(file)]
        return [_from_csv(row) for row in read_rows(file, _COLUMNS)]

    def _compared(self, rows: list[Annotation], other: Path) -> list[Annotation]:
        """The rows, each with a problem if the other file has different boxes or none for it."""
        try:
            theirs = self._read(other)
        except Fault as error:
            self.problems.append(error.problem)
            return rows
        ours, said = _regions(rows), _regions(theirs)
        extra = {row.key: row for row in reversed(theirs) if row.key not in ours and not row.problems}
        what = f"this phrase is not in {rows[0].file.name}"
        self.problems += [r.problem(what, _ONE_OF_THEM, kind="disagreement") for r in theirs if extra.get(r.key) is r]
        what = f"{other.name} has different boxes for this phrase, or none"
        return [
            row
            if _agree(ours[row.key], said.get(row.key))
            else row.wrong(row.problem(what, _ONE_OF_THEM, kind="disagreement"))
            for row in rows
        ]


def _from_csv(row: Row) -> Annotation:
    faults = Faults()
    made = Annotation(
        file=row.file,
        row=row.row,
        image=faults.text(row, "path").replace("\\", "/"),
        image_id=faults.text(row, "dicom_id"),
        patient_id=faults.text(row, "subject_id"),
        category=faults.text(row, "category_name"),
        phrase=faults.text(row, "label_text"),
        box=faults.get(row.box_xywh, "x", "y", "w", "h"),
        size=faults.get(row.size, "image_width", "image_height"),
        split=_split(row, faults) if "split" in row.values else "",
    )
    return made.wrong(row.broken) if row.broken else _named(made, faults)


def _from_json(entry: CocoEntry) -> Annotation:
    row, image, faults = entry.row, entry.image, entry.faults
    path, name = (faults.text(image, key).replace("\\", "/") for key in ("path", "file_name"))
    made = Annotation(
        file=row.file,
        row=row.row,
        image=path or name,
        image_id=_stem(name or path),
        patient_id=faults.text(image, "subject_id"),
        category=entry.category,
        phrase=faults.text(row, "label_text"),
        box=faults.get(row.box_list, "bbox"),
        size=faults.get(image.size, "width", "height"),
        split=next((_split(each, faults) for each in (row, image) if each.has("split")), ""),
    )
    return _named(made, faults)


def _overlap(samples: Sequence[PhraseSample], images: set[str], patients: set[str]) -> dict[str, int]:
    """How many samples there are, how many are on the images, and how many are of the patients."""
    on_images = sum(sample.image_id in images for sample in samples)
    of_patients = sum(sample.patient_id in patients for sample in samples)
    return {"pairs": len(samples), "images": on_images, "patients": of_patients}


def _named(made: Annotation, faults: Faults) -> Annotation:
    """The annotation with its image and patient ids, and with its problems."""
    if made.category not in PUBLISHED.pairs and (made.category or not faults):
        fix = f"use one of {', '.join(PUBLISHED.pairs)}, or read your own data with --dataset coco"
        faults.append(made.problem(f"{made.category!r} is not an MS-CXR category", fix, kind="category"))
    said = f"p{made.patient_id}" if made.patient_id.isdecimal() else made.patient_id
    image = _stem(made.image)
    patient = next((part for part in PurePosixPath(made.image).parts if re.fullmatch(r"p\d{4,}", part)), "")
    if made.image and made.image_id and image != made.image_id:
        faults.append(made.problem(f"its path {made.image!r} does not match its image {made.image_id!r}"))
    if said and patient and patient != said:
        faults.append(made.problem(f"its path {made.image!r} does not match its patient {made.patient_id!r}"))
    image_id = made.image_id or image
    named = replace(made, image_id=image_id, patient_id=said or patient or image_id)
    return named.wrong(*faults)


def _stem(path: str) -> str:
    name = PurePosixPath(path)
    return name.stem if name.suffix.lower() in _IMAGES else name.name


def _split(row: Row, faults: Faults) -> str:
    said = faults.text(row, "split")
    if said.lower() not in SPLITS:
        faults.append(row.problem(f"has split {said!r}", "use one of train, validate, test", "split"))
    return SPLITS.get(said.lower(), "")


def _regions(rows: Iterable[Annotation]) -> dict[Key, list[Box] | None]:
    """The sorted boxes of each sample; None if one of its rows has a problem."""
    found: dict[Key, list[Box] | None] = {}
    for row in rows:
        boxes = found.setdefault(row.key, [])
        if row.problems or row.box is None or boxes is None:
            found[row.key] = None
        else:
            found[row.key] = sorted([*boxes, row.box])
    return found


def _agree(ours: list[Box] | None, theirs: list[Box] | None) -> bool:
    """Whether two files have the same boxes, to a pixel. Rows of ours with a problem (None) are reported elsewhere."""
    if ours is None:
        return True
    if theirs is None or len(ours) != len(theirs):
        return False
    pairs = zip(ours, theirs, strict=True)
    return all(abs(a - b) <= 1 for one, two in pairs for a, b in zip(one, two, strict=True))
