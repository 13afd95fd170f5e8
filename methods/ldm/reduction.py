"""Reduce the maps of many layers and steps to one map per sample (paper, section 2.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]


@dataclass(frozen=True)
class Rows:
    """The sample and step of each row of a forward pass.

    Attributes:
        sample: int64 [R], index of the sample in its batch.
        step: int64 [R], index of the sampling step; 0 is the noisiest.
    """

    sample: Tensor
    step: Tensor


class Reduction(Protocol):
    """Receives the maps of every layer in every forward pass."""

    def add(self, layer: str, maps: Tensor, rows: Rows) -> None:
        """Add a layer's maps, float32 [R, K, h, w]."""
        ...


class Several:
    """Hands the same maps to several reductions."""

    def __init__(self, reductions: Sequence[Reduction]) -> None:
        self.reductions = reductions

    def add(self, layer: str, maps: Tensor, rows: Rows) -> None:
        """Add a layer's maps, float32 [R, K, h, w]."""
        for reduction in self.reductions:
            reduction.add(layer, maps, rows)


class MeanMaps:
    """Mean over steps and layers of maps that are nearest-upsampled to the latent size.

    Nearest upsampling commutes with the mean, so maps are summed at their own resolution and upsampled once.
    """

    def __init__(self, samples: int, size: Size, first_step: int = 0) -> None:
        """Average maps of `samples` samples for latents of `size`; steps before `first_step` are ignored."""
        self.samples = samples
        self.size = size
        self.first_step = first_step
        self._sums: dict[Size, Tensor] = {}
        self._counts: Tensor | None = None

    def add(self, layer: str, maps: Tensor, rows: Rows) -> None:
        """Add a layer's maps, float32 [R, K, h, w]."""
        counted = (rows.step >= self.first_step).float()
        size = (maps.shape[-2], maps.shape[-1])
        if size not in self._sums:
            self._sums[size] = maps.new_zeros(self.samples, *maps.shape[1:])
        if self._counts is None:
            self._counts = maps.new_zeros(self.samples)
        self._counts.index_add_(0, rows.sample, counted)
        self._sums[size].index_add_(0, rows.sample, maps * counted[:, None, None, None] if self.first_step else maps)

    def mean(self) -> Tensor:
        """float32 [samples, K, H, W] at the latent size."""
        total = sum(F.interpolate(summed, self.size, mode="nearest") for summed in self._sums.values())
        assert isinstance(total, Tensor), "no maps were added"
        assert self._counts is not None
        return total / self._counts[:, None, None, None]


class LayerMaps:
    """The mean map of each layer separately, to choose among layers."""

    def __init__(self, samples: int, size: Size, first_step: int = 0) -> None:
        self._layers = defaultdict[str, MeanMaps](lambda: MeanMaps(samples, size, first_step))

    def add(self, layer: str, maps: Tensor, rows: Rows) -> None:
        """Add a layer's maps, float32 [R, K, h, w]."""
        self._layers[layer].add(layer, maps, rows)

    def mean(self) -> Tensor:
        """float32 [samples, layers * K, H, W] at the latent size, layers in execution order."""
        return torch.cat([means.mean() for means in self._layers.values()], dim=1)


class StepMaps:
    """Every step's map of every layer at its own resolution, as the text bias needs them (section 2.3).

    Attributes:
        maps: layer -> float32 [samples, steps, h, w].
    """

    def __init__(self, samples: int, steps: int) -> None:
        self.samples = samples
        self.steps = steps
        self.maps: dict[str, Tensor] = {}

    def add(self, layer: str, maps: Tensor, rows: Rows) -> None:
        """Store a layer's maps, float32 [R, 1, h, w]."""
        if layer not in self.maps:
            self.maps[layer] = maps.new_zeros(self.samples, self.steps, *maps.shape[-2:])
        self.maps[layer][rows.sample, rows.step] = maps[:, 0]
