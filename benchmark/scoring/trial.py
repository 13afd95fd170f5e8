"""A trial: the method's input for one sample, and the region that its map is scored on."""

from __future__ import annotations

from dataclasses import dataclass

from gtg_bench.benchmark.api.types import PhraseSample


@dataclass(frozen=True)
class Trial:
    """One sample as a run evaluates it, possibly changed by a control.

    Attributes:
        sample: the sample whose image the method gets, and whose id the record carries.
        phrase: the text that the method gets.
        category: the finding of that phrase; "" if it names none.
        scored_on: the sample whose region the map is scored on.
        others: samples of other phrases on the image of `scored_on`, for `phrase_discrimination`.
    """

    sample: PhraseSample
    phrase: str
    category: str
    scored_on: PhraseSample
    others: tuple[PhraseSample, ...]
