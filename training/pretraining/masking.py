"""BERT's masked language model (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.training.loop.trainer import Draws

SHARE = 0.15
IGNORED = -100


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of a tokenizer: its number of tokens, [MASK], and those that are never masked."""

    size: int
    mask: int
    special: Tensor

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """Of a tokenizer of transformers."""
        return cls(len(tokenizer), tokenizer.mask_token_id, torch.tensor(sorted(tokenizer.all_special_ids)))


@dataclass(frozen=True)
class MaskedDraws:
    """The samples of `draws` with `masked` and `targets` int64 [L] beside their `ids`; drawn anew every epoch."""

    draws: Draws
    vocabulary: Vocabulary
    seed: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        sample = self.draws[position]
        generator = torch.Generator().manual_seed(seed_for(self.seed, "mask", position))
        masked, targets = mask_tokens(sample["ids"], sample["mask"], self.vocabulary, generator)
        return sample | {"masked": masked, "targets": targets}


def mask_tokens(ids: Tensor, mask: Tensor, vocabulary: Vocabulary, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """BERT's masking: of 15 % chosen tokens 80 % become [MASK], 10 % random, 10 % stay; targets, else -100.

    Args:
        ids, mask: int64 of one shape; masked is only where there is a token that is not special.
        vocabulary: the tokenizer's.
        generator: of the draws.
    """
    chosen = (torch.rand(ids.shape, generator=generator) < SHARE) & ~torch.isin(ids, vocabulary.special) & mask.bool()
    action = torch.rand(ids.shape, generator=generator)
    random = torch.randint(vocabulary.size, ids.shape, generator=generator)
    masked = torch.where(chosen & (action < 0.8), vocabulary.mask, ids)
    masked = torch.where(chosen & (action > 0.9), random, masked)
    return masked, torch.where(chosen, ids, IGNORED)


def language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of logits [B, L, V] at the targets [B, L]; 0 where a batch has none."""
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)
