"""`data check`: find what is wrong with a data set before a run does, and compare its counts with published ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.datasets import DATASETS, DatasetEntry, open_dataset, published_counts
from gtg_bench.benchmark.datasets.base import ALL, AnnotatedDataset, Annotation, Published
from gtg_bench.benchmark.datasets.images import image_size, looks_whole, read_image
from gtg_bench.benchmark.datasets.negation import negated
from gtg_bench.benchmark.datasets.problems import Fault, Kind, Problem

State = Literal["ok", "note", "warning", "error"]
Progress = Callable[[int, int], None]
"""Called with (images checked, images in all)."""

_WORKERS = 4
_LOOKED_AT = 8
"""Images that are decoded without `deep`, to see how bright they are."""

_DARK = 0.3
"""An image whose brightest pixel is below this is a quarter as bright as it could be, or less: two bits are unused."""

_CHECKS: dict[str, tuple[tuple[Kind, ...], str]] = {
    "files": (("file", "disagreement"), "annotation files are complete and agree"),
    "rows": (("row", "category"), "every row can be read"),
    "images": (("missing",), "every image was found"),
    "readable": (("unreadable",), "every image's header can be read"),
    "sizes": (("size",), "image sizes match the rows"),
    "ranges": (("range",), "no image uses only the darkest part of its range"),
    "regions": (("region",), "boxes and masks have an area and are inside their images"),
    "duplicates": (("duplicate",), "no row appears twice"),
    "phrases": (("phrase",), "no phrase is empty or negates its finding"),
    "splits": (("split",), "every row has a split and every patient is in one split only"),
}
"""Check -> the kinds of problems that it counts, and its text if there are none."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check in a line."""

    name: str
    state: State
    text: str


@dataclass
class Report:
    """What `check` found.

    Attributes:
        dataset, version, data_root, options: what was opened; version "" if opening failed.
        deep: whether every image was decoded.
        splits: split -> its counts of pairs, boxes, masks, images and patients.
        counts: the same for the whole set, and the `usable` pairs.
        categories: category -> pairs.
        by_category: split -> category -> pairs.
        published: the publisher's counts.
        notes: what is worth knowing but is not a problem.
        training: method -> the part of its card that says it was trained on these images.
        overlap: what the data set itself knows about pairs that models were trained on.
        problems: everything that is wrong.
    """

    dataset: str
    data_root: Path | None
    options: Mapping[str, str]
    deep: bool
    version: str = ""
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    by_category: dict[str, dict[str, int]] = field(default_factory=dict)
    published: Published | None = None
    notes: list[Check] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)
    overlap: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def fine(self, strict: bool = False) -> bool:
        """Whether the check found no problems and, with `strict`, no warnings."""
        return not any(strict or not problem.warning for problem in self.problems)

    def checks(self) -> list[Check]:
        """The outcome of every check, then the notes; if the set could not be opened, nothing else was checked."""
        if not self.version:
            return [Check("files", "error", "the data set cannot be opened")]
        if not DATASETS[self.dataset].needs_data_root:
            return [Check("files", "ok", "generated, so there are no files to check"), *self.notes]
        return [self._check(name) for name in _CHECKS] + self.notes

    def as_json(self, strict: bool = False) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "dataset": self.dataset,
            "version": self.version,
            "data_root": None if self.data_root is None else str(self.data_root),
            "options": dict(self.options),
            "deep": self.deep,
            "ok": self.fine(strict),
            "counts": self.counts,
            "splits": self.splits,
            "categories": self.categories,
            "by_category": self.by_category,
            "published": self.published and self.published.as_json(),
            "checks": [asdict(check) for check in self.checks()],
            "training": self.training,
            "overlap": self.overlap,
            "problems": [problem.as_json() for problem in self.problems],
        }

    def _check(self, name: str) -> Check:
        kinds, text = _CHECKS[name]
        found = [problem for problem in self.problems if problem.kind in kinds]
        if not found:
            return Check(name, "ok", text.replace("'s header can be read", " can be decoded") if self.deep else text)
        state: State = "warning" if all(problem.warning for problem in found) else "error"
        return Check(name, state, number_of(len(found), "problem"))


