"""Where the pretraining's images and texts come from, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from gtg_bench.benchmark.datasets.phantom.dataset import load_studies
from gtg_bench.benchmark.datasets.phantom.world import VERSION
from gtg_bench.training.pretraining.generic import GenericPictures
from gtg_bench.training.pretraining.med_kebert import TABLE
from gtg_bench.training.pretraining.pairs import Material, Pairs
from gtg_bench.training.pretraining.scenes import captioned_scenes
from gtg_bench.training.pretraining.shapes import captioned_shapes

HELD_OUT = 256
"""Generic pictures on which a pretraining is measured; the phantom's are those of its validation split."""

_GENERIC: dict[str, Callable[[int, int], Pairs]] = {"shapes": captioned_shapes, "scenes": captioned_scenes}
_NOTHING = Pairs(torch.empty(0, 0, 0, dtype=torch.uint8), [])
"""Of the table of definitions: it holds no images, and is read by the pretraining itself."""


@dataclass(frozen=True)
class Worlds:
    """Makes what encoders are pretrained on.

    Attributes:
        world: seed of the phantom world.
        seed: of generic pictures.
        pictures: how many generic pictures there are.
    """

    world: int
    seed: int
    pictures: int

    def material(self, name: str) -> Material:
        """The material of a name, see `recipe.TextRecipe.data`."""
        if name in _GENERIC:
            train, held_out = _GENERIC[name](self.pictures, self.seed), _GENERIC[name](HELD_OUT, self.seed + 1)
            return Material(train, held_out, self.about(name))
        if name == "definitions":
            return Material(_NOTHING, _NOTHING, self.about(name))
        return self._reports

    @cached_property
    def _reports(self) -> Material:
        train, held_out = (Pairs.of_studies(load_studies(self.world, split)) for split in ("train", "validate"))
        return Material(train, held_out, self.about("reports") | {"images": len(train.texts)})

    def about(self, name: str) -> dict[str, Any]:
        """What a card says of the material of a name, as far as it decides what was learned."""
        if name in _GENERIC:
            dataset = f"generic pictures with captions: {name}"
            return {"dataset": dataset, "images": self.pictures, "seed": self.seed}
        if name == "definitions":
            table = hashlib.sha256(TABLE.read_bytes()).hexdigest()
            return {"dataset": "definitions of findings and places of the chest", "sha256": table}
        return {"dataset": "phantom", "dataset_version": VERSION, "world": self.world, "split": "train"}

    def generic(self, split: str) -> GenericPictures:
        """The pictures of plain shapes as a training set."""
        material = self.material("shapes")
        pairs = {"train": material.train, "validate": material.held_out}
        return GenericPictures("generic pictures", pairs, split, self.generic_options)

    @property
    def generic_options(self) -> dict[str, str]:
        """What decides that set."""
        return {"seed": str(self.seed), "pictures": str(self.pictures)}
