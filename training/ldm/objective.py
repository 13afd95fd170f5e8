"""The training objective of a latent diffusion model: predict the noise (paper, section 2.1)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.training_utils import compute_snr
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.methods.text_encoders.base import TrainableTextEncoder
from gtg_bench.training.ldm.text_states import FrozenStates


class NoiseObjective(nn.Module):
    """Mean squared error of the predicted noise, or of the velocity if the scheduler predicts that.

    Attributes:
        unet: the U-Net; its parameters with `requires_grad` are trained.
        text: the text encoder's network if it is trained too; None if it is frozen.
    """

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        encoder: TrainableTextEncoder,
        trains_text: bool,
        text_memory: int,
        min_snr: float | None = None,
    ) -> None:
        """Args:
        unet, scheduler: of diffusers.
        encoder: gives the states.
        trains_text: whether its network is trained.
        text_memory: MiB of a frozen encoder's states that are kept.
        min_snr: gamma of min-SNR weighting (Hang et al. 2023, Eq. 10 and 11); None: every step counts alike.
        """
        super().__init__()
        self.unet = unet
        self.text = encoder.module if trains_text else None
        self._states = encoder.states if trains_text else FrozenStates(encoder, text_memory)
        self._scheduler = scheduler
        self._velocity = scheduler.config.prediction_type == "v_prediction"
        self._min_snr = min_snr

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch of `LatentDraws`."""
        return self.losses(self.unet(*self.inputs(batch)).sample, batch).mean()

    def inputs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the U-Net gets: noised latents [B, C, h, w], timesteps [B] and text states [B, L, D]."""
        noisy = self._scheduler.add_noise(batch["latents"], batch["noise"], batch["timesteps"])
        return noisy, batch["timesteps"], self._states(batch["ids"], batch["mask"])

    def losses(self, predicted: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The loss [B] of each sample from what the U-Net predicted, [B, C, h, w]."""
        timesteps, noise = batch["timesteps"], batch["noise"]
        target = self._scheduler.get_velocity(batch["latents"], noise, timesteps) if self._velocity else noise
        losses = F.mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)
        return losses * self._weights(timesteps)

    def _weights(self, timesteps: Tensor) -> Tensor:
        """float32 [B], how much each sample counts."""
        if self._min_snr is None:
            return torch.ones(len(timesteps), device=timesteps.device)
        snr = compute_snr(self._scheduler, timesteps)
        return snr.clamp(max=self._min_snr) / (snr + 1 if self._velocity else snr)
