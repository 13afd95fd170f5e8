"""MIMIC-CXR as a training set: from the publishers' files to one index of frontal images with their reports' texts.

MIMIC-CXR-JPG (Johnson et al. 2019) has the images, their splits and their views, MIMIC-CXR the reports. Tables are
streamed and reports read one by one; no image is opened.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.mimic_split import USUAL_NAME, find_split_table
from gtg_bench.benchmark.datasets.places import existing, find_image, image_bases
from gtg_bench.benchmark.datasets.problems import Fault, Problem, fault
from gtg_bench.benchmark.datasets.reports import Reports
from gtg_bench.benchmark.datasets.rows import Row, shown
from gtg_bench.benchmark.paths import atomic

NAME = "mimic-cxr"
FRONTAL = ("AP", "PA")
SPLITS = ("train", "validate", "test")
COLUMNS = ("dicom_id", "subject_id", "study_id", "split", "view", "image", "text", "section")
"""Of the index, all texts; `image` is relative to the MIMIC-CXR-JPG root."""

FORMAT = "1"
"""Changes with what the index holds for the same files."""

SUFFIXES = (".jpg", ".png", ".dcm")
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"

ROW, TWICE, NO_METADATA = "row cannot be used", "row repeats another", "not in the metadata table"
VIEW, NO_REPORT, BAD_REPORT = "no frontal view", "report is not there", "report cannot be read"
EMPTY, NO_IMAGE = "report has no text", "image is not there"
REASONS = (ROW, TWICE, NO_METADATA, VIEW, NO_REPORT, BAD_REPORT, EMPTY, NO_IMAGE)
"""Why an image is left out, in the order in which it is looked at."""

MOST_PROBLEMS = 500
"""Of a kind; the counts go on."""

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""

Kept = dict[str, str]
"""A row of the index."""

Left = tuple[str, Problem | None]
"""Why there is none, and what is wrong."""

_AGAIN = "download it again from MIMIC-CXR-JPG"
_CHUNK, _READERS = 1000, 8
_NAMES = ("dicom_id", "subject_id", "study_id", "split")
_DICOM, _NUMBER = re.compile(r"[\w-][\w.-]*", re.ASCII), re.compile(r"[0-9]{2,}")


@dataclass
class Prepared:
    """What became of the images of the split table.

    Attributes:
        index: the Parquet file that was written.
        rows: of the split table.
        kept: split -> images in the index.
        sections: section of the report -> images in the index.
        views: view -> images in the index.
        dropped: one of REASONS -> images that were left out.
        other_views: view -> images that were left out because of it.
        problems: what is wrong with rows and files, at most MOST_PROBLEMS of a reason.
        fail_fast: whether the first problem ends it.
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
        """Count an image that is left out. Raises Fault where `fail_fast` and something is wrong."""
        self.dropped[reason] += 1
        if problem is not None:
            self.note(problem, self.dropped[reason])

    def note(self, problem: Problem, number: int) -> None:
        """Keep a problem, the `number`-th of its kind. Raises Fault where `fail_fast`."""
        if self.fail_fast:
            raise Fault(problem)
        if number <= MOST_PROBLEMS:
            self.problems.append(problem)

    def sorted_out(self, outcomes: Iterable[Kept | Left]) -> list[Kept]:
        """The rows of the index among what was found; everything is counted. Raises Fault where `fail_fast`."""
        rows = []
        for outcome in outcomes:
            if isinstance(outcome, tuple):
                self.leave_out(*outcome)
                continue
            rows.append(outcome)
            for counter, name in ((self.kept, "split"), (self.sections, "section"), (self.views, "view")):
                counter[outcome[name]] += 1
        return rows

    def counts(self) -> dict[str, Any]:
        """Every count, as plain JSON values."""
        dropped = {reason: self.dropped[reason] for reason in REASONS if self.dropped[reason]}
        names = ("kept", "sections", "views", "other_views")
        found = {name: dict(sorted(getattr(self, name).items())) for name in names}
        return {"rows": self.rows, **found, "dropped": dropped}

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, whole paths."""
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
        """As both projects have it below `files`."""
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
        options: `reports` (MIMIC-CXR's folder, or its mimic-cxr-reports.zip; default: the root), `images` (where
            `files/` lies if not in the root).
        to: the Parquet file to write.
        progress: called now and then.
        fail_fast: end at the first row or file that is wrong, and write nothing.

    Raises:
        UsageError: there is no such folder or option.
        DataError: a table cannot be used, or no image can; with `fail_fast`, anything that is wrong.
    """
    if unknown := sorted(set(options) - {"reports", "images"}):
        raise UsageError(f"{NAME} has no option {unknown[0]!r}; it has: reports, images")
    if to.is_dir():
        raise UsageError(f"--out {to} is a folder; name a file to write, such as {to / 'mimic-cxr.parquet'}")
    tables = _tables(root)
    bases = _bases(root, options.get("images"))
    reports = Reports.open(root, options.get("reports"))
    made = Prepared(to, fail_fast=fail_fast)
    views = _views(tables[1], made)
    images = _images(tables[0], views, made)
    with _writer(to, made) as write, ThreadPoolExecutor(_READERS) as pool:
        studies = groupby(images, key=lambda image: (image.subject, image.study))
        while chunk := [list(group) for _, group in islice(studies, _CHUNK)]:
            found = pool.map(lambda study: _look(study, reports, bases, tables[0]), chunk)
            write([outcome for outcomes in found for outcome in outcomes])
            progress(made.rows, max(len(views), made.rows))
        if not made.kept:
            raise _nothing(tables[0], made)
    return made


