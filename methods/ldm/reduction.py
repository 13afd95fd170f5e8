"""From maps of many layers and steps to one map (paper, section 2.2)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F


class MeanMaps:
    """The mean over steps and layers of maps that are nearest-upsampled to the latent size.

    Nearest upsampling commutes with the mean, so maps are summed at their own resolution and upsampled once.
    Rows of the forward passes belong to samples; `rows` says which.
    """

    def __init__(self, samples: int, size: tuple[int, int], device: torch.device) -> None:
        self.samples = samples
        self.size = size
        self.device = device
        self.rows = torch.arange(samples, device=device)
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._maps = torch.zeros(samples, device=device)

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [rows, K, h, w]."""
        size = (maps.shape[-2], maps.shape[-1])
        if size not in self._sums:
            self._sums[size] = torch.zeros(self.samples, *maps.shape[1:], device=self.device)
        self._sums[size].index_add_(0, self.rows, maps)
        self._maps.index_add_(0, self.rows, torch.ones(len(maps), device=self.device))

    def mean(self) -> Tensor:
        """float32 [samples, K, H, W] at the latent size."""
        total = sum(F.interpolate(summed, self.size, mode="nearest") for summed in self._sums.values())
        assert isinstance(total, Tensor), "no maps were added"
        return total / self._maps[:, None, None, None]


class LayerMaps:
    """The means of every layer by itself, for choosing among them."""

    def __init__(self, samples: int, size: tuple[int, int], device: torch.device) -> None:
        self.rows = torch.arange(samples, device=device)
        self._make = partial(MeanMaps, samples, size, device)
        self._layers: dict[str, MeanMaps] = {}

    def add(self, layer: str, maps: Tensor) -> None:
        """Add a layer's maps, float32 [rows, K, h, w]."""
        means = self._layers.setdefault(layer, self._make())
        means.rows = self.rows
        means.add(layer, maps)

    def mean(self) -> Tensor:
        """float32 [samples, layers * K, H, W] at the latent size, layers in execution order."""
        return torch.cat([means.mean() for means in self._layers.values()], dim=1)
