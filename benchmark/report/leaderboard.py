"""From records to CSV: one row a run, and one a run and category. Every mean carries its counts.

One file a definition of the numbers in it (`protocols.definition`): `<dataset>.csv` for the paper's protocol as it is,
`<dataset>.strict.csv`, `<dataset>.gtg+original.csv` and so on for others, each with a `.by_category.csv` beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.runs.spec import COLUMNS, RunSpec
from gtg_bench.benchmark.scoring.protocols import FRAMES, MASK, PROTOCOL, UNCOVERED, Protocol, definition, find_protocol
from gtg_bench.benchmark.statistics import AVERAGES, bootstrap_averages

Row = dict[str, str]
COUNTS = ("n_total", "n_ok", "n_unscorable", "n_failed")
BOUNDS = ("low", "high")
"""95 % bounds of a mean, by the bootstrap over patients; empty where there are fewer than two."""

SUFFIXES = {"overall": "", "macro": "_macro", "frequency2": "_freq2"}
"""Average over a data set -> what its column is called after the metric; see `benchmark.statistics.averages`."""

RANK_GROUP = "rank_group"
"""Column of the group of rows that cannot be told apart, 1 the best; see `benchmark.rank_groups`."""

BY_CATEGORY = "by_category"
_COMPARABLE = ("dataset", "dataset_version", "dataset_options", "split", "limit")
_OLDER = {
    "frame": FRAMES[0],
    "uncovered": UNCOVERED[0],
    "mask": MASK,
    "protocol": PROTOCOL,
    "protocol_version": "1",
}
"""What rows were measured with that were written before there was such a column."""

_DECIMALS = 5


def columns(rules: Protocol, category: bool = False) -> tuple[str, ...]:
    """The columns of a leaderboard.

    Counts of their own stand beside the metrics that are undefined for some scorable samples; bounds beside the plain
    mean and the protocol's headline.

    Args:
        rules: whose metrics they are.
        category: of the rows by category, which have no other averages.
    """
    names = rules.metrics
    partial = tuple(f"n_{name}" for name in names if METRICS[name].partial)
    bounds = tuple(f"{name}_{end}" for name in names for end in BOUNDS)
    if category:
        return (*COLUMNS, "category", *COUNTS, *names, *partial, *bounds, "run_key")
    averages = tuple(f"{name}{suffix}" for name in names for suffix in SUFFIXES.values() if suffix)
    headline = SUFFIXES[rules.average]
    averages += tuple(f"{name}{headline}_{end}" for name in names for end in BOUNDS if headline)
    return (*COLUMNS, *COUNTS, *names, *partial, *bounds, *averages, RANK_GROUP, "run_key")


def path_of(folder: Path, described: Mapping[str, str]) -> Path:
    """The leaderboard of a row: one file a data set and definition of its numbers.

    Args:
        folder: of the CSV files.
        described: a row, or a run's description as JSON.
    """
    named = definition(described)
    return folder / f"{described['dataset']}{'' if named == PROTOCOL else f'.{named}'}.csv"


def categories_of(path: Path) -> Path:
    """The leaderboard by category that belongs to a leaderboard."""
    return path.with_name(f"{path.stem}.{BY_CATEGORY}.csv")


def update(folder: Path, spec: RunSpec, records: Sequence[SampleRecord]) -> Row:
    """Put a run's rows into its leaderboard and that by category, atomically; return its overall row."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = find_protocol(spec.protocol)
    settings = _settings(spec)
    overall = settings | _measured(records, rules) | {"run_key": spec.key}
    parts = [
        settings | {"category": name} | _measured(part, rules) | {"run_key": spec.key}
        for name, part in _grouped(records)
    ]
    path = path_of(folder, settings)
    with FileLock(folder / f".{spec.dataset}.lock"):
        _put(folder, path, [overall], rules)
        _put(folder, categories_of(path), parts, rules)
    return overall


