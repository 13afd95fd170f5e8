"""Any data set as files in the layout of MS-CXR 1.1.0 (Boecking et al., PhysioNet), for other tools to read."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, Frame, Mask, Size
from gtg_bench.benchmark.api.types import Box, Dataset, PhraseSample
from gtg_bench.benchmark.datasets.phantom.world import Study
from gtg_bench.benchmark.paths import atomic

STEM = "MS_CXR_Local_Alignment_v1.1.0"
COLUMNS = (
    *("dicom_id", "subject_id", "study_id", "path", "category_name", "label_text"),
    *("image_width", "image_height", "x", "y", "w", "h", "split"),
)
"""The columns of the CSV, one row a box."""

_COMPRESSION = 1


@dataclass(frozen=True)
class Region:
    """A phrase on an image, with its boxes (xyxy in image pixels) or its mask."""

    category: str
    phrase: str
    boxes: tuple[Box, ...]
    mask: Mask | None = None


@dataclass(frozen=True)
class Exported:
    """An image to write.

    Attributes:
        split: its split's name.
        image_id, patient_id: as the data set has them.
        size: (width, height) in pixels.
        suffix: of its file.
        write: writes the image to a path.
        regions: what is on it; an image without a finding has none.
    """

    split: str
    image_id: str
    patient_id: str
    size: Size
    suffix: str
    write: Callable[[Path], None]
    regions: tuple[Region, ...]

    @property
    def study_id(self) -> str:
        """One study an image: "s" and the digits of the patient and the image."""
        return "s" + "".join(filter(str.isdigit, self.image_id.partition("-")[2] or self.image_id))

    @property
    def path(self) -> PurePosixPath:
        """As in MIMIC-CXR-JPG, relative to the target."""
        patient = self.patient_id
        return PurePosixPath("files", patient[:3], patient, self.study_id, f"{self.image_id}{self.suffix}")


def of_study(split: str, study: Study) -> Exported:
    """A study of the phantom."""
    pixels, regions = study.pixels, [Region(s.finding.category, s.phrase, tuple(s.boxes)) for s in study.statements]

    def write(path: Path) -> None:
        Image.fromarray(pixels).save(path, format="PNG", compress_level=_COMPRESSION)

    size = (pixels.shape[1], pixels.shape[0])
    return Exported(split, study.image_id, study.patient_id, size, ".png", write, tuple(regions))


def of_dataset(dataset: Dataset, splits: Sequence[str]) -> list[Exported]:
    """The images of a data set of files, copied as they are; samples that cannot be used are left out.

    Raises:
        UsageError: a split is not there, or none of its samples can be used.
    """
    bad = getattr(dataset, "bad", {})
    images: dict[str, list[tuple[str, PhraseSample]]] = {}
    for split in splits:
        for sample in dataset.samples(split):
            if sample.sample_id not in bad and sample.image_path is not None:
                images.setdefault(sample.image_id, []).append((split, sample))
    if not images:
        raise UsageError(f"{dataset.name}: no sample of {', '.join(splits)} can be used; see `gtg-bench data check`")
    return [_of_samples(*zip(*found, strict=True)) for found in images.values()]


def _of_samples(splits: Sequence[str], samples: Sequence[PhraseSample]) -> Exported:
    first = samples[0]
    source = first.image_path
    assert source is not None
    regions = tuple(Region(s.category, s.phrase, s.boxes, s.mask) for s in samples)
    copy = partial(shutil.copyfile, source)
    return Exported(splits[0], first.image_id, first.patient_id, first.image_size, source.suffix, copy, regions)


def export_mscxr(images: Sequence[Exported], to: Path, overwrite: bool = False) -> None:
    """Write images as MS-CXR 1.1.0 ships its own: one JSON (COCO), one CSV (a row a box), and the images.

    The set's image ids stand where MS-CXR has its DICOM ids, so a sample keeps its id. Images without a finding are
    in the JSON and on disk, but have no row in the CSV. A mask stands in the JSON alone, as run lengths (read it back
    with `coco`): the CSV has boxes only. JSON and CSV are written last.

    Args:
        images: what to write.
        to: the target folder, made if it is not there.
        overwrite: write into a folder that already holds files; files of the same name are replaced.

    Raises:
        UsageError: the target is a file, or a folder with files in it and `overwrite` is False.
    """
    _check_target(to, overwrite)
    for image in track(images, "writing images", console=Console(stderr=True), disable=not images):
        with atomic(to / image.path) as part:
            image.write(part)
    with atomic(to / f"{STEM}.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row for image in images for row in _rows(image))
    with atomic(to / f"{STEM}.json") as part:
        part.write_text(json.dumps(_coco(images), ensure_ascii=False), encoding="utf-8")


def _check_target(to: Path, overwrite: bool) -> None:
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; name a folder to export to")
    if to.is_dir() and not overwrite and any(to.iterdir()):
        raise UsageError(f"{to} is not empty; name another folder, or allow overwriting")


def _rows(image: Exported) -> Iterator[tuple[object, ...]]:
    """The CSV's rows of one image, in the order of `COLUMNS`."""
    for region in image.regions:
        for box in region.boxes:
            texts = (image.path, region.category, region.phrase)
            ids = (image.image_id, image.patient_id, image.study_id)
            yield (*ids, *texts, *image.size, *_xywh(box), image.split)


def _coco(images: Sequence[Exported]) -> dict[str, Any]:
    """The JSON: MS-CXR's keys, with `width` and `height` also in each annotation, as its readers expect."""
    found = {region.category for image in images for region in image.regions}
    numbers = {name: number for number, name in enumerate(sorted(found), start=1)}
    numbered = list(enumerate(images, start=1))
    annotations = [annotation for number, image in numbered for annotation in _annotations(number, image, numbers)]
    return {
        "info": {"description": "gtg-bench export; the images' own terms apply", "version": "1.1.0"},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
        "images": [_image(number, image) for number, image in numbered],
        "annotations": [{"id": number, **made} for number, made in enumerate(annotations, start=1)],
    }


def _image(number: int, image: Exported) -> dict[str, Any]:
    width, height = image.size
    return {"id": number, "file_name": image.path.name, "path": str(image.path), "width": width, "height": height}


def _annotations(number: int, image: Exported, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    width, height = image.size
    for region in image.regions:
        names = {"image_id": number, "category_id": numbers[region.category]}
        text = {"label_text": region.phrase, "width": width, "height": height}
        for box in region.boxes:
            xywh = _xywh(box)
            yield {**names, "bbox": xywh, **text, "area": _whole(xywh[2] * xywh[3]), "iscrowd": 0}
        if region.mask is not None:
            pixels = region.mask.in_frame(Frame.original(image.size))
            rows, columns = pixels.any(1).nonzero()[0], pixels.any(0).nonzero()[0]
            corner = [int(columns[0]), int(rows[0])]
            around = [*corner, int(columns[-1]) + 1 - corner[0], int(rows[-1]) + 1 - corner[1]]
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
    """An int where the number is whole, so that it is written without a decimal point."""
    return int(value) if float(value).is_integer() else float(value)
