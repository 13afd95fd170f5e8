"""CLIP (Radford et al. 2021): global image-text contrast, and what else is pretrained by that alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.contrast import START, ImageTower, contrast
from gtg_bench.training.pretraining.measures import retrieval
from gtg_bench.training.pretraining.pairs import Material, PairDraws, Tokens, in_turn, pictures, trimmed
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.saving import save_transformers
from gtg_bench.training.pretraining.stage import Stage
from gtg_bench.training.pretraining.tokenizers import byte_pair_tokenizer

Embed = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(text tower, ids, mask) -> embeddings [B, D]"""


class ContrastObjective(nn.Module):
    """Contrast of texts and images, on a batch of `pixels`, `ids` and `mask`."""

    def __init__(self, text: nn.Module, embed: Embed, width: int) -> None:
        """Args:
        text: the text tower.
        embed: what it makes of tokens.
        width: D of the joint space.
        """
        super().__init__()
        self.text = text
        self.image = ImageTower(width)
        self.scale = nn.Parameter(torch.tensor(START))
        self._embed = embed

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return contrast(*self.embed(batch), self.scale)

    def embed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D] of texts and images in the joint space."""
        batch = trimmed(batch)
        return self._embed(self.text, batch["ids"], batch["mask"]), self.image(pictures(batch["pixels"])).mean(1)


def contrast_stage(
    objective: ContrastObjective,
    cut: Callable[[list[str]], Tokens],
    material: Material,
    seed: int,
    save: Callable[[Path], dict[str, Any]],
) -> Stage:
    """The pretraining by global contrast alone; `cut` makes tokens of texts."""
    train, held_out = material.train, material.held_out

    def results() -> dict[str, float]:
        draws = PairDraws(held_out, cut(held_out.texts), in_turn)
        return retrieval(objective.embed, draws, held_out.texts)

    draws = PairDraws(train, cut(train.texts), EpochOrder(len(train.texts), seed))
    return Stage(objective, draws, save, results)


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """The pretraining of a CLIPTextModelWithProjection on captioned pictures."""
    torch.manual_seed(seed)
    tokenizer = byte_pair_tokenizer(recipe.vocab_size, recipe.max_length)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    config = CLIPTextConfig(vocab_size=len(tokenizer), **ends, **recipe.config)
    model = CLIPTextModelWithProjection(config)
    return contrast_stage(
        ContrastObjective(model, _embedding, config.projection_dim),
        lambda texts: Tokens.of(tokenizer, texts, recipe.max_length),
        material,
        seed,
        lambda folder: save_transformers(model, tokenizer, recipe, folder),
    )


def _embedding(text: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    return text(ids, attention_mask=mask).text_embeds
