"""The phantom's image autoencoder: a diffusers AutoencoderKL trained with L1 and a small KL term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.material import Material
from gtg_bench.training.pretraining.recipe import AutoencoderRecipe
from gtg_bench.training.pretraining.stage import Stage

_SCALED_ON = 256
_HELD_OUT = 128


@dataclass(frozen=True)
class CropDraws:
    """Samples `images` float32 [1, S, S] in [-1, 1], whole or random crops, and noise, see `trainer.Draws`.

    Attributes:
        pixels: uint8 [N, H, W].
        latent: shape of one latent.
        crop: side of a crop in pixels; None for whole images.
        order: position -> image.
        seed: seed of the run.
    """

    pixels: Tensor
    latent: tuple[int, ...]
    crop: int | None
    order: Callable[[int], int]
    seed: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed_for(self.seed, "crop", position))
        images = to_model(self.pixels[self.order(position)][None])[0]
        if self.crop is not None:
            top, left = torch.randint(0, images.shape[-1] - self.crop + 1, (2,), generator=generator).tolist()
            images = images[..., top : top + self.crop, left : left + self.crop]
        return {"images": images, "noise": torch.randn(self.latent, generator=generator)}


class AutoencoderObjective(nn.Module):
    """Mean absolute error of a decoded posterior sample, plus the weighted KL divergence per pixel."""

    def __init__(self, vae: Any, kl_weight: float) -> None:
        super().__init__()
        self.vae = vae
        self.kl_weight = kl_weight

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        images = batch["images"]
        posterior = self.vae.encode(images).latent_dist
        decoded = self.vae.decode(posterior.mean + posterior.std * batch["noise"]).sample
        return (decoded - images).abs().mean() + self.kl_weight * posterior.kl().mean() / images[0].numel()


def stage(recipe: AutoencoderRecipe, material: Material, seed: int) -> Stage:
    """Prepare the training of an autoencoder; its scaling factor scales latents to unit standard deviation."""
    torch.manual_seed(seed)
    vae, pixels = AutoencoderKL(**recipe.config), material.train.pixels
    side = (recipe.crop or pixels.shape[-1]) // 2 ** (len(vae.config.block_out_channels) - 1)
    latent = (vae.config.latent_channels, side, side)
    draws = CropDraws(pixels, latent, recipe.crop, EpochOrder(len(pixels), seed), seed)

    def save(folder: Path) -> dict[str, Any]:
        with torch.no_grad():
            latents = vae.encode(to_model(pixels[:_SCALED_ON])).latent_dist.mean
        vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
        vae.save_pretrained(folder)
        return {}

    def results() -> dict[str, float]:
        return {"validation_psnr_db": round(psnr(vae, material.held_out.pixels[:_HELD_OUT]), 2)}

    return Stage(AutoencoderObjective(vae, recipe.kl_weight), draws, save, results)


def to_model(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W] to float [B, 1, H, W] in [-1, 1]."""
    return pixels[:, None].float() / 127.5 - 1


def psnr(vae: AutoencoderKL, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of decoded posterior means against the images, uint8 [N, H, W]."""
    images = to_model(pixels)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / ((decoded - images) ** 2).mean()))
