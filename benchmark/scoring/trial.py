"""A trial: what the method gets for one sample, and which region its map is scored on."""

from __future__ import annotations

from dataclasses import dataclass

from gtg_bench.benchmark.api.types import PhraseSample


@dataclass(frozen=True)
class Trial:
    """What is done for one sample.

    Attributes:
        sample: whose image the method gets, and under whose id the record is kept.
        phrase: what the method is told.
        category: the finding of that phrase; "" where it names none.
        scored_on: whose region counts.
        others: other phrases' samples on the image of `scored_on`, for specificity.
    """

    sample: PhraseSample
    phrase: str
    category: str
    scored_on: PhraseSample
    others: tuple[PhraseSample, ...]
