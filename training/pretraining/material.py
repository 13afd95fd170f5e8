"""Pretraining data: the phantom's images with reports, generic captioned pictures, and the table of definitions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.phantom.dataset import load_studies
from gtg_bench.benchmark.datasets.phantom.world import VERSION, Study
from gtg_bench.benchmark.datasets.problems import Problem
from gtg_bench.benchmark.datasets.training import TrainingPair
from gtg_bench.training.pretraining import captions
from gtg_bench.training.pretraining.recipe import DEFINITIONS

HELD_OUT = 256
"""Generic pictures held out for measuring; for reports it is the phantom's validation split."""

_GENERIC = {"shapes": captions.shapes, "scenes": captions.scenes}


@dataclass(frozen=True)
class Pairs:
    """Images (uint8 [N, S, S]) with one text each."""

    pixels: Tensor
    texts: list[str]

    @classmethod
    def of_studies(cls, studies: list[Study]) -> Pairs:
        """The images of phantom studies with their reports."""
        return cls(torch.from_numpy(np.stack([study.pixels for study in studies])), [s.report for s in studies])

    @classmethod
    def generic(cls, name: str, count: int, seed: int) -> Pairs:
        """`count` generic pictures, 64 x 64, with captions; `name` is "shapes" or "scenes"."""
        random = np.random.default_rng(seed)
        pixels, texts = zip(*(_GENERIC[name](random) for _ in range(count)), strict=True)
        return cls(torch.from_numpy(np.stack(pixels)), list(texts))


@dataclass(frozen=True)
class Material:
    """Pairs to train on, held-out pairs to measure on, and their description for the card."""

    train: Pairs
    held_out: Pairs
    about: dict[str, Any]


@dataclass(frozen=True)
class Worlds:
    """Creates pretraining data by name.

    Attributes:
        world: seed of the phantom world.
        seed: seed of the generic pictures.
        pictures: number of generic pictures.
    """

    world: int
    seed: int
    pictures: int

    def material(self, name: str) -> Material:
        """The data called `name`, see `recipe.TextRecipe.data`."""
        if name in _GENERIC:
            train = Pairs.generic(name, self.pictures, self.seed)
            return Material(train, Pairs.generic(name, HELD_OUT, self.seed + 1), self.about(name))
        if name == "definitions":  # Med-KEBERT's pretraining reads the table itself
            nothing = Pairs(torch.empty(0, 0, 0, dtype=torch.uint8), [])
            return Material(nothing, nothing, self.about(name))
        return self._reports

    @cached_property
    def _reports(self) -> Material:
        train, held_out = (Pairs.of_studies(load_studies(self.world, split)) for split in ("train", "validate"))
        return Material(train, held_out, self.about("reports") | {"images": len(train.texts)})

    def about(self, name: str) -> dict[str, Any]:
        """The card's description of the data called `name`, without loading it."""
        if name in _GENERIC:
            dataset = f"generic pictures with captions: {name}"
            return {"dataset": dataset, "images": self.pictures, "seed": self.seed}
        if name == "definitions":
            table = hashlib.sha256(DEFINITIONS.read_bytes()).hexdigest()
            return {"dataset": "definitions of findings and places of the chest", "sha256": table}
        return {"dataset": "phantom", "dataset_version": VERSION, "world": self.world, "split": "train"}

    def generic(self, split: str) -> GenericPictures:
        """The pictures of shapes as a training set. Raises UsageError if the split does not exist."""
        material = self.material("shapes")
        pairs = {"train": material.train, "validate": material.held_out}
        if split not in pairs:
            raise UsageError(f"generic pictures have no split {split!r}; choose from: {', '.join(pairs)}")
        return GenericPictures(pairs[split], split, self.generic_options)

    @property
    def generic_options(self) -> dict[str, str]:
        """The options that determine `generic`."""
        return {"seed": str(self.seed), "pictures": str(self.pictures)}


@dataclass(frozen=True)
class GenericPictures:
    """Generic pictures as a `TrainingSet`, the phantom's counterpart of LAION; each picture is its own patient.

    Attributes:
        pairs: the pictures of the split.
        split: name of the split.
        options: settings that determine the pictures, for the card.
    """

    pairs: Pairs
    split: str
    options: Mapping[str, str]
    name: ClassVar[str] = "generic pictures"
    dropped: ClassVar[Mapping[str, int]] = {}
    problems: ClassVar[list[Problem]] = []

    def __len__(self) -> int:
        return len(self.pairs.texts)

    def __getitem__(self, number: int) -> TrainingPair:
        name = f"{self.name}-{self.split}-{number:05d}"
        pixels = self.pairs.pixels[number].numpy().astype("float32") / 255
        return TrainingPair(name, name, pixels, self.pairs.texts[number])

    def __iter__(self) -> Iterator[TrainingPair]:
        return (self[number] for number in range(len(self)))

    @cached_property
    def fingerprint(self) -> str:
        """See `TrainingSet`; covers the pixels as well."""
        digest = hashlib.sha256(json.dumps([self.name, self.split, *self.pairs.texts]).encode())
        digest.update(self.pairs.pixels.numpy().tobytes())
        return digest.hexdigest()
