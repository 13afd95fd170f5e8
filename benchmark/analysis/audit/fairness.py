"""8. Is the method as good for every subgroup?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.analysis.audit.finding import FEWEST, NO, UNKNOWN, YES, Finding, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import Subject
from gtg_bench.benchmark.analysis.subgroups import BY, TRAITS, known_groups
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.statistics import Estimate, bootstrap, bounds_of

TITLE = "Is it as good for every subgroup?"
EQUAL = 0.25
"""Difference, as a share of the score above a constant map's, that counts as equal."""

_RULE = f"yes if the CI is within {EQUAL:.0%} of the score above a constant map's, no if it excludes 0 and is not"


def ask(subject: Subject) -> list[Finding]:
    """Left against right and each subgroup by side, size and category; by sex, view and age where the set has them."""
    metric = subject.primary
    records = [r for r in subject.plain.run.records if r.status == "ok" and metric in r.metrics]
    found = []
    for by, one, other in (("side", "left", "right"), ("sex", "female", "male")):
        first, second = ([r for r in records if r.facts.get(by) == name] for name in (one, other))
        if first and second:
            gap, bar = _gap(first, second, metric), EQUAL * subject.span()
            facts = {"ceiling": 0.0, "verdict": _verdict(gap, bar), "rule": _RULE, "note": f"equal: within {bar:.2f}"}
            found.append(finding(f"{one} minus {other}", metric, gap, **facts))
    known = known_groups(records)
    for by in ("side", "size", "category", *(trait for trait in TRAITS if trait in known)):
        name_of, order = BY[by]
        groups: dict[str, list[SampleRecord]] = {}
        for record in records:
            groups.setdefault(name_of(record), []).append(record)
        for name in [*(n for n in order if n in groups), *sorted(groups.keys() - set(order))]:
            members = groups[name]
            values = [record.metrics[metric] for record in members]
            mean = bootstrap(values, [r.category for r in members], [r.patient_id for r in members])
            facts = {"floor": subject.constant(), "decides": False, "detail": by == "category"}
            found.append(finding(f"{by}: {name}", metric, mean, **facts))
    return found or [impossible("subgroups", metric, f"{metric} is defined for no sample")]


def _verdict(gap: Estimate, bar: float) -> str:
    if gap.low is None or gap.high is None or gap.n_patients < FEWEST:
        return UNKNOWN
    if -bar <= gap.low and gap.high <= bar:
        return YES
    return NO if gap.low > 0 or gap.high < 0 else UNKNOWN


def _gap(one: Sequence[SampleRecord], other: Sequence[SampleRecord], metric: str) -> Estimate:
    """Mean of one group minus that of the other; a patient with samples in both is drawn with all of them."""
    records = [*one, *other]
    patients, rows = np.unique([record.patient_id for record in records], return_inverse=True)
    values = np.array([record.metrics[metric] for record in records])
    sums, counts = np.zeros((2, len(patients))), np.zeros((2, len(patients)))
    for number, part in enumerate((slice(None, len(one)), slice(len(one), None))):
        np.add.at(sums[number], rows[part], values[part])
        np.add.at(counts[number], rows[part], 1)

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            means = weights @ sums.T / (weights @ counts.T)
        return np.asarray(means[:, 0] - means[:, 1], dtype=np.float64)

    low, high = bounds_of(difference, len(patients))
    value = float(difference(np.ones((1, len(patients))))[0])
    return Estimate(value, low, high, len(records), 0, len(patients))
