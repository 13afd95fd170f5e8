"""A latent diffusion model as a grounding method: its cross-attention maps of a phrase (paper, section 2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings, Query, fingerprint
from gtg_bench.methods.ldm.attention import AttentionCapture, select_layers
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.reduction import LayerMaps, MeanMaps
from gtg_bench.methods.ldm.sampling import Forward, Predict, ddim_timesteps, denoise, first_latent, ground_truth
from gtg_bench.methods.ldm.tokens import choose_tokens

T = TypeVar("T")
_CACHED = 256
POSITIONS_PER_FORWARD = 2**16
"""Rows of a forward times the latent's size: 64 rows of 32 x 32, 16 rows of 64 x 64."""


class LdmMethod:
    """Mean cross-attention of the chosen tokens over steps, layers and heads, on the latent grid."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        self.components = components
        self.settings = settings
        self.rows = rows or max(1, POSITIONS_PER_FORWARD // int(components.unet.config.sample_size) ** 2)
        self.mode = settings.sampling or "gt-cfg"
        self.timesteps = ddim_timesteps(components.scheduler, settings.steps or 50)
        self.kept = settings.last_steps or len(self.timesteps)
        self.layers = select_layers(components.unet, settings.layers or "all")
        self._texts: OrderedDict[Hashable, tuple[Tensor, Tensor]] = OrderedDict()
        self._posteriors: OrderedDict[Hashable, tuple[Tensor, Tensor]] = OrderedDict()

    def ground(self, image: FloatArray, text: str, seed: int = 0) -> GroundingMap:
        """The map of `text` on `image` (float32 [H, W] in [0, 1]), with the noise of `seed`."""
        return self.ground_batch([Query(image, text, seed)])[0]

    @torch.inference_mode()
    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map a query; each query draws its noise from its own seed, so batches do not matter."""
        frames = [self._frame(query.image) for query in queries]
        maps = self._attend(queries, frames, MeanMaps)[:, 0].cpu().numpy()
        return [GroundingMap(np.ascontiguousarray(values), frame) for values, frame in zip(maps, frames, strict=True)]

    @torch.inference_mode()
    def layer_maps(self, queries: Sequence[Query]) -> tuple[NDArray[np.float32], list[Frame]]:
        """float32 [B, layers, h, w]: the map of every chosen layer by itself; and the frames."""
        frames = [self._frame(query.image) for query in queries]
        return self._attend(queries, frames, LayerMaps).cpu().numpy(), frames

    def _attend(
        self, queries: Sequence[Query], frames: Sequence[Frame], reduction: type[MeanMaps] | type[LayerMaps]
    ) -> Tensor:
        """Run the sampling mode under the capture and reduce its maps."""
        texts = [_cached(self._texts, query.text, partial(self._encode_text, query.text)) for query in queries]
        states, weights = (torch.stack(part) for part in zip(*texts, strict=True))
        latents, noise = self._draw(queries, frames, draws=len(self.timesteps) if self.mode == "gt-cfg" else 1)
        means = reduction(len(queries), (latents.shape[-2], latents.shape[-1]), self.components.device)
        capture = AttentionCapture(self.components.unet, means.add, self.layers)

        def forward(x_t: Tensor, t: Tensor, sample: Tensor) -> Tensor:
            means.rows = sample
            return capture.forward(x_t, t, states[sample], weights[sample][:, None])

        def predict(x_t: Tensor, t: Tensor, conditional: bool) -> Tensor:
            return self.components.unet(x_t, t, states if conditional else self.empty.expand_as(states)).sample

        with capture.open():
            self._sample(forward, predict, latents, noise)
        return means.mean()

    def _sample(self, forward: Forward, predict: Predict, latents: Tensor, noise: Tensor) -> None:
        """Run the sampling mode (Appendix A); latents and noise [B, draws, C, h, w]."""
        scheduler = self.components.scheduler
        if self.mode == "gt-cfg":
            last = slice(-self.kept, None)
            ground_truth(forward, scheduler, self.timesteps[last], latents[:, last], noise[:, last], self.rows)
            return
        start = first_latent(scheduler, latents[:, 0], noise[:, 0]) if self.mode == "gt1-cfg" else noise[:, 0]
        guidance = None if self.mode == "text" else self.settings.guidance
        denoise(forward, predict, scheduler, self.timesteps, self.kept, start, guidance)

    @cached_property
    def empty(self) -> Tensor:
        """States [L, D] of the empty prompt."""
        return self.components.text_encoder.encode([""]).states[0]

    def _frame(self, image: FloatArray) -> Frame:
        height, width = image.shape
        return Frame.center_crop((width, height), self.components.image_size)

    def _encode_text(self, text: str) -> tuple[Tensor, Tensor]:
        """States [L, D] and the chosen tokens' weights [L], which sum to one."""
        if not text.strip():
            raise SampleError("the phrase is empty")
        encoding = self.components.text_encoder.encode([text])
        chosen = choose_tokens(text, encoding.offsets[0], self.settings.tokens or "lexical").float()
        if not chosen.any():
            raise SampleError(f"the text encoder's tokenizer finds no token in the phrase {text!r}")
        weights = chosen / chosen.sum()
        return encoding.states[0], weights.to(self.components.device)

    def _draw(self, queries: Sequence[Query], frames: Sequence[Frame], draws: int) -> tuple[Tensor, Tensor]:
        """Fresh posterior samples and noise, both [B, draws, C, h, w], from each query's own generator."""
        latents, noise = [], []
        for query, frame in zip(queries, frames, strict=True):
            key = fingerprint(query.image)
            mean, std = _cached(self._posteriors, key, partial(self._encode_image, query.image, frame))
            generator = torch.Generator().manual_seed(query.seed)
            drawn = torch.randn((2, draws, *mean.shape), generator=generator).to(mean.device)
            latents.append(mean + std * drawn[0])
            noise.append(drawn[1])
        return torch.stack(latents), torch.stack(noise)

    def _encode_image(self, image: FloatArray, frame: Frame) -> tuple[Tensor, Tensor]:
        """Mean and deviation [C, h, w] of the image's posterior, times the scaling factor."""
        vae = self.components.vae
        pixels = torch.from_numpy(frame.apply(image)).to(self.components.device) * 2 - 1
        posterior = vae.encode(pixels.expand(1, vae.config.in_channels, -1, -1)).latent_dist
        return posterior.mean[0] * vae.config.scaling_factor, posterior.std[0] * vae.config.scaling_factor


def _cached(cache: OrderedDict[Hashable, T], key: Hashable, make: Callable[[], T]) -> T:
    """The value of `key`, made if it is not among the last few hundred."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > _CACHED:
            cache.popitem(last=False)
    return cache[key]
