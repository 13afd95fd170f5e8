"""Cross-attention maps, captured inside fused attention.

Only weighted sums over the tokens are needed: P w for the attention probabilities P (Eq. 1) and a column of weights w.
With w appended to the values V, one fused attention returns [P V, P w] and P itself never exists. The mean over
heads is taken at once, at the layer's own resolution, so the full tensor (steps x layers x tokens x 64 x 64) never
exists either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError

Size = tuple[int, int]
OnMaps = Callable[[str, Tensor], None]
"""Receives a layer's name and its maps, float32 [B, K, h, w], once per forward, in execution order."""


class _AllMapsTaken(Exception):
    """Raised by the last captured layer to end a forward pass whose output is not needed."""


def attention_probabilities(query: Tensor, key: Tensor) -> Tensor:
    """Eq. 1: P = softmax(Q K^T / sqrt(d_k)); the reference for `attend`, which never computes P.

    Args:
        query: [..., HW, d_k].
        key: [..., L, d_k].

    Returns:
        [..., HW, L] probabilities; each row sums to 1.
    """
    scores = query @ key.transpose(-2, -1)
    return torch.softmax(scores / math.sqrt(query.shape[-1]), dim=-1)


def attend(query: Tensor, key: Tensor, value: Tensor, weights: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Fused attention that also returns its head-mean probabilities (Eq. 1), summed over tokens with K sets of weights.

    The fused kernels need queries, keys and values of one width; zeros appended to queries and keys change no score.

    Args:
        query: [B, heads, HW, d].
        key: [B, heads, L, d].
        value: [B, heads, L, d].
        weights: [B, L, K].
        scale: factor of the scores, 1 / sqrt(d).

    Returns:
        [B, heads, HW, d] attended values, and [B, K, HW] maps in float32.
    """
    batch, heads, _, width = value.shape
    columns = weights.shape[-1]
    spare = -(width + columns) % 8 if value.is_cuda else 0  # fused GPU kernels need multiples of 8
    marked = weights.to(value.dtype)[:, None].expand(batch, heads, -1, columns)
    wide = F.pad(torch.cat([value, marked], -1), (0, spare)) if spare else torch.cat([value, marked], -1)
    padding = (0, columns + spare)
    attended = F.scaled_dot_product_attention(F.pad(query, padding), F.pad(key, padding), wide, scale=scale)
    maps = attended[..., width : width + columns].mean(1, dtype=torch.float32)
    return attended[..., :width], maps.transpose(1, 2)


class CapturingProcessor:
    """Attention processor of one cross-attention layer: fused attention that also hands out the layer's maps."""

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
        if self.capture.request is None:
            attended = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        else:
            weights, sizes, on_maps, last = self.capture.request
            attended, maps = attend(query, key, value, weights, attn.scale)
            on_maps(self.layer, maps.unflatten(-1, sizes[self.layer]))
            if self.layer == last:
                raise _AllMapsTaken
        return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))


class AttentionCapture:
    """Replaces the processors of a U-Net's cross-attention layers (all, or those named) while it is open."""

    def __init__(self, unet: Any, layers: Sequence[str] | None = None) -> None:
        self.unet = unet
        self.layers = cross_attention_layers(unet) if layers is None else layers
        self.request: tuple[Tensor, dict[str, Size], OnMaps, str | None] | None = None  # only during a forward pass

    @contextmanager
    def open(self) -> Iterator[AttentionCapture]:
        """Capture inside the block; the previous processors are restored even after an exception."""
        before = self.unet.attn_processors
        capturing = {f"{name}.processor": CapturingProcessor(name, self) for name in self.layers}
        self.unet.set_attn_processor(before | capturing)
        try:
            yield self
        finally:
            self.unet.set_attn_processor(before)

    def forward(self, latents: Tensor, timesteps: Tensor, states: Tensor, weights: Tensor, on_maps: OnMaps) -> Tensor:
        """Run the U-Net once and capture K weighted sums over the tokens in every layer.

        Args:
            latents: [B, C, h, w].
            timesteps: int64 [B].
            states: [B, L, D], the text states.
            weights: float32 [B, K, L], the token weights of the K sums.
            on_maps: receives the maps of each layer.

        Returns:
            The U-Net's output [B, C, h, w].
        """
        return self._run(latents, timesteps, states, weights, on_maps, stop=False)

    def maps_only(self, latents: Tensor, timesteps: Tensor, states: Tensor, weights: Tensor, on_maps: OnMaps) -> None:
        """Capture the same maps as `forward`, but stop the U-Net after the last captured layer.

        No later operation can change a map, so this is exact.
        """
        with suppress(_AllMapsTaken):
            self._run(latents, timesteps, states, weights, on_maps, stop=True)

    def _run(self, x: Tensor, t: Tensor, states: Tensor, weights: Tensor, on_maps: OnMaps, stop: bool) -> Tensor:
        sizes = layer_sizes(self.unet, (x.shape[-2], x.shape[-1]))
        last = max(self.layers, key=list(sizes).index) if stop else None
        self.request = weights.transpose(1, 2), sizes, on_maps, last
        try:
            return self.unet(x, t, states).sample
        finally:
            self.request = None


def cross_attention_layers(unet: Any) -> list[str]:
    """Names of the layers that attend to the text, in execution order."""
    return list(layer_sizes(unet, (1, 1)))


def layer_sizes(unet: Any, size: Size) -> dict[str, Size]:
    """(height, width) of every cross-attention layer, in execution order, for latents of `size`.

    Strided convolutions round up: a latent of 15 x 20 becomes 8 x 10, 4 x 5 and 2 x 3. The up blocks use the same sizes
    in reverse.
    """
    sizes: dict[str, Size] = {}

    def record(block: Any, prefix: str, at: Size) -> None:
        modules = block.named_modules() if block is not None else ()
        sizes.update({f"{prefix}.{name}": at for name, layer in modules if getattr(layer, "is_cross_attention", False)})

    levels = [size]
    for number, block in enumerate(unet.down_blocks):
        record(block, f"down_blocks.{number}", levels[-1])
        if getattr(block, "downsamplers", None) is not None:
            height, width = levels[-1]
            levels.append(((height + 1) // 2, (width + 1) // 2))
    record(unet.mid_block, "mid_block", levels[-1])
    for number, block in enumerate(unet.up_blocks):
        record(block, f"up_blocks.{number}", levels[-1])
        if getattr(block, "upsamplers", None) is not None:
            levels.pop()
    return sizes


def select_layers(unet: Any, choice: str) -> list[str]:
    """Layer names for "all", or for indices in execution order and resolutions in latent cells, such as "3,4,16x16".

    Raises:
        UsageError: the U-Net has no such layer.
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
