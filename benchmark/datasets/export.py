"""`data export`: any data set as files in the layout of MS-CXR 1.1.0 (Boecking et al., PhysioNet), for other tools."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, Frame, Size, bounds
from gtg_bench.benchmark.api.text import csv_cell
from gtg_bench.benchmark.api.types import Box, Dataset, PhraseSample
from gtg_bench.benchmark.datasets.images import image_size
from gtg_bench.benchmark.datasets.phantom.dataset import sample_of
from gtg_bench.benchmark.datasets.phantom.world import Study
from gtg_bench.benchmark.paths import atomic, check_writable, remove_parts, write_text

STEM = "MS_CXR_Local_Alignment_v1.1.0"
COLUMNS = (
    *("dicom_id", "subject_id", "study_id", "path", "category_name", "label_text"),
    *("image_width", "image_height", "x", "y", "w", "h", "split"),
)
"""The columns of the CSV, one row per box."""


@dataclass(frozen=True)
class ExportedImage:
    """An image to write.

    Attributes:
        split: its split's name.
        image_id, patient_id: as the data set has them.
        size: (width, height) in pixels.
        suffix: the suffix of its file.
        write: writes the image to a path.
        samples: its samples; none for an image without a finding.
    """

    split: str
    image_id: str
    patient_id: str
    size: Size
    suffix: str
    write: Callable[[Path], object]
    samples: tuple[PhraseSample, ...]

    @property
    def name(self) -> str:
        """The image's id in the export: its own, unless that cannot be the name of a file."""
        return _file_name(self.image_id)

    @property
    def study_id(self) -> str:
        """One study per image: "s" and the digits of the patient and the image."""
        return "s" + "".join(re.findall("[0-9]", self.image_id.partition("-")[2] or self.image_id))[:60]

    @property
    def path(self) -> PurePosixPath:
        """The path in the target, as in MIMIC-CXR-JPG."""
        patient = _file_name(self.patient_id)
        return PurePosixPath("files", patient[:3], patient, self.study_id, f"{self.name}{self.suffix}")


def _file_name(text: str) -> str:
    """A text as the name of a file or folder; if it was changed, it ends in a digest that keeps it unique."""
    name = re.sub(r"[^\w.-]", "_", text)[:50].strip(".")
    return name if name == text else f"{name}-{sha256(text.encode(errors='replace')).hexdigest()[:12]}"


def phantom_image(split: str, study: Study) -> ExportedImage:
    """An image of the phantom, to be written as PNG."""
    picture = Image.fromarray(study.pixels)
    write = partial(picture.save, format="PNG", compress_level=1)
    samples = tuple(sample_of(study, statement) for statement in study.statements)
    return ExportedImage(split, study.image_id, study.patient_id, picture.size, ".png", write, samples)


def image_files(dataset: Dataset, splits: Sequence[str]) -> list[ExportedImage]:
    """The images of a data set of files, to be copied unchanged.

    Samples that cannot be used are left out, and so are files that are not images of the expected size: a symbolic link
    in a data set must not publish another file.

    Raises:
        UsageError: a split is unknown, or none of its samples can be used.
    """
    bad = getattr(dataset, "bad", {})
    images: dict[str, list[tuple[str, PhraseSample]]] = {}
    for split in splits:
        for sample in dataset.samples(split):
            if sample.sample_id not in bad and sample.image_path is not None and _is_its_image(sample):
                images.setdefault(sample.image_id, []).append((split, sample))
    if not images:
        see = f"see `gtg-bench data check {dataset.name} --data-root DIR`"
        raise UsageError(f"{dataset.name}: no sample of {', '.join(splits)} can be used; {see}")
    found = []
    for (split, first), *others in images.values():
        path, samples = Path(str(first.image_path)), (first, *(sample for _, sample in others))
        size, copy = first.image_size, partial(shutil.copyfile, path)
        suffix = re.sub(r"[^\w.]", "", path.suffix)
        found.append(ExportedImage(split, first.image_id, first.patient_id, size, suffix, copy, samples))
    return found


def _is_its_image(sample: PhraseSample) -> bool:
    try:
        return image_size(Path(str(sample.image_path))) == sample.image_size
    except DataError:
        return False


