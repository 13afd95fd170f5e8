"""Training sets: pairs of an image and a report's text, read one at a time.

The phantom's is here, MIMIC-CXR's in `mimic_cxr`, ChestX-ray14's in `chestxray14`.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import load_object, unknown
from gtg_bench.benchmark.datasets import DatasetEntry
from gtg_bench.benchmark.datasets.base import ALL
from gtg_bench.benchmark.datasets.images import read_image
from gtg_bench.benchmark.datasets.problems import Problem

if TYPE_CHECKING:
    from gtg_bench.benchmark.datasets.phantom.world import Study

BAD_ROW, DUPLICATE, NO_IMAGE = "row cannot be used", "row repeats another", "image not found"
"""Why pairs are left out."""

MOST_PROBLEMS = 500
"""Problems that are kept for each reason; all are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPair:
    """An image and what its report says.

    Attributes:
        image_id: the image's name in its data set.
        patient_id: the patient.
        image: its file, or float32 [H, W] in [0, 1] if the set generates its images.
        text: one line.
        change: what is done to the pixels; None: nothing is.
    """

    image_id: str
    patient_id: str
    image: Path | FloatArray
    text: str
    change: Callable[[FloatArray], FloatArray] | None = None

    def pixels(self) -> FloatArray:
        """float32 [H, W] in [0, 1], bright is dense. Raises DataError if the file cannot be read."""
        found = read_image(self.image) if isinstance(self.image, Path) else self.image
        return found if self.change is None else self.change(found)


