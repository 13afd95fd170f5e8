"""What the phantom's encoders are pretrained on: images with texts, cut into tokens, one sample a position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.datasets.phantom.world import Study


@dataclass(frozen=True)
class Pairs:
    """Images (uint8 [N, S, S]) and one text each."""

    pixels: Tensor
    texts: list[str]

    @classmethod
    def of_studies(cls, studies: list[Study]) -> Pairs:
        """The phantom's images with their reports."""
        return cls(torch.from_numpy(np.stack([study.pixels for study in studies])), [s.report for s in studies])


@dataclass(frozen=True)
class Material:
    """Training pairs, pairs that are held out to measure what was learned, and what a card says of them."""

    train: Pairs
    held_out: Pairs
    about: dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """Texts cut into tokens: ids and mask, int64 [N, L], 1 in the mask where there is a token."""

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, tokenizer: Any, texts: list[str], max_length: int) -> Tokens:
        """By a tokenizer of transformers, truncated and padded to `max_length`."""
        found = tokenizer(texts, padding="max_length", truncation=True, max_length=max_length, return_tensors="pt")
        return cls(found["input_ids"], found["attention_mask"])


@dataclass(frozen=True)
class PairDraws:
    """Samples `pixels` uint8 [S, S], `ids` and `mask` int64 [L], see `trainer.Draws`.

    Attributes:
        pairs: the images.
        tokens: of their texts.
        order: position -> pair.
    """

    pairs: Pairs
    tokens: Tokens
    order: Callable[[int], int]

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = self.order(position)
        return {"pixels": self.pairs.pixels[number], "ids": self.tokens.ids[number], "mask": self.tokens.mask[number]}


@dataclass(frozen=True)
class TextDraws:
    """Samples `ids` and `mask` int64 [L], see `trainer.Draws`."""

    tokens: Tokens
    order: Callable[[int], int]

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        number = self.order(position)
        return {"ids": self.tokens.ids[number], "mask": self.tokens.mask[number]}


def in_turn(position: int) -> int:
    """The order of held-out samples: as they stand."""
    return position


def trimmed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch without the padding that no text of it needs; what is not of `mask`'s shape stays."""
    longest, shape = int(batch["mask"].sum(1).max()), batch["mask"].shape
    return {name: value[:, :longest] if value.shape == shape else value for name, value in batch.items()}


def pictures(pixels: Tensor) -> Tensor:
    """uint8 [B, S, S] to float32 [B, 1, 64, 64] in [-1, 1]."""
    return F.adaptive_avg_pool2d(pixels[:, None].float() / 127.5 - 1, 64)
