"""Published architectures with random weights, to measure their cost without downloading anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gtg_bench.benchmark.api.types import MethodSettings, seed_for
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.pretrained import silence_libraries
from gtg_bench.methods.text_encoders.base import TextEncoding

SD15_UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""Stable Diffusion 1.5's U-Net (Rombach et al. 2022); other settings are diffusers' defaults."""

SD15_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}

SD15_SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}


@dataclass
class RandomStates:
    """A stand-in for a text encoder: random states that depend on the text alone, one token per word."""

    width: int
    device: torch.device
    max_length: int = 77

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See `TextEncoder.encode`."""
        states, offsets, mask = [], [], []
        for text in texts:
            generator = torch.Generator().manual_seed(seed_for("random states", text))
            states.append(torch.randn(self.max_length, self.width, generator=generator))
            spans, end = [(0, 0)], 0
            for word in text.split()[: self.max_length - 2]:
                start = text.index(word, end)
                end = start + len(word)
                spans.append((start, end))
            spans.append((0, 0))
            mask.append(torch.arange(self.max_length) < len(spans))
            offsets.append(torch.tensor(spans + [(0, 0)] * (self.max_length - len(spans))))
        return TextEncoding(torch.stack(states).to(self.device), torch.stack(mask), torch.stack(offsets), tuple(texts))


def stable_diffusion_15(settings: MethodSettings) -> LdmMethod:
    """Stable Diffusion 1.5 with random weights and random text states: its cost is real, its maps are meaningless."""
    silence_libraries()
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    device = torch.device(settings.device)
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**SD15_UNET).eval().requires_grad_(False)
    vae = AutoencoderKL(**SD15_VAE).eval().requires_grad_(False)
    components = LdmComponents(
        unet=unet.to(device, getattr(torch, settings.precision or "float32")),
        vae=vae.to(device),
        scheduler=DDIMScheduler(**SD15_SCHEDULE),
        text_encoder=RandomStates(768, device),
        device=device,
    )
    return LdmMethod(components, settings)