class TrainingSet(Protocol):
    """The pairs of one split, in a fixed order. An image is read when its pair's `pixels` is called.

    Attributes:
        name: the registry's name.
        split: the split's name.
        options: the chosen options, as strings.
        fingerprint: 64 hex digits over the ids and texts of all pairs in order: the same on every machine, and
            different if a pair changes. It does not cover the pixels of image files.
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
        """A pair. Raises IndexError past the end."""
        ...

    def __iter__(self) -> Iterator[TrainingPair]: ...


_HERE = "gtg_bench.benchmark.datasets"
TRAINING_SETS: dict[str, DatasetEntry] = {
    "phantom": DatasetEntry(
        summary="generated chest radiographs with generated reports; needs no data",
        target=f"{_HERE}.training:PhantomTraining",
        splits=("train", "validate", "test"),
        options="seed=N (another set of patients; default 0), captions=findings (a pair per sentence of the report)",
        needs_data_root=False,
        terms="MIT, part of this package",
    ),
    "mimic-cxr": DatasetEntry(
        summary="MIMIC-CXR's frontal images with the impression, findings or last paragraph of their report",
        target=f"{_HERE}.mimic_cxr:MimicCxrTraining",
        splits=("train", "validate", "test", ALL),
        options="index=FILE (written by `data prepare mimic-cxr`), images=DIR",
        needs_data_root=True,
        terms="PhysioNet credentialed; cite MIMIC-CXR and MIMIC-CXR-JPG",
        tree=(
            "DATA_ROOT/mimic-cxr-2.0.0-split.csv.gz          (and -metadata.csv.gz; only for `data prepare`)",
            "DATA_ROOT/files/p10/p10000032/s50414267/*.jpg   (or below images=DIR)",
            "DATA_ROOT/files/p10/p10000032/s50414267.txt     (or below reports=DIR, or in mimic-cxr-reports.zip)",
            "DATA_ROOT/mimic-cxr.parquet                     (written by `data prepare`; or index=FILE)",
        ),
    ),
    "chestxray14": DatasetEntry(
        summary='ChestX-ray14\'s images with its labels as sentences, such as "Cardiomegaly. Effusion."',
        target=f"{_HERE}.chestxray14:ChestXray14Training",
        splits=("train", "test", ALL),
        options="images=DIR",
        needs_data_root=True,
        terms="NIH Clinical Center: free to use, cite Wang et al., CVPR 2017",
        tree=(
            "DATA_ROOT/Data_Entry_2017_v2020.csv    (default: torchxrayvision's copy)",
            "DATA_ROOT/train_val_list.txt           (and test_list.txt; without them the only split is `all`)",
            "DATA_ROOT/images/00000013_005.png      (or images_001/images/..., or next to the table)",
        ),
    ),
}
"""By name, like DATASETS; a target is called with (data_root, options, split)."""


def open_training_set(
    name: str, data_root: Path | None, options: Mapping[str, str] | None = None, split: str = "train"
) -> TrainingSet:
    """Open a training set.

    Raises:
        UsageError: unknown set, folder, option or split.
        DataError: its files cannot be used, or have no pairs.
    """
    if name not in TRAINING_SETS:
        raise UsageError(unknown("training set", name, TRAINING_SETS))
    entry = TRAINING_SETS[name]
    if entry.needs_data_root and (data_root is None or not os.path.isdir(data_root)):
        missing = f"; folder {data_root} not found" if data_root else ""
        raise UsageError(f"training set {name} needs --data-root DIR, the folder with its files{missing}")
    return load_object(entry.target)(data_root, options or {}, split)


class PairedSet(ABC):
    """The base of the training sets."""

    name: str
    version: str = "1"
    """Changes with the texts or images made from the same files."""

    known: ClassVar[tuple[str, ...]] = ()
    """The names of its options."""

    def __init__(self, options: Mapping[str, str], split: str) -> None:
        if wrong := sorted(set(options) - set(self.known)):
            known = ", ".join(self.known)
            raise UsageError(f"training set {self.name} has no option {wrong[0]!r}; choose from: {known}")
        self.options = dict(options)
        self.split = split
        self.dropped: Counter[str] = Counter()
        self.problems: list[Problem] = []

    def __repr__(self) -> str:
        return f"<training set {self.name}, split {self.split}: {len(self)} pairs>"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> TrainingPair: ...

    @abstractmethod
    def texts(self) -> Iterable[tuple[str, str]]:
        """The image id and text of every pair, in order."""

    def __iter__(self) -> Iterator[TrainingPair]:
        return (self[number] for number in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """See `TrainingSet`."""
        digest = hashlib.sha256(json.dumps([self.name, self.version]).encode())
        for pair in self.texts():
            digest.update(json.dumps(pair).encode())
        return digest.hexdigest()

    def check_split(self, splits: Iterable[str], hint: str = "") -> None:
        """Raise UsageError, which ends with `hint`, if the split is not one of `splits`."""
        if self.split not in splits:
            known = ", ".join(splits)
            raise UsageError(f"training set {self.name} has no split {self.split!r}; choose from: {known}{hint}")

    def leave_out(self, reason: str, problem: Problem) -> None:
        """Count a pair that cannot be used, and keep the first problems of each reason."""
        self.dropped[reason] += 1
        if self.dropped[reason] <= MOST_PROBLEMS:
            self.problems.append(problem)


_CAPTIONS = ("reports", "findings")


class PhantomTraining(PairedSet):
    """The phantom's images, including those without a finding, with their reports.

    Options: `seed`; `captions`, "reports" or "findings": then an image comes once with every sentence of its report.
    """

    name = "phantom"
    known = ("captions", "seed")

    def __init__(self, data_root: Path | None, options: Mapping[str, str], split: str) -> None:
        from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset
        from gtg_bench.benchmark.datasets.phantom.world import SPLITS, VERSION

        super().__init__(options, split)
        self.check_split(SPLITS)
        self.captions = options.get("captions", _CAPTIONS[0])
        if self.captions not in _CAPTIONS:
            raise UsageError(f"phantom: captions must be one of {', '.join(_CAPTIONS)}, not {self.captions!r}")
        self.seed = PhantomDataset(options={name: value for name, value in options.items() if name == "seed"}).seed
        self.version = VERSION

    @cached_property
    def _pairs(self) -> list[tuple[Study, str]]:
        """All images, 16 kB each, with a caption."""
        from gtg_bench.benchmark.datasets.phantom.dataset import load_studies

        studies = load_studies(self.seed, self.split)
        if self.captions == "reports":
            return [(study, study.report) for study in studies]
        said = [(study, [statement.sentence for statement in study.statements]) for study in studies]
        return [(study, sentence) for study, sentences in said for sentence in sentences or [study.report]]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> TrainingPair:
        study, text = self._pairs[number]
        return TrainingPair(study.image_id, study.patient_id, study.pixels.astype("float32") / 255, text)

    def texts(self) -> Iterable[tuple[str, str]]:
        """See `PairedSet`."""
        return ((study.image_id, text) for study, text in self._pairs)
