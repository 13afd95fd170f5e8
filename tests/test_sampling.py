"""The sampling modes from a latent: the released code's U-Net inputs and maps, and DDIM written out."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.ldm.attention import AttentionCapture
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.reduction import MeanMaps
from gtg_bench.methods.ldm.sampling import ddim_timesteps, denoise, first_latent

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
GUIDANCE, STEPS, KEPT, SHOWN = 16.0, 4, 3, 7

pytestmark = pytest.mark.usefixtures("torch")


@pytest.fixture(scope="module")
def golden() -> tuple[Any, dict[str, Tensor]]:
    """The golden U-Net and arrays."""
    if not (GOLDEN / "attention.npz").is_file():
        pytest.skip("the golden values of the released code are not beside this checkout")
    spec = importlib.util.spec_from_file_location("golden_tiny_unet_modes", GOLDEN / "tiny_unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with np.load(GOLDEN / "attention.npz") as arrays:
        return module.build()[0], {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.mark.parametrize("mode", ["text", "cfg", "gt1"])
def test_released_inputs_and_maps(mode: str, golden: tuple[Any, dict[str, Tensor]], components: LdmComponents) -> None:
    unet, arrays = golden
    means = MeanMaps(1, (64, 64), torch.device("cpu"))
    capture = AttentionCapture(unet, means.add)
    states, empty, inputs = arrays["p0_text_emb"][None], arrays["uncond_emb"][None], []

    def forward(x: Tensor, t: Tensor, sample: Tensor) -> Tensor:
        inputs.append(x)
        means.rows = sample
        return capture.forward(x, t, states, torch.eye(77)[None, :SHOWN])

    def predict(x: Tensor, t: Tensor, conditional: bool) -> Tensor:
        inputs.extend([x] if conditional else [])
        return unet(x, t, states if conditional else empty).sample

    t = ddim_timesteps(components.scheduler, STEPS)
    start = arrays[f"p0_{mode}_unet_in"][:1]
    if mode == "gt1":
        start = first_latent(components.scheduler, arrays["gt1_latents"], arrays["gt1_noise"])
    with torch.inference_mode(), capture.open():
        denoise(forward, predict, components.scheduler, t, KEPT, start, None if mode == "text" else GUIDANCE)
    torch.testing.assert_close(torch.cat(inputs), arrays[f"p0_{mode}_unet_in"], rtol=1e-5, atol=3e-4)
    torch.testing.assert_close(means.mean()[0], arrays[f"p0_{mode}_avg"], rtol=0, atol=1e-5)


def test_ddim_written_out(components: LdmComponents) -> None:
    """DDIM's update with e = u + g (c - u), where the branches u and c are linear in x_t."""
    scheduler, seen = components.scheduler, []
    t = ddim_timesteps(scheduler, 3)

    def forward(x: Tensor, rows: Tensor, sample: Tensor) -> Tensor:
        seen.append(x)
        return 0.5 * x

    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    denoise(forward, lambda x, rows, conditional: 0.25 * x, scheduler, t, 3, start, 2.0)
    alphas = scheduler.alphas_cumprod[t]
    expected = [start]
    for a, following in itertools.pairwise(alphas):
        x, noise = expected[-1], (0.25 + 2.0 * (0.5 - 0.25)) * expected[-1]
        clean = (x - (1 - a).sqrt() * noise) / a.sqrt()
        expected.append(following.sqrt() * clean + (1 - following).sqrt() * noise)
    torch.testing.assert_close(torch.stack(seen), torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampling", ["text", "cfg", "gt1-cfg"])
def test_batches_do_not_matter(sampling: str, components: LdmComponents) -> None:
    random = np.random.default_rng(0)
    queries = [Query(random.random((16, 16), dtype=np.float32), f"small left {n}", n) for n in range(3)]
    method = LdmMethod(components, MethodSettings("tiny", sampling=sampling, steps=3, guidance=3.0, last_steps=2))
    for query, together in zip(queries, method.ground_batch(queries), strict=True):
        np.testing.assert_allclose(method.ground_batch([query])[0].values, together.values, atol=1e-5)


def test_what_a_mode_depends_on(components: LdmComponents) -> None:
    dark, bright = np.zeros((16, 16), np.float32), np.ones((16, 16), np.float32)

    def values(sampling: str, image: np.ndarray, guidance: float = 3.0) -> np.ndarray:
        method = LdmMethod(components, MethodSettings("tiny", sampling=sampling, steps=3, guidance=guidance))
        return method.ground_batch([Query(image, "pneumothorax", 1)])[0].values

    assert np.array_equal(values("text", dark), values("text", bright))
    assert np.array_equal(values("text", dark), values("text", dark, guidance=9.0))
    assert not np.array_equal(values("cfg", dark), values("cfg", dark, guidance=9.0))
    assert np.array_equal(values("cfg", dark), values("cfg", bright))
    assert not np.array_equal(values("gt1-cfg", dark), values("gt1-cfg", bright))
