"""ChestX-ray14 (Wang et al., CVPR 2017): 984 boxes to evaluate on, and all labelled images as training pairs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.datasets.base import ALL, Annotation, Published
from gtg_bench.benchmark.datasets.class_labels import ClassLabelDataset
from gtg_bench.benchmark.datasets.locate import existing, image_bases, is_within
from gtg_bench.benchmark.datasets.problems import Problem, fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, read_rows, read_text, shown, torchxrayvision_file
from gtg_bench.benchmark.datasets.training import BAD_ROW, DUPLICATE, NO_IMAGE, PairedSet, TrainingPair

BOX_SPACE: Size = (1024, 1024)
"""The image size that the boxes refer to, whatever the size of the file on disk."""

LABELS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
"""The findings as the table of labels spells them."""

NO_FINDING = "No Finding"
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")


def _image_folders(base: Path) -> list[Path]:
    """`images/`, the folder itself, and NIH's `images_001/images/` and so on."""
    parts = sorted(base.glob("images_*"))
    return existing([base / "images", base, *(part / "images" for part in parts), *parts])


class ChestXray14Dataset(ClassLabelDataset):
    """The images with boxes; one sample is an image and a finding, with all its boxes."""

    name = "chestxray14"
    needs = "the folder with images/ (BBox_List_2017.csv defaults to torchxrayvision's copy)"
    published = Published(
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
    tables = ("BBox_List_2017.csv",)
    packaged = "BBox_List_2017.csv.gz"
    columns = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")

    def is_negative(self, row: Row) -> bool:
        """Never: every row is a box."""
        return False

    def annotation(self, row: Row) -> Annotation:
        """A box of a known finding."""
        faults = Faults()
        label = row.text("Finding Label")
        if label not in self.published.pairs:
            fix = f"use one of {', '.join(self.published.pairs)}"
            faults.append(row.problem(f"unknown finding {label!r}", fix, "category"))
        box = faults.get(row.box_xywh, *self.columns[2:])
        made = self.made(row, label, faults, box=box, size=BOX_SPACE)
        stem = Path(made.image).stem if is_within(made.image) else ""
        return replace(made, image_id=stem, patient_id=stem.partition("_")[0])

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The file name in the row."""
        return [row.image]

    def image_folders(self, base: Path) -> list[Path]:
        """See `_image_folders`."""
        return _image_folders(base)


class ChestXray14Training(PairedSet):
    """All images with their labels as sentences. Option: `images`.

    Splits: `train` and `test` are the official lists train_val_list.txt and test_list.txt; `all` is everything. All
    images with boxes, on which `chestxray14` evaluates, are in the test list.
    """

    name = "chestxray14"
    known = ("images",)

    def __init__(self, data_root: Path, options: Mapping[str, str], split: str) -> None:
        super().__init__(options, split)
        lists = {name: data_root / file for name, file in _LISTS.items() if os.path.isfile(data_root / file)}
        hint = "" if lists else f" ({' and '.join(_LISTS.values())} are missing from {data_root})"
        self.check_split((*lists, ALL), hint)
        chosen = None if split == ALL else set(read_text(lists[split]).split())
        bases = image_bases(self.name, data_root, options.get("images"))
        self._folders = [folder for base in bases for folder in _image_folders(base)]
        self._files = _listed(self._folders)
        self._pairs: dict[str, tuple[str, str]] = {}
        own = (data_root / f"{name}{packed}" for name in _TABLES for packed in ("", ".gz"))
        table = next((path for path in own if os.path.exists(path)), None) or torchxrayvision_file(f"{_TABLES[0]}.gz")
        if table is None:
            fix = "download it from NIH, or pip install torchxrayvision"
            raise fault(data_root / _TABLES[0], "file not found", fix)
        for row in read_rows(table, ("Image Index", "Finding Labels", "Patient ID")):
            self._add(row, chosen)
        if not self._pairs:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.dropped.items()) or "it has no rows"
            fix = "point --data-root, or --data-option images=DIR, at the images"
            raise fault(data_root, f"has no pairs of split {split!r} ({reasons})", fix)
        self._names = list(self._pairs)

    def _add(self, row: Row, chosen: set[str] | None) -> None:
        """Add a row's pair, or note why it is left out."""
        name, labels = row.values["Image Index"].strip(), row.values["Finding Labels"].strip()
        if chosen is not None and name not in chosen and not row.broken:
            return
        if problem := row.broken or _wrong(row, name, labels):
            self.leave_out(BAD_ROW, problem)
        elif name in self._pairs:
            self.leave_out(DUPLICATE, row.problem(f"image {name} appears twice", "remove one of the rows", "duplicate"))
        elif name not in self._files:
            fix = f"add it to {self._folders[0] if self._folders else 'images/'}"
            self.leave_out(NO_IMAGE, row.problem(f"its image {name} was not found", fix, "missing"))
        else:
            self._pairs[name] = sentence(labels), name.partition("_")[0]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> TrainingPair:
        name = self._names[number]
        text, patient = self._pairs[name]
        return TrainingPair(Path(name).stem, patient, self._files[name], text)

    def texts(self) -> Iterable[tuple[str, str]]:
        """See `PairedSet`."""
        return ((Path(name).stem, text) for name, (text, _) in self._pairs.items())


def sentence(labels: str) -> str:
    """Labels ("Effusion|Pleural_Thickening") as sentences in the same order: "Effusion. Pleural thickening." """
    words = (label.replace("_", " ").capitalize() for label in labels.split("|"))
    return " ".join(f"{word}." for word in words)


def _wrong(row: Row, name: str, labels: str) -> Problem | None:
    """What is wrong with a row of the table of labels."""
    found = labels.split("|")
    if not is_within(name):
        return row.problem(f"{shown(name)} is not a valid image name")
    if unknown := [label for label in found if label not in LABELS and found != [NO_FINDING]]:
        known = ", ".join((*LABELS, NO_FINDING))
        return row.problem(f"unknown finding {shown(unknown[0])}", f"use one of {known}", "category")
    return None


def _listed(folders: Iterable[Path]) -> dict[str, Path]:
    """Every file in the folders by name; the first folder takes precedence. Each folder is listed once."""
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found = {entry.name: Path(entry.path) for entry in entries if entry.is_file()} | found
        except OSError as error:
            raise fault(folder, f"cannot be read ({error.strerror})", "check the folder's permissions") from error
    return found
