"""5. Do small changes leave the map as it is? And was the seed a lucky one?"""

from __future__ import annotations

import numpy as np

from gtg_bench.benchmark.analysis.audit.finding import Finding, above, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.scoring.edits import PIXELS
from gtg_bench.benchmark.scoring.probes import SEEDS
from gtg_bench.benchmark.statistics import over_runs_and_patients

TITLE = "Is it stable under small changes?"
SAME = 0.98
"""Agreement of random pairs from which every map is the same, so that agreement shows nothing."""


def ask(subject: Subject) -> list[Finding]:
    """Agreement of maps under each change, and the score of the next seeds."""
    found = [one for probe in ("paraphrase", *PIXELS, SEEDS[0]) for one in _agreement(subject, probe)]
    return [*found, *_seeds(subject)]


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
    rule = f"yes if the CI is below {MATERIAL:.0%} of the score above a constant map's, no if all of it is above"
    records = [subject.plain.records[name] for name in names]
    groups = [r.category for r in records], [r.patient_id for r in records]
    overall = over_runs_and_patients([[one[n] for n in names] for one in values], *groups, subject.average)
    name, note = "lead over the next seeds", "CI over seeds and patients"
    return [
        finding(name, metric, lead, ceiling=0.0, verdict=below(lead, bar), rule=rule),
        finding("mean of three seeds", metric, overall, floor=subject.constant(), note=note, decides=False),
    ]
