"""The parts of a latent diffusion model, loaded from a folder in diffusers' layout with a card beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.quiet import hush_libraries
from gtg_bench.methods.text_encoders import load_text_encoder
from gtg_bench.methods.text_encoders.base import TextEncoder
from gtg_bench.methods.weights import Weights


@dataclass(frozen=True)
class LdmComponents:
    """U-Net, autoencoder, scheduler and frozen text encoder, on one device, in evaluation mode."""

    unet: Any
    vae: Any
    scheduler: Any
    text_encoder: TextEncoder
    device: torch.device

    @property
    def image_size(self) -> int:
        """Side of the square image, in pixels, that the U-Net was trained on."""
        return int(self.unet.config.sample_size) * 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_components(weights: Weights, device: torch.device) -> LdmComponents:
    """Load located weights. Half-precision files are computed with in float32."""
    hush_libraries()
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    places, text = weights.places, weights.plan.text_encoder
    if missing := [name for name in ("unet", "vae", "scheduler", "text_encoder") if name not in places]:
        raise DataError(f"weights {weights.name} name no {', '.join(missing)}")
    assert text is not None
    tokenizer = places.get("tokenizer", places["text_encoder"])
    local: dict[str, Any] = {"torch_dtype": torch.float32, "local_files_only": True}
    unet = UNet2DConditionModel.from_pretrained(places["unet"], **local)
    vae = AutoencoderKL.from_pretrained(places["vae"], **local)
    return LdmComponents(
        unet=unet.to(device).eval().requires_grad_(False),
        vae=vae.to(device).eval().requires_grad_(False),
        scheduler=DDIMScheduler.from_pretrained(places["scheduler"]),
        text_encoder=load_text_encoder(text.family, places["text_encoder"], tokenizer, text.max_length, device),
        device=device,
    )