def read(path: Path) -> list[Row]:
    """The rows of a leaderboard; none where there is no file. Raises DataError for a file that is no leaderboard.

    Rows of an older layout are given the settings that all rows had then.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    missing = {"run_key", "method"} - set(reader.fieldnames or ())
    if missing:
        raise DataError(f"{path} is no leaderboard: column {sorted(missing)[0]} is missing; move it away and rerun")
    return [row | {name: row.get(name) or usual for name, usual in _OLDER.items()} for row in rows]


def beside(folder: Path, row: Row) -> list[Row]:
    """The rows measured on the same samples by the same definition as `row`, itself included."""
    return [other for other in read(path_of(folder, row)) if _alike(other, row)]


def _alike(other: Row, row: Row) -> bool:
    """Rows of an older layout may stand in a file that is no longer that of their definition."""
    same = all(other.get(name, "") == row[name] for name in _COMPARABLE)
    return same and definition(other) == definition(row)


def put_groups(folder: Path, row: Row, groups: Mapping[str, int]) -> None:
    """Write the rank groups of the rows beside `row`: run key -> group; rows of none are left without."""
    path, near = path_of(folder, row), {other["run_key"] for other in beside(folder, row)}
    with FileLock(folder / f".{row['dataset']}.lock"):
        rows = read(path)
        for one in rows:
            if one["run_key"] in near:
                one[RANK_GROUP] = str(groups.get(one["run_key"], ""))
        _write(path, columns(find_protocol(row["protocol"])), rows)


def mean(records: Iterable[SampleRecord], metric: str) -> float | None:
    """The plain mean over the ok samples where the metric is defined; None where it is nowhere."""
    values = [record.metrics[metric] for record in records if record.status == "ok" and metric in record.metrics]
    return sum(values) / len(values) if values else None


def _settings(spec: RunSpec) -> Row:
    values = spec.as_json()
    return {name: _text(values[name]) for name in COLUMNS}


def _measured(records: Sequence[SampleRecord], rules: Protocol) -> Row:
    row = {"n_total": str(len(records))}
    for status in ("ok", "unscorable", "failed"):
        row[f"n_{status}"] = str(sum(record.status == status for record in records))
    for metric in rules.metrics:
        row |= _estimated(records, metric)
        row[f"n_{metric}"] = str(sum(r.status == "ok" and metric in r.metrics for r in records))
    return row


def _estimated(records: Sequence[SampleRecord], metric: str) -> Row:
    """A metric's averages over the ok samples with their bounds; empty where there is none."""
    ok = [record for record in records if record.status == "ok"]
    values = [record.metrics.get(metric) for record in ok]
    found = bootstrap_averages(values, [record.category for record in ok], [record.patient_id for record in ok])
    cells: dict[str, float | None] = {}
    for kind in AVERAGES:
        name = f"{metric}{SUFFIXES[kind]}"
        cells |= {name: found[kind].value, f"{name}_low": found[kind].low, f"{name}_high": found[kind].high}
    return {name: "" if value is None else f"{value:.{_DECIMALS}f}" for name, value in cells.items()}


def _grouped(records: Sequence[SampleRecord]) -> list[tuple[str, list[SampleRecord]]]:
    names = sorted({record.category for record in records})
    return [(name, [record for record in records if record.category == name]) for name in names]


def _put(folder: Path, path: Path, rows: list[Row], rules: Protocol) -> None:
    """Put rows into a file; rows of an older layout that are of another definition move to the file of theirs."""
    by_category = path.stem.endswith(BY_CATEGORY)
    kept = {path: list(rows)}
    keys = {row["run_key"]: row for row in rows}
    for row in read(path):
        if row["run_key"] in keys and not by_category:  # the same run again: its rank stands until all are ranked anew
            keys[row["run_key"]][RANK_GROUP] = row.get(RANK_GROUP) or ""
        own = categories_of(path_of(folder, row)) if by_category else path_of(folder, row)
        if row["run_key"] in keys:
            continue
        if own not in kept:
            kept[own] = read(own)
        kept[own].append(row)
    for own, found in kept.items():
        _write(own, columns(rules if own == path else find_protocol(found[0]["protocol"]), by_category), found)


def _write(path: Path, names: Sequence[str], rows: list[Row]) -> None:
    """Columns that older rows do not have are empty."""
    merged = sorted(rows, key=lambda row: [row.get(name) or "" for name in (*COLUMNS, "category", "run_key")])
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    with atomic(path) as part:
        part.write_text(text.getvalue())


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
