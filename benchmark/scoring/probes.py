"""Probes: a run with one change that a sound method withstands, or to which it reacts in a known way.

`analysis.audit` runs them. Like controls they are runs, with records and maps that are kept and reused; unlike controls
they may change the image, the seed or the weights, and most are read by their maps, not by their scores.

- occlude-region, occlude-elsewhere: the region is filled from its border, or an equally large other area. Samples
  without such an area are left out of the second.
- finding-swap: the phrase of another finding that names the same side, or none as well, and that the image does not
  show. Samples without such a phrase are left out.
- paraphrase, shift, contrast, noise, jpeg: changes that do not change what the image shows; see `scoring.edits`. The
  region stays where it is, also under shift.
- seed-1, seed-2: the next seeds.
- weights-25 ... weights-100: that share of the model's layers has random weights, from the last one on.
- absent: phrases whose finding the image does not show. They have no region, so none is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import PhraseSample, seed_for
from gtg_bench.benchmark.scoring.edits import PIXELS, other_area, paraphrased
from gtg_bench.benchmark.scoring.trial import Trial

OCCLUSIONS = ("occlude-region", "occlude-elsewhere")
SEEDS = ("seed-1", "seed-2")
# The names are all that a run's key knows of what is done to the weights: another way to do it needs other names.
WEIGHTS = ("weights-25", "weights-50", "weights-100")
ABSENT, FINDING_SWAP = "absent", "finding-swap"
PROBES = (*OCCLUSIONS, FINDING_SWAP, "paraphrase", *PIXELS, *SEEDS, *WEIGHTS, ABSENT)
"""Names of the probes."""


def plan_probe(samples: Sequence[PhraseSample], probe: str, limit: int | None = None) -> list[Trial]:
    """Plan one trial per sample that the probe applies to, in their order.

    Args:
        samples: a whole split; the phrases of absent findings for `absent`.
        probe: one of PROBES.
        limit: plan only the first `limit` samples.

    Raises:
        UsageError: finding-swap finds no phrase for any sample.
    """
    by_image: dict[str, list[PhraseSample]] = defaultdict(list)
    for sample in samples:
        by_image[sample.image_id].append(sample)
    partners = _of_other_findings(samples, by_image) if probe == FINDING_SWAP else {}
    if probe == FINDING_SWAP and not partners:
        raise UsageError("no phrase of another finding names the same side")
    trials = []
    for sample in samples[:limit]:
        if probe == FINDING_SWAP and sample.sample_id not in partners:
            continue
        others = tuple(s for s in by_image[sample.image_id] if s.sample_id != sample.sample_id and (s.boxes or s.mask))
        phrase = paraphrased(sample.phrase) if probe == "paraphrase" else sample.phrase
        edit = probe if probe in PIXELS or probe in OCCLUSIONS else ""
        usable = sample.boxes or sample.mask
        if probe == "occlude-elsewhere" and usable and other_area(sample, others) is None:
            continue
        category = sample.category
        if probe == FINDING_SWAP:
            phrase, category = partners[sample.sample_id].phrase, partners[sample.sample_id].category
        trials.append(Trial(sample, phrase, category, sample, others, edit=edit, absent=probe == ABSENT))
    return trials


def _of_other_findings(
    samples: Sequence[PhraseSample], by_image: Mapping[str, Sequence[PhraseSample]]
) -> dict[str, PhraseSample]:
    """Sample id -> a sample of a finding that its image does not show, whose phrase names the same side or none.

    The partner is the next one in the order of hashes, so that it does not depend on the samples' order.
    """
    by_side: dict[str | None, list[PhraseSample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: seed_for(FINDING_SWAP, sample.sample_id)):
        if sample.boxes or sample.mask:
            by_side[read_phrase(sample.phrase).side].append(sample)
    found = {}
    for group in by_side.values():
        for place, sample in enumerate(group):
            shown = {other.category for other in by_image[sample.image_id]}
            following = (group[(place + step) % len(group)] for step in range(1, len(group)))
            if (partner := next((other for other in following if other.category not in shown), None)) is not None:
                found[sample.sample_id] = partner
    return found
