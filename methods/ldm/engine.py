"""Runs a sampling mode of a latent diffusion model under the capture, and hands every map to a reduction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import MethodSettings, Query, fingerprint
from gtg_bench.methods.ldm.attention import AttentionCapture, select_layers
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.prompts import cached
from gtg_bench.methods.ldm.reduction import Reduction, Rows
from gtg_bench.methods.ldm.sampling import ddim_timesteps, denoise, first_latent, ground_truth

POSITIONS_PER_FORWARD = 2**16
"""Rows of a forward times the latent's size: 64 rows of 32 x 32, 16 rows of 64 x 64."""


@dataclass(frozen=True)
class Start:
    """Where a run starts from: noise, and samples of the image's posterior where the mode looks at the image.

    Attributes:
        noise: [B, draws, C, h, w]; one draw, or one a step in GT mode.
        latents: [B, draws, C, h, w], scaled; None for modes that start from noise.
    """

    noise: Tensor
    latents: Tensor | None = None


class Engine:
    """A U-Net, its schedule and its layers, as the settings choose them."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        self.components = components
        self.settings = settings
        self.unet = components.unet
        self.side = int(self.unet.config.sample_size)
        self.rows = rows or max(1, POSITIONS_PER_FORWARD // self.side**2)
        self.timesteps = ddim_timesteps(components.scheduler, settings.steps or 50)
        self.layers = select_layers(self.unet, settings.layers or "all")
        self.dtype = next(self.unet.parameters()).dtype
        self._empty: Tensor | None = None
        self._posteriors: OrderedDict[Hashable, tuple[Tensor, Tensor]] = OrderedDict()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the latents."""
        return self.side, self.side

    def run(self, mode: str, start: Start, states: Tensor, weights: Tensor, maps: Reduction, kept: int) -> None:
        """Sample in a mode (Appendix A); the maps of the last `kept` steps go to `maps`.

        Args:
            mode: "text", "cfg", "gt1-cfg" or "gt-cfg".
            start: of B samples.
            states: [B, L, D], text states.
            weights: float32 [B, K, L], how each of K maps weighs the tokens.
            maps: the reduction.
            kept: of the steps, all for `len(self.timesteps)`.
        """
        capture = AttentionCapture(self.unet, maps.add, self.layers)
        scheduler, guidance = self.components.scheduler, None if mode == "text" else self.settings.guidance

        def forward(x_t: Tensor, t: Tensor, rows: Rows) -> Tensor:
            maps.rows = rows
            noise = capture.forward(x_t.to(self.dtype), t, states[rows.sample].to(self.dtype), weights[rows.sample])
            return noise.float()

        def predict(x_t: Tensor, t: Tensor, conditional: bool) -> Tensor:
            text = states if conditional else self.empty.expand_as(states)
            return self.unet(x_t.to(self.dtype), t, text.to(self.dtype)).sample.float()

        with capture.open():
            if mode == "gt-cfg":
                assert start.latents is not None
                first = len(self.timesteps) - kept
                ground_truth(forward, scheduler, self.timesteps, start.latents, start.noise, self.rows, first)
                return
            x = start.noise[:, 0]
            if start.latents is not None:
                x = first_latent(scheduler, start.latents[:, 0], x)
            denoise(forward, predict, scheduler, self.timesteps, kept, x, guidance)

    @property
    def empty(self) -> Tensor:
        """States [L, D] of the empty prompt."""
        if self._empty is None:
            self._empty = self.components.text_encoder.encode([""]).states[0].to(self.components.device)
        return self._empty

    def start(self, mode: str, queries: Sequence[Query], frames: Sequence[Frame]) -> Start:
        """Noise and posterior samples of each query, from its own generator: batches do not matter."""
        draws = len(self.timesteps) if mode == "gt-cfg" else 1
        shape = (len(queries), 2 * draws, self.unet.config.in_channels, *self.size)
        drawn = torch.empty(shape, device=self.components.device)
        for row, query in zip(drawn, queries, strict=True):
            row.copy_(self.normal(query.seed, 2 * draws))
        latents, noise = drawn[:, :draws], drawn[:, draws:]
        if mode in ("text", "cfg"):
            return Start(noise)
        fresh = 0.0 if self.settings.latent == "mode" else 1.0
        for row, query, frame in zip(latents, queries, frames, strict=True):
            mean, std = self._posterior(query.image, frame)
            row.mul_(std * fresh).add_(mean)
        return Start(noise, latents)

    def normal(self, seed: int, draws: int) -> Tensor:
        """Gaussian noise [draws, C, h, w] of a seed, the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        shape = (draws, self.unet.config.in_channels, *self.size)
        return torch.randn(shape, generator=generator).to(self.components.device)

    def _posterior(self, image: FloatArray, frame: Frame) -> tuple[Tensor, Tensor]:
        """Mean and deviation [C, h, w] of the image's posterior, times the scaling factor; kept for its next phrase."""
        return cached(self._posteriors, fingerprint(image), lambda: self._encode(image, frame))

    def _encode(self, image: FloatArray, frame: Frame) -> tuple[Tensor, Tensor]:
        vae = self.components.vae
        pixels = torch.from_numpy(frame.apply(image)).to(self.components.device) * 2 - 1
        posterior = vae.encode(pixels.expand(1, vae.config.in_channels, -1, -1)).latent_dist
        return posterior.mean[0] * vae.config.scaling_factor, posterior.std[0] * vae.config.scaling_factor
