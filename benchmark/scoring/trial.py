"""A trial: the method's input for one sample, and the region that its map is scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.scoring.edits import PIXELS, occluded, other_area, region_area
from gtg_bench.benchmark.scoring.edits import VERSION as EDITS_VERSION


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
        edit: how a probe changes the image that the method gets, see `scoring.probes`; "" if it does not.
        absent: the phrase names a finding that the image does not show, so there is no region to score.
    """

    sample: PhraseSample
    phrase: str
    category: str
    scored_on: PhraseSample
    others: tuple[PhraseSample, ...]
    image_sha256: str = ""
    edit: str = ""
    absent: bool = False

    @property
    def map_name(self) -> str:
        """24 hex digits over everything that decides its map beside the method: sample, text and image."""
        parts: tuple[str, ...] = (self.sample.sample_id, self.phrase, self.category, self.image_sha256)
        if self.edit:
            covering = () if self.edit in PIXELS else (self.sample, *self.others)
            regions = [(one.boxes, one.mask and one.mask.digest) for one in covering]
            parts += (self.edit, str(EDITS_VERSION), repr(regions))
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]

    def edited(self, image: FloatArray) -> FloatArray:
        """The image that the method gets, from the sample's own: float32 [H, W] in [0, 1]."""
        if not self.edit:
            return image
        if self.edit in PIXELS:
            return PIXELS[self.edit](image, self.sample)
        area = region_area(self.sample) if self.edit == "occlude-region" else other_area(self.sample, self.others)
        return image if area is None else occluded(image, area)
