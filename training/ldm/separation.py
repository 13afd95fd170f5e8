"""The second part of a training, in which the maps of different captions of an image learn to differ.

A U-Net that has learned to predict the noise attends from every lesion to the words of any caption, a little more to
those of its own. One map does not tell whose lesion it is, but the maps of two captions at the same place do. So a
frozen copy of the U-Net, the teacher, shares every place out between two captions of the image, and its maps, shared
out like this, are the goals of the U-Net, which sees one caption at a time. Where the second caption is not of the
image, its goal is a map that is flat but for what the first caption attends to. No box is used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.benchmark.datasets.training import TrainingSet
from gtg_bench.benchmark.scoring.laterality import mirrored
from gtg_bench.methods.ldm.attention import AttentionCapture
from gtg_bench.methods.text_encoders.base import TextTokens, TrainableTextEncoder
from gtg_bench.methods.text_encoders.words_only import words
from gtg_bench.training.ldm.examples import LatentDraws
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.recipe import SeparationRecipe

_LEAST = 1e-6
"""Added to the attention of every place, since the empty caption has no words to attend to."""


@dataclass(frozen=True)
class Captions:
    """All captions of a training set, tokenized.

    Attributes:
        same_image: item -> the items of its image, itself among them.
        own: `ids` int64 [N, L] and `mask` bool [N, L] of the items' captions.
        mirrored: item -> the same [L] with left and right swapped; items that name no side, or both, are absent.
    """

    same_image: Sequence[Sequence[int]]
    own: Mapping[str, Tensor]
    mirrored: Mapping[int, Mapping[str, Tensor]]

    @classmethod
    def of(cls, pairs: TrainingSet, encoder: TrainableTextEncoder) -> Captions:
        """Those of all pairs, as the encoder's tokenizer cuts them."""
        images: dict[str, list[int]] = {}
        texts, swapped = list[str](), dict[int, str]()
        for number, pair in enumerate(pairs):
            images.setdefault(pair.image_id, []).append(number)
            texts.append(pair.text)
            if (text := mirrored(pair.text)) is not None:
                swapped[number] = text
        own, other = encoder.tokens(texts), encoder.tokens([*swapped.values()] or [""])
        groups = {number: numbers for numbers in images.values() for number in numbers}
        return cls(
            [groups[number] for number in range(len(texts))],
            {"ids": own.ids, "mask": own.mask},
            {number: {"ids": other.ids[row], "mask": other.mask[row]} for row, number in enumerate(swapped)},
        )


@dataclass(frozen=True)
class PairedDraws:
    """The samples of `draws` with a second caption: `other_ids` int64 [L], `other_mask` bool [L], `other_true` bool [].

    It is another one of the image, or a false one: the caption with its sides swapped, or if it names none, that of
    another image.

    Attributes:
        draws: of one caption.
        captions: of the training set.
        false_captions: see `recipe.SeparationRecipe`; an image with one caption always gets a false one.
    """

    draws: LatentDraws
    captions: Captions
    false_captions: float

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = self.draws.item(position)
        generator = torch.Generator().manual_seed(seed_for(self.draws.seed, "other", position))
        chance, place = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        same, count = self.captions.same_image[number], len(self.captions.same_image)
        others = [other for other in same if other != number]
        true = bool(others) and chance >= self.false_captions
        if not true and number in self.captions.mirrored:
            text = self.captions.mirrored[number]
        else:
            pick = others[int(place * len(others))] if true else int(place * count)
            while not true and pick in same and len(same) < count:
                pick = (pick + 1) % count
            text = {name: rows[pick] for name, rows in self.captions.own.items()}
        return self.draws[position] | {
            "other_ids": text["ids"],
            "other_mask": text["mask"],
            "other_true": torch.tensor(true),
        }


class SeparationObjective(nn.Module):
    """The noise objective, and the divergence of the maps of two captions from the goals that a teacher sets.

    A map is the attention to all words of a caption, averaged over heads and layers.
    """

    def __init__(self, noise: NoiseObjective, empty: TextTokens, recipe: SeparationRecipe) -> None:
        """Args:
        noise: the noise objective; a copy of its U-Net as it is now becomes the teacher.
        empty: the tokens of the empty caption.
        recipe: weight and sharpness.
        """
        super().__init__()
        self.noise = noise
        self._own = AttentionCapture(noise.unet)
        teacher = copy.deepcopy(noise.unet).eval().requires_grad_(False)
        self._teacher = AttentionCapture(teacher)  # no submodule: checkpoints are without it
        self._empty, self._recipe = empty, recipe

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch of `PairedDraws`."""
        both = {name: torch.cat([batch[name]] * 2) for name in ("latents", "noise", "timesteps")}
        both |= {name: torch.cat([batch[name], batch[f"other_{name}"]]) for name in ("ids", "mask")}
        inputs, chosen = self.noise.inputs(both), words(both["ids"], both["mask"], self._empty).float()[:, None]
        with torch.no_grad():
            known = _maps(self._teacher, inputs, chosen)[1]
        predicted, found = _maps(self._own, inputs, chosen)
        goal = divergence(goals(known, batch["other_true"], self._recipe.sharpness), found)
        of_image = torch.cat([torch.ones_like(batch["other_true"]), batch["other_true"]]).float()
        noise = (self.noise.losses(predicted, both) * of_image).sum() / of_image.sum()
        return noise + self._recipe.weight * goal


def goals(known: Tensor, true: Tensor, sharpness: float) -> Tensor:
    """The maps that two captions of each image should have, not normalised.

    Args:
        known: [2 B, h, w], the teacher's maps of the first captions, then of the second.
        true: bool [B]: whether the second caption is of the image too. Both maps then share each place in proportion
            to map ** sharpness; else the first is kept, and the second is (1 - first / its maximum) ** 2.
        sharpness: see `recipe.SeparationRecipe`.
    """
    first, second = (known + _LEAST).chunk(2)
    true = true[:, None, None]
    share = torch.where(true, torch.sigmoid(sharpness * (first.log() - second.log())), 1.0)
    elsewhere = (1 - first / first.amax((1, 2), keepdim=True)) ** 2
    return torch.cat([first * share, torch.where(true, second * (1 - share), elsewhere)])


def divergence(goals: Tensor, maps: Tensor) -> Tensor:
    """The mean Kullback-Leibler divergence of maps [B, h, w] from their goals, both as distributions over places."""
    wanted, found = ((each.flatten(1) + _LEAST) for each in (goals, maps))
    wanted, found = wanted / wanted.sum(1, keepdim=True), found / found.sum(1, keepdim=True)
    return F.kl_div(found.log(), wanted, reduction="batchmean")


def _maps(capture: AttentionCapture, inputs: tuple[Tensor, Tensor, Tensor], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The U-Net's output, and the attention to the chosen tokens (weights [B, 1, L]), float32 [B, h, w]."""
    size, maps = tuple(inputs[0].shape[-2:]), list[Tensor]()
    with capture.open():
        predicted = capture.forward(*inputs, chosen, lambda _, found: maps.append(F.interpolate(found, size)))
    return predicted, torch.stack(maps).mean(0)[:, 0]
