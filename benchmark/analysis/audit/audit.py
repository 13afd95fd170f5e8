"""The audit: all questions about one method, as one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gtg_bench.benchmark.analysis.audit import (
    absence,
    fairness,
    image,
    learned,
    phrase,
    priors,
    robustness,
    threshold,
)
from gtg_bench.benchmark.analysis.audit.finding import Finding, Question
from gtg_bench.benchmark.analysis.audit.subject import Subject
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.statistics import Estimate

Ask = Callable[[Subject], Sequence[Finding]]
QUESTIONS: tuple[tuple[str, Ask], ...] = (
    (priors.TITLE, priors.ask),
    (phrase.TITLE, phrase.ask),
    (image.TITLE, image.ask),
    (absence.TITLE, absence.ask),
    (robustness.TITLE, robustness.ask),
    (learned.TITLE, learned.ask),
    (threshold.TITLE, threshold.ask),
    (fairness.TITLE, fairness.ask),
)
"""The questions in their order: title, and the function that answers it."""


@dataclass(frozen=True)
class Page:
    """An audit's result."""

    method: str
    """Name of the run."""
    key: str
    """Key of the plain run."""
    dataset: str
    """Data set and version."""
    split: str
    """Split."""
    limit: int | None
    """Only the first samples; None for all."""
    protocol: str
    """Protocol and version."""
    metric: str
    """Its primary metric, which the figures are about where no other quantity is named."""
    score: Estimate
    """The method's score in that metric."""
    constant: float
    """What a constant map scores."""
    ceiling: float | None
    """What a perfect localiser scores; None if the data set has none."""
    n_total: int
    """Samples, scored or not."""
    questions: tuple[Question, ...]
    """In their order."""

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        facts = {
            name: getattr(self, name) for name in ("method", "key", "dataset", "split", "limit", "protocol", "metric")
        }
        score = {
            "score": self.score.value,
            "low": self.score.low,
            "high": self.score.high,
            "constant_map": self.constant,
            "ceiling": self.ceiling,
        }
        counts = {"n_total": self.n_total, "n_scored": self.score.n, "n_patients": self.score.n_patients}
        return {**facts, **score, **counts, "questions": [question.as_json() for question in self.questions]}


def make(
    subject: Subject,
    numbers: Sequence[int] | None = None,
    against: Sequence[str] = (),
    margin: float | None = None,
) -> Page:
    """Ask the questions about a method; runs that are not stored are made.

    Args:
        subject: the method.
        numbers: questions to ask, from 1; None asks all.
        against: further methods that question 1 compares with.
        margin: largest difference that does not matter, for question 1's tests of equivalence; None for no test.

    Raises:
        UsageError: the method or data set cannot be used, or the method answers with boxes, for which the protocol's
            primary metric is undefined.
        DataError: files of the data set or weights cannot be used, or no sample could be scored.
    """
    plain = subject.plain
    if not any(record.status == "ok" for record in plain.run.records):
        reason = next((record.error for record in plain.run.records if record.error), "")
        raise DataError(f"{plain.run.name} has no scored sample, so nothing can be asked: {reason}")
    if subject.score(plain).value is None and any(one.answer for one in plain.maps.values()):
        raise UsageError(
            f"{plain.run.name} answers with boxes, for which {subject.primary} is undefined; add --protocol boxes"
        )
    asked = []
    for number, (title, ask) in enumerate(QUESTIONS, start=1):
        if numbers is None or number in numbers:
            found = priors.ask(subject, against, margin) if number == 1 else ask(subject)
            asked.append(Question(number, title, tuple(found)))
    spec = plain.run.spec
    return Page(
        method=plain.run.name,
        key=spec.key,
        dataset=f"{spec.dataset} v{spec.dataset_version}",
        split=spec.split,
        limit=spec.limit,
        protocol=f"{spec.protocol}@{spec.protocol_version}",
        metric=subject.primary,
        score=subject.score(plain),
        constant=subject.constant(),
        ceiling=subject.ceiling(),
        n_total=len(plain.run.records),
        questions=tuple(asked),
    )
