"""VinDr-CXR (Nguyen et al., Scientific Data 2022): boxes by three readers for every image of its training set, and
consensus boxes for its test set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.types import Box
from gtg_bench.benchmark.datasets.base import Annotation, Published
from gtg_bench.benchmark.datasets.class_labels import ClassLabelDataset
from gtg_bench.benchmark.datasets.images import is_copy
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, read_rows

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
    source="counted in torchxrayvision's copy of the challenge's train.csv, all readers together",
    boxes=36096,
    images=4394,
)
UNION = "union"
READERS = tuple(f"R{number}" for number in range(1, 18))
_RARE = (
    *("Clavicle fracture", "Edema", "Emphysema", "Enlarged PA"),
    *("Lung cavity", "Lung cyst", "Mediastinal shift", "Rib fracture"),
)
"""Labels of PhysioNet's release that the challenge groups under "Other lesion"."""

LABELS = (*PUBLISHED.pairs, *_RARE)
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_SIZES = ("train_meta.csv", "test_meta.csv")


class VinDrCxrDataset(ClassLabelDataset):
    """The images with a finding; one sample is an image and a finding, with all its boxes.

    The training table is read if it is there, else PhysioNet's `annotations_test.csv` (or name it with `annotations`).
    Further options for the training table: `readers` (union: the boxes of all three readers of an image, which
    overlap; or one of R1 to R17, each of whom read part of the images), or instead `reader` (1, 2 or 3: one of each
    image's readers, in the order of their ids) and `read-twice` (true: only findings that readers 1 and 2 both
    outlined, with the boxes of reader 1 by default). The test table has no column `rad_id`: its boxes are the
    consensus of five readers.

    Boxes are in pixels of the DICOM images. For reduced images, `train_meta.csv` or `test_meta.csv` in the data root
    must give each original size (image_id, dim0: rows, dim1: columns). The tables do not name patients.
    """

    name = "vindr-cxr"
    needs = "the folder with train/ (train.csv defaults to torchxrayvision's copy)"
    own_options = (*ClassLabelDataset.own_options, "readers", "reader", "read-twice")
    published = PUBLISHED
    slack = 1.0
    tables = (
        *("train.csv", "annotations/annotations_train.csv", "annotations_train.csv"),
        *("annotations/annotations_test.csv", "annotations_test.csv"),
    )
    packaged = "vinbigdata-train.csv.gz"
    columns = ("image_id", "class_name", *_CORNERS)
    subfolders = ("train", "test", "images")
    one_reading = False

    def __init__(self, data_root: Path | None, options: Mapping[str, str] | None = None) -> None:
        """As any annotated set; also raises DataError if the images are reduced and their original size is unknown."""
        super().__init__(data_root, options)
        if self._sizes is None:
            self._refuse_reduced()

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options, with known readers. Raises UsageError."""
        if options.get("readers", UNION) not in (UNION, *READERS):
            raise UsageError(f"{self.name}: readers must be union or one of R1 to R17, not {options['readers']!r}")
        self.check_choices(options, {"reader": ("1", "2", "3"), "read-twice": ("false", "true")})
        chosen = [name for name in ("reader", "read-twice") if options.get(name, "false") != "false"]
        if chosen and "readers" in options:
            raise UsageError(f"{self.name}: give readers or {chosen[0]}, not both")
        if options.get("reader") == "3" and "read-twice" in chosen:
            raise UsageError(f"{self.name}: read-twice=true is about readers 1 and 2, so reader must be one of them")
        return super().checked_options(options)

    def read(self) -> list[Annotation]:
        """The rows of the chosen readers, with the sizes in `train_meta.csv`."""
        paths = [path for name in _SIZES if os.path.exists(path := self.root / name)]
        self._sizes = self._read_sizes(paths) if paths else None
        self._reach: dict[str, tuple[float, float]] = {}
        self._is_consensus = False
        self._twice = self.options.get("read-twice") == "true"
        self._number = int(self.options.get("reader", "1" if self._twice else "0"))
        self._readings = self._read_readings() if self._number else {}
        return super().read()

    def counts_to_expect(self) -> Published | None:
        """The counts of the training table; those of the test table are not known."""
        return None if self._is_consensus else self.published

    def notes(self) -> dict[str, str]:
        """As for other tables, and whose boxes they are if not those of single readers."""
        consensus = {"readers": "consensus boxes of the test set's five readers"} if self._is_consensus else {}
        return super().notes() | consensus

    def is_negative(self, row: Row) -> bool:
        """The label "No finding" by a chosen reader."""
        return row.text("class_name") == "No finding" and not self._excluded(row)

    def annotation(self, row: Row) -> Annotation | None:
        """A box by a chosen reader, or by an unknown one (which is a problem)."""
        faults = Faults()
        label, reader = row.text("class_name"), row.text("rad_id")
        if "rad_id" not in row.values:
            self._is_consensus = True
            if "readers" in self.options or self._number:
                raise UsageError(f"{self.name}: {row.file} has no column rad_id, so readers cannot be chosen")
        elif reader not in READERS:
            faults.append(row.problem(f"unknown reader {reader!r}", "use one of R1 to R17"))
        elif self._excluded(row):
            return None
        if label not in LABELS:
            faults.append(row.problem(f"unknown label {label!r}", f"use one of {', '.join(LABELS)}", "category"))
        made = self.made(row, label, faults, box=faults.get(_box, row))
        if self._sizes is not None:
            if made.image in self._sizes:
                return replace(made, size=self._sizes[made.image])
            what = f"{' or '.join(_SIZES)} has no size of image {made.image}"
            return replace(made, box=None).wrong(made.problem(what, "add it there", kind="size"))
        if made.box and not made.problems:
            x, y = self._reach.get(made.image_id, (0.0, 0.0))
            self._reach[made.image_id] = max(x, made.box[2]), max(y, made.box[3])
        return made

    def _excluded(self, row: Row) -> bool:
        """Whether the options leave out a row by a known reader."""
        reader, label = row.text("rad_id"), row.text("class_name")
        if reader not in READERS:
            return False
        if not self._number:
            return self.options.get("readers", UNION) not in (UNION, reader)
        readings = self._readings[row.text("image_id")]
        order = sorted(readings, key=READERS.index)
        if reader not in order[self._number - 1 : self._number]:
            return True
        return self._twice and sum(label in readings[name] for name in order[:2]) < 2

    def _read_readings(self) -> dict[str, dict[str, set[str]]]:
        """Image -> reader -> the labels given, "No finding" included."""
        found: dict[str, dict[str, set[str]]] = {}
        for row in read_rows(self._table(), self.columns):
            if (reader := row.text("rad_id")) in READERS:
                found.setdefault(row.text("image_id"), {}).setdefault(reader, set()).add(row.text("class_name"))
        return found

    def _read_sizes(self, paths: Sequence[Path]) -> dict[str, Size]:
        """Image -> (width, height) of the DICOM image."""
        found: dict[str, Size] = {}
        for row in (row for path in paths for row in read_rows(path, ("image_id", "dim0", "dim1"))):
            faults = Faults([row.broken] if row.broken else [])
            size = faults.get(row.size, "dim1", "dim0")
            self.problems += faults
            if size and not faults:
                found[row.text("image_id")] = size
        return found

    def _refuse_reduced(self) -> None:
        """Raise DataError if most of the non-DICOM images are too small for their boxes."""
        sizes = {
            sample.image_id: sample.image_size
            for sample in self.everything
            if sample.image_path and is_copy(sample.image_path) and self.has_image(sample)
        }
        small = [
            name
            for name, (x, y) in self._reach.items()
            if name in sizes and (x > sizes[name][0] + self.slack or y > sizes[name][1] + self.slack)
        ]
        if 2 * len(small) > len(sizes):
            (x, y), (width, height) = self._reach[small[0]], sizes[small[0]]
            what = (
                f"its boxes extend beyond {len(small)} of {len(sizes)} images ({small[0]} has {width} x {height} "
                f"pixels, its boxes reach ({x:g}, {y:g})): the images were reduced, but the boxes fit the DICOM images"
            )
            fix = f"use the DICOM images, or add {_SIZES[0]} (image_id, dim0: rows, dim1: columns) to {self.root}"
            raise fault(self.annotations[0].file, what, fix)


def _box(row: Row) -> Box:
    """An unchecked xyxy box in pixels of the DICOM image."""
    x0, y0, x1, y1 = (row.number(name, "region") for name in _CORNERS)
    return x0, y0, x1, y1
