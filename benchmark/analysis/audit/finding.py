"""What an audit finds: figures with their context, and verdicts by a stated rule."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gtg_bench.benchmark.statistics import Estimate, detectable

YES, NO, UNKNOWN, NONE = "yes", "no", "not enough data", "not applicable"
FEWEST = 10
"""Patients below which no verdict is given."""


@dataclass(frozen=True)
class Finding:
    """One figure of an audit."""

    name: str
    """What was measured."""
    unit: str
    """The metric or quantity of the figure."""
    figure: float | None = None
    """The figure; None if it could not be computed."""
    low: float | None = None
    high: float | None = None
    """Its 95 % CI, from a bootstrap over patients; None for fewer than five."""
    floor: float | None = None
    """What a method without the ability gets; None if unknown."""
    ceiling: float | None = None
    """What a perfect method gets; None if unknown."""
    n: int = 0
    """Samples."""
    n_patients: int = 0
    """Patients."""
    verdict: str = NONE
    """YES, NO, UNKNOWN or NONE."""
    rule: str = ""
    """How the verdict follows from the figure; "" if the figure is only for information."""
    note: str = ""
    """What a reader must know beside it."""
    decides: bool = True
    """Whether the verdict counts for the question."""
    detail: bool = False
    """Whether a short page leaves it out."""

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, with the smallest difference that this n detects with 80 % power."""
        return asdict(self) | {"detectable": detectable(self.low, self.high)}


@dataclass(frozen=True)
class Question:
    """One of the eight questions, with what was found."""

    number: int
    """From 1."""
    title: str
    """The question; a sound method's answer is yes."""
    findings: tuple[Finding, ...]
    """At least one."""

    @property
    def verdict(self) -> str:
        """NO if any deciding finding is, else UNKNOWN if any is, else YES if any is, else NONE.

        Findings on fewer than FEWEST patients have no say beside others.
        """
        deciding = [finding for finding in self.findings if finding.decides and finding.verdict != NONE]
        weighty = [finding for finding in deciding if finding.n_patients >= FEWEST]
        found = {finding.verdict for finding in weighty or deciding}
        return next((verdict for verdict in (NO, UNKNOWN, YES) if verdict in found), NONE)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        findings = [finding.as_json() for finding in self.findings]
        return {"number": self.number, "question": self.title, "verdict": self.verdict, "findings": findings}


def above(found: Estimate, bar: float) -> str:
    """YES if the whole 95 % CI is above the bar, NO if none of it is, else UNKNOWN; also below FEWEST patients."""
    if found.low is None or found.high is None or found.n_patients < FEWEST:
        return UNKNOWN
    return YES if found.low > bar else NO if found.high <= bar else UNKNOWN


def below(found: Estimate, bar: float) -> str:
    """YES if the whole 95 % CI is below the bar, NO if none of it is, else UNKNOWN; also below FEWEST patients."""
    return {YES: NO, NO: YES}.get(verdict := above(found, bar), verdict)


def finding(name: str, unit: str, found: Estimate, **facts: Any) -> Finding:
    """A finding from an estimate."""
    return Finding(name, unit, found.value, found.low, found.high, n=found.n, n_patients=found.n_patients, **facts)


def impossible(name: str, unit: str, reason: str) -> Finding:
    """A finding that this method or data set does not allow."""
    return Finding(name, unit, note=reason)
