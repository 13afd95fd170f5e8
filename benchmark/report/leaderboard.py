"""Leaderboards: CSV files with one row per run, and one per run and category. Every mean carries its counts.

There is one file per data set and definition of the numbers (`protocols.definition`): `<dataset>.csv` for the
paper's protocol, `<dataset>.gtg@2+original.csv` and so on, each with a `.by_category.csv` beside it.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, create_model

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.settings import AUTO, SETTINGS
from gtg_bench.benchmark.api.text import csv_cell, csv_text
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.paths import atomic, locked
from gtg_bench.benchmark.runs.labels import as_text
from gtg_bench.benchmark.runs.spec import COLUMNS, RunSpec
from gtg_bench.benchmark.scoring.protocols import DEFAULT, Protocol, definition, find_protocol
from gtg_bench.benchmark.state import numbered, one_line, problem, safe_name, warn
from gtg_bench.benchmark.statistics import bootstrap_averages

Row = dict[str, str]

REFERENCE = Path(__file__).parents[2] / "leaderboards" / "reference"
"""Folder of the shipped results; runs never write to it."""

COUNTS = ("n_total", "n_ok", "n_unscorable", "n_failed", "n_patients")
"""Samples, by status, and the patients of the ok ones. Files of earlier versions lack the patients."""
SUFFIXES = {"overall": "", "macro": "_macro", "frequency2": "_freq2"}
"""Average over a data set -> suffix of its column after the metric's name; see `benchmark.statistics.averages`."""

SAMPLES = ("dataset", "dataset_version", "dataset_options", "split", "limit")
"""Columns that rows measured on the same samples share."""

_NEEDED = (*(name for name in COLUMNS if name not in SETTINGS), "method", "seed", *COUNTS, "run_key")
_DECIMALS = 5

_Whole = Annotated[str, StringConstraints(pattern=r"^\d{0,9}$")]
_Count = Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")]
_Number = Annotated[str, StringConstraints(pattern=r"^(-?\d{1,9}(\.\d{1,20})?([eE][+-]?\d\d?)?)?$")]
_Text = Annotated[str, StringConstraints(pattern="^[^\0\ufffd]{0,4096}$")]
_Steps = Annotated[str, StringConstraints(pattern=rf"^(\d{{0,9}}|{AUTO})$")]
_NUMBERS: dict[str, Any] = {"steps": _Steps} | dict.fromkeys(("limit", "last_steps"), _Whole)
_NUMBERS |= {"guidance": _Number} | dict.fromkeys(("protocol_version", *COUNTS), _Count)
_TEXTS = {*COLUMNS, "category", "run_key"} - set(_NUMBERS)


class _Cells(BaseModel):
    """The cells of a row: columns that are not known are metrics."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, _Number]

    category: _Text = ""
    run_key: Annotated[_Text, StringConstraints(min_length=1)]


@cache
def _row() -> type[BaseModel]:
    settings = {name: (_NUMBERS.get(name, _Text), "") for name in (*COLUMNS, *COUNTS)}
    return create_model("Row", __base__=_Cells, **settings)  # type: ignore[call-overload]


def columns(rules: Protocol, category: bool = False) -> tuple[str, ...]:
    """The columns of a leaderboard: description, counts, means with their 95 % CI, other averages, run key.

    Metrics that can be undefined for a scorable sample have their own count. The protocol's main average has a CI too.

    Args:
        rules: protocol whose metrics they are.
        category: columns of the rows by category, which have no other averages.
    """
    names, ends = rules.metrics, ("low", "high")
    means = (*names, *(f"n_{name}" for name in names if METRICS[name].partial))
    means += tuple(f"{name}_{end}" for name in names for end in ends)
    if category:
        return (*COLUMNS, "category", *COUNTS, *means, "run_key")
    means += tuple(f"{name}{suffix}" for name in names for suffix in SUFFIXES.values() if suffix)
    main = SUFFIXES[rules.average]
    means += tuple(f"{name}{main}_{end}" for name in names for end in ends if main)
    return (*COLUMNS, *COUNTS, *means, "run_key")


def path_of(folder: Path, described: Mapping[str, str]) -> Path:
    """The file that holds a row.

    Args:
        folder: folder of the CSV files.
        described: a row, or a run's description as JSON.

    Raises:
        DataError: its names cannot be part of a file name.
    """
    named, dataset = definition(described), safe_name(described["dataset"], "data set")
    return folder / (dataset + ("" if named == DEFAULT else f".{safe_name(named, 'protocol')}") + ".csv")


def categories_of(path: Path) -> Path:
    """The file with the rows by category that belongs to a leaderboard."""
    return path.with_name(f"{path.stem}.by_category.csv")


def make_own(folder: Path) -> None:
    """Create a folder of results. Raises UsageError if it is that of the shipped ones."""
    if folder.resolve() == REFERENCE.resolve():
        raise UsageError(f"{folder} holds the shipped results; choose another --leaderboards-dir")
    folder.mkdir(parents=True, exist_ok=True)


def update(folder: Path, spec: RunSpec, records: Sequence[SampleRecord]) -> Row:
    """Write a run's rows into its leaderboard and the one by category, atomically; return its overall row.

    Raises:
        UsageError: the folder is that of the shipped results.
        DataError: an existing file is not a leaderboard of this version.
    """
    make_own(folder)
    rules, values = find_protocol(spec.protocol), spec.as_json()
    settings = {name: as_text(values[name]) for name in COLUMNS}
    overall = settings | measured(records, rules) | {"run_key": spec.key}
    parts = []
    for name in sorted({record.category for record in records}):
        part = measured([record for record in records if record.category == name], rules)
        parts.append(settings | {"category": name} | part | {"run_key": spec.key})
    path = path_of(folder, settings)
    with locked(folder / f".{spec.dataset}.lock"):
        _put(path, [overall], columns(rules))
        _put(categories_of(path), parts, columns(rules, category=True))
    return overall


def remove(folder: Path, spec: RunSpec) -> None:
    """Remove a run's rows from its leaderboard and the one by category."""
    rules, values = find_protocol(spec.protocol), spec.as_json()
    path = path_of(folder, {name: as_text(values[name]) for name in COLUMNS})
    for file, names in ((path, columns(rules)), (categories_of(path), columns(rules, category=True))):
        if any(row["run_key"] == spec.key for row in read(file)):
            with locked(folder / f".{spec.dataset}.lock"):
                write_csv(file, names, (row for row in read(file) if row["run_key"] != spec.key))


