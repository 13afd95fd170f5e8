"""From records to CSV: one row a run, and one a run and category. Every mean carries its counts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import GTG
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.spec import RunSpec
from gtg_bench.benchmark.statistics import bootstrap_averages

Row = dict[str, str]
SETTINGS = (
    "dataset",
    "dataset_version",
    "dataset_options",
    "split",
    "limit",
    "method",
    "weights",
    "weights_version",
    "sampling",
    "latent",
    "tokens",
    "lexicon",
    "bbm",
    "profile",
    "precision",
    "steps",
    "last_steps",
    "guidance",
    "layers",
    "frame",
    "uncovered",
    "protocol",
    "control",
    "seed",
)
COUNTS = ("n_total", "n_ok", "n_unscorable", "n_failed")
PARTIAL = ("cnr", "specificity")
"""Metrics that are undefined for some scorable samples: their own counts stand beside them."""

BOUNDS = ("low", "high")
"""95 % bounds of a mean, by the bootstrap over patients; empty where there are fewer than two."""

OTHER_AVERAGES = {"macro": "macro", "freq2": "frequency2"}
"""Column suffix -> the average that stands beside the plain mean over samples; see `benchmark.statistics.averages`."""

_COUNTED = (*COUNTS, *GTG, *(f"n_{name}" for name in PARTIAL), *(f"{name}_{end}" for name in GTG for end in BOUNDS))
COLUMNS = (*SETTINGS, *_COUNTED, *(f"{name}_{kind}" for name in GTG for kind in OTHER_AVERAGES), "run_key")
CATEGORY_COLUMNS = (*SETTINGS, "category", *_COUNTED, "run_key")
_COMPARABLE = ("dataset", "dataset_version", "dataset_options", "split", "limit", "frame", "uncovered", "protocol")
_DECIMALS = 5


def update(folder: Path, spec: RunSpec, records: Sequence[SampleRecord]) -> Row:
    """Put a run's rows into `<dataset>.csv` and `<dataset>.by_category.csv`, atomically; return its overall row."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = _settings(spec)
    overall = settings | _measured(records) | {"run_key": spec.key}
    categories = [
        settings | {"category": name} | _measured(part) | {"run_key": spec.key} for name, part in _grouped(records)
    ]
    with FileLock(folder / f".{spec.dataset}.lock"):
        _replace(folder / f"{spec.dataset}.csv", COLUMNS, [overall])
        _replace(folder / f"{spec.dataset}.by_category.csv", CATEGORY_COLUMNS, categories)
    return overall


def read(path: Path) -> list[Row]:
    """The rows of a leaderboard; none where there is no file. Raises DataError for a file that is no leaderboard."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    missing = {"run_key", "method"} - set(reader.fieldnames or ())
    if missing:
        raise DataError(f"{path} is no leaderboard: column {sorted(missing)[0]} is missing; move it away and rerun")
    return rows


def beside(folder: Path, row: Row) -> list[Row]:
    """The rows measured on the same samples by the same protocol as `row`, itself included."""
    rows = read(folder / f"{row['dataset']}.csv")
    return [other for other in rows if all(other.get(name, "") == row[name] for name in _COMPARABLE)]


def mean(records: Iterable[SampleRecord], metric: str) -> float | None:
    """The plain mean over the ok samples where the metric is defined; None where it is nowhere."""
    values = [record.metrics[metric] for record in records if record.status == "ok" and metric in record.metrics]
    return sum(values) / len(values) if values else None


def _settings(spec: RunSpec) -> Row:
    return {name: _text(getattr(spec, name)) for name in SETTINGS}


def _measured(records: Sequence[SampleRecord]) -> Row:
    row = {"n_total": str(len(records))}
    for status in ("ok", "unscorable", "failed"):
        row[f"n_{status}"] = str(sum(record.status == status for record in records))
    for metric in GTG:
        row |= _estimated(records, metric)
    for metric in PARTIAL:
        row[f"n_{metric}"] = str(sum(r.status == "ok" and metric in r.metrics for r in records))
    return row


def _estimated(records: Sequence[SampleRecord], metric: str) -> Row:
    """A metric's mean over the ok samples, its bounds, and its other averages; empty where there is none."""
    ok = [record for record in records if record.status == "ok"]
    values = [record.metrics.get(metric) for record in ok]
    found = bootstrap_averages(values, [record.category for record in ok], [record.patient_id for record in ok])
    overall = found["overall"]
    cells = {metric: overall.value, f"{metric}_low": overall.low, f"{metric}_high": overall.high}
    cells |= {f"{metric}_{end}": found[kind].value for end, kind in OTHER_AVERAGES.items()}
    return {name: "" if value is None else f"{value:.{_DECIMALS}f}" for name, value in cells.items()}


def _grouped(records: Sequence[SampleRecord]) -> list[tuple[str, list[SampleRecord]]]:
    names = sorted({record.category for record in records})
    return [(name, [record for record in records if record.category == name]) for name in names]


def _replace(path: Path, columns: Sequence[str], rows: list[Row]) -> None:
    keys = {row["run_key"] for row in rows}
    kept = [row for row in read(path) if row["run_key"] not in keys]
    merged = sorted(
        [*kept, *rows], key=lambda row: [row.get(name) or "" for name in (*SETTINGS, "category", "run_key")]
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    with atomic(path) as part:
        part.write_text(text.getvalue())


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
