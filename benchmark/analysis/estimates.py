"""A run's averages with confidence intervals, its values per sample, and all pairs of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from gtg_bench.benchmark.analysis.compare import ALL, Difference, check_comparable, check_metrics, corrected
from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.statistics import Estimate, bootstrap, compare, paired


def ok_records(run: FinishedRun, category: str | None = None) -> list[SampleRecord]:
    """The scored samples of a run, of one category or all."""
    return [r for r in run.records if r.status == "ok" and category in (None, r.category)]


def estimate(run: FinishedRun, metric: str, average: str, category: str | None = None) -> Estimate:
    """A run's average of a metric with its 95 % CI, a bootstrap over patients.

    Args:
        run: its ok records count.
        metric: name in METRICS.
        average: "overall", "macro" or "frequency2"; all agree within one category.
        category: as the data set spells it; None takes all.
    """
    records = ok_records(run, category)
    values = [record.metrics.get(metric) for record in records]
    return bootstrap(values, [r.category for r in records], [r.patient_id for r in records], average)


def values_of(run: FinishedRun, metric: str) -> list[float]:
    """The metric of every sample that has it, in the order of the records. Raises DataError if none has."""
    found = [record.metrics[metric] for record in ok_records(run) if metric in record.metrics]
    if not found:
        raise DataError(f"{metric} is undefined for every sample of {run.name} ({run.spec.key}); choose another metric")
    return found


def categories_of(runs: Sequence[FinishedRun]) -> list[str]:
    """The categories of the scored samples of any run, in alphabetical order."""
    return sorted({record.category for run in runs for record in ok_records(run)})


def pairwise(runs: Sequence[FinishedRun], metric: str, average: str) -> dict[tuple[int, int], Difference]:
    """Compare every run with every other one on the samples that both have.

    Args:
        runs: at least two runs under the same conditions.
        metric: name in METRICS.
        average: "overall", "macro" or "frequency2".

    Returns:
        (i, j) with i < j -> run i minus run j; p-values are Holm-corrected over all pairs.

    Raises:
        UsageError: an unknown metric, or runs under different conditions.
    """
    check_metrics([metric])
    for run in runs[1:]:
        check_comparable(runs[0], run)
    places = list(combinations(range(len(runs)), 2))
    found = [
        compare(paired(runs[i].records, runs[j].records, metric), average, METRICS[metric].higher_is_better)
        for i, j in places
    ]
    rows = corrected([Difference(metric, ALL, one, one.p_value) for one in found])
    return dict(zip(places, rows, strict=True))
