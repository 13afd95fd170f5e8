"""Results by what a sample is like: size of its region, number of boxes, side, length of its phrase, category."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gtg_bench.benchmark.analysis.compare import ALL
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.statistics import Comparison, Estimate, bootstrap, compare, holm, paired

Bins = tuple[tuple[float, str], ...]
UNKNOWN = "not known"

SIZES: Bins = ((0.01, "below 1 %"), (0.05, "1 to 5 %"), (0.15, "5 to 15 %"), (float("inf"), "15 % and more"))
"""Upper end, not included, of the region's share of the evaluation frame. Fixed: the same for every data set."""

BOXES: Bins = ((2, "1 box"), (3, "2 boxes"), (float("inf"), "3 boxes and more"))
LENGTHS: Bins = ((4, "1 to 3 words"), (7, "4 to 6 words"), (11, "7 to 10 words"), (float("inf"), "11 words and more"))
SIDES = ("left", "right", "bilateral", "none")

_CSV_RUN = ("n", "n_undefined", "n_patients", "mean", "low", "high")
_CSV_DIFFERENCE = ("difference", "difference_low", "difference_high", "p_value", "p_value_holm")
CSV_COLUMNS = ("by", "subgroup", "metric", "run", "run_key", *_CSV_RUN, *_CSV_DIFFERENCE)


@dataclass(frozen=True)
class Difference:
    """A run less the first one, on the samples of a subgroup that both have.

    Attributes:
        found: ours is the run, theirs the first; its own p-value is not corrected.
        p_value: corrected (Holm) over every subgroup and run of the metric.
    """

    found: Comparison
    p_value: float | None


@dataclass(frozen=True)
class Subgroup:
    """One metric on one subgroup.

    Attributes:
        by: what the samples are told apart by, a key of BY; ALL for all samples.
        name: of the subgroup.
        metric: a name of METRICS.
        estimates: of each run, the plain mean over its ok samples; for fewer than two patients without bounds.
        differences: of each run but the first.
    """

    by: str
    name: str
    metric: str
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...]


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
}
"""Name -> the subgroup of a record, and all subgroups in their order; where there are none, that of the alphabet."""


def subgroups(runs: Sequence[FinishedRun], by: Sequence[str], metrics: Sequence[str] | None = None) -> list[Subgroup]:
    """Results of runs by subgroup.

    Args:
        runs: under the same conditions; the others are compared with the first.
        by: of BY.
        metrics: names of METRICS; None takes the primary one of the first run's protocol.

    Returns:
        Metric by metric: all samples, then the subgroups of each `by` that have a sample, in their order.

    Raises:
        UsageError: an unknown metric, runs under different conditions.
        DataError: a run without a scored sample, or whose records do not say what its samples are like.
    """
    metrics = list(metrics or (protocol_of(runs[0].spec.protocol).primary,))
    if wrong := [name for name in metrics if name not in METRICS]:
        raise UsageError(unknown("metric", wrong[0], METRICS))
    for run in runs:
        _check(run, runs[0], by)
    return [subgroup for metric in metrics for subgroup in _of_metric(runs, by, metric)]


def _check(run: FinishedRun, first: FinishedRun, by: Sequence[str]) -> None:
    one, other = conditions(first.spec), conditions(run.spec)
    if differ := [name for name in one if one[name] != other[name]]:
        told = f"{differ[0]} {one[differ[0]]!r} and {other[differ[0]]!r}"
        raise UsageError(f"{first.name} and {run.name} cannot stand in one table: their runs differ in {told}")
    ok = [record for record in run.records if record.status == "ok"]
    if not ok:
        raise DataError(f"{run.name} ({run.spec.key}) has no scored sample")
    if set(by) - {"category"} and not all(record.facts for record in ok):
        keys = " ".join(run.keys)
        raise DataError(
            f"the records of {run.name} were made before they said what a sample is like; "
            f"score its maps again: gtg-bench score {keys}"
        )


def _of_metric(runs: Sequence[FinishedRun], by: Sequence[str], metric: str) -> list[Subgroup]:
    found = [_subgroup(ALL, ALL, metric, [run.records for run in runs])]
    for what in by:
        name_of, order = BY[what]
        parts = [_parted(run.records, name_of) for run in runs]
        names = [*order, *sorted({name for part in parts for name in part} - set(order))]
        found += [
            _subgroup(what, name, metric, [part.get(name, []) for part in parts])
            for name in names
            if any(name in part for part in parts)
        ]
    corrected = iter(holm([each.p_value for subgroup in found for each in subgroup.differences]))
    return [
        replace(one, differences=tuple(replace(each, p_value=next(corrected)) for each in one.differences))
        for one in found
    ]


def _parted(records: Sequence[SampleRecord], name_of: Callable[[SampleRecord], str]) -> dict[str, list[SampleRecord]]:
    """Subgroup -> its ok samples."""
    found: dict[str, list[SampleRecord]] = {}
    for record in records:
        if record.status == "ok":
            found.setdefault(name_of(record), []).append(record)
    return found


def _subgroup(by: str, name: str, metric: str, parts: Sequence[Sequence[SampleRecord]]) -> Subgroup:
    higher = METRICS[metric].higher_is_better
    found = [compare(paired(part, parts[0], metric), higher_is_better=higher) for part in parts[1:]]
    differences = tuple(Difference(one, one.p_value) for one in found)
    return Subgroup(by, name, metric, tuple(_estimate(part, metric) for part in parts), differences)


def _estimate(records: Sequence[SampleRecord], metric: str) -> Estimate:
    ok = [record for record in records if record.status == "ok"]
    values = [record.metrics.get(metric) for record in ok]
    return bootstrap(values, [record.category for record in ok], [record.patient_id for record in ok])


def as_rows(found: Sequence[Subgroup], runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """One row a subgroup and run, by the names of CSV_COLUMNS; None where there is nothing."""
    rows = []
    for subgroup in found:
        for index, (run, estimate) in enumerate(zip(runs, subgroup.estimates, strict=True)):
            row: dict[str, Any] = {"by": subgroup.by, "subgroup": subgroup.name, "metric": subgroup.metric}
            row |= {"run": run.name, "run_key": " ".join(run.keys)} | asdict(estimate)
            row["mean"] = row.pop("value")
            row |= _differing(subgroup.differences[index - 1]) if index else dict.fromkeys(_CSV_DIFFERENCE)
            rows.append({name: row[name] for name in CSV_COLUMNS})
    return rows


def _differing(difference: Difference) -> dict[str, float | None]:
    found = difference.found
    values = (found.difference, found.low, found.high, found.p_value, difference.p_value)
    return dict(zip(_CSV_DIFFERENCE, values, strict=True))
