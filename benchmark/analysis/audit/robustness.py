"""5. Do small changes leave the map as it is? And was the seed a lucky one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gtg_bench.benchmark.analysis.audit.finding import Finding, above, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.analysis.seeds import mean_of
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.scoring.edits import PIXELS
from gtg_bench.benchmark.scoring.probes import SEEDS
from gtg_bench.benchmark.statistics import Estimate, over_runs_and_patients

TITLE = "Is it stable under small changes?"
MOVING = ("shift",)
"""Changes that move the region, so that the score says nothing about stability."""

_SMALL = f"yes if the CI is below {MATERIAL:.0%} of the score above a constant map's, no if all of it is above"

SAME = 0.98
"""Agreement of random pairs from which every map is the same, so that agreement shows nothing."""


def ask(subject: Subject) -> list[Finding]:
    """Agreement of maps under each change, and the score of the next seeds."""
    found = [one for probe in ("paraphrase", *PIXELS, SEEDS[0]) for one in _agreement(subject, probe)]
    losses = [_loss(subject, probe) for probe in ("paraphrase", *PIXELS) if probe not in MOVING]
    return [*found, *losses, *_seeds(subject), *_trainings(subject)]


def _loss(subject: Subject, probe: str) -> Finding:
    """What a change that leaves the region in place costs in the primary metric."""
    name, metric = f"loss by {probe}", subject.primary
    try:
        lost = subject.difference(subject.plain, subject.under(probe))
    except UsageError as error:
        return impossible(name, metric, str(error))
    verdict, decides = below(lost, MATERIAL * subject.span()), subject.span() > 0
    return finding(name, metric, lost, ceiling=0.0, verdict=verdict, rule=_SMALL, decides=decides)


def _agreement(subject: Subject, probe: str) -> list[Finding]:
    """Rank correlation with the verdict, and SSIM."""
    name, unit = "next seed" if probe in SEEDS else probe, "rank corr."
    try:
        ranks, similar = subject.agreement(subject.under(probe), shift=probe == "shift")
    except UsageError as error:
        return [impossible(name, unit, str(error))]
    chance = subject.chance
    more = finding(name, "SSIM", similar, ceiling=1.0, decides=False, detail=True)
    if chance > SAME:
        note = "the maps of all samples are alike, so agreement shows nothing"
        return [finding(name, unit, ranks, floor=chance, ceiling=1.0, note=note, decides=False), more]
    rule = "yes if the CI is above the middle of floor (maps of random pairs) and 1, no if all of it is below"
    verdict = above(ranks, (1 + chance) / 2)
    return [finding(name, unit, ranks, floor=chance, ceiling=1.0, verdict=verdict, rule=rule), more]


def _seeds(subject: Subject) -> list[Finding]:
    metric = subject.primary
    try:
        others = [subject.under(seed) for seed in SEEDS]
    except UsageError as error:
        return [impossible("lead over the next seeds", metric, str(error))]
    values = [done.values(metric) for done in (subject.plain, *others)]
    names = sorted(set.intersection(*(set(one) for one in values)))
    lead = subject.mean({name: values[0][name] - float(np.mean([o[name] for o in values[1:]])) for name in names})
    bar = MATERIAL * subject.span()
    facts = {"ceiling": 0.0, "verdict": below(lead, bar), "rule": _SMALL, "decides": bar > 0}
    overall = _over_runs(subject, values)
    name, note = "lead over the next seeds", "CI over seeds and patients"
    return [
        finding(name, metric, lead, **facts),
        finding("mean of three seeds", metric, overall, floor=subject.constant(), note=note, decides=False),
    ]


def _trainings(subject: Subject) -> list[Finding]:
    """The score over the trainings that the user names. Raises UsageError if they are of another method."""
    if not subject.repeats:
        return []
    runs = [subject.plain.run, *subject.repeats]
    mean_of(runs)
    metric = subject.primary
    values = [{r.sample_id: r.metrics[metric] for r in one.records if metric in r.metrics} for one in runs]
    note = "CI over trainings and patients; with few trainings it is too narrow"
    facts = {"floor": subject.constant(), "note": note, "decides": False}
    return [finding(f"mean of {len(runs)} trainings", metric, _over_runs(subject, values), **facts)]


def _over_runs(subject: Subject, values: Sequence[Mapping[str, float]]) -> Estimate:
    """The score over runs, from each one's values by sample id."""
    names = sorted(set.intersection(*(set(one) for one in values)) & subject.plain.records.keys())
    records = [subject.plain.records[name] for name in names]
    groups = [r.category for r in records], [r.patient_id for r in records]
    return over_runs_and_patients([[one[name] for name in names] for one in values], *groups, subject.average)
