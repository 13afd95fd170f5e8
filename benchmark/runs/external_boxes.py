"""External boxes: a JSON or CSV file with the boxes that a method found for each image and phrase, scored as a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from gtg_bench.benchmark.api.errors import SampleError, UsageError
from gtg_bench.benchmark.api.geometry import Size
from gtg_bench.benchmark.api.settings import BOXES
from gtg_bench.benchmark.api.types import Box, Dataset, GroundingMap, MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Row, read_json, read_rows, shown
from gtg_bench.benchmark.runs.external_index import KnownSamples
from gtg_bench.benchmark.runs.external_maps import check_request, other_samples
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, planned
from gtg_bench.benchmark.runs.sources import Fail
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.score_map import check_sample
from gtg_bench.benchmark.scoring.trial import Trial

SIDES = ("x1", "y1", "x2", "y2")
_ROUNDED = 1.001
"""The largest coordinate that counts as a fraction of the image's side."""
_SLACK = 1.0
"""Pixels by which a box may extend beyond its image; the excess is clipped."""
_FORM = '[{"image": ..., "phrase": ..., "boxes": [[x1, y1, x2, y2], ...], "scores": [...]}, ...]'


@dataclass(frozen=True, slots=True)
class _Found:
    """One box of the file, as it is written there."""

    row: Row
    box: Box
    score: float | None


@dataclass(frozen=True)
class Answers:
    """The boxes of a file.

    Attributes:
        path: the file.
        boxes: sample id -> its boxes, float xyxy in pixels of the image, each with its score or None; empty for a
            sample that the file answers without a box, absent for one that it does not name.
        unit: "pixels", "fractions", or "" without boxes.
        elsewhere: number of rows for samples of other splits or absent findings.
    """

    path: Path
    boxes: Mapping[str, list[tuple[Box, float | None]]]
    unit: str
    elsewhere: int


def prepare_boxes(path: Path, request: RunRequest) -> tuple[PreparedRun, Answers]:
    """A run on a file of boxes; the setting `weights_version` is 12 hex digits over the boxes.

    Args:
        path: the file, see `read_boxes`.
        request: names the boxes as its method, which must not be a registered one; its control must leave the boxes
            unchanged.

    Raises:
        UsageError: an invalid name or option.
        DataError: an invalid file or data set.
    """
    dataset = _opened(request)
    samples = dataset.samples(request.split)
    answers = read_boxes(path, samples, lambda: other_samples(dataset, request))
    return _prepared(request, dataset, answers, str(path.resolve())), answers


def prepare_reader(option: tuple[str, str], request: RunRequest) -> PreparedRun:
    """A run on the boxes that the data set has under another value of an option, such as those of a second reader.

    Args:
        option: name and value of the option; the others are the request's.
        request: names the reader as its method.

    Raises:
        UsageError: an invalid name or option; a sample without a box under the option: that it was read is unknown;
            or boxes that would be compared with themselves, such as one reader's with all readers'.
        DataError: an invalid data set.
    """
    dataset, said = _opened(request), "=".join(option)
    samples = dataset.samples(request.split)
    other = open_dataset(request.dataset, request.data_root, request.dataset_options | {option[0]: option[1]})
    found = [sample for sample in other.samples(request.split) if sample.boxes]
    boxes: dict[str, list[tuple[Box, float | None]]] = {s.sample_id: [(box, None) for box in s.boxes] for s in found}
    missing = [sample.sample_id for sample in samples if sample.sample_id not in boxes]
    if missing:
        raise UsageError(
            f"--boxes-of {said}: {len(missing)} of {len(samples)} samples have no box there, such as {missing[0]}; "
            "choose samples that both have, for padchest-gr and vindr-cxr with --dataset-option read-twice=true"
        )
    if samples and all({box for box, _ in boxes[sample.sample_id]} <= set(sample.boxes) for sample in samples):
        raise UsageError(
            f"--boxes-of {said}: its boxes are among those that they would be compared with; name another reader's, "
            f"such as --dataset-option {option[0]}=1"
        )
    return _prepared(request, dataset, Answers(Path(said), boxes, "pixels", 0), said)


def _opened(request: RunRequest) -> Dataset:
    """The data set of a run on boxes. Raises UsageError for options that are for maps."""
    check_request(request)
    if request.mask is not None or request.smooth is not None:
        raise UsageError("--mask and --smooth are for maps; the mask of a box answer is the union of its boxes")
    return open_dataset(request.dataset, request.data_root, request.dataset_options)


