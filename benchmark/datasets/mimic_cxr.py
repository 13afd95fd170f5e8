"""MIMIC-CXR as a training set: `data prepare` writes an index of frontal images with report texts, training reads it.

MIMIC-CXR-JPG (Johnson et al. 2019) has the images, their splits and their views, MIMIC-CXR the reports. Preparing reads
tables and reports, but opens no image.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.base import ALL
from gtg_bench.benchmark.datasets.locate import existing, find_image, image_bases
from gtg_bench.benchmark.datasets.mimic_reports import Reports
from gtg_bench.benchmark.datasets.problems import Fault, Problem, fault
from gtg_bench.benchmark.datasets.tables import Row, iter_rows, shown
from gtg_bench.benchmark.datasets.training import (
    BAD_ROW,
    DUPLICATE,
    MOST_PROBLEMS,
    NO_IMAGE,
    TRAINING_SETS,
    PairedSet,
    TrainingPair,
)
from gtg_bench.benchmark.paths import atomic, check_writable

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "mimic-cxr"
FRONTAL = ("AP", "PA")
SPLITS = ("train", "validate", "test")
COLUMNS = ("dicom_id", "subject_id", "study_id", "split", "view", "image", "text", "section")
"""The columns of the index, all text; `image` is relative to the MIMIC-CXR-JPG root."""

FORMAT = "1"
"""Changes with what the index contains for the same files."""

INDEX = "mimic-cxr.parquet"
"""The index in the data root, unless the option `index` names another."""

NO_METADATA, VIEW = "not in the metadata table", "not a frontal view"
NO_REPORT, BAD_REPORT, EMPTY = "report not found", "report cannot be read", "report has no text"
REASONS = (BAD_ROW, DUPLICATE, NO_METADATA, VIEW, NO_REPORT, BAD_REPORT, EMPTY, NO_IMAGE)
"""Why an image is left out, in the order of the checks."""

Progress = Callable[[int, int], None]
"""Called with (frontal images done, frontal images in all)."""

Outcome = dict[str, str] | tuple[str, Problem | None]
"""A row of the index; or the reason why there is none, and the problem."""

_AGAIN = "download it again from MIMIC-CXR-JPG"
_NAMES = ("dicom_id", "subject_id", "study_id", "split")
_DICOM, _NUMBER = re.compile(r"[\w-][\w.-]*", re.ASCII), re.compile(r"[0-9]{2,}")


@dataclass
class Prepared:
    """What became of the images in the split table.

    Attributes:
        index: the Parquet file that was written.
        rows: rows of the split table.
        kept: split -> images in the index.
        sections: section of the report -> images in the index.
        views: view -> images in the index.
        dropped: one of REASONS -> images that were left out.
        other_views: view -> images that were left out because of it.
        problems: what is wrong with rows and files, at most MOST_PROBLEMS per reason.
        fail_fast: whether to stop at the first problem.
    """

    index: Path
    rows: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    sections: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    other_views: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    fail_fast: bool = False

    def leave_out(self, reason: str, problem: Problem | None = None) -> None:
        """Count an image that is left out. Raises Fault if there is a problem and `fail_fast`."""
        self.dropped[reason] += 1
        if problem is not None:
            self.note(problem, self.dropped[reason])

    def note(self, problem: Problem, number: int) -> None:
        """Keep a problem, the `number`-th of its reason. Raises Fault if `fail_fast`."""
        if self.fail_fast:
            raise Fault(problem)
        if number <= MOST_PROBLEMS:
            self.problems.append(problem)

    def counts(self) -> dict[str, Any]:
        """Every count, as plain JSON values."""
        dropped = {reason: self.dropped[reason] for reason in REASONS if self.dropped[reason]}
        names = ("kept", "sections", "views", "other_views")
        found = {name: dict(sorted(getattr(self, name).items())) for name in names}
        return {"rows": self.rows, **found, "dropped": dropped}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        problems = [problem.as_json() for problem in self.problems]
        return {"index": str(self.index), **self.counts(), "problems": problems}


class Image(NamedTuple):
    """A usable row of the split table with its view; `line` is its line there."""

    line: int
    dicom: str
    subject: str
    study: str
    split: str
    view: str

    @property
    def patient_folder(self) -> str:
        """The patient's folder below `files`, the same in both projects."""
        return f"p{self.subject[:2]}/p{self.subject}"


