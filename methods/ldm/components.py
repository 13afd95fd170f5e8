"""The parts of a latent diffusion model, loaded from a folder in diffusers' layout with a card beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.cards import part_of, read_card
from gtg_bench.methods.quiet import hush_libraries
from gtg_bench.methods.text_encoders import load_text_encoder
from gtg_bench.methods.text_encoders.base import TextEncoder


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


def load_components(folder: Path, device: torch.device) -> LdmComponents:
    """Load what the folder's card names. Half-precision files are computed with in float32."""
    hush_libraries()
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    card = read_card(folder)
    for name in ("unet", "scheduler"):
        if not (folder / name).is_dir():
            raise DataError(f"{folder} holds no folder {name}; it is needed beside card.json")
    local: dict[str, Any] = {"torch_dtype": torch.float32, "local_files_only": True}
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **local)
    vae = AutoencoderKL.from_pretrained(part_of(card, folder, "vae"), **local)
    return LdmComponents(
        unet=unet.to(device).eval().requires_grad_(False),
        vae=vae.to(device).eval().requires_grad_(False),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        text_encoder=load_text_encoder(part_of(card, folder, "text_encoder"), device),
        device=device,
    )