def _prepared(request: RunRequest, dataset: Dataset, answers: Answers, source: str) -> PreparedRun:
    samples = dataset.samples(request.split)
    names = sorted(trial.sample.sample_id for trial in plan(samples, request.control, request.limit))
    parts = [[name, sorted(answers.boxes[name], key=repr) if name in answers.boxes else None] for name in names]
    version = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    settings = MethodSettings(request.settings.method, BOXES, version, seed=0)
    prepared = planned(request, settings, dataset, BoxSource(answers), code=None)
    return replace(prepared, facts=prepared.facts | {"boxes_from": source})


@dataclass(frozen=True)
class BoxSource:
    """The box answers of a file. A sample without a row has no box: a miss, not a failure."""

    answers: Answers
    device = "cpu"

    def maps(self, trials: Sequence[Trial], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """The answer to each trial, in order; `fail` is called for a sample of the data set that is damaged."""
        for trial in trials:
            try:
                check_sample(trial.sample)
                check_sample(trial.scored_on)
            except SampleError as error:
                fail(trial, error)
                continue
            found = self.answers.boxes.get(trial.sample.sample_id)
            boxes, scores = [box for box, _ in found or ()], [score or 0.0 for _, score in found or ()]
            note = "no row in the file: a miss" if found is None else "" if found else "no box: a miss"
            yield trial, GroundingMap.of_boxes(boxes, trial.sample.image_size, scores, note)


def read_boxes(path: Path, samples: Sequence[PhraseSample], others: Callable[[], Sequence[PhraseSample]]) -> Answers:
    """Read a file of boxes.

    JSON: a list with one entry per image and phrase: `image` (id or file name) and `phrase`, or `sample_id`; `boxes`, a
    list of [x1, y1, x2, y2], empty for no box; optionally `scores`, one per box, and `category`. CSV: one row per box
    with `image` and `phrase`, or `sample_id`; `x1`, `y1`, `x2`, `y2`, all blank for no box; optionally `score` and
    `category`. Coordinates are pixels of the original image, or fractions of its sides if none exceeds 1.

    Args:
        path: the file, JSON if its name ends in .json, else CSV.
        samples: samples of the split that is scored.
        others: returns the samples of the other splits; called only if a row matches no sample of this split.

    Raises:
        DataError: the file is invalid, or a row matches no sample, repeats another one, or has a box that cannot be one
            of its image; names file, row and fix.
    """
    known, by_id = KnownSamples(samples, others), {sample.sample_id: sample for sample in samples}
    images = {sample.image_id for sample in samples}
    found: dict[str, list[_Found]] = {}
    first: dict[str, Row] = {}
    for row, boxes in _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path):
        row = replace(row, values={**row.values, "image_id": _image_id(row, images)})
        name = known.named_by(row)
        if name is None:
            continue
        other = first.setdefault(name, row)
        is_second = other is not row
        if is_second and (not isinstance(row.row, int) or not boxes or not found[name]):
            raise row.fault(f"answers the same sample as row {other.row}", "remove one of them")
        found.setdefault(name, []).extend(boxes)
    if not first:
        raise fault(path, f"none of its {known.elsewhere} rows names a sample of this split", "choose another --split")
    unit = _unit([one for boxes in found.values() for one in boxes])
    checked = {name: _checked(boxes, by_id[name].image_size, unit) for name, boxes in found.items()}
    return Answers(path, checked, unit, known.elsewhere)


def _csv_rows(path: Path) -> Iterator[tuple[Row, list[_Found]]]:
    for row in read_rows(path, SIDES):
        _check_columns(row)
        given = [name for name in SIDES if row.has(name)]
        if not given:
            if row.has("score"):
                raise row.fault("has a score but no box", "give x1, y1, x2 and y2, or remove the score")
            yield row, []
            continue
        if missing := [name for name in SIDES if name not in given]:
            raise row.fault(f"has {given[0]} but no {missing[0]}", "give all four sides, or none for no box")
        x1, y1, x2, y2 = (row.number(name, "region") for name in SIDES)
        yield row, [_Found(row, (x1, y1, x2, y2), row.number("score") if row.has("score") else None)]


def _check_columns(row: Row) -> None:
    if "sample_id" not in row.values and not ("phrase" in row.values and {"image", "image_id"} & row.values.keys()):
        raise row.fault("does not name its sample", "give image and phrase, or sample_id")


