"""The sampling modes of the paper (Appendix A) as plain functions; x_t is the noisy latent, t the timestep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t [R, C, h, w], t int64 [R], sample int64 [R]) -> noise [R, C, h, w]: the conditional U-Net on rows of these
samples; its maps are kept."""

Predict = Callable[[Tensor, Tensor, bool], Tensor]
"""(x_t [B, C, h, w], t int64 [B], conditional) -> noise [B, C, h, w]; no maps are kept."""

GT1_TIMESTEP = 999
"""GT-1's image is noised to the last training timestep, whatever the first sampling step is (released code)."""


def ddim_timesteps(scheduler: Any, steps: int, last_steps: int | None = None) -> Tensor:
    """int64 [last_steps]: the last (least noisy) timesteps of a DDIM schedule of `steps` steps."""
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps
    return timesteps if last_steps is None else timesteps[-last_steps:]


def ground_truth(
    forward: Forward, scheduler: Any, timesteps: Tensor, latents: Tensor, noise: Tensor, rows: int
) -> None:
    """GT + CFG: the image itself, freshly noised to every timestep (section 2.2, Appendix A).

    The U-Net's output is never used, so the steps are independent of one another, and neither the unconditional
    branch nor the guidance scale can change a map: only the conditional branch is run, all steps in batches.

    Args:
        forward: takes the noisy rows.
        scheduler: adds the noise.
        timesteps: int64 [T].
        latents: [B, T, C, h, w], a fresh sample of the image's posterior for every step, scaled.
        noise: [B, T, C, h, w].
        rows: how many rows a forward takes at most.
    """
    batch, steps = latents.shape[:2]
    t = timesteps.to(latents.device).repeat(batch)
    sample = torch.arange(batch, device=latents.device).repeat_interleave(steps)
    noisy = scheduler.add_noise(latents.flatten(0, 1), noise.flatten(0, 1), t)
    for x_t, t_rows, sample_rows in zip(noisy.split(rows), t.split(rows), sample.split(rows), strict=True):
        forward(x_t, t_rows, sample_rows)


def first_latent(scheduler: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """GT-1 + CFG: the image, noised once to t = 999, is where ordinary denoising starts; all [B, C, h, w]."""
    t = torch.full((len(latents),), GT1_TIMESTEP, device=latents.device)
    return scheduler.add_noise(latents, noise, t)


def denoise(
    forward: Forward,
    predict: Predict,
    scheduler: Any,
    timesteps: Tensor,
    kept: int,
    x: Tensor,
    guidance: float | None,
) -> None:
    """Text, CFG and GT-1 + CFG: ordinary DDIM (Song et al. 2021) from the latent `x`.

    Args:
        forward: the conditional U-Net, maps kept.
        predict: the U-Net without keeping maps.
        scheduler: set to as many steps as there are timesteps.
        timesteps: int64 [T].
        kept: maps of the last so many steps are kept.
        x: [B, C, h, w], the latent at the first timestep: Gaussian noise, or `first_latent`.
        guidance: scale of classifier-free guidance (Ho and Salimans 2022); None: the conditional branch alone.
    """
    scheduler.set_timesteps(len(timesteps))  # another method may have used the scheduler since
    sample = torch.arange(len(x), device=x.device)
    for number, t in enumerate(timesteps):
        rows = t.to(x.device).expand(len(x))
        noise = forward(x, rows, sample) if number >= len(timesteps) - kept else predict(x, rows, True)
        if number == len(timesteps) - 1:
            return
        if guidance is not None:
            empty = predict(x, rows, False)
            noise = empty + guidance * (noise - empty)
        x = scheduler.step(noise, t, x).prev_sample