def check(
    name: str,
    data_root: Path | None,
    options: Mapping[str, str],
    deep: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Check a data set: quickly by default; `deep` decodes every image. A generated set is only counted.

    Raises:
        UsageError: unknown data set, folder or option. Problems with the data are in the report.
    """
    report = Report(name, data_root, dict(options), deep)
    try:
        dataset = open_dataset(name, data_root, options)
    except DataError as error:
        other = Problem("file", data_root or Path(name), None, str(error), "see the message")
        report.problems.append(error.problem if isinstance(error, Fault) else other)
        return report
    entry = DATASETS[name]
    report.version, report.published = dataset.version, published_counts(name)
    splits: Sequence[str] = getattr(dataset, "splits", entry.splits)
    by_split = {split: dataset.samples(split) for split in splits if split != ALL or len(splits) == 1}
    everything: Sequence[PhraseSample] = [sample for samples in by_split.values() for sample in samples]
    if isinstance(dataset, AnnotatedDataset):
        everything, report.published = dataset.everything, dataset.counts_to_expect()
        report.problems += dataset.problems + _row_problems(dataset) + _image_problems(dataset, deep, progress)
        try:
            report.overlap = dataset.overlap()
        except Fault as error:
            report.problems.append(error.problem)
            report.overlap = {"text": f"unknown: {error.problem.file} cannot be used"}
        report.notes = [Check(about, "note", text) for about, text in dataset.notes().items()]
        if number := len(dataset.absent):
            text = f"{number} phrases name a finding that their image does not show; only `gtg-bench audit` uses them"
            report.notes.append(Check("absent findings", "note", text))
    report.splits = {split: _counts(samples) for split, samples in by_split.items()}
    report.by_category = {split: dict(Counter(s.category for s in samples)) for split, samples in by_split.items()}
    report.categories = dict(sorted(Counter(sample.category for sample in everything).items()))
    report.counts = _counts(everything) | {"usable": len(everything) - len(getattr(dataset, "bad", ()))}
    report.notes = [*_count_notes(report), *report.notes, *_training_notes(report, entry)]
    return report


def _counts(samples: Sequence[PhraseSample]) -> dict[str, int]:
    return {
        "pairs": len(samples),
        "boxes": sum(len(sample.boxes) for sample in samples),
        "masks": sum(sample.mask is not None for sample in samples),
        "images": len({sample.image_id for sample in samples}),
        "patients": len({sample.patient_id for sample in samples}),
    }


def _row_problems(dataset: AnnotatedDataset) -> list[Problem]:
    """Rows that appear twice, patients in two splits, negated phrases."""
    found = []
    first: dict[object, Annotation] = {}
    split_of: dict[str, Annotation] = {}
    for row in dataset.annotations:
        other = first.setdefault((row.key, row.box, row.mask, row.split), row)
        if other is not row and (row.box or row.mask):
            found.append(row.problem(f"repeats {other.place}", "remove one of them", kind="duplicate"))
        other = split_of.setdefault(row.patient_id, row) if row.split else row
        if other.split != row.split:
            what = f"patient {row.patient_id} is in split {row.split} here, but in {other.split} in {other.place}"
            found.append(row.problem(what, "keep each patient in one split", kind="split"))
    return found + _negations(dataset.annotations)


def _negations(annotations: Sequence[Annotation]) -> list[Problem]:
    """A warning at the first row of each phrase that negates its category."""
    places: dict[tuple[str, str], list[Annotation]] = {}
    for row in annotations:
        places.setdefault((row.phrase, row.category), []).append(row)
    found = []
    for (phrase, category), rows in places.items():
        if reason := negated(phrase, category):
            times = f" ({len(rows)} rows)" if len(rows) > 1 else ""
            what = f"the phrase {phrase[:60]!r} {reason}{times}, so that no map can be right or wrong"
            problem = rows[0].problem(what, "remove it, or name what the region shows", kind="phrase")
            found.append(replace(problem, warning=True))
    return found


def _image_problems(dataset: AnnotatedDataset, deep: bool, progress: Progress) -> list[Problem]:
    """Problems with the images that were found: each is checked once, several at a time."""
    images: dict[Path, PhraseSample] = {}
    for sample in dataset.everything:
        if sample.image_path is not None and dataset.has_image(sample):
            images.setdefault(sample.image_path, sample)
    found: list[Problem] = []
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        decoded = set(images if deep else list(images)[:: max(1, len(images) // _LOOKED_AT)])
        jobs = pool.map(lambda path: list(_checked(dataset, images[path], path, path in decoded)), images)
        for done, problems in enumerate(jobs, start=1):
            found += problems
            progress(done, len(images))
    return found


def _checked(dataset: AnnotatedDataset, sample: PhraseSample, path: Path, decode: bool) -> Iterator[Problem]:
    """The problems with a sample's image, which is decoded if asked for or if the file looks truncated."""
    row = dataset.row_of(sample)
    wanted = sample.image_size if dataset.rescaled else row.size or sample.image_size
    grey_range = dataset.options.get("range", "file")
    try:
        size: Size = image_size(path)
        if decode or not looks_whole(path):
            image = read_image(path, grey_range)
            size = image.shape[1], image.shape[0]
            brightest = float(image.max())
            if grey_range == "file" and 0 < brightest < _DARK and float(read_image(path, "bits").max()) > 2 * brightest:
                what = f"the brightest pixel of its image {path} is {brightest:.2g} of white"
                fix = "if its pixels have fewer bits than the file, use --dataset-option range=bits (or percentile)"
                yield Problem("range", row.file, row.row, what, fix, path, warning=True)
    except Fault as error:
        yield row.image_problem(error.problem)
        return
    if size != wanted:
        yield row.size_problem(path, size, wanted)
    elif row.size and abs(size[0] * row.size[1] / row.size[0] - size[1]) > 1:
        what = f"its image {path} has {size[0]} x {size[1]} pixels, another aspect ratio than {row.size} of its boxes"
        yield Problem("size", row.file, row.row, what, "make sure that it was not cropped", path, warning=True)


def _count_notes(report: Report) -> list[Check]:
    """How the counts differ from the published ones: only a note, since part of a data set is a data set too."""
    if report.published is None:
        return []
    published = report.published
    differences = [
        f"{report.counts[name]} {name} instead of {count}"
        for name, count in published.totals().items()
        if report.counts[name] != count
    ]
    splits = {f" of {name}": (counts, report.by_category.get(name, {})) for name, counts in published.splits.items()}
    for where, (counts, found) in {"": (published.pairs, report.categories), **splits}.items():
        other = [name for name in {**counts, **found} if found.get(name, 0) != counts.get(name, 0)]
        if found and other:
            differences.append(f"{len(other)} of {len(counts)} categories{where} differ")
    if not differences:
        return [Check("counts", "ok", f"as published ({published.source})")]
    return [Check("counts", "note", f"not as published ({published.source}): {', '.join(differences)}")]


def _training_notes(report: Report, entry: DatasetEntry) -> list[Check]:
    """Which methods' cards say that they were trained on the images of this set."""
    if not entry.sources:
        return [Check("training", "note", "unknown source of images; compare with `gtg-bench list methods --cards`")]
    for method in METHODS.entries():
        clauses = [part.strip() for part in method.card.training_data.split(";")]
        if named := [part for part in clauses if any(name.lower() in part.lower() for name in entry.sources)]:
            report.training[method.name] = "; ".join(named)
    notes = [Check("overlap", "note", str(report.overlap["text"]))] if report.overlap else []
    if not report.training:
        return [*notes, Check("training", "ok", f"no method's card names {entry.sources[0]}")]
    text = f"{entry.sources[0]} is in the training data of {', '.join(report.training)}"
    return [*notes, Check("training", "note", text)]
