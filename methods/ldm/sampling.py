"""The sampling modes of the paper (Appendix A) as plain functions; x_t is the noisy latent, t the timestep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gtg_bench.methods.ldm.reduction import Rows

Observe = Callable[[Tensor, Tensor, Rows], None]
"""(x_t [R, C, h, w], t int64 [R], rows) -> None: capture the conditional U-Net's maps; its output is not needed."""

Predict = Callable[[Tensor, Tensor, Rows | None, bool], Tensor]
"""(x_t [B, C, h, w], t int64 [B], rows, guided) -> noise [B, C, h, w] of the conditional branch, followed, if guided,
by that of the unconditional one, [2 B, C, h, w]; with rows, capture the maps of the conditional branch."""

GT1_TIMESTEP = 999
"""GT-1 noises the image to the last training timestep, not to the first sampling step (released code)."""


def ddim_timesteps(scheduler: Any, steps: int) -> Tensor:
    """The timesteps of a DDIM schedule, int64 [steps], noisiest first."""
    scheduler.set_timesteps(steps)
    return scheduler.timesteps


def ground_truth(
    observe: Observe,
    scheduler: Any,
    timesteps: Tensor,
    latents: Tensor,
    noise: Tensor,
    rows: int,
    steps: Sequence[int] | None = None,
) -> None:
    """GT + CFG: noise the image itself to every timestep (section 2.2, Appendix A).

    The U-Net's output is never used, so the steps are independent, and neither the unconditional branch nor the
    guidance scale can change a map. Only the conditional branch runs, up to the last captured layer, with steps and
    samples batched together, and only for the steps that are averaged.

    Args:
        observe: receives the noisy rows.
        scheduler: adds the noise.
        timesteps: int64 [T].
        latents: [B, T, C, h, w], a fresh scaled sample of the image's posterior for every step.
        noise: [B, T, C, h, w].
        rows: most rows of a forward pass.
        steps: indices of the steps that run; by default all.
    """
    device = latents.device
    chosen = torch.tensor(range(len(timesteps)) if steps is None else steps, device=device)
    sample = torch.arange(len(latents), device=device).repeat_interleave(len(chosen))
    step = chosen.repeat(len(latents))
    t = timesteps.to(device)[step]
    for samples, numbers, t_rows in zip(sample.split(rows), step.split(rows), t.split(rows), strict=True):
        noisy = scheduler.add_noise(latents[samples, numbers], noise[samples, numbers], t_rows)
        observe(noisy, t_rows, Rows(samples, numbers))


def first_latent(scheduler: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """GT-1 + CFG: ordinary denoising starts from the image, noised once to t = 999; all [B, C, h, w]."""
    t = torch.full((len(latents),), GT1_TIMESTEP, device=latents.device)
    return scheduler.add_noise(latents, noise, t)


def denoise(
    predict: Predict, observe: Observe, scheduler: Any, timesteps: Tensor, kept: int, x: Tensor, guidance: float | None
) -> None:
    """Text, CFG and GT-1 + CFG: ordinary DDIM (Song et al. 2021) from the latent `x`.

    Args:
        predict: the U-Net's noise, for every step but the last.
        observe: captures the maps of the last step, whose noise is not used.
        scheduler: a DDIM scheduler.
        timesteps: int64 [T].
        kept: number of last steps whose maps are captured, at least 1.
        x: [B, C, h, w], the latent at the first timestep: Gaussian noise, or `first_latent`.
        guidance: scale of classifier-free guidance (Ho and Salimans 2022); None or 1 runs the conditional branch only.
    """
    scheduler.set_timesteps(len(timesteps))  # another method may share the scheduler
    sample = torch.arange(len(x), device=x.device)
    for number, t in enumerate(timesteps):
        rows = Rows(sample, torch.full_like(sample, number))
        if number == len(timesteps) - 1:
            observe(x, t.to(x.device).expand(len(x)), rows)
            return
        x = _step(predict, scheduler, t, x, rows if number >= len(timesteps) - kept else None, guidance)


def generate(predict: Predict, scheduler: Any, timesteps: Tensor, x: Tensor, guidance: float | None) -> Tensor:
    """The clean latents [B, C, h, w] of ordinary DDIM: every step of `denoise`, without maps; arguments as there."""
    scheduler.set_timesteps(len(timesteps))
    for t in timesteps:
        x = _step(predict, scheduler, t, x, None, guidance)
    return x


def _step(predict: Predict, scheduler: Any, t: Tensor, x: Tensor, rows: Rows | None, guidance: float | None) -> Tensor:
    """One step of DDIM with classifier-free guidance."""
    scale = 1.0 if guidance is None else guidance
    noise = predict(x, t.to(x.device).expand(len(x)), rows, scale != 1)
    if scale != 1:
        noise, empty = noise.chunk(2)
        noise = empty + scale * (noise - empty)
    return scheduler.step(noise, t, x).prev_sample