def _tables(root: Path) -> tuple[Path, Path]:
    """The tables of splits and of metadata. Raises Fault where one is not there."""
    fix = "point --data-root at the folder of MIMIC-CXR-JPG, or download the table into it"
    split, metadata = find_split_table([root]), next(iter(sorted(root.glob("mimic-cxr-2.*-metadata.csv*"))), None)
    if split is None or metadata is None:
        raise fault(root / (USUAL_NAME if split is None else METADATA), "there is no such file", fix)
    return split, metadata


def _bases(root: Path, chosen: str | None) -> list[Path]:
    """The folders that `files/` with the images lies in. Raises Fault where it does not."""
    bases = image_bases(NAME, root, chosen)
    if not existing(base / "files" for base in bases):
        fix = "point --data-root, or --dataset-option images=DIR, at the folder of MIMIC-CXR-JPG"
        raise fault(bases[0] / "files", "there is no such folder, so no image either", fix)
    return bases


def _views(table: Path, made: Prepared) -> dict[str, str]:
    """DICOM id -> view ("" where the table gives none)."""
    views: dict[str, str] = {}
    known: dict[str, str] = {}
    broken = 0
    for row in _rows(table, ("dicom_id", "ViewPosition")):
        if row.broken:
            broken += 1
            made.note(row.broken, broken)
            continue
        view = row.values["ViewPosition"].upper()
        views[row.values["dicom_id"]] = known.setdefault(view, view)
    return views


def _images(table: Path, views: Mapping[str, str], made: Prepared) -> Iterator[Image]:
    """The frontal images of the split table; what becomes of the other rows is noted."""
    seen: set[str] = set()
    for row in _rows(table, _NAMES):
        made.rows += 1
        if problem := row.broken or _wrong(row):
            made.leave_out(ROW, problem)
            continue
        dicom, subject, study, split = (row.values[name] for name in _NAMES)
        view = views.get(dicom)
        if dicom in seen:
            made.leave_out(TWICE, row.problem(f"image {dicom} is there twice", "take one of the rows out", "duplicate"))
        elif view is None:
            made.leave_out(NO_METADATA, row.problem(f"image {dicom} is not in the metadata table", _AGAIN))
        elif view not in FRONTAL:
            made.leave_out(VIEW)
            made.other_views[view or "not given"] += 1
        else:
            yield Image(int(row.row), dicom, subject, study, split, view)
        seen.add(dicom)


def _wrong(row: Row) -> Problem | None:
    """What is wrong with the values of a row of the split table."""
    values = row.values
    for name in ("subject_id", "study_id"):
        if not _NUMBER.fullmatch(values[name]):
            return row.problem(f"{name} is {shown(values[name])}, not a number")
    if not _DICOM.fullmatch(values["dicom_id"]):
        return row.problem(f"dicom_id is {shown(values['dicom_id'])}, not the name of an image")
    if values["split"] not in SPLITS:
        return row.problem(f"its split is {shown(values['split'])}", f"use one of {', '.join(SPLITS)}", "split")
    return None


