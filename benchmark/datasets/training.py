"""Training sets: pairs of an image and a report's text, handed out one by one, never held together."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import load_object, unknown
from gtg_bench.benchmark.datasets import DatasetEntry
from gtg_bench.benchmark.datasets.images import read_image
from gtg_bench.benchmark.datasets.mimic_cxr import COLUMNS, MOST_PROBLEMS, NO_IMAGE, ROW, TWICE
from gtg_bench.benchmark.datasets.places import existing, find_image, image_bases, is_within
from gtg_bench.benchmark.datasets.problems import Problem, fault
from gtg_bench.benchmark.datasets.rows import Row, shown
from gtg_bench.benchmark.datasets.tabular import carried_file, file_text, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

    from gtg_bench.benchmark.datasets.phantom.world import Study

ALL = "all"
INDEX = "mimic-cxr.parquet"
"""The index that `data prepare mimic-cxr` wrote, where the option `index` names no other."""

LABELS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
"""ChestX-ray14's findings as its table spells them."""

NO_FINDING = "No Finding"
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPair:
    """An image and what its report says.

    Attributes:
        image_id: the image's name in its data set.
        patient_id: the patient.
        image: its file, or float32 [H, W] in [0, 1] where the set makes its images itself.
        text: one line.
    """

    image_id: str
    patient_id: str
    image: Path | FloatArray
    text: str

    def pixels(self) -> FloatArray:
        """float32 [H, W] in [0, 1], bright is dense. Raises DataError if the file cannot be read."""
        return read_image(self.image) if isinstance(self.image, Path) else self.image


class TrainingSet(Protocol):
    """The pairs of one split, in a fixed order. An image is read when its pair is asked for its pixels.

    Attributes:
        name: the registry's name.
        split: which pairs.
        options: what was chosen, as strings.
        fingerprint: 64 hex digits over the ids and texts of all pairs in order: the same on every machine, another
            one whenever a pair is. It does not look at the pixels of image files.
        dropped: reason -> pairs that cannot be used and are left out.
        problems: what is wrong with rows and files.
    """

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def options(self) -> Mapping[str, str]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dropped(self) -> Mapping[str, int]: ...

    @property
    def problems(self) -> list[Problem]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> TrainingPair:
        """A pair. Raises IndexError beyond the last one."""
        ...

    def __iter__(self) -> Iterator[TrainingPair]: ...


_HERE = "gtg_bench.benchmark.datasets.training"
TRAINING_SETS: dict[str, DatasetEntry] = {
    "phantom": DatasetEntry(
        summary="generated chest radiographs with generated reports; needs no data",
        target=f"{_HERE}:PhantomTraining",
        splits=("train", "validate", "test"),
        options="seed=N (another world)",
        needs_data_root=False,
        terms="MIT, made here",
    ),
    "mimic-cxr": DatasetEntry(
        summary="MIMIC-CXR's frontal images with the impression, the findings or the last paragraph of their report",
        target=f"{_HERE}:MimicCxrTraining",
        splits=("train", "validate", "test", ALL),
        options="index=FILE (of `data prepare mimic-cxr`), images=DIR",
        needs_data_root=True,
        terms="PhysioNet credentialed; cite MIMIC-CXR and MIMIC-CXR-JPG",
        tree=(
            "DATA_ROOT/mimic-cxr-2.0.0-split.csv.gz          (and -metadata.csv.gz; for `data prepare` alone)",
            "DATA_ROOT/files/p10/p10000032/s50414267/*.jpg   (or below images=DIR)",
            "DATA_ROOT/files/p10/p10000032/s50414267.txt     (or below reports=DIR, or mimic-cxr-reports.zip there)",
            f"DATA_ROOT/{INDEX}                     (what `data prepare` wrote, or index=FILE)",
        ),
    ),
    "chestxray14": DatasetEntry(
        summary='ChestX-ray14\'s images with its labels as sentences, such as "Cardiomegaly. Effusion."',
        target=f"{_HERE}:ChestXray14Training",
        splits=("train", "test", ALL),
        options="images=DIR",
        needs_data_root=True,
        terms="NIH Clinical Center: free to use, cite Wang et al., CVPR 2017",
        tree=(
            "DATA_ROOT/Data_Entry_2017_v2020.csv    (else the copy in torchxrayvision is read)",
            "DATA_ROOT/train_val_list.txt           (and test_list.txt; without them there is no split but `all`)",
            "DATA_ROOT/images/00000013_005.png      (or images_001/images/..., or beside the table)",
        ),
    ),
}
"""By name, like DATASETS; a target is called with (data_root, options, split)."""


