"""Results by size of the region, number of boxes, side, phrase length, category, view, sex or age.

Every difference is A - B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gtg_bench.benchmark.analysis.compare import ALL, Difference, check_comparable, check_metrics, corrected
from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.statistics import Estimate, bootstrap, compare, paired

Bins = tuple[tuple[float, str], ...]
UNKNOWN = "unknown"

SIZES: Bins = ((0.01, "below 1 %"), (0.05, "1 to 5 %"), (0.15, "5 to 15 %"), (float("inf"), "15 % and more"))
"""Upper end (exclusive) of the region's share of the evaluation frame; the same for every data set."""

BOXES: Bins = ((2, "1 box"), (3, "2 boxes"), (float("inf"), "3 boxes and more"))
LENGTHS: Bins = ((4, "1 to 3 words"), (7, "4 to 6 words"), (11, "7 to 10 words"), (float("inf"), "11 words and more"))
AGES: Bins = ((18, "below 18"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"), (float("inf"), "80 and more"))
"""Upper end (exclusive) of the age in years."""

SIDES = ("left", "right", "bilateral", "none")

_CSV_RUN = ("n", "n_undefined", "n_patients", "mean", "low", "high")
_CSV_DIFFERENCE = ("difference", "difference_low", "difference_high", "p_value", "p_value_holm")
CSV_COLUMNS = ("by", "subgroup", "metric", "run", "run_key", *_CSV_RUN, *_CSV_DIFFERENCE)
"""Columns of the CSV file; `difference` is the first run minus the row's."""


TRAITS = ("view", "sex", "age")
"""Keys of BY that only some data sets know."""


@dataclass(frozen=True)
class Subgroup:
    """One metric on one subgroup."""

    by: str
    """What defines the subgroups, a key of BY; ALL for all samples."""
    name: str
    """Name of the subgroup."""
    metric: str
    """Name in METRICS."""
    estimates: tuple[Estimate, ...]
    """Each run's plain mean over its ok samples; no CI for fewer than two patients."""
    differences: tuple[Difference, ...]
    """The first run (A) minus each other (B) on shared samples; corrected over all subgroups and runs of the metric."""


def _binned(fact: str, bins: Bins, absent: str = UNKNOWN) -> tuple[Callable[[SampleRecord], str], tuple[str, ...]]:
    def name(record: SampleRecord) -> str:
        value = record.facts.get(fact)
        return absent if value is None else next(label for end, label in bins if float(value) < end)

    return name, (*(label for _, label in bins), absent)


BY: dict[str, tuple[Callable[[SampleRecord], str], tuple[str, ...]]] = {
    "size": _binned("region_share", SIZES),
    "boxes": _binned("n_boxes", BOXES, "mask"),
    "side": (lambda record: str(record.facts.get("side", UNKNOWN)), (*SIDES, UNKNOWN)),
    "length": _binned("n_words", LENGTHS),
    "category": (lambda record: record.category, ()),
    "view": (lambda record: str(record.facts.get("view", UNKNOWN)), ()),
    "sex": (lambda record: str(record.facts.get("sex", UNKNOWN)), ("female", "male", UNKNOWN)),
    "age": _binned("age", AGES),
}
"""Name -> function from a record to its subgroup, and the subgroups in order; unlisted ones follow alphabetically."""


def known_groups(records: Iterable[SampleRecord]) -> list[str]:
    """The keys of BY without those traits that no record has."""
    known = {name for record in records for name in record.facts}
    return [by for by in BY if by not in TRAITS or by in known]


def subgroups(runs: Sequence[FinishedRun], by: Sequence[str], metrics: Sequence[str] | None = None) -> list[Subgroup]:
    """Results of runs by subgroup.

    Args:
        runs: runs under the same conditions; the first is compared with each of the others.
        by: keys of BY.
        metrics: names in METRICS; None takes the primary metric of the first run's protocol.

    Returns:
        Metric by metric: all samples, then the non-empty subgroups of each `by`, in order.

    Raises:
        UsageError: an unknown metric, or runs under different conditions.
        DataError: a run without a scored sample, or whose records do not describe its samples.
    """
    metrics = list(metrics or (protocol_of(runs[0].spec.protocol).primary,))
    check_metrics(metrics)
    for run in runs:
        check_comparable(runs[0], run)
        ok = [record for record in run.records if record.status == "ok"]
        if not ok:
            raise DataError(f"{run.name} ({run.spec.key}) has no scored sample")
        if set(by) - {"category"} and not all(record.facts for record in ok):
            raise DataError(
                f"the records of {run.name} do not describe their samples; "
                f"score its maps again: gtg-bench score {' '.join(run.keys)}"
            )
    return [subgroup for metric in metrics for subgroup in _of_metric(runs, by, metric)]


def _of_metric(runs: Sequence[FinishedRun], by: Sequence[str], metric: str) -> list[Subgroup]:
    found = [_subgroup(ALL, ALL, metric, [[r for r in run.records if r.status == "ok"] for run in runs])]
    for what in by:
        name_of, order = BY[what]
        parts: list[dict[str, list[SampleRecord]]] = [{} for _ in runs]
        for part, run in zip(parts, runs, strict=True):
            for record in run.records:
                if record.status == "ok":
                    part.setdefault(name_of(record), []).append(record)
        names = [*order, *sorted({name for part in parts for name in part} - set(order))]
        found += [
            _subgroup(what, name, metric, [part.get(name, []) for part in parts])
            for name in names
            if any(name in part for part in parts)
        ]
    rows = iter(corrected([each for subgroup in found for each in subgroup.differences]))
    return [replace(one, differences=tuple(next(rows) for _ in one.differences)) for one in found]


def _subgroup(by: str, name: str, metric: str, parts: Sequence[Sequence[SampleRecord]]) -> Subgroup:
    """A subgroup from the ok samples of each run."""
    higher = METRICS[metric].higher_is_better
    found = [compare(paired(parts[0], part, metric), higher_is_better=higher) for part in parts[1:]]
    estimates = tuple(
        bootstrap([r.metrics.get(metric) for r in part], [r.category for r in part], [r.patient_id for r in part])
        for part in parts
    )
    return Subgroup(by, name, metric, estimates, tuple(Difference(metric, name, one, one.p_value) for one in found))


def as_rows(found: Sequence[Subgroup], runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """One row per subgroup and run, by the names of CSV_COLUMNS; None for missing values."""
    rows = []
    for subgroup in found:
        for index, (run, estimate) in enumerate(zip(runs, subgroup.estimates, strict=True)):
            row: dict[str, Any] = {"by": subgroup.by, "subgroup": subgroup.name, "metric": subgroup.metric}
            row |= {"run": run.name, "run_key": " ".join(run.keys)} | asdict(estimate)
            row["mean"] = row.pop("value")
            row |= dict.fromkeys(_CSV_DIFFERENCE)
            if index:
                each = subgroup.differences[index - 1]
                values = (each.found.difference, each.found.low, each.found.high, each.found.p_value, each.p_value)
                row |= dict(zip(_CSV_DIFFERENCE, values, strict=True))
            rows.append({name: row[name] for name in CSV_COLUMNS})
    return rows
