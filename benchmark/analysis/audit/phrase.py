"""2. Does the method use the phrase?"""

from __future__ import annotations

from gtg_bench.benchmark.analysis.audit.finding import NO, Finding, above, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.scoring.probes import FINDING_SWAP
from gtg_bench.benchmark.statistics import Estimate, bootstrap

TITLE = "Does it use the phrase?"
DEAF = 0.95
"""Rank correlation from which the maps of two phrases count as the same map."""

LOSS = f"yes if the CI is above {MATERIAL:.0%} of the score above a constant map's, no if all of it is below"


def ask(subject: Subject) -> list[Finding]:
    """Losses by controls on the phrase, agreement of the maps of two phrases, and discrimination of two findings."""
    found = [loss(subject, control) for control in ("phrase-swap", "neutral-phrase")]
    found.append(loss(subject, "side-swap", decides=False, note="a method may also take the side from the image"))
    found.append(loss(subject, FINDING_SWAP, note="both phrases name the same side, or none"))
    found += _maps(subject)
    found.append(_discrimination(subject))
    return found


def _maps(subject: Subject) -> list[Finding]:
    """How alike the maps of two phrases are, and how much less alike than those of one phrase in two wordings."""
    name, unit = "paraphrase minus swap", "rank corr."
    try:
        swapped = subject.agreements(subject.under("phrase-swap"))[0]
    except UsageError as error:
        return [
            _alike(subject, subject.two_findings(), "on images with two findings; "),
            impossible(name, unit, str(error)),
        ]
    same = subject.agreements(subject.under("paraphrase"))[0]
    drop = subject.mean({key: same[key] - swapped[key] for key in same.keys() & swapped.keys()})
    rule = f"yes if the CI is above {1 - DEAF:.2f}, no if all of it is below"
    note = "agreement of the map with that of the same phrase in other words, minus that of another phrase"
    facts = {"floor": 0.0, "ceiling": 1.0, "verdict": above(drop, 1 - DEAF), "rule": rule, "note": note}
    return [_alike(subject, subject.mean(swapped)), finding(name, unit, drop, **facts)]


def _alike(subject: Subject, maps: Estimate, where: str = "") -> Finding:
    verdict = below(maps, DEAF)
    note = f'{where}counts only if the answer is "no", because noise that depends on the phrase changes maps too'
    rule = f"yes if the CI is below {DEAF}, no if all of it is above"
    facts = {"floor": subject.chance, "ceiling": 1.0, "verdict": verdict, "rule": rule, "note": note}
    return finding("maps of two phrases", "rank corr.", maps, decides=verdict == NO, **facts)


def loss(subject: Subject, control: str, decides: bool = True, note: str = "") -> Finding:
    """What the method loses in the primary metric under a control."""
    name = f"loss by {control}"
    try:
        done = subject.under(control)
    except UsageError as error:
        return impossible(name, subject.primary, str(error))
    span = subject.span()
    lost = subject.difference(subject.plain, done)
    verdict = above(lost, MATERIAL * span)
    facts = {"floor": 0.0, "ceiling": span, "verdict": verdict, "rule": LOSS, "note": note, "decides": decides}
    return finding(name, subject.primary, lost, **facts)


def _discrimination(subject: Subject) -> Finding:
    name, metric = "named region hotter", "phrase_discrimination"
    records = [r for r in subject.plain.records.values() if metric in r.metrics]
    if not records:
        return impossible(name, "share", "no image with two findings, or a protocol without phrase_discrimination")
    values = [record.metrics[metric] for record in records]
    found = bootstrap(values, [r.category for r in records], [r.patient_id for r in records], subject.average)
    rule = "yes if the CI is above 0.55, no if all of it is below"
    return finding(name, "share", found, floor=0.5, ceiling=1.0, verdict=above(found, 0.55), rule=rule)
