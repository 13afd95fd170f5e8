"""1. Is the method better than priors, which never look at the image?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gtg_bench.benchmark.analysis.audit.finding import NO, UNKNOWN, YES, Finding, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.statistics import Estimate, detectable

TITLE = "Better than the priors?"
PRIORS = ("center-prior", "class-prior", "phrase-prior")
SMOOTH = "0.06"
"""Smoothing at which methods are compared: a Gaussian of 6 % of the image's shorter side on every map."""

_RULE = (
    f"yes if the CI is above 0; no if it does not reach {MATERIAL:.0%} of the other's score above a constant map's; "
    f"every map smoothed alike (Gaussian, {float(SMOOTH):.0%} of the shorter side)"
)


def ask(subject: Subject, against: Sequence[str] = ()) -> list[Finding]:
    """The method minus each prior, at matched smoothing; as returned and in the other metrics for information.

    Args:
        subject: the method.
        against: further methods to compare with.
    """
    found = []
    for name in (*PRIORS, *against):
        if name == subject.request.settings.method:
            found.append(impossible(f"minus {name}", subject.primary, "it is the method itself"))
            continue
        try:
            found += _against(subject, name)
        except UsageError as error:
            found.append(impossible(f"minus {name}", subject.primary, str(error)))
    return found


def _against(subject: Subject, name: str) -> list[Finding]:
    metric = subject.primary
    ours, theirs = subject.under("none", SMOOTH), subject.other(name, SMOOTH)
    smooth = subject.difference(ours, theirs)
    reached, best = subject.score(theirs).value or 0.0, subject.ceiling(SMOOTH)
    room, most = reached - subject.constant(), None if best is None else best - reached
    found = [
        finding(f"minus {name}", metric, smooth, floor=0.0, ceiling=most, verdict=_verdict(smooth, room), rule=_RULE)
    ]
    raw = subject.difference(subject.plain, subject.other(name))
    found.append(finding(f"minus {name}, as returned", metric, raw, floor=0.0, decides=False))
    ahead: dict[str, list[str]] = {"ahead": [], "behind": []}
    for other in subject.metrics:
        if other != metric:
            one = subject.difference(ours, theirs, other)
            higher = METRICS[other].higher_is_better
            note = "" if higher else "lower is better"
            found.append(finding(f"minus {name}", other, one, floor=0.0, note=note, decides=False, detail=True))
            if one.low is not None and one.high is not None and one.low * one.high > 0:
                ahead["ahead" if (one.low > 0) == higher else "behind"].append(other)
    notes = [f"also {where} in {', '.join(names)}" for where, names in ahead.items() if names]
    if raw.low is not None and raw.low > 0 and smooth.low is not None and smooth.low <= 0:
        notes.append("its lead as returned is one of smoothness")
    if (smallest := detectable(smooth.low, smooth.high)) is not None and smallest > 0:
        notes.append(f"this n detects {smallest:.2f} with 80 % power")
    found[0] = replace(found[0], note="; ".join(notes))
    return found


def _verdict(found: Estimate, room: float) -> str:
    if found.low is None or found.high is None or found.n_patients < 10:
        return UNKNOWN
    return YES if found.low > 0 else NO if found.high <= max(0.0, MATERIAL * room) else UNKNOWN
