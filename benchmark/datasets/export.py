"""The phantom as files in the layout of MS-CXR 1.1.0 (Boecking et al., PhysioNet), for other tools to read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import Box
from gtg_bench.benchmark.datasets.phantom.world import Statement, Study
from gtg_bench.benchmark.paths import atomic

STEM = "MS_CXR_Local_Alignment_v1.1.0"
COLUMNS = (
    *("dicom_id", "subject_id", "study_id", "path", "category_name", "label_text"),
    *("image_width", "image_height", "x", "y", "w", "h", "split"),
)
"""The columns of the CSV, one row a box."""

_COMPRESSION = 1


@dataclass(frozen=True)
class _Entry:
    """An image of the export: its study, its split, and its number in the JSON."""

    number: int
    split: str
    study: Study

    @property
    def study_id(self) -> str:
        """One study an image: "s" and the digits of the patient and the image."""
        return "s" + "".join(filter(str.isdigit, self.study.image_id.partition("-")[2]))

    @property
    def path(self) -> PurePosixPath:
        """As in MIMIC-CXR-JPG, relative to the target."""
        patient = self.study.patient_id
        return PurePosixPath("files", patient[:3], patient, self.study_id, f"{self.study.image_id}.png")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width = self.study.pixels.shape
        return width, height

    def boxes(self) -> Iterator[tuple[Statement, list[float]]]:
        """Each box with the statement that it belongs to, as x, y, width, height in pixels."""
        for statement in self.study.statements:
            for box in statement.boxes:
                yield statement, _xywh(box)


def export_mscxr(studies_by_split: Mapping[str, Sequence[Study]], to: Path, overwrite: bool = False) -> None:
    """Write studies as MS-CXR 1.1.0 ships its own: one JSON (COCO), one CSV (a row a box), and the images.

    The phantom's image ids stand where MS-CXR has its DICOM ids, so a sample keeps its id. Images without a
    finding are in the JSON and on disk, but have no row in the CSV. JSON and CSV are written last.

    Args:
        studies_by_split: split (train, validate, test) -> its studies.
        to: the target folder, made if it is not there.
        overwrite: write into a folder that already holds files; files of the same name are replaced.

    Raises:
        UsageError: the target is a file, or a folder with files in it and `overwrite` is False.
    """
    _check_target(to, overwrite)
    pairs = [(split, study) for split, studies in studies_by_split.items() for study in studies]
    entries = [_Entry(number, split, study) for number, (split, study) in enumerate(pairs, start=1)]
    for entry in track(entries, "writing images", console=Console(stderr=True), disable=not entries):
        with atomic(to / entry.path) as part:
            Image.fromarray(entry.study.pixels).save(part, format="PNG", compress_level=_COMPRESSION)
    with atomic(to / f"{STEM}.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row for entry in entries for row in _rows(entry))
    with atomic(to / f"{STEM}.json") as part:
        part.write_text(json.dumps(_coco(entries), ensure_ascii=False), encoding="utf-8")


def _check_target(to: Path, overwrite: bool) -> None:
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; name a folder to export to")
    if to.is_dir() and not overwrite and any(to.iterdir()):
        raise UsageError(f"{to} is not empty; name another folder, or allow overwriting")


def _rows(entry: _Entry) -> Iterator[tuple[object, ...]]:
    """The CSV's rows of one image, in the order of `COLUMNS`."""
    study = entry.study
    for statement, xywh in entry.boxes():
        texts = (entry.path, statement.finding.category, statement.phrase)
        yield (study.image_id, study.patient_id, entry.study_id, *texts, *entry.size, *xywh, entry.split)


def _coco(entries: Sequence[_Entry]) -> dict[str, Any]:
    """The JSON: MS-CXR's keys, with `width` and `height` also in each annotation, as its readers expect."""
    found = {statement.finding.category for entry in entries for statement in entry.study.statements}
    numbers = {name: number for number, name in enumerate(sorted(found), start=1)}
    annotations = [annotation for entry in entries for annotation in _annotations(entry, numbers)]
    return {
        "info": {"description": "gtg-bench phantom: generated, no patient's data", "version": "1.1.0"},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
        "images": [_image(entry) for entry in entries],
        "annotations": [{"id": number, **made} for number, made in enumerate(annotations, start=1)],
    }


def _image(entry: _Entry) -> dict[str, Any]:
    width, height = entry.size
    name, path = entry.path.name, str(entry.path)
    return {"id": entry.number, "file_name": name, "path": path, "width": width, "height": height}


def _annotations(entry: _Entry, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    width, height = entry.size
    for statement, xywh in entry.boxes():
        yield {
            "image_id": entry.number,
            "category_id": numbers[statement.finding.category],
            "bbox": xywh,
            "label_text": statement.phrase,
            "width": width,
            "height": height,
            "area": _whole(xywh[2] * xywh[3]),
            "iscrowd": 0,
        }


def _xywh(box: Box) -> list[float]:
    x0, y0, x1, y1 = box
    return [_whole(value) for value in (x0, y0, x1 - x0, y1 - y0)]


def _whole(value: float) -> float:
    """An int where the number is whole, so that it is written without a decimal point."""
    return int(value) if float(value).is_integer() else float(value)
