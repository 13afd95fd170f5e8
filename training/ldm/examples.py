"""Training examples of a U-Net: noised latents of images with caption tokens, one example per position."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import seed_for

TIMESTEPS = 1000
"""Timesteps of Stable Diffusion's schedule (paper, section 3.1)."""


class Rows(Protocol):
    """Tensors by name of one item."""

    def __getitem__(self, number: int) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Usable:
    """Position -> item, with the next usable one in the place of an item that cannot be used.

    Attributes:
        order: position -> item, see `order.EpochOrder`.
        count: of all items.
        unusable: items whose image or text cannot be read.

    Raises:
        DataError: no item can be used.
    """

    order: Callable[[int], int]
    count: int
    unusable: Collection[int] = frozenset()

    def __post_init__(self) -> None:
        if len(self.unusable) >= self.count:
            raise DataError("none of the training pairs can be used: all images are unreadable")

    def __call__(self, position: int) -> int:
        number = self.order(position)
        while number in self.unusable:
            number = (number + 1) % self.count
        return number


@dataclass(frozen=True)
class LatentDraws:
    """Samples of a training run, see `trainer.Draws`.

    A sample is drawn from a generator of (seed, position): whether its caption is dropped, a sample of the image's
    posterior, the noise and its level. A dropped caption is replaced by the empty one here, before anything is encoded
    (paper, section 3.1; in the released code it came after the step and had no effect).

    Attributes:
        latents: rows `mean`, `std` [C, h, w] of each item, scaled to unit deviation.
        texts: rows `ids`, `mask` [L] of each item.
        empty: the same of the empty caption.
        item: position -> item, see `Usable`.
        dropout: share of captions that are dropped.
        seed: of the run.
        timesteps: mean and deviation of the logit of t / 1000; None: every t is as likely.
    """

    latents: Rows
    texts: Rows
    empty: Mapping[str, Tensor]
    item: Usable
    dropout: float
    seed: int
    timesteps: tuple[float, float] | None = None

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """latents, noise float32 [C, h, w]; timesteps int64 []; ids int64 [L]; mask bool [L]."""
        number = self.item(position)
        generator = torch.Generator().manual_seed(seed_for(self.seed, "draw", position))
        dropped = bool(torch.rand((), generator=generator) < self.dropout)
        row = self.latents[number]
        mean, std = row["mean"].float(), row["std"].float()
        text = self.empty if dropped else self.texts[number]
        return {
            "latents": mean + std * torch.randn(mean.shape, generator=generator),
            "noise": torch.randn(mean.shape, generator=generator),
            "timesteps": self._timestep(generator),
            "ids": text["ids"].long(),
            "mask": text["mask"].bool(),
        }

    def _timestep(self, generator: torch.Generator) -> Tensor:
        if self.timesteps is None:
            return torch.randint(0, TIMESTEPS, (), generator=generator)
        mean, deviation = self.timesteps
        share = torch.sigmoid(mean + deviation * torch.randn((), generator=generator))
        return (share * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
