"""From maps of many layers and steps to one map (paper, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """What the rows of a forward pass belong to.

    Attributes:
        sample: int64 [R], the sample's place in its batch.
        step: int64 [R], the number of the sampling step, 0 is the noisiest.
    """

    sample: Tensor
    step: Tensor


class Reduction(Protocol):
    """Takes every layer's maps of every forward pass."""

    rows: Rows

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [R, K, h, w], of `rows`."""
        ...


class MeanMaps:
    """The mean over steps and layers of maps that are nearest-upsampled to the latent size.

    Nearest upsampling commutes with the mean, so maps are summed at their own resolution and upsampled once.

    Attributes:
        rows: what the rows of the coming forward pass belong to.
    """

    rows: Rows

    def __init__(self, samples: int, size: Size, first_step: int = 0) -> None:
        """Of so many samples, for latents of `size`; steps before `first_step` do not count."""
        self.samples = samples
        self.size = size
        self.first_step = first_step
        self._sums: dict[Size, Tensor] = {}
        self._counts: Tensor | None = None

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [R, K, h, w]."""
        sample, counted = self.rows.sample, (self.rows.step >= self.first_step).float()
        size = (maps.shape[-2], maps.shape[-1])
        if size not in self._sums:
            self._sums[size] = maps.new_zeros(self.samples, *maps.shape[1:])
        if self._counts is None:
            self._counts = maps.new_zeros(self.samples)
        self._counts.index_add_(0, sample, counted)
        self._sums[size].index_add_(0, sample, maps * counted[:, None, None, None] if self.first_step else maps)

    def mean(self) -> Tensor:
        """float32 [samples, K, H, W] at the latent size."""
        total = sum(F.interpolate(summed, self.size, mode="nearest") for summed in self._sums.values())
        assert isinstance(total, Tensor), "no maps were added"
        assert self._counts is not None
        return total / self._counts[:, None, None, None]


class LayerMaps:
    """The means of every layer by itself, for choosing among them."""

    rows: Rows

    def __init__(self, samples: int, size: Size, first_step: int = 0) -> None:
        self._make = partial(MeanMaps, samples, size, first_step)
        self._layers: dict[str, MeanMaps] = {}

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [R, K, h, w]."""
        means = self._layers.setdefault(layer, self._make())
        means.rows = self.rows
        means.add(layer, maps)

    def mean(self) -> Tensor:
        """float32 [samples, layers * K, H, W] at the latent size, layers in execution order."""
        return torch.cat([means.mean() for means in self._layers.values()], dim=1)


class StepMaps:
    """Every step's map of every layer at its own resolution: what the text bias is kept as (section 2.3)."""

    rows: Rows

    def __init__(self, samples: int, steps: int) -> None:
        self.samples = samples
        self.steps = steps
        self.maps: dict[str, Tensor] = {}

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [R, 1, h, w]; kept as float32 [samples, steps, h, w] a layer."""
        if layer not in self.maps:
            self.maps[layer] = maps.new_zeros(self.samples, self.steps, *maps.shape[-2:])
        self.maps[layer][self.rows.sample, self.rows.step] = maps[:, 0]
