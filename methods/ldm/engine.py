"""Run a sampling mode of a latent diffusion model and hand every captured map to a reduction."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.cache import cached_by_image
from gtg_bench.methods.ldm.attention import AttentionCapture, select_layers
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.reduction import Reduction, Rows
from gtg_bench.methods.ldm.sampling import Predict, ddim_timesteps, denoise, first_latent, generate, ground_truth
from gtg_bench.methods.ldm.settled import SCHEDULE, schedule

POSITIONS_PER_FORWARD = 2**16
"""Default batch of a forward pass, as rows times latent positions: 64 rows of 32 x 32, 16 rows of 64 x 64."""


@dataclass(frozen=True)
class Latents:
    """The starting point of a sampling run.

    Attributes:
        noise: [B, draws, C, h, w]; one draw, or one per step in GT mode.
        image: [B, draws, C, h, w], scaled samples of the image's posterior; None for modes that start from noise.
    """

    noise: Tensor
    image: Tensor | None = None


class Engine:
    """A U-Net with its scheduler and the layers and steps that the settings choose."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        """`rows`: how many rows a forward pass takes at most."""
        self.components = components
        self.settings = settings
        self.unet = components.unet
        self.side = int(self.unet.config.sample_size)
        self.size = (self.side, self.side)
        self.rows = rows or max(1, POSITIONS_PER_FORWARD // self.side**2)
        self.timesteps = ddim_timesteps(components.scheduler, schedule(settings.steps or SCHEDULE))
        self.layers = select_layers(self.unet, settings.layers or "all")
        self.dtype = next(self.unet.parameters()).dtype
        self._cut: dict[int, tuple[weakref.ref[FloatArray], FloatArray]] = {}

    def run(
        self,
        mode: str,
        latents: Latents,
        states: Tensor,
        weights: Tensor,
        maps: Reduction,
        kept: int,
        steps: Sequence[int] | None = None,
    ) -> None:
        """Sample in a mode (Appendix A); `maps` receives the maps of the last `kept` steps.

        Args:
            mode: "text", "cfg", "gt1-cfg" or "gt-cfg".
            latents: of B samples, see `prepare_latents`.
            states: [B, L, D], text states.
            weights: float32 [B, K, L], token weights of each of K maps.
            maps: the reduction.
            kept: number of steps, `len(self.timesteps)` for all.
            steps: indices of the steps to run instead, in GT mode, where they are independent.
        """
        capture = AttentionCapture(self.unet, self.layers)
        scheduler, guidance = self.components.scheduler, None if mode == "text" else self.settings.guidance

        def observe(x_t: Tensor, t: Tensor, rows: Rows) -> None:
            text, sums = states[rows.sample].to(self.dtype), weights[rows.sample]
            capture.maps_only(x_t.to(self.dtype), t, text, sums, lambda layer, found: maps.add(layer, found, rows))

        def forward(x_t: Tensor, t: Tensor, text: Tensor, rows: Rows | None) -> Tensor:
            inputs = x_t.to(self.dtype), t, text.to(self.dtype)
            if rows is None:
                return self.unet(*inputs).sample.float()
            sums = weights.repeat(len(x_t) // len(weights), 1, 1)
            return capture.forward(*inputs, sums, lambda name, m: maps.add(name, m[: len(weights)], rows)).float()

        with capture.open():
            if mode == "gt-cfg":
                assert latents.image is not None
                chosen = range(len(self.timesteps))[-kept:] if steps is None else steps
                ground_truth(observe, scheduler, self.timesteps, latents.image, latents.noise, self.rows, chosen)
                return
            x = latents.noise[:, 0]
            if latents.image is not None:
                x = first_latent(scheduler, latents.image[:, 0], x)
            denoise(self._branches(states, forward), observe, scheduler, self.timesteps, kept, x, guidance)

    def generate(self, x: Tensor, states: Tensor) -> Tensor:
        """The clean latents [B, C, h, w], scaled, of guided DDIM from noise `x` with text states [B, L, D]."""

        def forward(x_t: Tensor, t: Tensor, text: Tensor, rows: Rows | None) -> Tensor:
            return self.unet(x_t.to(self.dtype), t, text.to(self.dtype)).sample.float()

        predict = self._branches(states, forward)
        return generate(predict, self.components.scheduler, self.timesteps, x, self.settings.guidance)

    def _branches(self, states: Tensor, forward: Callable[[Tensor, Tensor, Tensor, Rows | None], Tensor]) -> Predict:
        """The noise of one or both branches; in one forward pass of the U-Net if it takes so many rows."""

        def predict(x_t: Tensor, t: Tensor, rows: Rows | None, guided: bool) -> Tensor:
            if not guided:
                return forward(x_t, t, states, rows)
            empty = self.empty.expand_as(states)
            if 2 * len(x_t) > self.rows:
                return torch.cat([forward(x_t, t, states, rows), forward(x_t, t, empty, None)])
            return forward(x_t.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([states, empty]), rows)

        return predict

    @cached_property
    def empty(self) -> Tensor:
        """Text states [L, D] of the empty prompt."""
        return self.components.text_encoder.encode([""]).states[0].to(self.components.device)

    def prepare_latents(self, mode: str, queries: Sequence[Query], frames: Sequence[Frame]) -> Latents:
        """Draw noise and posterior samples, each query from its own generator, so that batches do not matter."""
        draws = len(self.timesteps) if mode == "gt-cfg" else 1
        shape = (len(queries), 2 * draws, self.unet.config.in_channels, *self.size)
        drawn = torch.empty(shape, device=self.components.device)
        for row, query in zip(drawn, queries, strict=True):
            row.copy_(self.normal(query.seed, 2 * draws))
        image, noise = drawn[:, :draws], drawn[:, draws:]
        if mode in ("text", "cfg"):
            return Latents(noise)
        spread = 0.0 if self.settings.latent == "mode" else 1.0
        for row, query, frame in zip(image, queries, frames, strict=True):
            mean, std = self.posterior(query.image, frame)
            row.mul_(std * spread).add_(mean)
        return Latents(noise, image)

    def normal(self, seed: int, draws: int) -> Tensor:
        """Gaussian noise [draws, C, h, w] from a seed, the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        shape = (draws, self.unet.config.in_channels, *self.size)
        return torch.randn(shape, generator=generator).to(self.components.device)

    def cut_ahead(self, image: FloatArray, frame: Frame) -> None:
        """Cut out, for `posterior`, what the model sees of an array that does not change until then."""
        key = id(image)
        self._cut[key] = weakref.ref(image, lambda gone: self._cut.pop(key, None)), frame.apply(image)

    def posterior(self, image: FloatArray, frame: Frame) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [C, h, w] of the image's VAE posterior, scaled; cached for its next phrase."""

        # what the model sees is also the cache's key: hashing a whole radiograph takes longer
        known, ahead = self._cut.pop(id(image), (None, None))
        seen = ahead if ahead is not None and known and known() is image else frame.apply(image)

        def encode() -> tuple[Tensor, Tensor]:
            vae = self.components.vae
            pixels = torch.from_numpy(seen).to(self.components.device) * 2 - 1
            posterior = vae.encode(pixels.expand(1, vae.config.in_channels, -1, -1)).latent_dist
            return posterior.mean[0] * vae.config.scaling_factor, posterior.std[0] * vae.config.scaling_factor

        found: tuple[Tensor, Tensor] = cached_by_image(self.components.caches.posteriors, seen, encode)
        return found
