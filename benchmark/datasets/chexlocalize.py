"""CheXlocalize (Saporta et al., Nature Machine Intelligence 2022): outlines of ten findings on images of CheXpert."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.geometry import Mask, Size
from gtg_bench.benchmark.api.mask_codes import NoAreaError
from gtg_bench.benchmark.datasets.base import Annotation
from gtg_bench.benchmark.datasets.class_labels import LabelPhraseDataset
from gtg_bench.benchmark.datasets.coco import joined
from gtg_bench.benchmark.datasets.locate import chosen_file, existing
from gtg_bench.benchmark.datasets.problems import Fault, fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, read_json, shown

LABELS = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Airspace Opacity", "Edema", "Consolidation"),
    *("Atelectasis", "Pneumothorax", "Pleural Effusion", "Support Devices"),
)
FILES = {"validate": "val", "test": "test"}
"""Split -> its name in the publisher's files and folders."""

IMAGES = {"validate": 187, "test": 499}
"""Split -> images in the publisher's `gt_segmentations_*.json`."""

_SIZE = "img_size"
_NAME = re.compile(r"(patient\d+)_(study\d+)_(view\d+_\w+)")


class CheXlocalizeDataset(LabelPhraseDataset):
    """One sample is an image and a finding, with the radiologists' outlines.

    `gt_segmentations_*.json` (run lengths) is read if it is there, else `gt_annotations_*.json` (polygons). Further
    options: `annotations` (one such file, all of whose samples are `test`) and `phrase`. A finding whose mask is empty
    is not shown by its image; it is counted and left out.
    """

    name = "chexlocalize"
    needs = "the folder with CheXlocalize/ and CheXpert/"

    def read(self) -> list[Annotation]:
        """The outlined findings of both splits, or of the one that is there."""
        self._notes: dict[str, str] = {}
        files = self._files()
        self.splits = tuple(split for split, _ in files)
        return [row for split, path in files for row in self._rows(split, path)]

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The image's path in CheXpert's folders, and its name in one piece, as JPEG or PNG."""
        patient, study, view = _parts(row.image)
        nested = f"{patient}/{study}/{view}"
        return [f"{name}{suffix}" for suffix in (".jpg", ".png") for name in (nested, row.image)]

    def image_folders(self, base: Path) -> list[Path]:
        """The publisher's folders and the base itself."""
        names = ("val", "valid", "test", "images")
        return existing([*(base / above / name for above in ("CheXpert", ".") for name in names), base])

    def notes(self) -> dict[str, str]:
        """How many images the files list, and how many masks are empty."""
        return self._notes

    def _files(self) -> list[tuple[str, Path]]:
        if chosen := self.options.get("annotations"):
            return [("test", chosen_file(self.name, self.root, chosen))]
        folders = (self.root / "CheXlocalize", self.root)
        kinds = ("gt_segmentations", "gt_annotations")
        found = []
        for split, part in FILES.items():
            paths = (folder / f"{kind}_{part}.json" for kind in kinds for folder in folders)
            found += [(split, path) for path in paths if os.path.exists(path)][:1]
        if not found:
            fix = "download it, or name a file with --dataset-option annotations=FILE"
            raise fault(folders[0] / f"{kinds[0]}_test.json", "file not found", fix)
        return found

    def _rows(self, split: str, path: Path) -> Iterator[Annotation]:
        images = read_json(path)
        if not isinstance(images, dict) or not images:
            raise fault(path, "is not an object with an entry per image", "use the file as it was released")
        empty = 0
        for image, entry in images.items():
            for label, region in entry.items() if isinstance(entry, dict) else [("", entry)]:
                if label == _SIZE and isinstance(entry, dict):
                    continue
                row = Row(path, f"{image}: {label}", {})
                try:
                    mask = _mask(row, region, entry.get(_SIZE) if isinstance(entry, dict) else None)
                except Fault as error:
                    yield self._annotation(split, row, image, label, None, Faults([error.problem]))
                    continue
                if mask is None:
                    empty += 1
                else:
                    yield self._annotation(split, row, image, label, mask, Faults())
        published = len(images) if self.options.get("annotations") else IMAGES[split]
        said = "" if published == len(images) else f" instead of {published}"
        self._notes[split] = f"{path.name} lists {len(images)} images{said}; {empty} empty masks are left out"

    def _annotation(
        self, split: str, row: Row, image: str, label: str, mask: Mask | None, faults: Faults
    ) -> Annotation:
        if not _NAME.fullmatch(image):
            what = f"the image {shown(image)} is not named like patient64541_study1_view1_frontal"
            faults.append(row.problem(what, "use the file as it was released"))
        if label not in LABELS:
            faults.append(row.problem(f"unknown label {shown(label)}", f"use one of {', '.join(LABELS)}", "category"))
        return Annotation(
            file=row.file,
            row=row.row,
            image=image,
            image_id=image if _NAME.fullmatch(image) else "",
            patient_id=_parts(image)[0],
            category=label,
            phrase=self.phrase_of(label),
            mask=mask,
            size=None if mask is None else mask.size,
            split=split,
            problems=tuple(faults),
            traits=(("view", _parts(image)[2].rpartition("_")[2]),) if _NAME.fullmatch(image) else (),
        )


def _parts(image: str) -> tuple[str, str, str]:
    """Patient, study and view in an image's name; the name itself if it has none."""
    found = _NAME.fullmatch(image)
    return (found[1], found[2], found[3]) if found else (image, image, image)


def _mask(row: Row, region: Any, size: Any) -> Mask | None:
    """A mask from run lengths, or from polygons on an image of [height, width] `size`; None if it is empty."""
    try:
        if isinstance(region, Mapping):
            height, width = region["size"]
            return Mask.of((int(width), int(height)), "coco", str(region["counts"]))
        grid: Size = (int(size[1]), int(size[0]))
        parts = [Mask.of(grid, "polygon", joined([side for point in polygon for side in point])) for polygon in region]
        return Mask.union(parts) if parts else None
    except NoAreaError:
        return None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise row.fault(f"its mask cannot be used ({error})", "use the file as it was released", "region") from error
