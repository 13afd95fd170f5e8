"""In which order a training run goes through its items: a function of seed and position alone."""

from __future__ import annotations

from functools import lru_cache

import torch

from gtg_bench.benchmark.api.types import seed_for


class EpochOrder:
    """Position in the whole run -> item; every epoch is a fresh permutation of all items."""

    def __init__(self, count: int, seed: int) -> None:
        """For `count` items. Raises ValueError if there is none."""
        if count < 1:
            raise ValueError("there is nothing to train on")
        self.count = count
        self.seed = seed

    def __call__(self, position: int) -> int:
        """The item at a position, counted from 0 over all epochs."""
        epoch, place = divmod(position, self.count)
        return _permutation(self.count, self.seed, epoch)[place]


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed_for(seed, "epoch", epoch))
    return torch.randperm(count, generator=generator).tolist()
