"""ChestX-Det and ChestX-Det10 (Deepwise; Lian et al., IEEE TMI 2021): boxes and outlines on images of ChestX-ray14."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Mask, Size
from gtg_bench.benchmark.datasets.base import Annotation
from gtg_bench.benchmark.datasets.class_labels import LabelPhraseDataset
from gtg_bench.benchmark.datasets.locate import chosen_file, is_within
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, read_json, shown

LABELS = (
    *("Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "Diffuse Nodule", "Effusion", "Emphysema"),
    *("Fibrosis", "Fracture", "Mass", "Nodule", "Pleural Thickening", "Pneumothorax"),
)
SPACE: Size = (1024, 1024)
"""The image size that boxes and outlines refer to, whatever the size of the file on disk."""

TABLES = {
    "train": ("ChestX_Det_train.json", "train.json"),
    "test": ("ChestX_Det_test.json", "test.json"),
}
"""Split -> names of its file: ChestX-Det's, ChestX-Det10's."""

PUBLISHED_IMAGES = {"ChestX_Det_train.json": 3025, "ChestX_Det_test.json": 553}
_PARTS = ("syms", "boxes", "polygons")


class ChestXDetDataset(LabelPhraseDataset):
    """One sample is an image and a finding, with the outlines of all its instances, or their boxes.

    Further options: `annotations` (one file, all of whose samples are `test`), `phrase`, and `region` (auto: outlines
    if the file has them, as ChestX-Det's have and ChestX-Det10's have not; box: always boxes). The files do not name
    patients, so every image is its own.
    """

    name = "chestx-det"
    needs = "the folder with ChestX_Det_train.json or ChestX_Det_test.json and the images"
    own_options = (*LabelPhraseDataset.own_options, "region")
    slack = 1.0

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options, with a known region. Raises UsageError."""
        if options.get("region", "auto") not in ("auto", "box"):
            raise UsageError(f"{self.name}: region must be auto or box, not {options['region']!r}")
        return super().checked_options(options)

    def read(self) -> list[Annotation]:
        """The findings of both files, or of the one that is there."""
        self._notes: dict[str, str] = {}
        files = self._files()
        self.splits = tuple(split for split, _ in files)
        return [row for split, path in files for row in self._rows(split, path)]

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The file name in the folders of the published archives, and as it is."""
        data = f"{row.split}_data"
        return [f"{folder}{row.image}" for folder in (f"{data}/{row.split}/", f"{data}/", f"{row.split}/", "")]

    def notes(self) -> dict[str, str]:
        """How many images the files list, and how many of them have no finding."""
        return self._notes

    def _files(self) -> list[tuple[str, Path]]:
        if chosen := self.options.get("annotations"):
            return [("test", chosen_file(self.name, self.root, chosen))]
        places = ((split, self.root / name) for split, names in TABLES.items() for name in names)
        found = {split: path for split, path in reversed(list(places)) if os.path.exists(path)}
        if not found:
            fix = "download it, or name a file with --dataset-option annotations=FILE"
            raise fault(self.root / TABLES["test"][0], "file not found", fix)
        return [(split, found[split]) for split in TABLES if split in found]

    def _rows(self, split: str, path: Path) -> Iterator[Annotation]:
        entries = read_json(path)
        if not isinstance(entries, list) or not entries:
            raise fault(path, "is not a list of images", "use the file as it was released")
        empty = 0
        for number, entry in enumerate(entries):
            row = Row(path, f"[{number}]", entry if isinstance(entry, dict) else {})
            lists = [row.values.get(name, [] if name == "polygons" else None) for name in _PARTS]
            if any(not isinstance(one, list) for one in lists) or len(lists[0]) != len(lists[1]):
                what = f"is {shown(entry)}, without a list of syms and as many boxes"
                self.problems.append(row.problem(what, "use the file as it was released"))
            else:
                empty += not lists[0]
                yield from self._findings(split, row, *lists)
        published = PUBLISHED_IMAGES.get(path.name, len(entries))
        said = "" if published == len(entries) else f" instead of {published:,}"
        self._notes[split] = f"{path.name} lists {len(entries):,} images{said}; {empty:,} of them have no finding"

    def _findings(
        self, split: str, row: Row, labels: list[Any], boxes: list[Any], polygons: list[Any]
    ) -> Iterator[Annotation]:
        """The findings of an image."""
        outlined = bool(polygons) and self.options.get("region", "auto") == "auto"
        for k, (label, box) in enumerate(zip(labels, boxes, strict=True)):
            faults = Faults()
            image = faults.text(row, "file_name")
            if label not in LABELS:
                faults.append(row.problem(f"has the unknown label {shown(label)}", f"use one of {', '.join(LABELS)}"))
            mask = faults.get(_outline, row, polygons, k) if outlined else None
            yield Annotation(
                file=row.file,
                row=row.row,
                image=image,
                image_id=(image_id := Path(image).stem if is_within(image) else ""),
                patient_id=image_id,
                category=str(label),
                phrase=self.phrase_of(str(label)),
                box=faults.get(row.corners, box, f"boxes[{k}]") if mask is None else None,
                mask=mask,
                size=SPACE,
                split=split,
                problems=tuple(faults),
            )


def _outline(row: Row, polygons: list[Any], k: int) -> Mask:
    """The outline of finding k, a list of [x, y]. Raises Fault if it is missing, invalid, or beyond the image."""
    try:
        return Mask.of(SPACE, "polygon", " ".join(f"{float(x):g} {float(y):g}" for x, y in polygons[k]))
    except (IndexError, TypeError, ValueError, OverflowError) as error:
        what = f"has no usable outline polygons[{k}] ({error})"
        raise row.fault(what, "correct it, or use boxes: --dataset-option region=box", "region") from error
