"""VinDr-CXR (Nguyen et al., Scientific Data 2022): boxes of three readers on every image of its training set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.types import Box
from gtg_bench.benchmark.datasets.annotated import Annotation
from gtg_bench.benchmark.datasets.counts import Published
from gtg_bench.benchmark.datasets.images import is_copy
from gtg_bench.benchmark.datasets.labelled import LabelledDataset
from gtg_bench.benchmark.datasets.problems import Faults, fault
from gtg_bench.benchmark.datasets.rows import Row
from gtg_bench.benchmark.datasets.tabular import read_rows

PUBLISHED = Published(
    pairs={
        "Aortic enlargement": 3067,
        "Atelectasis": 186,
        "Calcification": 452,
        "Cardiomegaly": 2300,
        "Consolidation": 353,
        "ILD": 386,
        "Infiltration": 613,
        "Lung Opacity": 1322,
        "Nodule/Mass": 826,
        "Other lesion": 1134,
        "Pleural effusion": 1032,
        "Pleural thickening": 1981,
        "Pneumothorax": 96,
        "Pulmonary fibrosis": 1617,
    },
    source="counted in the challenge's train.csv that torchxrayvision carries, all readers together",
    boxes=36096,
    images=4394,
)
NO_FINDING = "No finding"
UNION = "union"
READERS = tuple(f"R{number}" for number in range(1, 18))
_RARE = (
    *("Clavicle fracture", "Edema", "Emphysema", "Enlarged PA"),
    *("Lung cavity", "Lung cyst", "Mediastinal shift", "Rib fracture"),
)
"""Labels of PhysioNet's release that are among the challenge's "Other lesion"."""

LABELS = (*PUBLISHED.pairs, *_RARE)
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_SIZES = "train_meta.csv"


class VinDrCxrDataset(LabelledDataset):
    """The training images with a finding; one sample is an image and a finding, with all its boxes.

    Options beside those of every labelled set: `readers` (union: the boxes of all three readers of an image, which
    overlap; or one of R1 to R17, who have read a part of the images each).

    Boxes are in the pixels of the DICOM images. Where the images were reduced, `train_meta.csv` in the data root must
    give each one's size before that (image_id, dim0: rows, dim1: columns). The file names no patients.
    """

    name = "vindr-cxr"
    needs = "the folder with train/ (and train.csv, else torchxrayvision's copy is read)"
    own_options = (*LabelledDataset.own_options, "readers")
    published = PUBLISHED
    slack = 1.0
    tables = ("train.csv", "annotations/annotations_train.csv", "annotations_train.csv")
    carried = "vinbigdata-train.csv.gz"
    columns = ("image_id", "class_name", "rad_id", *_CORNERS)
    subfolders = ("train", "images")
    one_verdict = False

    def __init__(self, data_root: Path | None, options: Mapping[str, str] | None = None) -> None:
        """As every annotated set; also raises DataError where the images were reduced and nothing says how much."""
        super().__init__(data_root, options)
        if self._sizes is None:
            self._refuse_reduced()

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Also the readers. Raises UsageError."""
        if options.get("readers", UNION) not in (UNION, *READERS):
            raise UsageError(f"{self.name}'s readers is union or one of R1 to R17, not {options['readers']!r}")
        return super().checked_options(options)

    def read(self) -> list[Annotation]:
        """The rows of the chosen readers, with the sizes that `train_meta.csv` gives."""
        path = self.root / _SIZES
        self._sizes = self._read_sizes(path) if os.path.exists(path) else None
        self._reach: dict[str, tuple[float, float]] = {}
        return super().read()

    def is_negative(self, row: Row) -> bool:
        """The label "No finding", by a chosen reader."""
        return row.text("class_name") == NO_FINDING and not self._passed_over(row.text("rad_id"))

    def annotation(self, row: Row) -> Annotation | None:
        """A box of one of the chosen readers, or of one that nobody knows."""
        faults = Faults()
        label, reader = row.text("class_name"), row.text("rad_id")
        if reader not in READERS:
            faults.append(row.problem(f"there is no reader {reader!r}", "use one of R1 to R17"))
        elif self._passed_over(reader):
            return None
        if label not in LABELS:
            faults.append(row.problem(f"there is no label {label!r}", f"use one of {', '.join(LABELS)}", "category"))
        made = self.made(row, label, faults, box=faults.get(_box, row))
        if self._sizes is not None:
            return self._sized(made, self._sizes)
        if made.box and not made.problems:
            x, y = self._reach.get(made.image_id, (0.0, 0.0))
            self._reach[made.image_id] = max(x, made.box[2]), max(y, made.box[3])
        return made

    def _passed_over(self, reader: str) -> bool:
        return reader in READERS and self.options.get("readers", UNION) not in (UNION, reader)

    def _sized(self, row: Annotation, sizes: Mapping[str, Size]) -> Annotation:
        if row.image in sizes:
            return replace(row, size=sizes[row.image])
        return replace(row, box=None).wrong(
            row.problem(f"{_SIZES} has no size of image {row.image}", "add it there", kind="size")
        )

    def _read_sizes(self, path: Path) -> dict[str, Size]:
        """Image -> (width, height) of the DICOM image."""
        found: dict[str, Size] = {}
        for row in read_rows(path, ("image_id", "dim0", "dim1")):
            faults = Faults([row.broken] if row.broken else [])
            size = faults.get(row.size, "dim1", "dim0")
            self.problems += faults
            if size and not faults:
                found[row.text("image_id")] = size
        return found

    def _refuse_reduced(self) -> None:
        """Raise DataError if most of the images that are no DICOM files are too small for their boxes."""
        sizes = {
            sample.image_id: sample.image_size
            for sample in self.everything
            if sample.image_path and is_copy(sample.image_path) and self.has_image(sample)
        }
        small = [name for name, (x, y) in self._reach.items() if name in sizes and _sticks_out((x, y), sizes[name])]
        if 2 * len(small) > len(sizes):
            (x, y), (width, height) = self._reach[small[0]], sizes[small[0]]
            what = (
                f"its boxes stick out of {len(small)} of {len(sizes)} images ({small[0]} has {width} x {height} "
                f"pixels, its boxes reach ({x:g}, {y:g})): the images were reduced, and the boxes are for DICOM images"
            )
            fix = f"use the DICOM images, or add {_SIZES} (image_id, dim0: rows, dim1: columns) to {self.root}"
            raise fault(self.annotations[0].file, what, fix)


def _sticks_out(corner: tuple[float, float], size: Size) -> bool:
    return any(reached > side + VinDrCxrDataset.slack for reached, side in zip(corner, size, strict=True))


def _box(row: Row) -> Box:
    """xyxy in pixels of the DICOM image; not checked yet."""
    x0, y0, x1, y1 = (row.number(name, "region") for name in _CORNERS)
    return x0, y0, x1, y1