def prepare(
    root: Path,
    options: Mapping[str, str],
    to: Path,
    progress: Progress = lambda done, total: None,
    fail_fast: bool = False,
) -> Prepared:
    """Write the index of frontal images whose report has a text.

    Args:
        root: MIMIC-CXR-JPG's folder, with its tables of splits and metadata, and `files/`.
        options: `reports` (MIMIC-CXR's folder or its mimic-cxr-reports.zip; default: the root), `images` (the folder
            that contains `files/`, if not the root).
        to: the Parquet file to write.
        progress: called after each study.
        fail_fast: stop at the first row or file with a problem, and write nothing.

    Raises:
        UsageError: unknown folder or option.
        DataError: a table cannot be used, or no image can; with `fail_fast`, any problem.
    """
    if unknown := sorted(set(options) - {"reports", "images"}):
        raise UsageError(f"{NAME} has no option {unknown[0]!r}; choose from: reports, images")
    if to.is_dir():
        raise UsageError(f"--out {to} is a folder; name a file, such as {to / INDEX}")
    check_writable(to)
    split_table, metadata = _table(root, "split"), _table(root, "metadata")
    bases = image_bases(NAME, root, options.get("images"))
    if not existing(base / "files" for base in bases):
        fix = "point --data-root, or --dataset-option images=DIR, at the folder of MIMIC-CXR-JPG"
        raise fault(bases[0] / "files", "folder not found, so there are no images", fix)
    reports = Reports.open(root, options.get("reports"))
    made = Prepared(to, fail_fast=fail_fast)
    images = list(_frontal(split_table, _views(metadata, made), made))
    studies = [list(group) for _, group in groupby(images, key=lambda image: (image.subject, image.study))]
    rows, done = [], 0
    with ThreadPool(8) as pool:
        for outcomes in pool.imap(lambda study: _look_up(study, reports, bases, split_table), studies, chunksize=16):
            for outcome in outcomes:
                if isinstance(outcome, tuple):
                    made.leave_out(*outcome)
                else:
                    rows.append(outcome)
            done += len(outcomes)
            progress(done, len(images))
    if not rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in made.counts()["dropped"].items())
        first = next((f"; the first problem: {problem}" for problem in made.problems), "")
        fix = f"check --data-root and --dataset-option reports=DIR{first}"
        raise fault(split_table, f"none of its {made.rows} images can be used ({reasons})", fix)
    for counter, name in ((made.kept, "split"), (made.sections, "section"), (made.views, "view")):
        counter.update(row[name] for row in rows)
    _write(to, rows, made)
    return made


def _table(root: Path, kind: str) -> Path:
    """The table of splits or metadata. Raises Fault if it is missing."""
    found = next(iter(sorted(root.glob(f"mimic-cxr-2.*-{kind}.csv*"))), None)
    if found is None:
        fix = "point --data-root at the folder of MIMIC-CXR-JPG, or download the table into it"
        raise fault(root / f"mimic-cxr-2.0.0-{kind}.csv.gz", "file not found", fix)
    return found


def _views(table: Path, made: Prepared) -> dict[str, str]:
    """DICOM id -> view ("" if the table gives none)."""
    views: dict[str, str] = {}
    broken = 0
    for row in iter_rows(table, ("dicom_id", "ViewPosition"), complete=True):
        if row.broken:
            broken += 1
            made.note(row.broken, broken)
        else:
            views[row.values["dicom_id"].strip()] = sys.intern(row.values["ViewPosition"].strip().upper())
    return views


def _frontal(table: Path, views: Mapping[str, str], made: Prepared) -> Iterator[Image]:
    """The frontal images of the split table; the other rows are counted in `made`."""
    seen: set[str] = set()
    for row in iter_rows(table, _NAMES, complete=True):
        made.rows += 1
        dicom, subject, study, split = values = [row.values[name].strip() for name in _NAMES]
        if problem := row.broken or _wrong(row, *values):
            made.leave_out(BAD_ROW, problem)
            continue
        view = views.get(dicom)
        if dicom in seen:
            made.leave_out(DUPLICATE, row.problem(f"image {dicom} appears twice", "remove one of them", "duplicate"))
        elif view is None:
            made.leave_out(NO_METADATA, row.problem(f"image {dicom} is not in the metadata table", _AGAIN))
        elif view not in FRONTAL:
            made.leave_out(VIEW)
            made.other_views[view or "not given"] += 1
        else:
            yield Image(int(row.row), dicom, subject, study, split, view)
        seen.add(dicom)


def _wrong(row: Row, dicom: str, subject: str, study: str, split: str) -> Problem | None:
    """What is wrong with the values of a row of the split table."""
    for name, value in (("subject_id", subject), ("study_id", study)):
        if not _NUMBER.fullmatch(value):
            return row.problem(f"{name} is {shown(value)}, not a number")
    if not _DICOM.fullmatch(dicom):
        return row.problem(f"dicom_id is {shown(dicom)}, not a valid image name")
    if split not in SPLITS:
        return row.problem(f"has split {shown(split)}", f"use one of {', '.join(SPLITS)}", "split")
    return None


