"""The phantom's image autoencoder: a diffusers AutoencoderKL trained with L1 and a small KL term."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from gtg_bench.training.loop import Fit, batch_indices
from gtg_bench.training.recipe import AutoencoderRecipe


def train_autoencoder(
    recipe: AutoencoderRecipe, pixels: Tensor, seed: int, workdir: Path
) -> tuple[AutoencoderKL, list[tuple[int, float]]]:
    """Train on uint8 [N, 128, 128]; the returned model's scaling factor gives its latents unit deviation."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**recipe.config)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = to_model(pixels[batch_indices(len(pixels), recipe.schedule.batch_size, step, seed)])
        if recipe.crop is not None:
            images = _crop(images, recipe.crop, generator)
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        return (decoded - images).abs().mean() + recipe.kl_weight * posterior.kl().mean() / images[0].numel()

    curve = Fit("autoencoder", vae, loss, recipe.schedule, seed, workdir, about=recipe.model_dump()).run()
    with torch.no_grad():
        latents = vae.encode(to_model(pixels[:256])).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    return vae, curve


def to_model(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W] to float [B, 1, H, W] in [-1, 1]."""
    return pixels[:, None].float() / 127.5 - 1


def psnr(vae: AutoencoderKL, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of decoded posterior means against uint8 [N, H, W]."""
    images = to_model(pixels)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / ((decoded - images) ** 2).mean()))


def _crop(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    top, left = torch.randint(0, images.shape[-1] - side + 1, (2,), generator=generator).tolist()
    return images[..., top : top + side, left : left + side]
