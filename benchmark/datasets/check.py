"""`data check`: what is wrong with a data set, said before a long run and not after it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.registry import METHODS, load_object
from gtg_bench.benchmark.api.types import Dataset, PhraseSample
from gtg_bench.benchmark.datasets import DATASETS, DatasetEntry, open_dataset
from gtg_bench.benchmark.datasets.annotated import ALL, AnnotatedDataset, Annotation, of_image, other_size
from gtg_bench.benchmark.datasets.check_phrases import denies
from gtg_bench.benchmark.datasets.check_report import Check, Report
from gtg_bench.benchmark.datasets.english import looks_foreign
from gtg_bench.benchmark.datasets.images import image_size, looks_whole, read_image
from gtg_bench.benchmark.datasets.problems import Fault, Problem

Progress = Callable[[int, int], None]
"""Called with (images looked at, images in all)."""

_WORKERS = 4
"""Images that are looked at at the same time."""


def check(
    name: str,
    data_root: Path | None,
    options: Mapping[str, str],
    deep: bool = False,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Look at a data set: fast by default, `deep` decodes every image.

    Raises:
        UsageError: there is no such data set, folder or option. What is wrong with the data is in the report.
    """
    report = Report(name, data_root, dict(options), deep)
    try:
        dataset = open_dataset(name, data_root, options)
    except DataError as error:
        report.problems.append(_problem_of(error, data_root or Path(name)))
        return report
    entry = DATASETS[name]
    report.version = dataset.version
    report.published = load_object(entry.published) if entry.published else None
    if isinstance(dataset, AnnotatedDataset):
        report.problems += _of_rows(dataset) + _of_images(dataset, deep, progress)
        _count(report, dataset.everything, _by_split(dataset, dataset.splits), set(dataset.bad))
        report.overlap = _overlap(report, dataset)
    else:
        by_split = _by_split(dataset, entry.splits)
        everything = [sample for samples in by_split.values() for sample in samples]
        report.problems += _of_samples(name, by_split) + (_of_pixels(dataset, everything, progress) if deep else [])
        _count(report, everything, by_split, set())
    own = dataset.notes() if isinstance(dataset, AnnotatedDataset) else {}
    said = [Check(about, "note", text) for about, text in own.items()]
    report.notes = [*_published_notes(report), *said, *_training_notes(report, entry)]
    return report


def _problem_of(error: DataError, place: Path) -> Problem:
    return error.problem if isinstance(error, Fault) else Problem("file", place, None, str(error), "see the message")


def _overlap(report: Report, dataset: AnnotatedDataset) -> dict[str, Any]:
    try:
        return dataset.overlap()
    except Fault as error:
        report.problems.append(error.problem)
        return {"text": f"not known: {error.problem.file} cannot be used"}


def _by_split(dataset: Dataset, splits: Sequence[str]) -> dict[str, Sequence[PhraseSample]]:
    """Split -> its samples; `all` only where there is no other."""
    return {name: dataset.samples(name) for name in splits if name != ALL or len(splits) == 1}


def _count(
    report: Report,
    everything: Sequence[PhraseSample],
    by_split: Mapping[str, Sequence[PhraseSample]],
    bad: set[str],
) -> None:
    report.splits = {name: _counts(samples) for name, samples in by_split.items()}
    report.counts = _counts(everything)
    report.counts["usable"] = sum(sample.sample_id not in bad for sample in everything)
    report.categories = dict(sorted(Counter(sample.category for sample in everything).items()))
    for name, samples in by_split.items():
        report.by_category[name] = dict(Counter(sample.category for sample in samples))


def _counts(samples: Sequence[PhraseSample]) -> dict[str, int]:
    return {
        "pairs": len(samples),
        "boxes": sum(len(sample.boxes) for sample in samples),
        "masks": sum(sample.mask is not None for sample in samples),
        "images": len({sample.image_id for sample in samples}),
        "patients": len({sample.patient_id for sample in samples}),
    }


def _of_rows(dataset: AnnotatedDataset) -> list[Problem]:
    """What is wrong with rows: what opening has found, rows that are there twice, phrases, patients in two splits."""
    found = list(dataset.problems)
    firsts: dict[object, Annotation] = {}
    splits: dict[str, Annotation] = {}
    foreign: dict[str, Annotation] = {}
    for row in dataset.annotations:
        first = firsts.setdefault((row.key, row.box, row.mask, row.split), row)
        if first is not row and (row.box or row.mask):
            found.append(row.problem(f"repeats {_place(first)}", "take one of them out", kind="duplicate"))
        first = splits.setdefault(row.patient_id, row) if row.split else row
        if first.split != row.split:
            what = f"patient {row.patient_id} is in split {row.split} here, but in {first.split} in {_place(first)}"
            found.append(row.problem(what, "keep a patient in one split", kind="split"))
        foreign.setdefault(row.phrase, row)
    found += [problem for phrase, row in foreign.items() if (problem := _foreign(phrase, row))]
    return found + _denials([(row.phrase, row.category, row.file, row.row) for row in dataset.annotations])


def _foreign(phrase: str, row: Annotation) -> Problem | None:
    reason = looks_foreign(phrase) if phrase else ""
    fix = "translate it, if it is not English: the text encoders know no other language"
    what = f"the phrase {phrase[:60]!r} does not look English: it {reason}"
    return Problem("phrase", row.file, row.row, what, fix, warning=True) if reason else None


