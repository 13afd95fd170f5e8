"""Generate images with the components of a latent diffusion model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.engine import Engine


class ImageGenerator:
    """Guided DDIM from Gaussian noise, then the decoder.

    The sampler is that of the modes `text` and `cfg` (Appendix A), carried through to the last step. An image depends
    on its phrase and seed alone: every batch is filled up to the same size, because the rounding of a matrix product
    depends on the number of rows. Another batch size, device or number of threads changes rounding only.

    Args:
        components: the model.
        steps: number of DDIM steps.
        guidance: scale of the guidance; 1 runs the conditional branch only.
        batch_size: images per forward pass.
    """

    def __init__(self, components: LdmComponents, steps: int, guidance: float, batch_size: int = 8) -> None:
        settings = MethodSettings("generation", steps=steps, guidance=guidance)
        self.engine = Engine(components, settings, rows=2 * batch_size)
        self.components, self.batch_size = components, batch_size
        self.states = lru_cache(256)(self._states)

    @torch.inference_mode()
    def __call__(self, phrases: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Generate one image for every phrase.

        Args:
            phrases: B prompts.
            seeds: the seed of each image's noise.

        Returns:
            uint8 [B, H, W], grey: the mean of the decoder's channels, in the size that the model was trained on.

        Raises:
            DataError: a pixel is not finite, or the GPU's memory is too small for a batch.
        """
        places = [slice(first, first + self.batch_size) for first in range(0, len(phrases), self.batch_size)]
        try:
            return np.concatenate([self._batch(phrases[place], seeds[place]) for place in places])
        except torch.OutOfMemoryError as error:
            raise DataError(f"no memory for {self.batch_size} images at once; choose a smaller --batch-size") from error

    def _batch(self, phrases: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        spare = range(self.batch_size - len(phrases))
        states = torch.stack([self.states(phrase) for phrase in (*phrases, *(phrases[-1] for _ in spare))])
        noise = torch.cat([self.engine.normal(seed, 1) for seed in (*seeds, *(seeds[-1] for _ in spare))])
        vae = self.components.vae
        latents = self.engine.generate(noise, states) / vae.config.scaling_factor
        pixels = vae.decode(latents.to(vae.dtype)).sample.float()[: len(phrases)]
        if not torch.isfinite(pixels).all():
            raise DataError("an image has pixels that are not finite; try --precision float32")
        return (pixels / 2 + 0.5).clamp(0, 1).mean(1).mul(255).round().byte().cpu().numpy()

    def _states(self, phrase: str) -> Tensor:
        """Text states [L, D]; encoded one by one, so that they do not depend on other phrases."""
        return self.components.text_encoder.encode([phrase]).states[0].to(self.components.device)
