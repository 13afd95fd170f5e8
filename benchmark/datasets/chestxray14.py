"""ChestX-ray14's boxes (Wang et al., CVPR 2017): 984 boxes of eight findings on 880 images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.datasets.annotated import AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.counts import Published
from gtg_bench.benchmark.datasets.places import existing, is_within
from gtg_bench.benchmark.datasets.problems import Faults, fault
from gtg_bench.benchmark.datasets.rows import Row
from gtg_bench.benchmark.datasets.tabular import carried_file, read_rows

PUBLISHED = Published(
    pairs={
        "Atelectasis": 180,
        "Cardiomegaly": 146,
        "Effusion": 153,
        "Infiltrate": 123,
        "Mass": 85,
        "Nodule": 79,
        "Pneumonia": 120,
        "Pneumothorax": 98,
    },
    source="Wang et al., CVPR 2017, and BBox_List_2017.csv",
    boxes=984,
    images=880,
)
"""By finding as the file of boxes spells it; no image has two boxes of one finding."""

BOX_SPACE: Size = (1024, 1024)
"""The image that the file's coordinates belong to, whatever size the image on disk has."""

_TABLE = "BBox_List_2017.csv"
_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")


class ChestXray14Dataset(AnnotatedDataset):
    """The boxed images of ChestX-ray14; one sample is an image and a finding, with all its boxes.

    Options beside those of every annotated set: `phrase` (template of the phrase with `{label}` in it, default the
    bare label).
    """

    name = "chestxray14"
    needs = "the folder with BBox_List_2017.csv and images/"
    own_options = ("phrase",)
    published = PUBLISHED
    rescaled = True

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Also that the phrase has its label. Raises UsageError."""
        if "{label}" not in options.get("phrase", "{label}"):
            raise UsageError(f"chestxray14's phrase must have {{label}} in it; {options['phrase']!r} has not")
        return super().checked_options(options)

    def read(self) -> Iterator[Annotation]:
        """The rows of the user's own file of boxes, else of the official one that torchxrayvision carries."""
        for row in read_rows(self._table(), _COLUMNS):
            yield self._annotation(row)

    def image_folders(self, base: Path) -> list[Path]:
        """`images/`, the folder itself, and NIH's `images_001/images/` and so on."""
        parts = sorted(base.glob("images_*"))
        return existing([base / "images", base, *(part / "images" for part in parts), *parts])

    def _table(self) -> Path:
        own = (self.root / name for name in (_TABLE, f"{_TABLE}.gz") if os.path.exists(self.root / name))
        found = next(own, None) or carried_file(f"{_TABLE}.gz")
        if found is None:
            fix = "download it from NIH, or pip install torchxrayvision"
            raise fault(self.root / _TABLE, "there is no such file", fix)
        return found

    def _annotation(self, row: Row) -> Annotation:
        faults = Faults()
        image, label = row.text("Image Index"), row.text("Finding Label")
        if label not in PUBLISHED.pairs:
            known = ", ".join(PUBLISHED.pairs)
            faults.append(row.problem(f"there is no finding {label!r}", f"use one of {known}", "category"))
        box = faults.get(row.box_xywh, *_COLUMNS[2:])
        stem = Path(image).stem if is_within(image) else ""
        return Annotation(
            file=row.file,
            row=row.row,
            image=image,
            image_id=stem,
            patient_id=stem.partition("_")[0],
            category=label,
            phrase=self.options.get("phrase", "{label}").replace("{label}", label),
            box=box,
            size=BOX_SPACE,
            problems=(row.broken,) if row.broken else tuple(faults),
        )