def _denials(rows: Sequence[tuple[str, str, Path, int | str | None]]) -> list[Problem]:
    """Phrases that deny what their region should show: a warning for each phrase and category, at its first row.

    Args:
        rows: phrase, category, file and row of each.
    """
    counts = Counter((phrase, category) for phrase, category, *_ in rows)
    firsts: dict[tuple[str, str], tuple[Path, int | str | None]] = {}
    for phrase, category, file, row in rows:
        firsts.setdefault((phrase, category), (file, row))
    found = []
    for (phrase, category), place in firsts.items():
        if reason := denies(phrase, category):
            rows_of_it = f" ({counts[phrase, category]} rows)" if counts[phrase, category] > 1 else ""
            what = f"the phrase {phrase[:60]!r} {reason}{rows_of_it}: no map is right or wrong about what is not there"
            fix = "leave it out, or give it a phrase that names the region"
            found.append(Problem("phrase", *place, what, fix, warning=True))
    return found


def _place(row: Annotation) -> str:
    return f"row {row.row}" if isinstance(row.row, int) else str(row.row)


def _of_images(dataset: AnnotatedDataset, deep: bool, progress: Progress) -> list[Problem]:
    """What is wrong with the images that could be found: each is looked at once, several at a time."""
    images: dict[Path, PhraseSample] = {}
    for sample in dataset.everything:
        if sample.image_path is not None and dataset.has_image(sample):
            images.setdefault(sample.image_path, sample)

    def look(sample: PhraseSample) -> list[Problem]:
        return _of_image(dataset, sample, deep)

    found: list[Problem] = []
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        for done, problems in enumerate(pool.map(look, images.values()), start=1):
            found += problems
            progress(done, len(images))
    return found


def _of_image(dataset: AnnotatedDataset, sample: PhraseSample, deep: bool) -> list[Problem]:
    """What is wrong with a sample's image. An image that looks cut off is decoded even where `deep` is False."""
    row, path = dataset.row_of(sample), sample.image_path
    assert path is not None
    wanted = sample.image_size if dataset.rescaled else row.size or sample.image_size
    try:
        size = image_size(path)
        if deep or not looks_whole(path):
            height, width = read_image(path).shape
            size = width, height
    except Fault as error:
        return [of_image(row, error.problem)]
    if size != wanted:
        return [other_size(row, path, size, wanted)]
    return [_other_shape(row, path, size)] if row.size and not _same_shape(size, row.size) else []


def _same_shape(size: Size, as_annotated: Size) -> bool:
    """Whether both (width, height) have one aspect, to a pixel."""
    return abs(size[0] * as_annotated[1] / as_annotated[0] - size[1]) <= 1


def _other_shape(row: Annotation, path: Path, size: Size) -> Problem:
    what = (
        f"its image {path} has {size[0]} x {size[1]} pixels, another shape than the {row.size} that its boxes are for"
    )
    return Problem("size", row.file, row.row, what, "make sure that it was not cropped", path, warning=True)


def _of_samples(name: str, by_split: Mapping[str, Sequence[PhraseSample]]) -> list[Problem]:
    """What is wrong with the samples of a data set without rows."""
    found: list[Problem] = []
    ids: set[str] = set()
    splits: dict[str, str] = {}
    for split, samples in by_split.items():
        for sample in samples:
            if sample.sample_id in ids:
                what = f"sample {sample.sample_id} is there twice"
                found.append(Problem("duplicate", Path(name), None, what, "give each pair one sample"))
            ids.add(sample.sample_id)
            if splits.setdefault(sample.patient_id, split) != split:
                what = f"patient {sample.patient_id} is in {splits[sample.patient_id]} and in {split}"
                found.append(Problem("split", Path(name), None, what, "keep a patient in one split"))
    everything = [sample for samples in by_split.values() for sample in samples]
    return found + _denials([(sample.phrase, sample.category, Path(name), None) for sample in everything])


def _of_pixels(dataset: Dataset, samples: Sequence[PhraseSample], progress: Progress) -> list[Problem]:
    """What is wrong with the images of a data set without rows, one after the other."""
    found = []
    images = {sample.image_id: sample for sample in samples}
    for done, sample in enumerate(images.values(), start=1):
        try:
            dataset.image(sample)
        except DataError as error:
            found.append(_problem_of(error, Path(sample.image_id)))
        progress(done, len(images))
    return found


def _published_notes(report: Report) -> list[Check]:
    """Where the counts differ from the published ones: a note, since a part of a data set is a data set too."""
    if report.published is None:
        return []
    published = report.published
    wrong = [
        f"{report.counts[name]} {name} instead of {count}"
        for name, count in published.totals().items()
        if report.counts[name] != count
    ]
    whole = {"": (published.pairs, report.categories)}
    splits = {f" of {name}": (counts, report.by_category.get(name, {})) for name, counts in published.splits.items()}
    for where, (counts, found) in {**whole, **splits}.items():
        other = [name for name in {**counts, **found} if found.get(name, 0) != counts.get(name, 0)]
        if found and other:
            wrong.append(f"{len(other)} of {len(counts)} categories{where} differ")
    if not wrong:
        return [Check("counts", "ok", f"as published ({published.source})")]
    return [Check("counts", "note", f"not as published ({published.source}): {', '.join(wrong)}")]


def _training_notes(report: Report, entry: DatasetEntry) -> list[Check]:
    """Which methods say that they were trained on the images of this set."""
    if not entry.sources:
        return [Check("training", "note", "whose images these are is not known here: see `gtg-bench list methods`")]
    for method in METHODS.entries():
        clauses = [part.strip() for part in method.card.training_data.split(";")]
        if named := [part for part in clauses if any(name.lower() in part.lower() for name in entry.sources)]:
            report.training[method.name] = "; ".join(named)
    notes = [Check("overlap", "note", str(report.overlap["text"]))] if report.overlap else []
    if not report.training:
        return [*notes, Check("training", "ok", f"no method's card names {entry.sources[0]}")]
    text = f"{entry.sources[0]} is in the training data of {', '.join(report.training)}"
    return [*notes, Check("training", "note", text)]
