"""Controls: the same run with one thing changed on purpose, to see what a method listens to.

- neutral-phrase: the phrase names no finding. What is left is what the method finds without being told.
- phrase-swap: a phrase of another category, from another image. A method that ignores the text keeps its numbers.
- image-swap: the map is scored on the region of another patient's image whose phrase says as nearly the same
  as there is. A method that ignores the image keeps its numbers.
- side-swap: left and right change places in the phrase, the region stays; see `benchmark.sides.mirrored`. A fall
  means that the map follows the side in the words. It does not mean that the finding was found, nor that the image
  was looked at: a prior that knows nothing but the words falls most. A method that keeps its numbers takes the side
  from the image, or from nowhere. Phrases without a mirror image are no trials.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import PhraseSample, seed_for
from gtg_bench.benchmark.scoring.laterality import mirrored
from gtg_bench.benchmark.scoring.trial import Trial

CONTROLS = ("none", "neutral-phrase", "phrase-swap", "image-swap", "side-swap")
"""Names of the controls; "none" is the plain run."""

REGION_CONTROLS = ("image-swap",)
"""Controls that change only the region: they reuse the plain run's maps."""

NEUTRAL_PHRASE = "frontal chest radiograph"


def plan(samples: Sequence[PhraseSample], control: str, limit: int | None = None) -> list[Trial]:
    """One trial a sample, in their order; only side-swap leaves out those samples to which it does not apply.

    A sample without a region, as its data set gives it for a damaged row or image, is nobody's partner.

    Args:
        samples: of a split; the plan is a function of them alone.
        control: one of `spec.CONTROLS`.
        limit: only trials of the first so many samples; partners come from all of them.

    Raises:
        UsageError: a swap finds no partner for a sample, or applies to none.
    """
    usable = [sample for sample in samples if sample.boxes or sample.mask]
    by_image: dict[str, list[PhraseSample]] = defaultdict(list)
    for sample in usable:
        by_image[sample.image_id].append(sample)
    trials = []
    for sample in samples[:limit]:
        phrase, category, scored_on = sample.phrase, sample.category, sample
        if control == "neutral-phrase":
            phrase, category = NEUTRAL_PHRASE, ""
        elif control == "phrase-swap":
            other = _other_category(sample, usable)
            phrase, category = other.phrase, other.category
        elif control == "image-swap":
            scored_on = _other_patient(sample, usable)
        elif control == "side-swap":
            other_side = mirrored(phrase, category)
            if other_side is None:
                continue
            phrase = other_side
        others = tuple(s for s in by_image[scored_on.image_id] if s.sample_id != scored_on.sample_id)
        trials.append(Trial(sample, phrase, category, scored_on, others))
    if samples and not trials:
        raise UsageError(f"--control {control} needs phrases that name one side, left or right; this data has none")
    return trials


def _other_category(sample: PhraseSample, samples: Sequence[PhraseSample]) -> PhraseSample:
    partners = [s for s in samples if s.category != sample.category and s.image_id != sample.image_id]
    return _pick(partners, sample, "phrase-swap needs another category in the split")


def _other_patient(sample: PhraseSample, samples: Sequence[PhraseSample]) -> PhraseSample:
    partners = [s for s in samples if s.patient_id != sample.patient_id]
    said = read_phrase(sample.phrase)
    likeness = [_likeness(sample, said.key, s) for s in partners]
    best = max(likeness, default=(0,))
    nearest = [s for s, value in zip(partners, likeness, strict=True) if value == best]
    return _pick(nearest, sample, "image-swap needs another patient in the split")


def _likeness(sample: PhraseSample, said: tuple[str | None, ...], other: PhraseSample) -> tuple[int, ...]:
    facts = read_phrase(other.phrase).key
    same = [a == b for a, b in zip(said, facts, strict=True)]
    return (
        int(other.category == sample.category),
        int(_plain(other.phrase) == _plain(sample.phrase)),
        *map(int, same[1:]),
    )


def _plain(phrase: str) -> str:
    return phrase.lower().rstrip(". ")


def _pick(partners: Sequence[PhraseSample], sample: PhraseSample, needed: str) -> PhraseSample:
    """One partner, by chance but whatever their order."""
    if not partners:
        raise UsageError(f"--control {needed}; this one has none for sample {sample.sample_id}")
    return min(partners, key=lambda partner: seed_for("control", sample.sample_id, partner.sample_id))