def read(path: Path) -> list[Row]:
    """The rows of a leaderboard; empty if the file is empty or missing. Damaged rows are skipped with a warning.

    A file that a spreadsheet program saved is read too, with semicolons between columns and decimal commas.

    Raises:
        DataError: it is not a leaderboard.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[Row], list[str], bool]:
    """The rows, the columns, and whether every row is there."""
    if not path.exists():
        return [], [], True
    try:
        head, *lines = re.split(r"\r\n|\r|\n", path.read_bytes().decode("utf-8-sig", errors="replace"))
        saved = ";" in head  # by a spreadsheet program
        names = _cells(head, saved)
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({one_line(str(error))}); move it away and rerun") from error
    if (head or any(lines)) and (missing := [name for name in _NEEDED if name not in names]):
        raise DataError(f"{path} is not a leaderboard: column {missing[0]} is missing; move the file away and rerun")
    rows, damaged = [], dict[int, str]()
    for number, line in enumerate(lines, 2):
        try:
            if any(cells := _cells(line, saved)):
                rows.append(_checked(names, cells, path, saved))
        except (csv.Error, ValidationError, DataError) as error:
            damaged[number] = problem(error) if isinstance(error, ValidationError) else one_line(str(error))
    if damaged:
        warn(f"{path}: {numbered(damaged)} and left out; correct or remove it, or rerun its `gtg-bench run`")
    return rows, names, not damaged


def _cells(line: str, saved: bool) -> list[str]:
    return [csv_text(cell) for cell in next(csv.reader([line], delimiter=";" if saved else ",", strict=True), [])]


def _checked(names: Sequence[str], cells: Sequence[str], path: Path, saved: bool) -> Row:
    """A row whose cells are valid and that belongs to this file. Raises ValidationError or DataError."""
    if len(cells) != len(names):
        raise DataError(f"it has {len(cells)} cells instead of {len(names)}")
    row = dict.fromkeys(COLUMNS, "") | dict(zip(names, cells, strict=True))
    if saved:
        row = {name: cell if name in _TEXTS else cell.replace(",", ".") for name, cell in row.items()}
    _row().model_validate(row)
    own = path_of(path.parent, row)
    if path not in (own, categories_of(own)):
        raise DataError(f"it belongs to {own.name}")
    return row


def comparable(folder: Path, row: Row) -> list[Row]:
    """The rows of a folder measured on the same samples by the same definition as `row`."""
    return [other for other in read(path_of(folder, row)) if all(other[name] == row[name] for name in SAMPLES)]


def mean(records: Iterable[SampleRecord], metric: str) -> float | None:
    """The plain mean over the ok samples that have the metric; None if there are none."""
    values = [record.metrics[metric] for record in records if record.status == "ok" and metric in record.metrics]
    return sum(values) / len(values) if values else None


def measured(records: Sequence[SampleRecord], rules: Protocol) -> Row:
    """Counts, and each metric's averages over the ok samples with their CI; empty where undefined."""
    row = {"n_total": str(len(records))}
    for status in ("ok", "unscorable", "failed"):
        row[f"n_{status}"] = str(sum(record.status == status for record in records))
    ok = [record for record in records if record.status == "ok"]
    row["n_patients"] = str(len({record.patient_id for record in ok}))
    categories, patients = [record.category for record in ok], [record.patient_id for record in ok]
    for metric in rules.metrics:
        values = [record.metrics.get(metric) for record in ok]
        row[f"n_{metric}"] = str(sum(value is not None for value in values))
        for kind, found in bootstrap_averages(values, categories, patients).items():
            name = f"{metric}{SUFFIXES[kind]}"
            for column, value in {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}.items():
                row[column] = "" if value is None else f"{value:.{_DECIMALS}f}"
    return row


def _put(path: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Write rows into a file, replacing those of the same runs; a damaged file is kept as `<name>.damaged`."""
    old, known, complete = _read(path)
    if strange := set(known) - set(names):
        raise DataError(f"{path} was written by another version (column {min(strange)}); move it away and rerun")
    if not complete:
        shutil.copyfile(path, path.with_name(f"{path.name}.damaged"))
    keys = {row["run_key"] for row in rows}
    kept = [*rows, *(row for row in old if row["run_key"] not in keys)]
    kept.sort(key=lambda row: [row.get(name) or "" for name in (*COLUMNS, "category", "run_key")])
    write_csv(path, names, ({name: row.get(name) or "" for name in names} for row in kept))


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows under a header, atomically; None becomes an empty cell."""
    with atomic(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
