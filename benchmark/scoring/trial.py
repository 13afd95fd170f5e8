"""A trial: the method's input for one sample, and the region that its map is scored on."""

from __future__ import annotations

import hashlib
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
        image_sha256: digest of the sample's image, see `datasets.digests`; "" if the image is not read.
    """

    sample: PhraseSample
    phrase: str
    category: str
    scored_on: PhraseSample
    others: tuple[PhraseSample, ...]
    image_sha256: str = ""

    @property
    def map_name(self) -> str:
        """24 hex digits over everything that decides its map beside the method: sample, text and image."""
        parts = self.sample.sample_id, self.phrase, self.category, self.image_sha256
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]
