"""Pretraining samples by position: images with tokenized texts, and BERT's masking (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.training.loop.trainer import Draws

IGNORED = -100
"""Target of tokens that are not masked, as `torch.nn.functional.cross_entropy` ignores it."""

_MASKED_SHARE = 0.15


@dataclass(frozen=True)
class Tokens:
    """Tokenized texts: ids and mask, int64 [N, L]; the mask is 1 for tokens and 0 for padding."""

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, tokenizer: Any, texts: list[str], max_length: int) -> Tokens:
        """Tokenize with a transformers tokenizer, truncated and padded to `max_length`."""
        found = tokenizer(texts, padding="max_length", truncation=True, max_length=max_length, return_tensors="pt")
        return cls(found["input_ids"], found["attention_mask"])


@dataclass(frozen=True)
class PairDraws:
    """Samples `ids` and `mask` int64 [L], with images also `pixels` uint8 [S, S]; see `trainer.Draws`.

    Attributes:
        tokens: tokenized texts.
        order: position -> pair.
        pixels: images uint8 [N, S, S]; None for texts alone.
    """

    tokens: Tokens
    order: Callable[[int], int]
    pixels: Tensor | None = None

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = self.order(position)
        sample = {"ids": self.tokens.ids[number], "mask": self.tokens.mask[number]}
        return sample if self.pixels is None else sample | {"pixels": self.pixels[number]}


@dataclass(frozen=True)
class MaskedDraws:
    """The samples of `draws` with `masked` and `targets` int64 [L]; masks differ between epochs.

    Attributes:
        draws: samples with `ids` and `mask`.
        tokenizer: the transformers tokenizer of the ids.
        seed: seed of the run.
    """

    draws: Draws
    tokenizer: Any
    seed: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        sample = self.draws[position]
        generator = torch.Generator().manual_seed(seed_for(self.seed, "mask", position))
        masked, targets = mask_tokens(sample["ids"], sample["mask"], self.tokenizer, generator)
        return sample | {"masked": masked, "targets": targets}


def mask_tokens(ids: Tensor, mask: Tensor, tokenizer: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask tokens as BERT does: 15 % are selected; of these 80 % become [MASK], 10 % random, 10 % stay.

    Args:
        ids, mask: int64 of one shape; padding and special tokens are never selected.
        tokenizer: a transformers tokenizer with a mask token.
        generator: source of randomness.

    Returns:
        The masked ids, and the targets: the original id of each selected token, -100 elsewhere.
    """
    special = torch.tensor(sorted(tokenizer.all_special_ids))
    selected = (torch.rand(ids.shape, generator=generator) < _MASKED_SHARE) & ~torch.isin(ids, special) & mask.bool()
    action = torch.rand(ids.shape, generator=generator)
    random = torch.randint(len(tokenizer), ids.shape, generator=generator)
    masked = torch.where(selected & (action < 0.8), tokenizer.mask_token_id, ids)
    masked = torch.where(selected & (action > 0.9), random, masked)
    return masked, torch.where(selected, ids, IGNORED)


def in_turn(position: int) -> int:
    """The order of held-out samples: position -> the same number."""
    return position


def trimmed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut the padding shared by all texts of a batch from every tensor that has the shape of `mask`."""
    longest, shape = int(batch["mask"].sum(1).max()), batch["mask"].shape
    return {name: value[:, :longest] if value.shape == shape else value for name, value in batch.items()}


def pictures(pixels: Tensor) -> Tensor:
    """uint8 [B, S, S] to float32 [B, 1, 64, 64] in [-1, 1]."""
    return F.adaptive_avg_pool2d(pixels[:, None].float() / 127.5 - 1, 64)
