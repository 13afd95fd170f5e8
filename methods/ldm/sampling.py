"""The sampling modes of the paper (Appendix A) as plain functions; x_t is the noisy latent, t the timestep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gtg_bench.methods.ldm.reduction import Rows

Forward = Callable[[Tensor, Tensor, Rows], Tensor]
"""(x_t [R, C, h, w], t int64 [R], rows) -> noise [R, C, h, w]: the conditional U-Net under capture."""

Predict = Callable[[Tensor, Tensor, bool], Tensor]
"""(x_t [B, C, h, w], t int64 [B], conditional) -> noise [B, C, h, w]: the U-Net without capture."""

GT1_TIMESTEP = 999
"""GT-1 noises the image to the last training timestep, not to the first sampling step (released code)."""


def ddim_timesteps(scheduler: Any, steps: int) -> Tensor:
    """The timesteps of a DDIM schedule, int64 [steps], noisiest first."""
    scheduler.set_timesteps(steps)
    return scheduler.timesteps


def ground_truth(
    forward: Forward, scheduler: Any, timesteps: Tensor, latents: Tensor, noise: Tensor, rows: int, first: int = 0
) -> None:
    """GT + CFG: noise the image itself to every timestep (section 2.2, Appendix A).

    The U-Net's output is never used, so the steps are independent, and neither the unconditional branch nor the
    guidance scale can change a map. Only the conditional branch runs, with steps and samples batched together, and
    only for the steps that are averaged.

    Args:
        forward: receives the noisy rows.
        scheduler: adds the noise.
        timesteps: int64 [T].
        latents: [B, T, C, h, w], a fresh scaled sample of the image's posterior for every step.
        noise: [B, T, C, h, w].
        rows: most rows of a forward pass.
        first: index of the first step that runs.
    """
    batch, steps = latents.shape[:2]
    device = latents.device
    sample = torch.arange(batch, device=device).repeat_interleave(steps - first)
    step = torch.arange(first, steps, device=device).repeat(batch)
    t = timesteps.to(device)[step]
    for samples, numbers, t_rows in zip(sample.split(rows), step.split(rows), t.split(rows), strict=True):
        noisy = scheduler.add_noise(latents[samples, numbers], noise[samples, numbers], t_rows)
        forward(noisy, t_rows, Rows(samples, numbers))


def first_latent(scheduler: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """GT-1 + CFG: ordinary denoising starts from the image, noised once to t = 999; all [B, C, h, w]."""
    t = torch.full((len(latents),), GT1_TIMESTEP, device=latents.device)
    return scheduler.add_noise(latents, noise, t)


def denoise(
    forward: Forward, predict: Predict, scheduler: Any, timesteps: Tensor, kept: int, x: Tensor, guidance: float | None
) -> None:
    """Text, CFG and GT-1 + CFG: ordinary DDIM (Song et al. 2021) from the latent `x`.

    Args:
        forward: the conditional U-Net under capture, for the last `kept` steps.
        predict: the U-Net without capture, for everything else.
        scheduler: a DDIM scheduler.
        timesteps: int64 [T].
        kept: number of last steps whose maps are captured.
        x: [B, C, h, w], the latent at the first timestep: Gaussian noise, or `first_latent`.
        guidance: scale of classifier-free guidance (Ho and Salimans 2022); None or 1 runs the conditional branch only.
    """
    scheduler.set_timesteps(len(timesteps))  # another method may share the scheduler
    sample = torch.arange(len(x), device=x.device)
    for number, t in enumerate(timesteps):
        at = t.to(x.device).expand(len(x))
        wanted = number >= len(timesteps) - kept
        noise = forward(x, at, Rows(sample, torch.full_like(sample, number))) if wanted else predict(x, at, True)
        if number == len(timesteps) - 1:
            return
        if guidance is not None and guidance != 1:
            empty = predict(x, at, False)
            noise = empty + guidance * (noise - empty)
        x = scheduler.step(noise, t, x).prev_sample
