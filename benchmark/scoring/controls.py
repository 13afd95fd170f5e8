"""Controls: the same run with one deliberate change, to test whether a method uses its text and its image.

- neutral-phrase: the phrase names no finding, so the map shows what the method finds unprompted.
- phrase-swap: the phrase of another category, from another image. A method that ignores the text keeps its scores.
- image-swap: the map is scored on the region of another patient's image whose phrase is as similar as possible. A
  method that ignores the image keeps its scores.
- side-swap: left and right are swapped in the phrase (see `laterality.mirrored`), the region stays. Lower scores mean
  that the map follows the side in the text. They do not mean that the finding was found or the image used: a prior
  that knows only the text drops most. A method that keeps its scores takes the side from the image, or not at all.
  Samples whose phrase has no mirror image are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import chain, islice

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import PhraseSample, seed_for
from gtg_bench.benchmark.scoring.laterality import mirrored
from gtg_bench.benchmark.scoring.probes import PROBES, plan_probe
from gtg_bench.benchmark.scoring.trial import Trial

CONTROLS = ("none", "neutral-phrase", "phrase-swap", "image-swap", "side-swap")
"""Names of the controls; "none" is the plain run."""

REGION_CONTROLS = ("image-swap",)
"""Controls that change only the region, so that they reuse the plain run's maps."""

NEUTRAL_PHRASE = "frontal chest radiograph"

PAIRS = 4_000_000
"""Maximum number of pairs that a swap hashes, about 3 s: all of them in splits of up to 2,000 samples."""


def applies(control: str, phrase: str, category: str) -> bool:
    """Whether a control has a trial for the sample with this phrase; only side-swap leaves out samples."""
    return control != "side-swap" or mirrored(phrase, category) is not None


def plan(samples: Sequence[PhraseSample], control: str, limit: int | None = None) -> list[Trial]:
    """Plan one trial per sample, in their order; of the controls only side-swap leaves out samples.

    A sample without a region, as data sets give it for a damaged row or image, is never a partner.

    Args:
        samples: a whole split; the plan depends on nothing else.
        control: one of CONTROLS, or a probe, see `scoring.probes.plan_probe`.
        limit: plan only the first `limit` samples; their partners still come from the whole split.

    Raises:
        UsageError: a swap finds no partner for a sample, or side-swap applies to no sample.
    """
    if control in PROBES:
        return plan_probe(samples, control, limit)
    usable = [sample for sample in samples if sample.boxes or sample.mask]
    by_image: dict[str, list[PhraseSample]] = defaultdict(list)
    for sample in usable:
        by_image[sample.image_id].append(sample)
    partners = _Partners(usable)
    trials = []
    for sample in samples[:limit]:
        phrase, category, scored_on = sample.phrase, sample.category, sample
        if control == "neutral-phrase":
            phrase, category = NEUTRAL_PHRASE, ""
        elif control == "phrase-swap":
            other = partners.of_other_category(sample)
            phrase, category = other.phrase, other.category
        elif control == "image-swap":
            scored_on = partners.of_other_patient(sample)
        elif control == "side-swap":
            swapped = mirrored(phrase, category)
            if swapped is None:
                continue
            phrase = swapped
        others = tuple(s for s in by_image[scored_on.image_id] if s.sample_id != scored_on.sample_id)
        trials.append(Trial(sample, phrase, category, scored_on, others))
    if samples and not trials:
        raise UsageError(f"--control {control} needs phrases that name one side, left or right; this data has none")
    return trials


class _Partners:
    """Finds partners among a split's samples, by chance but independently of the samples' order.

    The partner is the candidate with the lowest hash of both sample ids. In splits with more than PAIRS pairs only
    PAIRS / samples candidates are hashed for each sample, from a start among the sorted ids that its own id decides.
    """

    def __init__(self, samples: Sequence[PhraseSample]) -> None:
        self.samples = sorted(samples, key=lambda sample: sample.sample_id)
        self.most = max(1, PAIRS // max(1, len(samples)))
        self.by_category: dict[str, list[PhraseSample]] = {}
        self.by_traits: dict[tuple[int, ...], dict[tuple, list[PhraseSample]]] = {}

    def of_other_category(self, sample: PhraseSample) -> PhraseSample:
        """A sample of another category on another image."""
        if sample.category not in self.by_category:
            self.by_category[sample.category] = [s for s in self.samples if s.category != sample.category]
        group = self.by_category[sample.category]
        found = self._pick(group, sample, lambda other: other.image_id != sample.image_id)
        if found is None:
            raise UsageError(
                f"--control phrase-swap needs a sample of another category on another image; "
                f"the split has none for sample {sample.sample_id}"
            )
        return found

    def of_other_patient(self, sample: PhraseSample) -> PhraseSample:
        """The sample of another patient whose phrase is most similar.

        Traits are compared one after the other, the most important first: a trait counts if any candidate that shares
        the previous ones shares it too.
        """

        def allowed(other: PhraseSample) -> bool:
            return other.patient_id != sample.patient_id

        mine, group = _traits(sample), self.samples
        kept: tuple[int, ...] = ()
        for trait in range(len(mine)):
            alike = self._sharing((*kept, trait)).get(tuple(mine[k] for k in (*kept, trait)), [])
            if any(map(allowed, alike)):
                kept, group = (*kept, trait), alike
        found = self._pick(group, sample, allowed)
        if found is None:
            raise UsageError(
                f"--control image-swap needs another patient in the split; sample {sample.sample_id} has no partner"
            )
        return found

    def _sharing(self, traits: tuple[int, ...]) -> dict[tuple, list[PhraseSample]]:
        """The samples, grouped by some of their traits."""
        if traits not in self.by_traits:
            groups: dict[tuple, list[PhraseSample]] = defaultdict(list)
            for sample in self.samples:
                found = _traits(sample)
                groups[tuple(found[k] for k in traits)].append(sample)
            self.by_traits[traits] = groups
        return self.by_traits[traits]

    def _pick(
        self, group: Sequence[PhraseSample], sample: PhraseSample, allowed: Callable[[PhraseSample], bool]
    ) -> PhraseSample | None:
        if not group:
            return None
        start = seed_for("control", sample.sample_id) % len(group)
        candidates = islice(filter(allowed, chain(islice(group, start, None), islice(group, start))), self.most)
        prefix = f"control\x1f{sample.sample_id}\x1f".encode()
        # The order of these digests is that of `seed_for("control", sample_id, partner_id)`, at a third of its cost.
        return min(candidates, key=lambda other: sha256(prefix + other.sample_id.encode()).digest(), default=None)


def _traits(sample: PhraseSample) -> tuple[str | None, ...]:
    """Category, wording, side, zone and size, the most important first."""
    said = read_phrase(sample.phrase)
    return sample.category, sample.phrase.lower().rstrip(". "), said.side, said.zone, said.size
