"""Cross-attention maps, taken where they arise.

Eq. 1 of the paper: P = softmax(Q K^T / sqrt(d_k)). Only weighted means over the tokens are wanted, and those are
P w for a column of weights w: written beside the values V, one fused attention gives [P V, P w] without ever
holding P. The mean over heads is taken at once, at the layer's own resolution, so the full tensor
(steps x layers x tokens x 64 x 64) never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError

Size = tuple[int, int]
OnMaps = Callable[[str, Tensor], None]
"""Receives a layer's name and its maps, float32 [B, K, h, w], once per forward, in execution order."""


class CapturingProcessor:
    """An attention processor for one cross-attention layer: fused attention that also hands out its maps."""

    def __init__(self, layer: str, capture: AttentionCapture) -> None:
        self.layer = layer
        self.capture = capture

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend `hidden_states` [B, HW, C] to `encoder_hidden_states` [B, L, D]."""
        if encoder_hidden_states is None or attention_mask is not None or hidden_states.ndim != 3:
            raise ValueError(f"{self.layer}: only plain, unmasked cross-attention on [B, HW, C] can be captured")
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        )
        weights = self.capture.weights
        if weights is None:  # outside of `forward` nobody wants maps
            attended = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        else:
            attended, maps = attend(query, key, value, weights, attn.scale)
            self.capture.receive(self.layer, maps)
        return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))


def attend(query: Tensor, key: Tensor, value: Tensor, weights: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention, and its head-mean probabilities summed over the tokens with K sets of weights (Eq. 1).

    The fused kernels want one width for queries, keys and values: zeros behind queries and keys change no score.

    Args:
        query: [B, heads, HW, d].
        key: [B, heads, L, d].
        value: [B, heads, L, d].
        weights: [B, L, K].
        scale: of the scores, 1 / sqrt(d).

    Returns:
        [B, heads, HW, d] attended values, and [B, K, HW] maps in float32.
    """
    batch, heads, _, width = value.shape
    columns = weights.shape[-1]
    spare = -(width + columns) % 8 if value.is_cuda else 0  # the fused GPU kernels want multiples of 8
    marked = weights.to(value.dtype)[:, None].expand(batch, heads, -1, columns)
    padding = (0, columns + spare)
    wide = F.pad(torch.cat([value, marked], -1), (0, spare)) if spare else torch.cat([value, marked], -1)
    found = F.scaled_dot_product_attention(F.pad(query, padding), F.pad(key, padding), wide, scale=scale)
    maps = found[..., width : width + columns].mean(1, dtype=torch.float32)
    return found[..., :width], maps.transpose(1, 2)


class AttentionCapture:
    """Swaps the processors of a U-Net's cross-attention layers (all, or those named) while it is open."""

    def __init__(self, unet: Any, on_maps: OnMaps, layers: Sequence[str] | None = None) -> None:
        self.unet = unet
        self.on_maps = on_maps
        self.layers = cross_attention_layers(unet) if layers is None else layers
        self.weights: Tensor | None = None
        self.sizes: dict[str, Size] = {}

    @contextmanager
    def open(self) -> Iterator[AttentionCapture]:
        """Capture inside the block; the former processors come back whatever happens there."""
        before = self.unet.attn_processors
        capturing = {f"{name}.processor": CapturingProcessor(name, self) for name in self.layers}
        self.unet.set_attn_processor(before | capturing)
        try:
            yield self
        finally:
            self.unet.set_attn_processor(before)

    def forward(self, latents: Tensor, timesteps: Tensor, states: Tensor, weights: Tensor) -> Tensor:
        """One U-Net forward with maps for K weighted sums over the tokens.

        Args:
            latents: [B, C, h, w].
            timesteps: int64 [B].
            states: [B, L, D], the text states.
            weights: float32 [B, K, L], how each of the K sums weighs the tokens.

        Returns:
            The U-Net's output [B, C, h, w].
        """
        self.sizes = layer_sizes(self.unet, (latents.shape[-2], latents.shape[-1]))
        self.weights = weights.transpose(1, 2)
        try:
            return self.unet(latents, timesteps, states).sample
        finally:
            self.weights = None

    def receive(self, layer: str, maps: Tensor) -> None:
        """Hand on a layer's maps [B, K, HW] in their own shape."""
        self.on_maps(layer, maps.unflatten(-1, self.sizes[layer]))


def cross_attention_layers(unet: Any) -> list[str]:
    """Names of the layers that attend to the text, in execution order."""
    return list(layer_sizes(unet, (1, 1)))


def layer_sizes(unet: Any, size: Size) -> dict[str, Size]:
    """(height, width) of every cross-attention layer, in execution order, for latents of `size`.

    Strided convolutions round up: a latent of 15 x 20 is 8 x 10, 4 x 5 and 2 x 3 further down; the way up goes
    through the same sizes.
    """
    sizes: dict[str, Size] = {}
    passed = [size]
    for number, block in enumerate(unet.down_blocks):
        sizes |= dict.fromkeys(_attending(block, f"down_blocks.{number}"), passed[-1])
        if getattr(block, "downsamplers", None) is not None:
            height, width = passed[-1]
            passed.append(((height + 1) // 2, (width + 1) // 2))
    sizes |= dict.fromkeys(_attending(unet.mid_block, "mid_block"), passed[-1])
    for number, block in enumerate(unet.up_blocks):
        sizes |= dict.fromkeys(_attending(block, f"up_blocks.{number}"), passed[-1])
        if getattr(block, "upsamplers", None) is not None:
            passed.pop()
    return sizes


def _attending(block: Any, prefix: str) -> list[str]:
    """Names of a block's cross-attention layers."""
    modules = block.named_modules() if block is not None else ()
    return [f"{prefix}.{name}" for name, module in modules if getattr(module, "is_cross_attention", False)]


def select_layers(unet: Any, choice: str) -> list[str]:
    """The names behind "all", or indices in execution order and resolutions in latent cells, such as "3,4,16x16".

    Raises:
        UsageError: there is no such layer.
    """
    side = int(unet.config.sample_size)
    sizes = layer_sizes(unet, (side, side))
    names = list(sizes)
    if choice == "all":
        return names
    chosen: set[str] = set()
    for part in choice.split(","):
        found = [name for name in names if f"{sizes[name][0]}x{sizes[name][1]}" == part]
        if part.isdigit() and int(part) < len(names):
            found = [names[int(part)]]
        if not found:
            have = ", ".join(dict.fromkeys(f"{height}x{width}" for height, width in sizes.values()))
            raise UsageError(f"--layers {part}: this U-Net has cross-attention layers 0 to {len(names) - 1}, at {have}")
        chosen.update(found)
    return [name for name in names if name in chosen]
