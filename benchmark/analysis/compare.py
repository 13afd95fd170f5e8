"""Compare finished runs metric by metric, from their records. Every difference is A - B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions
from gtg_bench.benchmark.statistics import Comparison, Equivalence, compare, equivalence, holm, paired

LEVEL = 0.05
"""Differences with a corrected p-value below it are significant."""

ALL = "all"


@dataclass(frozen=True)
class Difference:
    """A - B in one metric, over all samples or one category."""

    metric: str
    """Name in METRICS."""
    category: str
    """As the data set spells it, or ALL."""
    found: Comparison
    """A is `ours` and B is `theirs`; its own p-value is not corrected."""
    p_value: float | None
    """Holm-corrected over its family: the rows of this metric that are shown together."""
    family: int = 1
    """Number of comparisons that the correction covers."""
    equivalence: Equivalence | None = None
    """Whether A - B is within a margin; None if the user gave none. Not corrected."""

    @property
    def better(self) -> int:
        """1 if A is significantly better, -1 if B is, 0 if the difference is not significant."""
        difference = self.found.difference
        if difference is None or self.p_value is None or self.p_value >= LEVEL or not difference:
            return 0
        return 1 if (difference > 0) == METRICS[self.metric].higher_is_better else -1

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {"metric": self.metric, "category": self.category, **asdict(self.found)}
        values |= {"p_value_holm": self.p_value, "n_comparisons": self.family, "note": self.found.note}
        if (tested := self.equivalence) is not None:
            values |= {"margin": tested.margin, "low_90": tested.low, "high_90": tested.high}
            values["equivalent"] = tested.shown
        return values


def corrected(rows: Sequence[Difference]) -> list[Difference]:
    """The rows of one family with Holm-corrected p-values; rows without a p-value do not count."""
    family = sum(row.found.p_value is not None for row in rows)
    p_values = holm([row.found.p_value for row in rows])
    return [replace(row, p_value=p, family=family) for row, p in zip(rows, p_values, strict=True)]


def compare_with_all(
    a: FinishedRun,
    others: Sequence[FinishedRun],
    metrics: Sequence[str],
    average: str,
    by_category: bool = False,
    margins: Mapping[str, float] | None = None,
) -> list[list[Difference]]:
    """Compare a run with others on the samples that each pair shares, correcting all p-values of a metric together.

    Args:
        a: the run from which the others are subtracted.
        others: at least one run.
        metrics: names in METRICS.
        average: average over all samples: "overall", "macro" or "frequency2".
        by_category: also compare within each category; the correction then covers these rows too.
        margins: metric -> largest difference that does not matter, for tests of equivalence.

    Returns:
        A list for each other run: metric by metric, all samples before the categories.

    Raises:
        UsageError: an unknown metric, or runs under different conditions.
        DataError: two runs share no sample.
    """
    check_metrics(metrics)
    for b in others:
        check_comparable(a, b)
    found: list[list[Difference]] = [[] for _ in others]
    for metric in metrics:
        higher, margin = METRICS[metric].higher_is_better, (margins or {}).get(metric)
        numbers, rows = [], []
        for number, b in enumerate(others):
            pairs = paired(a.records, b.records, metric)
            parts = {ALL: (pairs, average)}
            for category in sorted(set(pairs.categories.tolist())) if by_category else ():
                parts[category] = pairs.of_category(category), "overall"
            for name, (part, kind) in parts.items():
                one = compare(part, kind, higher)
                tested = None if margin is None else equivalence(part, margin, kind)
                numbers.append(number)
                rows.append(Difference(metric, name, one, one.p_value, equivalence=tested))
        for number, row in zip(numbers, corrected(rows), strict=True):
            found[number].append(row)
    for b, rows in zip(others, found, strict=True):
        if not any(row.found.n for row in rows):
            raise DataError(f"{a.spec.key} and {b.spec.key} share no scored sample")
    return found


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise UsageError for an unknown metric."""
    if wrong := [name for name in metrics if name not in METRICS]:
        raise UsageError(unknown("metric", wrong[0], METRICS))


def check_comparable(a: FinishedRun, b: FinishedRun) -> None:
    """Raise UsageError if two runs differ in their data, pixels included, or in the definition of their numbers."""
    one, other = conditions(a.spec), conditions(b.spec)
    if differ := [name for name in one if one[name] != other[name]]:
        values = f"{differ[0]} {one[differ[0]]!r} and {other[differ[0]]!r}"
        older = min(a, b, key=lambda run: run.spec.protocol_version).spec
        fix = f"; rescore its maps: `gtg-bench score {older.key}`" if differ == ["protocol_version"] else ""
        raise UsageError(f"{a.name} and {b.name} cannot be compared: their runs differ in {values}{fix}")
    images = {record.sample_id: record.image_sha256 for record in a.records if record.image_sha256}
    theirs = {record.sample_id: record.image_sha256 for record in b.records if record.image_sha256}
    if changed := [name for name in images if theirs.get(name, images[name]) != images[name]]:
        raise UsageError(
            f"{a.name} and {b.name} cannot be compared: the images of {len(changed)} of their samples differ (the "
            f"first: {changed[0]}); run both on the same images"
        )


def in_words(row: Difference, a: str, b: str) -> str:
    """A difference as a sentence about A. Only a test of equivalence makes it say that two runs are equivalent."""
    scope = "" if row.category == ALL else f" on {row.category}"
    if row.found.difference is None or row.found.low is None or row.p_value is None:
        return f"{a} and {b} cannot be compared in {row.metric}{scope}: {counted(row.found)}."
    tested = row.equivalence
    if row.better:
        verdict = f"{a} is {'better' if row.better > 0 else 'worse'} than {b} in {row.metric}{scope}"
        verdict += f", by less than the margin {tested.margin:g}" if tested and tested.shown else ""
    elif tested and tested.shown:
        verdict = f"{a} is equivalent to {b} in {row.metric}{scope}, within the margin {tested.margin:g}"
    elif after := after_correction(row):
        verdict = f"The difference between {a} and {b} in {row.metric}{scope} is not significant {after}"
    else:
        verdict = f"{a} does not differ significantly from {b} in {row.metric}{scope}"
    return f"{verdict}: {in_numbers(row)}."


def after_correction(row: Difference) -> str:
    """How many comparisons the correction covers, if it alone makes a difference not significant, else ""."""
    if row.better or row.found.p_value is None or row.found.p_value >= LEVEL:
        return ""
    return f"after correction for {row.family} comparisons"


def in_numbers(row: Difference) -> str:
    """A - B with its 95 % CI, raw and corrected p-value, equivalence within the margin, and counts."""
    found, tested = row.found, row.equivalence
    p = f"p = {found.p_value:.2g}" + (f", corrected p = {row.p_value:.2g}" if row.family > 1 else "")
    if tested is not None:
        verdict = "is" if tested.shown else "is not"
        p += f"; the 90 % CI, {tested.low:.3f} to {tested.high:.3f}, {verdict} within the margin {tested.margin:g}"
    return f"A - B = {found.difference:.3f} (95 % CI {found.low:.3f} to {found.high:.3f}, {p}; {counted(found)})"


def counted(found: Comparison) -> str:
    """How many samples and patients a comparison is based on, and what few patients mean for the CI."""
    samples = number_of(found.n, "sample")
    return f"{samples}, {found.note}" if found.note else f"{samples} of {found.n_patients:,} patients"
