"""The sampler: DDIM written out, guidance, and images that depend on nothing but phrase and seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.training.generation.images import ImageGenerator

PHRASES = ["small left pleural effusion.", "pneumothorax", "mild cardiomegaly"]
SEEDS = [2**62 + 1, 5, 6]

pytestmark = pytest.mark.usefixtures("torch")


@torch.inference_mode()
def by_hand(parts: LdmComponents, phrase: str, seed: int, steps: int, guidance: float) -> np.ndarray:
    """DDIM, Eq. 12 of Song et al. (2021) with sigma 0, with the schedule's alphas and the U-Net called plainly."""
    alphas = parts.scheduler.alphas_cumprod
    states, empty = (parts.text_encoder.encode([text]).states for text in (phrase, ""))
    x, stride = torch.randn((1, 1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))[0], 1000 // steps
    for number in reversed(range(steps)):
        t = number * stride + 1
        noise = parts.unet(x, t, states).sample
        if guidance != 1:
            unconditional = parts.unet(x, t, empty).sample
            noise = unconditional + guidance * (noise - unconditional)
        before = alphas[t - stride] if t >= stride else alphas[0]
        clean = (x - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
        x = before.sqrt() * clean + (1 - before).sqrt() * noise
    decoded = parts.vae.decode(x / parts.vae.config.scaling_factor).sample[0].mean(0)
    return ((decoded.double() + 1) / 2).clip(0, 1).numpy() * 255


@pytest.mark.parametrize(("steps", "guidance"), [(4, 4.0), (5, 1.0), (1, 2.0)])
def test_an_image_is_that_of_ddim_written_out(components: LdmComponents, steps: int, guidance: float) -> None:
    """Up to the rounding to 8 bits."""
    found = ImageGenerator(components, steps, guidance, batch_size=2)(PHRASES, SEEDS)
    assert (found.dtype, found.shape) == (np.uint8, (3, 16, 16))
    for image, phrase, seed in zip(found, PHRASES, SEEDS, strict=True):
        np.testing.assert_allclose(image, by_hand(components, phrase, seed, steps, guidance), atol=0.51)
    assert len({image.tobytes() for image in found}) == 3


def test_guidance_1_runs_the_conditional_branch_alone(components: LdmComponents) -> None:
    for guidance, rows in ((1.0, 2), (3.0, 4)):
        with patch.object(components.unet, "forward", wraps=components.unet.forward) as forward:
            ImageGenerator(components, 2, guidance, batch_size=2)(PHRASES[:2], SEEDS[:2])
        assert [len(call.args[0]) for call in forward.call_args_list] == [rows, rows]


def test_an_image_depends_on_its_phrase_and_seed_alone(components: LdmComponents) -> None:
    make = ImageGenerator(components, 3, 4.0, batch_size=2)
    together = make(PHRASES, SEEDS)
    for number in range(3):
        assert np.array_equal(make([PHRASES[number]], [SEEDS[number]])[0], together[number])
    assert np.array_equal(make(PHRASES[::-1], SEEDS[::-1]), together[::-1])
    larger = ImageGenerator(components, 3, 4.0, batch_size=5)(PHRASES, SEEDS)
    assert np.abs(larger.astype(int) - together).max() <= 1


def test_pixels_that_are_not_finite_are_refused(components: LdmComponents, make_unet: Any) -> None:
    unet = make_unet()
    unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        ImageGenerator(replace(components, unet=unet), 1, 1.0)(PHRASES[:1], SEEDS[:1])
