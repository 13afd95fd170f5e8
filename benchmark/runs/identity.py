"""What a run's key holds about its data: samples, regions and image contents, but not where the files are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from gtg_bench.benchmark.api.types import PLACES, Box, Dataset, PhraseSample
from gtg_bench.benchmark.datasets.digests import image_digests
from gtg_bench.benchmark.scoring.edits import VERSION as EDITS_VERSION
from gtg_bench.benchmark.scoring.trial import Trial


def options_in_key(dataset: Dataset) -> str:
    """`KEY=VALUE` pairs of the data set's options, sorted, joined by a space; without those that name places."""
    return " ".join(f"{key}={value}" for key, value in sorted(dataset.options.items()) if key not in PLACES)


def digest_of_samples(trials: Sequence[Trial]) -> str:
    """sha256 of what is scored: phrases, ids, image sizes, regions, the image's other regions, edits and traits."""
    parts = [
        [
            t.phrase,
            t.category,
            t.sample.sample_id,
            t.sample.image_id,
            t.sample.patient_id,
            t.sample.image_size,
            _region(t.scored_on),
            [_region(other) for other in t.others],
            *([t.edit, EDITS_VERSION] if t.edit else []),
            *([t.sample.traits] if t.sample.traits else []),
        ]
        for t in trials
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def seen(trials: Sequence[Trial], dataset: Dataset) -> list[Trial]:
    """The trials with the digests of their images, which are read for that unless they are known."""
    digests = image_digests(dataset, [trial.sample for trial in trials])
    return [replace(trial, image_sha256=found) for trial, found in zip(trials, digests, strict=True)]


def digest_of_images(trials: Sequence[Trial]) -> str:
    """sha256 of the images' digests, in order."""
    return hashlib.sha256(json.dumps([trial.image_sha256 for trial in trials]).encode()).hexdigest()


def _region(sample: PhraseSample) -> Sequence[Box] | str:
    """The sample's boxes, or the fingerprint of its mask."""
    return sample.boxes if sample.mask is None else sample.mask.digest
