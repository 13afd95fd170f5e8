"""Prior tables: what a training split's boxes and images look like on average. One packaged table a data set.

A table is an npz of `keys` (JSON: a list of [category, side, zone, size], null for "any"), `maps` float16
[K, 64, 64] (mean box mask over the image, in [0, 1]) and `mean_image` uint8 [S, S], with a card beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.api.phrases import PhraseFacts, read_phrase
from gtg_bench.benchmark.api.types import PhraseSample

TABLES = Path(__file__).parent / "zoo" / "priors"
GRID = 64
MIN_COUNT = 5
"""A key that fewer training phrases share is left out: the next coarser key stands in for it."""

Key = tuple[str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class PriorTable:
    """A loaded table: `maps` by key, float32 [64, 64] over the whole image; `mean_image` float32 [S, S] in [0, 1]."""

    maps: dict[Key, FloatArray]
    mean_image: FloatArray
    sha256: str

    def lookup(self, facts: PhraseFacts, depth: int) -> FloatArray:
        """The map of the finest known key that agrees with the first `depth` facts; that of all boxes at worst."""
        for known in range(depth, -1, -1):
            key = _general(facts.key, known)
            if key in self.maps:
                return self.maps[key]
        raise AssertionError("a table always holds the key of all boxes")


def fit(samples: Iterable[PhraseSample], images: Iterable[FloatArray]) -> tuple[dict[Key, FloatArray], FloatArray]:
    """Mean box masks by key, and the mean image, of a training split."""
    sums: dict[Key, NDArray[np.float64]] = {}
    counts: dict[Key, int] = {}
    for sample in samples:
        frame = Frame.stretch(sample.image_size, (GRID, GRID))
        mask = boxes_to_mask(frame.boxes_from_image(sample.boxes), (GRID, GRID))
        facts = read_phrase(sample.phrase).key
        for key in {_general(facts, known) for known in range(5)}:
            sums[key] = sums.get(key, np.zeros((GRID, GRID))) + mask
            counts[key] = counts.get(key, 0) + 1
    maps = {
        key: (sums[key] / counts[key]).astype(np.float32) for key in sums if counts[key] >= MIN_COUNT or not any(key)
    }
    total, number = np.zeros(1), 0
    for image in images:
        total, number = total + image, number + 1
    return maps, (total / number).astype(np.float32)


def _general(key: Key, known: int) -> Key:
    """The key with only its first `known` facts."""
    category, side, zone, size = (part if i < known else None for i, part in enumerate(key))
    return category, side, zone, size


def save(path: Path, maps: dict[Key, FloatArray], mean_image: FloatArray) -> None:
    """Write a table."""
    keys = sorted(maps, key=lambda key: [part or "" for part in key])
    np.savez_compressed(
        path,
        keys=np.frombuffer(json.dumps(keys).encode(), dtype=np.uint8),
        maps=np.stack([maps[key] for key in keys]).astype(np.float16),
        mean_image=np.round(mean_image * 255).astype(np.uint8),
    )


def load(dataset: str | None) -> PriorTable:
    """The table of a data set. Raises UsageError where there is none."""
    path = TABLES / f"{dataset}.npz"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in TABLES.glob("*.npz"))) or "none"
        raise UsageError(
            f"there is no prior table for data set {dataset!r} (there is one for: {known}): a prior needs boxes of "
            "a training split of the same data set; leave this method out"
        )
    with np.load(path) as archive:
        keys = [tuple(key) for key in json.loads(archive["keys"].tobytes())]
        maps = dict(zip(keys, archive["maps"].astype(np.float32), strict=True))
        mean_image = archive["mean_image"].astype(np.float32) / 255
    return PriorTable(maps, mean_image, hashlib.sha256(path.read_bytes()).hexdigest())
