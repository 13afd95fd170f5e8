"""2. Does the method use the phrase?"""

from __future__ import annotations

from gtg_bench.benchmark.analysis.audit.finding import Finding, above, below, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.statistics import bootstrap

TITLE = "Does it use the phrase?"
DEAF = 0.95
"""Rank correlation from which the maps of two phrases count as the same map."""

LOSS = f"yes if the CI is above {MATERIAL:.0%} of the score above a constant map's, no if all of it is below"


def ask(subject: Subject) -> list[Finding]:
    """Losses by controls on the phrase, agreement of the maps of two phrases, and discrimination of two findings."""
    found = [loss(subject, control) for control in ("phrase-swap", "neutral-phrase")]
    found.append(loss(subject, "side-swap", decides=False, note="a method may also take the side from the image"))
    try:
        maps, note = subject.agreement(subject.under("phrase-swap"))[0], ""
    except UsageError:
        maps, note = subject.two_findings(), "on images with two findings"
    facts = {"floor": subject.chance, "ceiling": 1.0, "verdict": below(maps, DEAF), "note": note}
    rule = f"yes if the CI is below {DEAF}, no if all of it is above"
    found.append(finding("maps of two phrases", "rank corr.", maps, rule=rule, **facts))
    found.append(_discrimination(subject))
    return found


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
