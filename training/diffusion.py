"""Training of the U-Net of a latent diffusion model with a frozen text encoder (paper, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.paths import atomic
from gtg_bench.methods.text_encoders.base import TextEncoder
from gtg_bench.training.autoencoder import to_model
from gtg_bench.training.loop import Fit, batch_indices
from gtg_bench.training.recipe import DiffusionRecipe

SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "prediction_type": "epsilon",
}
"""Stable Diffusion 1.5's schedule."""


@dataclass(frozen=True)
class LatentPairs:
    """What the U-Net is trained on.

    Attributes:
        mean, std: [N, C, h, w], the images' posteriors, scaled to unit deviation.
        states: float32 [R + 1, L, D], the distinct captions' states; the last row is the empty caption's.
        caption: int64 [N], each image's row in `states`.
    """

    mean: Tensor
    std: Tensor
    states: Tensor
    caption: Tensor


def latent_pairs(
    vae: AutoencoderKL, pixels: Tensor, encoder: TextEncoder, captions: list[str], cache: Path
) -> LatentPairs:
    """Encode images (uint8 [N, H, W]) once into `cache`, and every distinct caption."""
    if not cache.exists():
        posteriors = [_posterior(vae, chunk) for chunk in pixels.split(64)]
        with atomic(cache) as part:
            save_file({name: torch.cat([p[name] for p in posteriors]) for name in ("mean", "std")}, part)
    latents = load_file(cache)
    distinct = sorted(set(captions))
    rows = {text: row for row, text in enumerate(distinct)}
    states = torch.cat([encoder.encode(part).states.cpu() for part in _chunks([*distinct, ""], 128)])
    return LatentPairs(latents["mean"], latents["std"], states, torch.tensor([rows[text] for text in captions]))


@torch.no_grad()
def _posterior(vae: AutoencoderKL, pixels: Tensor) -> dict[str, Tensor]:
    posterior = vae.encode(to_model(pixels)).latent_dist
    scale = vae.config.scaling_factor
    return {"mean": (posterior.mean * scale).half(), "std": (posterior.std * scale).half()}


def _chunks(items: list[str], size: int) -> list[list[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def train_unet(
    recipe: DiffusionRecipe, pairs: LatentPairs, name: str, seed: int, workdir: Path
) -> tuple[UNet2DConditionModel, list[tuple[int, float]]]:
    """Train on noise prediction; return the U-Net with its moving average, and the loss curve."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**recipe.config)
    ema = EMAModel(unet.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=0.75)
    scheduler = DDIMScheduler(**SCHEDULER)
    batch = recipe.schedule.batch_size

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = batch_indices(len(pairs.mean), batch, step, seed)
        captions = drop_captions(pairs.caption[chosen], len(pairs.states) - 1, recipe.caption_dropout, generator)
        mean, std = pairs.mean[chosen].float(), pairs.std[chosen].float()
        latents = mean + std * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(mean),), generator=generator)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        return F.mse_loss(unet(noisy, timesteps, pairs.states[captions]).sample, noise)

    curve = Fit(name, unet, loss, recipe.schedule, seed, workdir, ema, recipe.model_dump()).run()
    ema.copy_to(unet.parameters())
    return unet, curve


def drop_captions(captions: Tensor, empty: int, probability: float, generator: torch.Generator) -> Tensor:
    """Replace captions by the empty one with the given probability, before anything is conditioned on them."""
    dropped = torch.rand(captions.shape, generator=generator) < probability
    return torch.where(dropped, torch.tensor(empty), captions)
