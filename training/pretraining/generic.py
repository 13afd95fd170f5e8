"""Generic captioned pictures as a training set of a latent diffusion model: the phantom's stand-in for LAION."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.problems import Problem
from gtg_bench.benchmark.datasets.training import TrainingPair
from gtg_bench.training.pretraining.pairs import Pairs


class GenericPictures:
    """Pictures and captions as `TrainingSet` hands them out; every picture counts as a patient of its own."""

    dropped: ClassVar[Mapping[str, int]] = {}
    problems: ClassVar[list[Problem]] = []

    def __init__(self, name: str, pairs: Mapping[str, Pairs], split: str, options: Mapping[str, str]) -> None:
        """Args:
        name: as the card calls it.
        pairs: by split.
        split: which of them.
        options: what decides them, for the card.

        Raises:
            UsageError: an unknown split.
        """
        if split not in pairs:
            raise UsageError(f"training set {name} has no split {split!r}; it has: {', '.join(pairs)}")
        self.name, self.split, self.options = name, split, dict(options)
        self._pairs = pairs[split]

    def __len__(self) -> int:
        return len(self._pairs.texts)

    def __getitem__(self, number: int) -> TrainingPair:
        name = f"{self.name}-{self.split}-{number:05d}"
        pixels = self._pairs.pixels[number].numpy().astype("float32") / 255
        return TrainingPair(name, name, pixels, self._pairs.texts[number])

    def __iter__(self) -> Iterator[TrainingPair]:
        return (self[number] for number in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """See `TrainingSet`; pixels are made by a seed, so they are looked at too."""
        digest = hashlib.sha256(json.dumps([self.name, self.split, *self._pairs.texts]).encode())
        digest.update(self._pairs.pixels.numpy().tobytes())
        return digest.hexdigest()
