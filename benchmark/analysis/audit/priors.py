"""1. Is the method better than priors, which never look at the image?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gtg_bench.benchmark.analysis.audit.finding import FEWEST, NO, UNKNOWN, YES, Finding, finding, impossible
from gtg_bench.benchmark.analysis.audit.subject import MATERIAL, Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.statistics import Equivalence, Estimate, detectable

TITLE = "Better than the priors?"
PRIORS = ("center-prior", "class-prior", "phrase-prior")
SMOOTH = "0.06"
"""Smoothing at which methods are compared: a Gaussian of 6 % of the image's shorter side on every map."""

_RULE = (
    f"yes if the CI is above 0; no if it does not reach {MATERIAL:.0%} of the other's score above a constant map's; "
    f"every map smoothed alike (Gaussian, {float(SMOOTH):.0%} of the shorter side)"
)


def ask(subject: Subject, against: Sequence[str] = (), margin: float | None = None) -> list[Finding]:
    """The method minus each prior, at matched smoothing; as returned and in the other metrics for information.

    Args:
        subject: the method.
        against: further methods to compare with.
        margin: largest difference in the primary metric that does not matter, for a test of equivalence at matched
            smoothing, for information; None for no test.
    """
    found = []
    for name in (*PRIORS, *against):
        if name == subject.request.settings.method:
            found.append(impossible(f"minus {name}", subject.primary, "it is the method itself"))
            continue
        try:
            found += _against(subject, name, margin)
        except UsageError as error:
            found.append(impossible(f"minus {name}", subject.primary, str(error)))
    return found


def _against(subject: Subject, name: str, margin: float | None) -> list[Finding]:
    metric = subject.primary
    ours, theirs = subject.under("none", SMOOTH), subject.other(name, SMOOTH)
    smooth = subject.difference(ours, theirs)
    reached, best = subject.score(theirs).value or 0.0, subject.ceiling(SMOOTH)
    room, most = reached - subject.constant(), None if best is None else best - reached
    found = [
        finding(f"minus {name}", metric, smooth, floor=0.0, ceiling=most, verdict=_verdict(smooth, room), rule=_RULE)
    ]
    if margin is not None:
        found.append(_equivalent(smooth, subject.equivalence(ours, theirs, margin), name, metric))
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


def _equivalent(found: Estimate, tested: Equivalence, name: str, metric: str) -> Finding:
    """The difference again, with the verdict whether it is within the margin (TOST); it decides nothing."""
    low, high, margin = tested.low, tested.high, tested.margin
    verdict, note = UNKNOWN, ""
    if low is not None and high is not None:
        note = f"90 % CI {low:.3f} to {high:.3f}"
        if found.n_patients >= FEWEST:
            verdict = YES if tested.shown else NO if low >= margin or high <= -margin else UNKNOWN
    rule = f"yes if the 90 % CI of the difference is within -{margin:g} to {margin:g} (TOST); no if it is outside"
    name = f"equivalent to {name}"
    return finding(name, metric, found, floor=0.0, verdict=verdict, rule=rule, note=note, decides=False)


def _verdict(found: Estimate, room: float) -> str:
    if found.low is None or found.high is None or found.n_patients < FEWEST:
        return UNKNOWN
    return YES if found.low > 0 else NO if found.high <= max(0.0, MATERIAL * room) else UNKNOWN