def open_training_set(
    name: str, data_root: Path | None, options: Mapping[str, str] | None = None, split: str = "train"
) -> TrainingSet:
    """Open a training set.

    Raises:
        UsageError: there is no such set, folder, option or split.
        DataError: its files cannot be used, or hold no pair.
    """
    if name not in TRAINING_SETS:
        raise UsageError(unknown("training set", name, TRAINING_SETS))
    entry = TRAINING_SETS[name]
    if entry.needs_data_root and (data_root is None or not os.path.isdir(data_root)):
        gone = f"; there is no folder {data_root}" if data_root else ""
        raise UsageError(f"training set {name} needs --data-root DIR, the folder with its files{gone}")
    return load_object(entry.target)(data_root, options or {}, split)


class _Pairs(ABC):
    """What the training sets have in common."""

    name: ClassVar[str]
    version: str = "1"
    """Changes with the texts or images that are made of the same files."""

    known: ClassVar[tuple[str, ...]] = ()
    """The names of its options."""

    def __init__(self, options: Mapping[str, str], split: str) -> None:
        if wrong := sorted(set(options) - set(self.known)):
            raise UsageError(f"training set {self.name} has no option {wrong[0]!r}; it has: {', '.join(self.known)}")
        self.options = dict(options)
        self.split = split
        self.dropped: Counter[str] = Counter()
        self.problems: list[Problem] = []

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> TrainingPair: ...

    @abstractmethod
    def texts(self) -> Iterable[tuple[str, str]]:
        """The id of the image and the text of every pair, in order."""

    def __iter__(self) -> Iterator[TrainingPair]:
        return (self[number] for number in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """See `TrainingSet`."""
        digest = hashlib.sha256(json.dumps([self.name, self.version]).encode())
        for pair in self.texts():
            digest.update(json.dumps(pair).encode())
        return digest.hexdigest()

    def _checked_split(self, splits: Iterable[str], hint: str = "") -> None:
        if self.split not in splits:
            known = ", ".join(splits)
            raise UsageError(f"training set {self.name} has no split {self.split!r}; it has: {known}{hint}")


class PhantomTraining(_Pairs):
    """The phantom's images with their reports, also those without a finding. Option: `seed`, the world."""

    name = "phantom"
    known = ("seed",)

    def __init__(self, data_root: Path | None, options: Mapping[str, str], split: str) -> None:
        from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset
        from gtg_bench.benchmark.datasets.phantom.world import SPLITS, VERSION

        super().__init__(options, split)
        self._checked_split(SPLITS)
        self.seed = PhantomDataset(options=options).seed
        self.version = VERSION

    @cached_property
    def _studies(self) -> list[Study]:
        """Pixels in 8 bits, 16 kB an image."""
        from gtg_bench.benchmark.datasets.phantom.dataset import load_studies

        return load_studies(self.seed, self.split)

    def __len__(self) -> int:
        return len(self._studies)

    def __getitem__(self, number: int) -> TrainingPair:
        study = self._studies[number]
        return TrainingPair(study.image_id, study.patient_id, study.pixels.astype("float32") / 255, study.report)

    def texts(self) -> Iterable[tuple[str, str]]:
        """See `_Pairs`."""
        return ((study.image_id, study.report) for study in self._studies)


class MimicCxrTraining(_Pairs):
    """The pairs of an index that `data prepare mimic-cxr` wrote; its texts are in memory, no image is.

    Options: `index` (the file, from the data root or the working folder), `images` (where `files/` lies).
    """

    name = "mimic-cxr"
    known = ("index", "images")

    def __init__(self, data_root: Path, options: Mapping[str, str], split: str) -> None:
        super().__init__(options, split)
        self._checked_split(TRAINING_SETS[self.name].splits)
        self.bases = image_bases(self.name, data_root, self.options.get("images"))
        chosen = Path(self.options.get("index", INDEX))
        self.index = next((path for path in (data_root / chosen, chosen) if os.path.isfile(path)), data_root / chosen)
        self._table = _index(self.index, split)
        if not self._table.num_rows:
            raise fault(self.index, f"has no image of split {split!r}", "make it again with `data prepare mimic-cxr`")

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, number: int) -> TrainingPair:
        row = {name: self._table.column(name)[number].as_py() for name in ("dicom_id", "subject_id", "image", "text")}
        found = find_image([row["image"]], self.bases).path or self.bases[0] / row["image"]
        return TrainingPair(row["dicom_id"], f"p{row['subject_id']}", found, row["text"])

    def texts(self) -> Iterable[tuple[str, str]]:
        """See `_Pairs`."""
        columns = [self._table.column(name).to_pylist() for name in ("dicom_id", "text")]
        return zip(*columns, strict=True)