def _look(study: Sequence[Image], reports: Reports, bases: Sequence[Path], table: Path) -> list[Kept | Left]:
    """For each image of a study its row of the index, or why there is none."""
    first = study[0]
    try:
        text, section = reports.excerpt(f"{first.patient_folder}/s{first.study}.txt")
    except Fault as error:
        reason = NO_REPORT if error.problem.kind == "missing" else BAD_REPORT
        return [(reason, _of_row(table, image, f"its report {error.problem.file}", error.problem)) for image in study]
    return [_row(image, text, section, bases, table) if text else (EMPTY, None) for image in study]


def _row(image: Image, text: str, section: str, bases: Sequence[Path], table: Path) -> Kept | Left:
    """The row of the index for an image, if the image is there."""
    folder = f"files/{image.patient_folder}/s{image.study}"
    names = [f"{folder}/{image.dicom}{suffix}" for suffix in SUFFIXES]
    found = find_image(names, bases)
    if found.path is None:
        what = f"there is no such file{found.reason and f' ({found.reason})'}"
        problem = Problem("missing", bases[0] / names[0], None, what, f"add it to {bases[0]}")
        return NO_IMAGE, _of_row(table, image, f"its image {problem.file}", problem)
    name = f"{folder}/{found.path.name}"
    values = (image.dicom, image.subject, image.study, image.split, image.view, name, text, section)
    return dict(zip(COLUMNS, values, strict=True))


def _of_row(table: Path, image: Image, whose: str, problem: Problem) -> Problem:
    """A problem with a file as one of the row that names it."""
    return Problem(problem.kind, table, image.line, f"{whose}: {problem.what}", problem.fix, problem.file)


@contextmanager
def _writer(to: Path, made: Prepared) -> Iterator[Callable[[Iterable[Kept | Left]], None]]:
    """A function that writes rows and counts them; the file is there when all went well."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    try:
        with atomic(to) as part, pq.ParquetWriter(part, schema) as file:

            def write(outcomes: Iterable[Kept | Left]) -> None:
                if rows := made.sorted_out(outcomes):
                    file.write_table(pa.Table.from_pylist(rows, schema))

            yield write
            file.add_key_value_metadata({"gtg_bench": json.dumps({"format": FORMAT, **made.counts()})})
    except OSError as error:
        raise fault(to, f"cannot be written ({error})", "check the folder and the room on its disk") from error


def _nothing(table: Path, made: Prepared) -> Fault:
    """The error that no image is left."""
    reasons = ", ".join(f"{reason}: {count}" for reason, count in made.counts()["dropped"].items())
    first = next((f"; the first one: {problem}" for problem in made.problems), "")
    fix = f"check --data-root and --dataset-option reports=DIR{first}"
    return fault(table, f"none of its {made.rows} images can be used ({reasons})", fix)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Stream some columns of a CSV file, gzipped or not.

    Raises:
        Fault: the file is damaged (says after which row), empty, or has no such column.
    """
    line = 1
    try:
        with _opened(path) as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if missing := [name for name in columns if name not in header]:
                there = ", ".join(header)[:300] or "no named column"
                raise fault(path, f"has no column {missing[0]!r}; it has {there}", _AGAIN)
            places = [(name, header.index(name)) for name in columns]
            for values in reader:
                start, line = line + 1, reader.line_num
                if values:
                    yield _values(path, start, values, len(header), places)
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise fault(path, f"cannot be read beyond this row ({error})", _AGAIN, line) from error


def _values(path: Path, line: int, values: list[str], count: int, places: Sequence[tuple[str, int]]) -> Row:
    """A row by column names; broken where it has another number of values, or is not UTF-8."""
    if len(values) != count:
        what = f"has {len(values)} values for {count} columns"
        return Row(path, line, {}, Problem("row", path, line, what, _AGAIN))
    row = Row(path, line, {name: values[place].strip() for name, place in places})
    if any("\ufffd" in value or "\0" in value for value in row.values.values()):
        return Row(path, line, row.values, Problem("row", path, line, "is not UTF-8 text", _AGAIN))
    return row


def _opened(path: Path) -> TextIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open("r", encoding="utf-8-sig", errors="replace", newline="")