def _json_rows(path: Path) -> Iterator[tuple[Row, list[_Found]]]:
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise fault(path, "is not a list of answers", f"write {_FORM}")
    for number, entry in enumerate(entries):
        row = Row(path, f"[{number}]", entry if isinstance(entry, dict) else {})
        if not isinstance(entry, dict):
            raise row.fault(f"is {shown(entry)}, not an object", f"write {_FORM}")
        _check_columns(row)
        boxes, scores = entry.get("boxes"), entry.get("scores")
        if not isinstance(boxes, list):
            raise row.fault(f"boxes is {shown(boxes)}, not a list", "write [[x1, y1, x2, y2], ...], or [] for no box")
        if scores is not None and (not isinstance(scores, list) or len(scores) != len(boxes)):
            raise row.fault(f"scores is {shown(scores)}, not a list of {len(boxes)}", "give one score per box, or none")
        yield row, [_json_box(row, box, None if scores is None else scores[k]) for k, box in enumerate(boxes)]


def _json_box(row: Row, box: Any, score: Any) -> _Found:
    if not isinstance(box, list) or len(box) != 4:
        raise row.fault(f"has the box {shown(box)}", "write [x1, y1, x2, y2]", "region")
    values = dict(zip((*SIDES, "score"), (*box, score), strict=True))
    each = replace(row, values=values)
    x1, y1, x2, y2 = (each.number(name, "region") for name in SIDES)
    return _Found(row, (x1, y1, x2, y2), None if score is None else each.number("score"))


def _image_id(row: Row, images: set[str]) -> str:
    """The image's id; a file name or path stands for it with or without its folders and suffix."""
    name = row.text("image_id") or row.text("image")
    path = PurePosixPath(name)
    return next((one for one in (name, path.name, path.stem) if one in images), name)


def _unit(found: Iterable[_Found]) -> str:
    """ "pixels" or "fractions". Raises DataError if boxes are in both or in neither, or only some have scores."""
    kinds: dict[bool, _Found] = {}
    scored: dict[bool, _Found] = {}
    largest = 0.0
    for one in found:
        largest = max(largest, *one.box)
        kinds.setdefault(max(one.box) > _ROUNDED, one)
        scored.setdefault(one.score is None, one)
    if len(kinds) == 2:
        pixels, fractions = kinds[True], kinds[False]
        what = f"has the box {list(fractions.box)} in fractions, but row {pixels.row.row} has {list(pixels.box)}"
        raise fractions.row.fault(f"{what}, in pixels", "use one unit in the whole file", "region")
    if _ROUNDED < largest < 2:
        what = f"has the box {list(kinds[True].box)}, beyond 1 as a fraction and within two pixels otherwise"
        raise kinds[True].row.fault(what, "clip it to the image", "region")
    if len(scored) == 2:
        what = f"has a box without a score, but row {scored[False].row.row} has scores"
        raise scored[True].row.fault(what, "give every box a score, or none")
    return "" if not kinds else "pixels" if True in kinds else "fractions"


def _checked(found: Sequence[_Found], size: Size, unit: str) -> list[tuple[Box, float | None]]:
    """The boxes of one sample in pixels of its image of (width, height) `size`. Raises DataError."""
    width, height = size
    x, y = (width, height) if unit == "fractions" else (1, 1)
    boxes: dict[Box, _Found] = {}
    for one in found:
        said = f"has the box {list(one.box)}"
        if one.box[2] <= one.box[0] or one.box[3] <= one.box[1]:
            raise one.row.fault(f"{said}, which has no area", "give x1 < x2 and y1 < y2, or no box", "region")
        x1, y1, x2, y2 = one.box[0] * x, one.box[1] * y, one.box[2] * x, one.box[3] * y
        clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        slack = max(_SLACK, (_ROUNDED - 1) * max(size))
        beyond = min(x1, y1) < -slack or x2 > width + slack or y2 > height + slack
        if beyond or clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            what = f"{said}, which extends beyond its image of {width} x {height} pixels"
            raise one.row.fault(what, "clip it, or remove it", "region")
        if other := boxes.get(clipped):
            what = said if other.row.row == one.row.row else f"{said}, as row {other.row.row}"
            raise one.row.fault(f"{what} twice for one sample", "remove one of them", "duplicate")
        boxes[clipped] = one
    return [(box, one.score) for box, one in boxes.items()]
