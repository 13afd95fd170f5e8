"""Validation during training: loss on fixed noise, grounding scores, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Frame, region_in
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, MethodSettings, PhraseSample, Query, seed_for
from gtg_bench.benchmark.metrics import auroc, cnr
from gtg_bench.benchmark.report.pictures.overlay import Tile, draw_sheet
from gtg_bench.methods.ldm.lexicon import installed_lexicon
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.training.generation.images import ImageGenerator
from gtg_bench.training.ldm.models import TrainableLdm
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.loop.trainer import Draws
from gtg_bench.training.recipe import ValidationRecipe

_BATCH = 16
_GUIDANCE = 4.0
_PICTURE_STEPS = 20


@dataclass
class Validation:
    """Validates a model; see `loop.trainer.Watch`.

    Attributes:
        models: the models, on the device they are trained on.
        objective: their objective.
        recipe: number of pairs, phrases and pictures.
        draws: of the validation split, never dropped; None: no loss on fixed noise.
        dataset: whose phrases are grounded; None: none are.
        pictures: folder of the sheets.
        best: called with the step and its numbers when the mean CNR is higher than ever before.
        show: called with the step and the file of a new sheet.
        highest: that CNR so far.
    """

    models: TrainableLdm
    objective: NoiseObjective
    recipe: ValidationRecipe
    draws: Draws | None
    dataset: Dataset | None
    pictures: Path
    best: Callable[[int, Mapping[str, float]], Any]
    show: Callable[[int, Path], Any]
    highest: float = field(default=-float("inf"))

    def __call__(self, step: int) -> dict[str, float]:
        """loss (mean squared error), auroc and cnr (means in image pixels); what the recipe leaves out is absent."""
        numbers: dict[str, float] = {}
        if self.draws is not None and self.recipe.pairs:
            numbers["loss"] = self.loss(self.draws)
        if self.dataset is not None:
            maps = self.ground()
            numbers |= self.scores(maps)
            if self.recipe.pictures:
                sheet = self.pictures / f"step-{step:06d}.png"
                self.draw(maps, sheet)
                self.show(step, sheet)
        if numbers.get("cnr", -float("inf")) > self.highest:
            self.highest = numbers["cnr"]
            self.best(step, numbers)
        return numbers

    @torch.no_grad()
    def loss(self, draws: Draws) -> float:
        """The mean loss of the same samples, noise and noise levels every time."""
        losses = []
        for first in range(0, self.recipe.pairs, _BATCH):
            samples = [draws[p] for p in range(first, min(first + _BATCH, self.recipe.pairs))]
            batch = {name: value.to(self.models.device) for name, value in default_collate(samples).items()}
            losses += [float(self.objective(batch))] * len(samples)
        return round(float(np.mean(losses)), 6)

    @cached_property
    def samples(self) -> Sequence[PhraseSample]:
        """The phrases that are grounded."""
        assert self.dataset is not None
        return grounded_samples(self.dataset, self.recipe)

    def ground(self) -> list[GroundingMap]:
        """The maps of the phrases, mode gt-cfg, all layers, lexical words."""
        method = LdmMethod(self.models, self._settings())
        found: list[GroundingMap] = []
        for first in range(0, len(self.samples), _BATCH):
            part = self.samples[first : first + _BATCH]
            found += method.ground_batch([Query(self._image(s), s.phrase, seed_for(0, s.sample_id)) for s in part])
        return found

    def scores(self, maps: Sequence[GroundingMap]) -> dict[str, float]:
        """Mean AUROC and CNR over the phrases, in the images' own pixels."""
        found: dict[str, list[float]] = {"auroc": [], "cnr": []}
        for sample, grounding in zip(self.samples, maps, strict=True):
            frame = Frame.original(sample.image_size)
            values, region = grounding.frame.carry(grounding.values, frame)[0], region_in(sample, frame)
            for name, value in (("auroc", auroc(values, region)), ("cnr", cnr(values, region))):
                found[name] += [] if value is None else [value]
        return {name: round(float(np.mean(values)), 6) for name, values in found.items() if values}

    def draw(self, maps: Sequence[GroundingMap], path: Path) -> None:
        """A sheet: images with map and boxes, and below them images generated from the same phrases."""
        shown = self.samples[: self.recipe.pictures]
        tiles = [Tile(self._image(s), s.phrase, s.boxes, found, s.mask) for s, found in zip(shown, maps, strict=False)]
        made = self.generate([sample.phrase for sample in shown])
        tiles += [Tile(image, f"generated: {s.phrase}") for image, s in zip(made, shown, strict=True)]
        draw_sheet(tiles, path, columns=len(shown), dpi=120)

    def generate(self, phrases: Sequence[str]) -> list[np.ndarray]:
        """Images float32 [H, W] in [0, 1], sampled with guidance from the same noise every time."""
        make = ImageGenerator(self.models, _PICTURE_STEPS, _GUIDANCE, len(phrases))
        return list(make(phrases, [seed_for("picture", phrase) for phrase in phrases]).astype(np.float32) / 255)

    def _image(self, sample: PhraseSample) -> Any:
        assert self.dataset is not None
        return self.dataset.image(sample)

    def _settings(self) -> MethodSettings:
        return MethodSettings(
            "validation",
            sampling="gt-cfg",
            steps=self.recipe.steps,
            guidance=1.0,
            layers="all",
            latent="sample",
            tokens="lexical",
            lexicon=installed_lexicon(),
            bbm="none",
            profile="paper",
            precision="float32",
        )


def grounded_samples(dataset: Dataset, recipe: ValidationRecipe) -> list[PhraseSample]:
    """The phrases that are grounded while a model is trained: drawn once, by a seed of their ids.

    Raises:
        UsageError: there are none.
    """
    usable = [sample for sample in dataset.samples(recipe.split) if sample.boxes or sample.mask]
    if not usable:
        raise UsageError(f"no phrase of {recipe.dataset}, split {recipe.split!r}, has a region to ground")
    return sorted(usable, key=lambda sample: seed_for("validation", sample.sample_id))[: recipe.samples]
