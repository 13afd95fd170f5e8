"""The second part of a training, in which the maps of different captions of an image learn to differ.

A U-Net that has learned to predict the noise attends from every lesion to the words of any caption, a little more to
those of its own. One map does not tell whose lesion it is, but the maps of two captions at the same place do. So a
frozen copy of the U-Net, the teacher, shares every place out between two captions of the image, and its maps, shared
out like this, are the goals of the U-Net, which sees one caption at a time. Where the second caption is not of the
image, its goal is a map that is flat but for a hole where the first caption attends to. No box is used. In a further
round the U-Net, which now separates captions better, is the teacher; false captions then take their share too, and
their goal is flat, since holes would turn maps inside out where a U-Net takes a true caption for a false one.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.benchmark.datasets.training import TrainingSet
from gtg_bench.benchmark.scoring.laterality import mirrored
from gtg_bench.methods.ldm.attention import AttentionCapture, select_layers
from gtg_bench.methods.text_encoders.base import TextTokens, TrainableTextEncoder
from gtg_bench.methods.text_encoders.words_only import words
from gtg_bench.training.ldm.examples import LatentDraws
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.recipe import SeparationRecipe

_BLOCK = 4096
"""Texts that are tokenized at once."""

_TRIES = 50
"""Captions that are drawn to find one that is not said of an image."""

_LEAST = 1e-6
"""Added to the attention of every place, since the empty caption has no words to attend to."""


@dataclass(frozen=True)
class Captions:
    """All captions of a training set.

    Attributes:
        texts: of the items.
        same_image: item -> the items of its image, itself among them.
        mirrored: item -> the row in `tokens` of its text with left and right swapped; items that name no side or both,
            and those of whose image that is true as well, are absent.
        tokens: `ids` int32 [N + M, L] and `mask` bool [N + M, L] of the N texts and of M mirrored ones.
    """

    texts: Sequence[str]
    same_image: Sequence[Sequence[int]]
    mirrored: Mapping[int, int]
    tokens: Mapping[str, Tensor]

    @classmethod
    def of(cls, pairs: TrainingSet, encoder: TrainableTextEncoder) -> Captions:
        """Those of all pairs, as the encoder's tokenizer cuts them."""
        texts, images = list[str](), dict[str, list[int]]()
        for number, pair in enumerate(pairs):
            texts.append(pair.text)
            images.setdefault(pair.image_id, []).append(number)
        groups = {number: numbers for numbers in images.values() for number in numbers}
        same_image = [groups[number] for number in range(len(texts))]
        swapped = ((number, mirrored(text)) for number, text in enumerate(texts))
        false = {number: text for number, text in swapped if text and text not in _said(texts, same_image[number])}
        rows = {text: len(texts) + row for row, text in enumerate(dict.fromkeys(false.values()))}
        tokens = _tokens([*texts, *rows], encoder)
        return cls(texts, same_image, {number: rows[text] for number, text in false.items()}, tokens)

    def other(self, number: int) -> list[int]:
        """The items of the same image with other texts."""
        return [n for n in self.same_image[number] if self.texts[n] != self.texts[number]]

    def false(self, number: int, generator: torch.Generator) -> int | None:
        """The row of a caption that is not of the item's image: mirrored or of another image. None if none is found."""
        if number in self.mirrored:
            return self.mirrored[number]
        said = _said(self.texts, self.same_image[number])
        drawn = (int(torch.randint(len(self.texts), (), generator=generator)) for _ in range(_TRIES))
        return next((row for row in drawn if self.texts[row] not in said), None)


def _said(texts: Sequence[str], numbers: Sequence[int]) -> set[str]:
    return {texts[number] for number in numbers}


def _tokens(texts: Sequence[str], encoder: TrainableTextEncoder) -> dict[str, Tensor]:
    """`ids` and `mask` of texts, cut in blocks: a tokenizer's result is many times as large as what is kept of it."""
    blocks = [encoder.tokens(texts[first : first + _BLOCK]) for first in range(0, len(texts), _BLOCK)]
    return {"ids": torch.cat([b.ids.int() for b in blocks]), "mask": torch.cat([b.mask for b in blocks])}


