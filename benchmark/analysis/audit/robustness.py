"""5. Do small changes leave the map as it is? And was the seed a lucky one?"""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.analysis.audit.finding import Finding, above, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Done, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.scoring.edits import PIXELS
from gtg_bench.benchmark.scoring.probes import SEEDS
from gtg_bench.benchmark.statistics import over_runs_and_patients

TITLE = "Is it stable under small changes?"
SAME = 0.98
"""Agreement of random pairs from which every map is the same, so that agreement shows nothing."""


def ask(subject: Subject) -> list[Finding]:
    """Agreement of maps under each change, and the score of the next seeds."""
    found = [_agreement(subject, probe) for probe in ("paraphrase", *PIXELS, SEEDS[0])]
    return [*found, *_seeds(subject)]


def _agreement(subject: Subject, probe: str) -> Finding:
    name, unit = f"maps under {probe}" if probe not in SEEDS else "maps of the next seed", "rank correlation"
    try:
        ranks, similar = subject.agreement(subject.under(probe), shift=probe == "shift")
    except UsageError as error:
        return impossible(name, unit, str(error))
    chance = subject.chance
    if chance > SAME:
        return finding(name, unit, ranks, floor=chance, ceiling=1.0, note="all maps are alike", decides=False)
    bar = (1 + chance) / 2
    rule = "yes if the CI is above the middle between 1 and the floor (maps of random pairs), no if all of it is below"
    note = "" if similar.value is None else f"SSIM {similar.value:.2f}"
    verdict = above(ranks, bar)
    return finding(name, unit, ranks, floor=chance, ceiling=1.0, verdict=verdict, rule=rule, note=note)


def _seeds(subject: Subject) -> list[Finding]:
    metric = subject.primary
    try:
        others = [subject.under(seed) for seed in SEEDS]
    except UsageError as error:
        return [impossible("lead of this seed over the next two", metric, str(error))]
    values = [_values(done, metric) for done in (subject.plain, *others)]
    names = sorted(set.intersection(*(set(one) for one in values)))
    lead = subject.mean({name: values[0][name] - float(np.mean([o[name] for o in values[1:]])) for name in names})
    bar = MATERIAL * subject.span()
    rule = f"yes if the CI is below {MATERIAL:.0%} of the score above a constant map's, no if all of it is above"
    records = [subject.plain.records[name] for name in names]
    groups = [r.category for r in records], [r.patient_id for r in records]
    overall = over_runs_and_patients([[one[n] for n in names] for one in values], *groups, subject.average)
    name, note = "lead of this seed over the next two", "CI over seeds and patients"
    return [
        finding(name, metric, lead, ceiling=0.0, verdict=below(lead, bar), rule=rule),
        finding("score over three seeds", metric, overall, floor=subject.constant(), note=note, decides=False),
    ]


def _values(done: Done, metric: str) -> dict[str, float]:
    return {name: record.metrics[metric] for name, record in done.records.items() if metric in record.metrics}
