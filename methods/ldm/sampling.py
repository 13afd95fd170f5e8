"""The sampling modes of the paper (Appendix A) as plain functions; x_t is the noisy latent, t the timestep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[Tensor, Tensor, Tensor], None]
"""(x_t [R, C, h, w], t int64 [R], sample int64 [R]): runs the conditional U-Net on rows of these samples."""


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