def _look_up(study: Sequence[Image], reports: Reports, bases: Sequence[Path], table: Path) -> list[Outcome]:
    """The outcome for each image of a study."""
    try:
        text, section = reports.excerpt(f"{study[0].patient_folder}/s{study[0].study}.txt")
    except Fault as error:
        problem, reason = error.problem, NO_REPORT if error.problem.kind == "missing" else BAD_REPORT
        return [(reason, _of_row(table, image, f"its report {problem.file}", problem)) for image in study]
    return [_row(image, text, section, bases, table) if text else (EMPTY, None) for image in study]


def _row(image: Image, text: str, section: str, bases: Sequence[Path], table: Path) -> Outcome:
    """The row of the index for an image whose report has a text."""
    folder = f"files/{image.patient_folder}/s{image.study}"
    names = [f"{folder}/{image.dicom}{suffix}" for suffix in (".jpg", ".png", ".dcm")]
    path, reason = find_image(names, bases)
    if path is None:
        what = f"file not found{reason and f' ({reason})'}"
        problem = Problem("missing", bases[0] / names[0], None, what, f"add it to {bases[0]}")
        return NO_IMAGE, _of_row(table, image, f"its image {problem.file}", problem)
    name = f"{folder}/{path.name}"
    values = (image.dicom, image.subject, image.study, image.split, image.view, name, text, section)
    return dict(zip(COLUMNS, values, strict=True))


def _of_row(table: Path, image: Image, whose: str, problem: Problem) -> Problem:
    """A problem with a file, as a problem with the row that names it."""
    return Problem(problem.kind, table, image.line, f"{whose}: {problem.what}", problem.fix, problem.file)


def _write(to: Path, rows: Sequence[dict[str, str]], made: Prepared) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = json.dumps({"format": FORMAT, **made.counts()})
    schema = pa.schema([(name, pa.string()) for name in COLUMNS], metadata={"gtg_bench": facts})
    with atomic(to) as part:
        pq.write_table(pa.Table.from_pylist(list(rows), schema), part)


class MimicCxrTraining(PairedSet):
    """The pairs of an index that `data prepare mimic-cxr` wrote; its texts are kept in memory, its images are not.

    Options: `index` (the file, relative to the data root or the working folder), `images` (the folder with `files/`).
    """

    name = NAME
    known = ("index", "images")

    def __init__(self, data_root: Path, options: Mapping[str, str], split: str) -> None:
        super().__init__(options, split)
        self.check_split(TRAINING_SETS[self.name].splits)
        self.bases = image_bases(self.name, data_root, self.options.get("images"))
        chosen = Path(self.options.get("index", INDEX))
        self.index = next((path for path in (data_root / chosen, chosen) if os.path.isfile(path)), data_root / chosen)
        self._table = _read_index(self.index, split)
        if not self._table.num_rows:
            fix = f"rerun `gtg-bench data prepare mimic-cxr --data-root DIR --out {self.index}`"
            raise fault(self.index, f"has no images of split {split!r}", fix)

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, number: int) -> TrainingPair:
        row = {name: self._table.column(name)[number].as_py() for name in ("dicom_id", "subject_id", "image", "text")}
        path = find_image([row["image"]], self.bases)[0] or self.bases[0] / row["image"]
        return TrainingPair(row["dicom_id"], f"p{row['subject_id']}", path, row["text"])

    def texts(self) -> Iterable[tuple[str, str]]:
        """See `PairedSet`."""
        columns = [self._table.column(name).to_pylist() for name in ("dicom_id", "text")]
        return zip(*columns, strict=True)


def _read_index(path: Path, split: str) -> pa.Table:
    """The rows of a split. Raises Fault if the file is missing, damaged or not an index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fix = f"write it with gtg-bench data prepare mimic-cxr --data-root DIR --out {path}"
    if not os.path.isfile(path):
        raise fault(path, "file not found", f"{fix}, or name yours with --data-option index=FILE")
    try:
        columns = pq.read_schema(path).names
        if missing := [name for name in COLUMNS if name not in columns]:
            raise fault(path, f"is not an index of MIMIC-CXR: it has no column {missing[0]!r}", fix)
        filters = None if split == ALL else [("split", "=", split)]
        return pq.read_table(path, columns=list(COLUMNS), filters=filters).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise fault(path, f"cannot be read as Parquet ({error})", fix) from error
