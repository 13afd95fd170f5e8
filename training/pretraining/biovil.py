"""BioViL's image encoder (Boecking et al. 2022): contrast with a frozen CXR-BERT, globally or also locally."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.methods.biovil.image_model import SMALL, SmallImageModel
from gtg_bench.methods.biovil.method import JointTextEncoder, eight_bits, prompt_of
from gtg_bench.methods.cards import read_card
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.losses import INITIAL_LOG_SCALE, contrast, local_contrast
from gtg_bench.training.pretraining.material import Material, Pairs
from gtg_bench.training.pretraining.recipe import ImageRecipe
from gtg_bench.training.pretraining.samples import in_turn
from gtg_bench.training.pretraining.stage import Stage, retrieval, weights_in

FILE = "image_encoder.safetensors"
_BATCH = 256


@dataclass(frozen=True)
class Reports:
    """Embeddings of distinct texts by a frozen CXR-BERT.

    Attributes:
        rows: text -> row.
        words: float32 [R, L, D], every token projected to the joint space; [CLS] is the first.
        mask: int64 [R, L].
    """

    rows: dict[str, int]
    words: Tensor
    mask: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, encoder: JointTextEncoder, texts: list[str]) -> Reports:
        """Tokenize and embed the texts as the method does, without the final full stop."""
        distinct = sorted(set(texts))
        tokens = encoder.tokens([prompt_of(text, encoder.tokenizer) for text in distinct])
        mask, words = tokens.mask.long(), []
        for first in range(0, len(distinct), _BATCH):
            part = slice(first, first + _BATCH)
            states = encoder.model(tokens.ids[part], mask[part], return_dict=True).last_hidden_state
            words.append(encoder.model.cls_projection_head(states))
        return cls({text: row for row, text in enumerate(distinct)}, torch.cat(words), mask)


@dataclass(frozen=True)
class ImageDraws:
    """Samples `image` float32 [1, S, S] in [0, 1], `words` [L, D] and `mask` [L], see `trainer.Draws`.

    Attributes:
        pairs: images and reports.
        reports: embeddings of their texts.
        recipe: how an image is resized and cropped.
        order: position -> pair.
        seed: seed of random crops; None for the central crop, as in the method.
    """

    pairs: Pairs
    reports: Reports
    recipe: ImageRecipe
    order: Callable[[int], int]
    seed: int | None = None

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = self.order(position)
        row = self.reports.rows[self.pairs.texts[number]]
        image = torch.from_numpy(self._image(number, position))[None]
        return {"image": image, "words": self.reports.words[row], "mask": self.reports.mask[row]}

    def _image(self, number: int, position: int) -> np.ndarray:
        pixels = eight_bits(self.pairs.pixels[number].numpy().astype(np.float32))
        size, resize, crop = (pixels.shape[1], pixels.shape[0]), self.recipe.resize, self.recipe.crop
        if self.seed is None:
            return Frame.center_crop(size, resize, crop).apply(pixels) / 255
        whole = Frame.center_crop(size, resize).apply(pixels) / 255
        generator = torch.Generator().manual_seed(seed_for(self.seed, "crop", position))
        top, left = torch.randint(resize - crop + 1, (2,), generator=generator).tolist()
        return whole[top : top + crop, left : left + crop]


class ImageObjective(nn.Module):
    """Contrast of images and reports; with `local` also of patches and words."""

    def __init__(self, image: SmallImageModel, local: bool) -> None:
        super().__init__()
        self.image = image
        self.local = local
        self.scales = nn.Parameter(torch.full((2 if local else 1,), INITIAL_LOG_SCALE))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        whole, patches = self.image(batch["image"])
        loss = contrast(batch["words"][:, 0], whole, self.scales[0])
        if self.local:
            loss = loss + local_contrast(batch["words"], batch["mask"], patches.flatten(1, 2), self.scales[1])
        return loss

    def embed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D] of texts and images in the joint space."""
        return batch["words"][:, 0], self.image(batch["image"])[0]


def stage(recipe: ImageRecipe, text_encoder: Path, material: Material, seed: int) -> Stage:
    """Prepare the training of a SmallImageModel against the CXR-BERT in a folder."""
    encoder = JointTextEncoder.load(text_encoder, text_encoder, read_card(text_encoder)["max_length"])
    width = encoder.model.config.projection_size
    torch.manual_seed(seed)
    model = SmallImageModel(width)
    objective = ImageObjective(model, recipe.local)
    train, held_out = material.train, material.held_out
    reports = Reports.of(encoder, [*train.texts, *held_out.texts])

    def save(folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights_in(model, recipe.save_precision), folder / FILE)
        image = {"place": ".", "path": FILE, "encoder": SMALL, "size_of_projection": width}
        image |= {"resize": recipe.resize, "crop": recipe.crop}
        return {"components": {"image_encoder": image, "text_encoder": f"../{recipe.text_encoder}"}}

    def results() -> dict[str, float]:
        return retrieval(objective.embed, ImageDraws(held_out, reports, recipe, in_turn), held_out.texts)

    draws = ImageDraws(train, reports, recipe, EpochOrder(len(train.texts), seed), seed)
    return Stage(objective, draws, save, results)