@dataclass(frozen=True)
class PairedDraws:
    """The samples of `draws` with a second caption: `other_ids` int64 [L], `other_mask` bool [L], `other_true` bool [].

    It is another one of the image, or a false one; an image without another caption always gets a false one. The
    teacher's image is `plain` float32 [C, h, w].

    Attributes:
        draws: of one caption.
        plain: the same samples with images as they are, see `recipe.SeparationRecipe.changed_images`.
        captions: of the training set.
        false_captions: see `recipe.SeparationRecipe`.
    """

    draws: LatentDraws
    plain: LatentDraws
    captions: Captions
    false_captions: float

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = self.draws.item(position)
        generator = torch.Generator().manual_seed(seed_for(self.draws.seed, "other", position))
        others = self.captions.other(number)
        true = bool(torch.rand((), generator=generator) >= self.false_captions) and bool(others)
        row: int | None
        if true:
            row = others[int(torch.randint(len(others), (), generator=generator))]
        else:
            row = self.captions.false(number, generator)
        if row is None:  # all images have one caption: nothing to separate
            row, true = number, True
        ids, mask = self.captions.tokens["ids"][row].long(), self.captions.tokens["mask"][row]
        second = {"other_ids": ids, "other_mask": mask, "other_true": torch.tensor(true)}
        return self.draws[position] | second | {"plain": self.plain[position]["latents"]}


class SeparationObjective(nn.Module):
    """The noise objective, and the divergence of the maps of two captions from the goals that a teacher sets.

    A map is the attention to all words of a caption, averaged over heads and the recipe's layers. A text encoder that
    is trained too gives the teacher its present states.
    """

    def __init__(self, noise: NoiseObjective, empty: TextTokens, recipe: SeparationRecipe) -> None:
        """Args:
        noise: the noise objective; a copy of its U-Net as it is now becomes the teacher.
        empty: the tokens of the empty caption.
        recipe: of the round.

        Raises:
            UsageError: the U-Net has no such layer.
        """
        super().__init__()
        self.noise = noise
        layers = select_layers(noise.unet, recipe.layers)
        self._own = AttentionCapture(noise.unet, layers)
        teacher = copy.deepcopy(noise.unet).eval().requires_grad_(False)
        self._teacher = AttentionCapture(teacher, layers)  # no submodule: checkpoints are without it
        self._empty, self._recipe = empty, recipe

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch of `PairedDraws`."""
        both = {name: torch.cat([batch[name]] * 2) for name in ("latents", "noise", "timesteps")}
        both |= {name: torch.cat([batch[name], batch[f"other_{name}"]]) for name in ("ids", "mask")}
        inputs, chosen = self.noise.inputs(both), words(both["ids"], both["mask"], self._empty).float()[:, None]
        with torch.no_grad():
            plain = self.noise.inputs(both | {"latents": torch.cat([batch["plain"]] * 2)})
            known = smoothed(_maps(self._teacher, plain, chosen)[1], self._recipe.smooth)
        predicted, found = _maps(self._own, inputs, chosen)
        wanted = goals(known, batch["other_true"], self._recipe.sharpness, self._recipe.share_with_false)
        first, second = self.noise.losses(predicted, both).chunk(2)
        true = batch["other_true"].float()  # no image is denoised by a false caption
        apart = self._recipe.weight * divergence(wanted, found)
        return ((first + true * second) / (1 + true)).mean() + apart


def trained_names(names: Collection[str], parts: Sequence[str]) -> set[str]:
    """The names of parameters that have one of `parts` in them, see `recipe.SeparationRecipe.trained`; no parts: all.

    Raises:
        UsageError: one of the parts is in no name.
    """
    for part in parts:
        if not any(part in name for name in names):
            raise UsageError(f"trained: no parameter that is trained has {part!r} in its name")
    return {name for name in names if not parts or any(part in name for part in parts)}


def goals(known: Tensor, true: Tensor, sharpness: float, share_with_false: bool = False) -> Tensor:
    """The maps that two captions of each image should have, not normalised.

    Args:
        known: [2 B, h, w], the teacher's maps of the first captions, then of the second.
        true: bool [B]: whether the second caption is of the image too. Both maps then share each place in proportion
            to map ** sharpness; else the first is kept, and the second is (1 - first / its maximum) ** 2.
        sharpness: see `recipe.SeparationRecipe`.
        share_with_false: where the second caption is false, the first keeps only what it would if it were true, and the
            second is flat.
    """
    first, second = (known + _LEAST).chunk(2)
    share = torch.sigmoid(sharpness * (first.log() - second.log()))
    true_pair = torch.cat([first * share, second * (1 - share)])
    if share_with_false:
        false_pair = torch.cat([first * share, torch.ones_like(second)])
    else:
        false_pair = torch.cat([first, (1 - first / first.amax((1, 2), keepdim=True)) ** 2])
    return torch.where(true.repeat(2)[:, None, None], true_pair, false_pair)


def smoothed(maps: Tensor, smooth: float) -> Tensor:
    """Maps [B, h, w] under a Gaussian filter, reflected at the edges.

    Args:
        maps: float32.
        smooth: the standard deviation, as a fraction of the shorter side; the filter ends at three of them.
    """
    shorter = min(maps.shape[-2:])
    radius = min(round(3 * smooth * shorter), shorter - 1)
    if radius < 1:
        return maps
    return gaussian_blur(maps[:, None], [2 * radius + 1] * 2, [smooth * shorter] * 2)[:, 0]


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
