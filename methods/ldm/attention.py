"""Cross-attention maps, taken where they arise.

Eq. 1 of the paper: P = softmax(Q K^T / sqrt(d_k)). The mean over heads and the weighted mean over tokens are
taken at once, at the layer's own resolution, so the full tensor (steps x layers x tokens x 64 x 64) never exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gtg_bench.benchmark.api.errors import UsageError

OnMaps = Callable[[str, Tensor], None]
"""Receives a layer's name and its maps, float32 [B, K, h, w], once per forward, in execution order."""


class CapturingProcessor:
    """An attention processor for one cross-attention layer: plain attention that also hands out its maps."""

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
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        probabilities = attn.get_attention_scores(query, key)
        self.capture.receive(self.layer, probabilities, attn.heads)
        attended = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        return attn.to_out[1](attn.to_out[0](attended))


class AttentionCapture:
    """Swaps the processors of a U-Net's cross-attention layers (all, or those named) while it is open."""

    def __init__(self, unet: Any, on_maps: OnMaps, layers: Sequence[str] | None = None) -> None:
        self.unet = unet
        self.on_maps = on_maps
        self.layers = cross_attention_layers(unet) if layers is None else layers
        self.weights: Tensor | None = None
        self.size: tuple[int, int] = (0, 0)

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
        """One U-Net forward with maps for K weighted means over the tokens.

        Args:
            latents: [B, C, h, w].
            timesteps: int64 [B].
            states: [B, L, D], the text states.
            weights: float32 [B, K, L], how each of the K means weighs the tokens.

        Returns:
            The U-Net's output [B, C, h, w].
        """
        self.weights = weights.transpose(1, 2)
        self.size = (latents.shape[-2], latents.shape[-1])
        try:
            return self.unet(latents, timesteps, states).sample
        finally:
            self.weights = None

    def receive(self, layer: str, probabilities: Tensor, heads: int) -> None:
        """Reduce [B * heads, hw, L] to [B, K, h, w] and hand it on; outside of `forward` nobody wants maps."""
        if self.weights is None:
            return
        batch, pixels, tokens = len(self.weights), probabilities.shape[1], probabilities.shape[2]
        by_head = probabilities.view(batch, heads, pixels, tokens).float()
        maps = torch.matmul(by_head, self.weights[:, None]).mean(1).transpose(1, 2)
        height, width = layer_size(pixels, self.size)
        self.on_maps(layer, maps.reshape(batch, -1, height, width))


def cross_attention_layers(unet: Any) -> list[str]:
    """Names of the layers that attend to the text, in execution order."""
    names = [name for name, module in unet.named_modules() if getattr(module, "is_cross_attention", False)]
    rank = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    return sorted(names, key=lambda name: rank[name.partition(".")[0]])


def select_layers(unet: Any, choice: str) -> list[str]:
    """The names behind "all" or indices in execution order such as "3,4,5". Raises UsageError beyond the last."""
    names = cross_attention_layers(unet)
    if choice == "all":
        return names
    indices = [int(part) for part in choice.split(",")]
    if max(indices) >= len(names):
        raise UsageError(f"--layers {choice}: this U-Net has cross-attention layers 0 to {len(names) - 1}")
    return [names[index] for index in indices]


def layer_size(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a layer with `pixels` positions in a U-Net whose latents are `size`.

    Strided convolutions round up: a latent of 15 x 20 is 8 x 10, 4 x 5 and 2 x 3 further down.
    """
    height, width = size
    while height * width > pixels:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != pixels:
        raise ValueError(f"no halving of latents of {size} has {pixels} positions")
    return height, width
