"""Finished runs compared, metric by metric, from the records that they left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions
from gtg_bench.benchmark.statistics import Comparison, compare, holm, paired

LEVEL = 0.05
"""A corrected p-value below it counts as a difference."""

ALL = "all"


@dataclass(frozen=True)
class Line:
    """One metric over all samples or one category.

    Attributes:
        metric: a name of METRICS.
        category: as the data set spells it, or ALL.
        found: what was found; its own p-value is not corrected.
        p_value: corrected (Holm) over all lines of the metric: all samples and each category, of every pair of runs.
    """

    metric: str
    category: str
    found: Comparison
    p_value: float | None

    @property
    def gain(self) -> int:
        """1 where ours is better, -1 where theirs is, 0 where they cannot be told apart."""
        difference = self.found.difference
        if difference is None or self.p_value is None or self.p_value >= LEVEL or not difference:
            return 0
        return 1 if (difference > 0) == METRICS[self.metric].higher_is_better else -1

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        facts = {name: getattr(self.found, name) for name in Comparison.__dataclass_fields__}
        return {"metric": self.metric, "category": self.category} | facts | {"p_value_holm": self.p_value}


def compare_runs(ours: FinishedRun, theirs: FinishedRun, metrics: Sequence[str], average: str) -> list[Line]:
    """Compare two runs: each metric over all samples, then by category; see `compare_with_all`."""
    return compare_with_all(ours, [theirs], metrics, average)[0]


def compare_with_all(
    ours: FinishedRun, others: Sequence[FinishedRun], metrics: Sequence[str], average: str, by_category: bool = True
) -> list[list[Line]]:
    """Compare a run with others, all p-values of a metric corrected together.

    Args:
        ours: the run whose gain is positive.
        others: at least one.
        metrics: names of METRICS.
        average: over all samples: "overall", "macro" or "frequency2".
        by_category: a line for each category too; without, the family is the pairs alone.

    Returns:
        For each other run, in their order, its lines: metric by metric, all samples before the categories.

    Raises:
        UsageError: an unknown metric, or runs that were not made under the same conditions.
        DataError: two runs share no sample.
    """
    if wrong := [name for name in metrics if name not in METRICS]:
        raise UsageError(unknown("metric", wrong[0], METRICS))
    for theirs in others:
        one, other = conditions(ours.spec), conditions(theirs.spec)
        if differ := [name for name in one if one[name] != other[name]]:
            told = f"{differ[0]} {one[differ[0]]!r} and {other[differ[0]]!r}"
            raise UsageError(f"{ours.name} and {theirs.name} cannot be compared: their runs differ in {told}")
    found: list[list[Line]] = [[] for _ in others]
    for metric in metrics:
        for part, lines in zip(found, _lines(ours, others, metric, average, by_category), strict=True):
            part += lines
    for theirs, lines in zip(others, found, strict=True):
        if not any(line.found.n for line in lines):
            raise DataError(f"{ours.spec.key} and {theirs.spec.key} share no scored sample")
    return found


def _lines(
    ours: FinishedRun, others: Sequence[FinishedRun], metric: str, average: str, by_category: bool
) -> list[list[Line]]:
    found = [_compared(ours, theirs, metric, average, by_category) for theirs in others]
    corrected = iter(holm([one.p_value for part in found for one in part.values()]))
    return [[Line(metric, name, one, next(corrected)) for name, one in part.items()] for part in found]


def _compared(
    ours: FinishedRun, theirs: FinishedRun, metric: str, average: str, by_category: bool
) -> dict[str, Comparison]:
    pairs = paired(ours.records, theirs.records, metric)
    higher = METRICS[metric].higher_is_better
    found = {ALL: compare(pairs, average, higher)}
    for category in sorted(set(pairs.categories.tolist())) if by_category else ():
        found[category] = compare(pairs.of_category(category), "overall", higher)
    return found


def in_words(line: Line, ours: str, theirs: str) -> str:
    """What a line says, as a sentence."""
    found, scope = line.found, "" if line.category == ALL else f" on {line.category}"
    if found.difference is None or found.low is None or found.high is None or line.p_value is None:
        return f"Nothing can be said of {line.metric}{scope}: {found.n} samples."
    basis = f"{abs(found.difference):.3f} {line.metric}"
    bounds = f"95 % {found.low:.3f} to {found.high:.3f}, p = {line.p_value:.2g}"
    many = f"{found.n} samples of {found.n_patients} patients"
    if not line.gain:
        return f"{ours} and {theirs} cannot be told apart by {line.metric}{scope} ({bounds}; {many})."
    if found.difference < 0:
        bounds = f"95 % {-found.high:.3f} to {-found.low:.3f}, p = {line.p_value:.2g}"
    better, worse = (ours, theirs) if line.gain > 0 else (theirs, ours)
    return f"{better} is better than {worse} by {basis}{scope} ({bounds}; {many})."