def _index(path: Path, split: str) -> pa.Table:
    """The rows of a split. Raises Fault where the file is missing, damaged or no index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = f"make it: gtg-bench data prepare mimic-cxr --data-root DIR --out {path}"
    if not os.path.isfile(path):
        raise fault(path, "there is no such file", f"{fix}, or name yours with --data-option index=FILE")
    try:
        columns = pq.read_schema(path).names
        if missing := [name for name in COLUMNS if name not in columns]:
            raise fault(path, f"is no index of MIMIC-CXR: it has no column {missing[0]!r}", fix)
        filters = None if split == ALL else [("split", "=", split)]
        return pq.read_table(path, columns=list(COLUMNS), filters=filters).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise fault(path, f"cannot be read as Parquet ({error})", fix) from error


class ChestXray14Training(_Pairs):
    """ChestX-ray14's images with their labels as sentences. Option: `images`.

    Splits: `train` and `test` are the official lists train_val_list.txt and test_list.txt; `all` is everything. All
    images with boxes, which `chestxray14` evaluates, are in the test list.
    """

    name = "chestxray14"
    known = ("images",)

    def __init__(self, data_root: Path, options: Mapping[str, str], split: str) -> None:
        super().__init__(options, split)
        lists = {name: data_root / file for name, file in _LISTS.items() if os.path.isfile(data_root / file)}
        hint = "" if lists else f" (there is no {' or '.join(_LISTS.values())} in {data_root})"
        self._checked_split((*lists, ALL), hint)
        chosen = None if split == ALL else set(file_text(lists[split]).split())
        folders = [place for base in image_bases(self.name, data_root, options.get("images")) for place in _parts(base)]
        self._files = _present(folders)
        self._pairs: dict[str, tuple[str, str]] = {}
        for row in read_rows(_label_table(data_root), _COLUMNS):
            self._take(row, chosen, folders)
        if not self._pairs:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.dropped.items()) or "no row is in it"
            fix = "point --data-root, or --data-option images=DIR, at the images"
            raise fault(data_root, f"holds no pair of split {split!r} ({reasons})", fix)
        self._names = list(self._pairs)

    def _take(self, row: Row, chosen: set[str] | None, folders: list[Path]) -> None:
        """Keep a row's pair, or note why it is left out."""
        name, labels = row.values["Image Index"].strip(), row.values["Finding Labels"].strip()
        if chosen is not None and name not in chosen and not row.broken:
            return
        if problem := row.broken or _wrong(row, name, labels):
            self._leave_out(ROW, problem)
        elif name in self._pairs:
            self._leave_out(TWICE, row.problem(f"image {name} is there twice", "take one of the rows out", "duplicate"))
        elif name not in self._files:
            what = f"its image {name} is not there"
            self._leave_out(NO_IMAGE, row.problem(what, f"add it to {folders[0] if folders else 'images/'}", "missing"))
        else:
            self._pairs[name] = sentence(labels), name.partition("_")[0]

    def _leave_out(self, reason: str, problem: Problem) -> None:
        self.dropped[reason] += 1
        if self.dropped[reason] <= MOST_PROBLEMS:
            self.problems.append(problem)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> TrainingPair:
        name = self._names[number]
        text, patient = self._pairs[name]
        return TrainingPair(Path(name).stem, patient, self._files[name], text)

    def texts(self) -> Iterable[tuple[str, str]]:
        """See `_Pairs`."""
        return ((Path(name).stem, text) for name, (text, _) in self._pairs.items())


def sentence(labels: str) -> str:
    """ChestX-ray14's labels ("Effusion|Pleural_Thickening") as sentences, in their order: "Effusion. Pleural
    thickening."; "No Finding" becomes "No finding." """
    words = (label.replace("_", " ").capitalize() for label in labels.split("|"))
    return " ".join(f"{word}." for word in words)


def _wrong(row: Row, name: str, labels: str) -> Problem | None:
    """What is wrong with a row of the table of labels."""
    found = labels.split("|")
    if not is_within(name):
        return row.problem(f"{shown(name)} is not the name of an image")
    if unknown_ := [label for label in found if label not in LABELS and found != [NO_FINDING]]:
        known = ", ".join((*LABELS, NO_FINDING))
        return row.problem(f"there is no finding {shown(unknown_[0])} here", f"use one of {known}", "category")
    return None


def _label_table(root: Path) -> Path:
    """The user's own table of labels, else the one in torchxrayvision. Raises Fault where there is neither."""
    own = (root / f"{name}{packed}" for name in _TABLES for packed in ("", ".gz"))
    found = next((path for path in own if os.path.exists(path)), None) or carried_file(f"{_TABLES[0]}.gz")
    if found is None:
        raise fault(root / _TABLES[0], "there is no such file", "download it from NIH, or pip install torchxrayvision")
    return found


def _parts(base: Path) -> list[Path]:
    """`images/`, the folder itself, and NIH's `images_001/images/` and so on."""
    parts = sorted(base.glob("images_*"))
    return existing([base / "images", base, *(part / "images" for part in parts), *parts])


def _present(folders: Iterable[Path]) -> dict[str, Path]:
    """Every file in the folders by its name; the first folder counts. Each folder is listed once."""
    found: dict[str, Path] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                found = {entry.name: Path(entry.path) for entry in entries if entry.is_file()} | found
        except OSError as error:
            raise fault(folder, f"cannot be read ({error.strerror})", "check the folder's permissions") from error
    return found
