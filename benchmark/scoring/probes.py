"""Probes: a run with one change that a sound method withstands, or to which it reacts in a known way.

`analysis.audit` runs them. Like controls they are runs, with records and maps that are kept and reused; unlike controls
they may change the image, the seed or the weights, and most are read by their maps, not by their scores.

- occlude-region, occlude-elsewhere: the region is filled from its border, or an equally large other area. Samples
  without such an area are left out of the second.
- paraphrase, shift, contrast, noise, jpeg: changes that do not change what the image shows; see `scoring.edits`. The
  region stays where it is, also under shift.
- seed-1, seed-2: the next seeds.
- weights-25 ... weights-100: that share of the model's layers has random weights, from the last one on.
- absent: phrases whose finding the image does not show. They have no region, so none is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.scoring.edits import PIXELS, other_area, paraphrased
from gtg_bench.benchmark.scoring.trial import Trial

OCCLUSIONS = ("occlude-region", "occlude-elsewhere")
SEEDS = ("seed-1", "seed-2")
# The names are all that a run's key knows of what is done to the weights: another way to do it needs other names.
WEIGHTS = ("weights-25", "weights-50", "weights-100")
ABSENT = "absent"
PROBES = (*OCCLUSIONS, "paraphrase", *PIXELS, *SEEDS, *WEIGHTS, ABSENT)
"""Names of the probes."""


def plan_probe(samples: Sequence[PhraseSample], probe: str, limit: int | None = None) -> list[Trial]:
    """Plan one trial per sample that the probe applies to, in their order.

    Args:
        samples: a whole split; the phrases of absent findings for `absent`.
        probe: one of PROBES.
        limit: plan only the first `limit` samples.
    """
    by_image: dict[str, list[PhraseSample]] = defaultdict(list)
    for sample in samples:
        by_image[sample.image_id].append(sample)
    trials = []
    for sample in samples[:limit]:
        others = tuple(s for s in by_image[sample.image_id] if s.sample_id != sample.sample_id and (s.boxes or s.mask))
        phrase = paraphrased(sample.phrase) if probe == "paraphrase" else sample.phrase
        edit = probe if probe in PIXELS or probe in OCCLUSIONS else ""
        usable = sample.boxes or sample.mask
        if probe == "occlude-elsewhere" and usable and other_area(sample, others) is None:
            continue
        trials.append(Trial(sample, phrase, sample.category, sample, others, edit=edit, absent=probe == ABSENT))
    return trials