def export_mscxr(images: Sequence[ExportedImage], to: Path, overwrite: bool = False) -> None:
    """Write images as MS-CXR 1.1.0 ships its own: a JSON file (COCO), a CSV file (a row per box), and the images.

    The set's image ids take the place of MS-CXR's DICOM ids, so samples keep their ids. Images without a finding are in
    the JSON and on disk, but have no row in the CSV. Masks are only in the JSON, as run lengths (read them back with
    `coco`). JSON and CSV are written last. Whatever the ids are, nothing is written outside the target.

    Args:
        images: what to write.
        to: the target folder, created if needed.
        overwrite: write into a folder that already contains files; files of the same name are replaced.

    Raises:
        UsageError: the target is a file, or a folder with files in it and `overwrite` is False; or a folder in it is a
            symbolic link.
        PlaceError: the target cannot be written to.
    """
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; name a folder to export to")
    check_writable(to / f"{STEM}.json")
    remove_parts(to)
    if not overwrite and any(to.iterdir()):
        raise UsageError(f"{to} is not empty; name another folder, or pass --overwrite")
    for image in track(images, "writing images", console=Console(stderr=True), disable=not images):
        path = to / image.path
        if linked := next((folder for folder in path.parents if to in folder.parents and folder.is_symlink()), None):
            raise UsageError(f"{linked} is a symbolic link; remove it, or export to another folder")
        with atomic(path, sync=False) as part:
            image.write(part)
    with atomic(to / f"{STEM}.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(csv_cell, row) for image in images for row in _rows(image))
    write_text(to / f"{STEM}.json", json.dumps(_coco(images), ensure_ascii=False))


def _rows(image: ExportedImage) -> Iterator[tuple[object, ...]]:
    """The CSV rows of one image, in the order of `COLUMNS`."""
    ids = (image.name, image.patient_id, image.study_id)
    for sample in image.samples:
        for box in sample.boxes:
            yield (*ids, image.path, sample.category, sample.phrase, *image.size, *_xywh(box), image.split)


def _coco(images: Sequence[ExportedImage]) -> dict[str, Any]:
    """The JSON: MS-CXR's keys, with `width` and `height` in each annotation too, as its readers expect."""
    categories = {sample.category for image in images for sample in image.samples}
    numbers = {name: number for number, name in enumerate(sorted(categories), start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        size = {"width": image.size[0], "height": image.size[1]}
        entries.append({"id": number, "file_name": image.path.name, "path": str(image.path), **size})
        annotations += _annotations(number, image, numbers)
    return {
        "info": {"description": "exported by gtg-bench; the images' own terms apply", "version": "1.1.0"},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
        "images": entries,
        "annotations": [{"id": number, **made} for number, made in enumerate(annotations, start=1)],
    }


def _annotations(number: int, image: ExportedImage, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    width, height = image.size
    for sample in image.samples:
        names = {"image_id": number, "category_id": numbers[sample.category]}
        text = {"label_text": sample.phrase, "width": width, "height": height}
        for box in sample.boxes:
            xywh = _xywh(box)
            yield {**names, "bbox": xywh, **text, "area": _whole(xywh[2] * xywh[3]), "iscrowd": 0}
        if sample.mask is not None:
            pixels = sample.mask.in_frame(Frame.original(image.size))
            around = _xywh(bounds(pixels) or (0, 0, 0, 0))
            code = {"segmentation": {"size": [height, width], "counts": run_lengths(pixels)}, "iscrowd": 1}
            yield {**names, "bbox": around, **text, **code, "area": int(pixels.sum())}


def run_lengths(mask: BoolArray) -> list[int]:
    """COCO's uncompressed run lengths of a mask, bool [H, W]: column by column, pixels outside first."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes, flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def _xywh(box: Box) -> list[float]:
    x0, y0, x1, y1 = box
    return [_whole(value) for value in (x0, y0, x1 - x0, y1 - y0)]


def _whole(value: float) -> float:
    """An int if the number is whole, so that it is written without a decimal point."""
    return int(value) if float(value).is_integer() else float(value)
