"""The sampling modes: the released code's inputs and maps, DDIM written out, and which models each mode runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.ldm.attention import AttentionCapture, cross_attention_layers
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.reduction import MeanMaps, Rows
from gtg_bench.methods.ldm.sampling import ddim_timesteps, denoise, first_latent

GUIDANCE, STEPS, KEPT, SHOWN = 16.0, 4, 3, 7
TINY = MethodSettings("tiny", steps=4, guidance=3.0, lexicon="rule 1")

pytestmark = pytest.mark.usefixtures("torch")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["gt", "text", "cfg", "gt1"])
def test_the_released_codes_inputs_and_maps(
    mode: str, golden: Callable, golden_unet: Any, components: LdmComponents
) -> None:
    """Layer order, statistics of the maps of every layer, the mean over the last 3 steps; and the inputs or outputs."""
    facts, arrays = golden("attention")
    means, inputs, layers, scheduler = MeanMaps(1, (64, 64), STEPS - KEPT), [], {}, components.scheduler
    states, empty = arrays["p0_text_emb"][None], arrays["uncond_emb"][None]
    capture = AttentionCapture(golden_unet)

    def keep(step: Tensor, layer: str, maps: Tensor) -> None:
        layers.setdefault(layer, []).extend(maps)
        means.add(layer, maps[:, :SHOWN], Rows(torch.zeros_like(step), step))

    def observe(x: Tensor, t: Tensor, rows: Rows) -> None:
        inputs.append(x)
        text, weights = states.expand(len(x), -1, -1), torch.eye(77).expand(len(x), -1, -1)
        capture.maps_only(x, t, text, weights, partial(keep, rows.step))

    def predict(x: Tensor, t: Tensor, rows: Rows | None, guided: bool) -> Tensor:
        assert rows is not None, "maps of all steps are kept"
        inputs.append(x)
        noise = [capture.forward(x, t, states, torch.eye(77)[None], partial(keep, rows.step))]
        return torch.cat([*noise, golden_unet(x, t, empty).sample] if guided else noise)

    t = ddim_timesteps(scheduler, STEPS)
    with torch.inference_mode(), capture.open():
        if mode == "gt":
            assert t.tolist() == facts["timesteps"]["gt"]
            noisy, text = scheduler.add_noise(arrays["gt_latents"], arrays["gt_noise"], t), states.expand(STEPS, -1, -1)
            output = capture.forward(
                noisy, t, text, torch.eye(77).expand(STEPS, -1, -1), partial(keep, torch.arange(STEPS))
            )
            torch.testing.assert_close(output[[0, -1]], arrays["p0_gt_eps_cond"], atol=1e-4, rtol=0)
            for number, found in enumerate(layers.values()):
                native = torch.stack(found)[:, [0, 2]]
                torch.testing.assert_close(native, arrays[f"p0_gt_native_{number:02d}"], atol=1e-5, rtol=0)
        else:
            start = arrays[f"p0_{mode}_unet_in"][:1]
            if mode == "gt1":
                start = first_latent(scheduler, arrays["gt1_latents"], arrays["gt1_noise"])
            denoise(predict, observe, scheduler, t, STEPS, start, None if mode == "text" else GUIDANCE)
            torch.testing.assert_close(torch.cat(inputs), arrays[f"p0_{mode}_unet_in"], rtol=1e-5, atol=3e-4)
    assert list(layers) == cross_attention_layers(golden_unet) == facts["layer_order"]
    mean = torch.stack([torch.stack(maps).flatten(2).mean(-1) for maps in layers.values()], 1)
    deviation = torch.stack([torch.stack(maps).flatten(2).std(-1, unbiased=False) for maps in layers.values()], 1)
    expected = (arrays[f"p0_{mode}_{name}"] for name in ("avg", "spmean", "spstd"))
    for found, values in zip((means.mean()[0], mean, deviation), expected, strict=True):
        torch.testing.assert_close(found[: len(values)], values, rtol=0, atol=1e-5)


# The modes as plain functions


def test_ddim_timesteps_are_the_noisiest_first(components: LdmComponents) -> None:
    for steps, expected in ((4, [751, 501, 251, 1]), (50, list(range(981, 0, -20))), (1, [1])):
        assert ddim_timesteps(components.scheduler, steps).tolist() == expected


# Which models a method runs


@contextmanager
def watched(components: LdmComponents) -> Iterator[dict[str, Any]]:
    """Rows and unconditional rows of each U-Net forward, the number of outputs and of other calls; set at the end."""
    seen: dict[str, Any] = {}
    empty = components.text_encoder.encode([""]).states[0]
    unet, vae, scheduler = components.unet, components.vae, components.scheduler
    with (
        patch.object(unet, "forward", wraps=unet.forward) as forward,
        patch.object(unet.conv_out, "forward", wraps=unet.conv_out.forward) as output,
        patch.object(vae, "encode", wraps=vae.encode) as encode,
        patch.object(vae, "decode", wraps=vae.decode) as decode,
        patch.object(scheduler, "step", wraps=scheduler.step) as step,
    ):
        yield seen
        states = [call.args[2] for call in forward.call_args_list]
    seen["rows"] = [len(rows) for rows in states]
    seen["unconditional"] = [sum(torch.equal(row, empty) for row in rows) for rows in states]
    seen["outputs"] = output.call_count
    seen["calls"] = (encode.call_count, decode.call_count, step.call_count)


def two_queries() -> list[Query]:
    random = np.random.default_rng(0)
    return [Query(random.random((16, 16), dtype=np.float32), f"small left {n}", n) for n in range(2)]


def test_gt_runs_only_the_conditional_branch_of_the_averaged_steps(components: LdmComponents) -> None:
    for last_steps, expected in ((None, [3, 3, 2]), (1, [2]), (2, [3, 1])):
        with watched(components) as seen:
            method = LdmMethod(replace(components), replace(TINY, sampling="gt-cfg", last_steps=last_steps), rows=3)
            method.ground_batch(two_queries())
        assert seen == {"rows": expected, "unconditional": [0] * len(expected), "outputs": 0, "calls": (2, 0, 0)}


@pytest.mark.parametrize(("mode", "encoded"), [("text", 0), ("cfg", 0), ("gt1-cfg", 2)])
def test_denoising_runs_both_branches_only_with_guidance(components: LdmComponents, mode: str, encoded: int) -> None:
    """In one forward pass if it takes so many rows; the output of the last step is not computed."""
    for guidance, rows in ((None, 4), (1.0, 4), (3.0, 4), (3.0, 3)):
        with watched(components) as seen:
            method = LdmMethod(replace(components), replace(TINY, sampling=mode, guidance=guidance, last_steps=2), rows)
            method.ground_batch(two_queries())
        passes = [(2, 0)] * 4
        if mode != "text" and guidance == 3.0:
            passes = [*([(4, 2)] if rows == 4 else [(2, 0), (2, 2)]) * 3, (2, 0)]
        assert list(zip(seen["rows"], seen["unconditional"], strict=True)) == passes
        assert seen["outputs"] == len(passes) - 1
        assert seen["calls"] == (encoded, 0, 3)


@pytest.mark.parametrize("mode", ["cfg", "gt1-cfg", "gt-cfg"])
def test_a_failing_unet_keeps_its_processors(components: LdmComponents, mode: str) -> None:
    unet, method = components.unet, LdmMethod(replace(components), replace(TINY, sampling=mode, bbm="mixture"))
    before, forward = unet.attn_processors, unet.forward

    def fail(x: Tensor, t: Tensor, states: Tensor, **options: Any) -> Any:
        forward(x, t, states, **options)
        assert unet.attn_processors != before
        raise RuntimeError("out of memory")

    with patch.object(unet, "forward", fail), pytest.raises(RuntimeError, match="out of memory"):
        method.ground_batch(two_queries())
    assert unet.attn_processors == before
    assert np.isfinite(method.ground_batch(two_queries())[0].values).all()


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
@pytest.mark.parametrize("mode", ["cfg", "gt-cfg"])
def test_half_precision_gives_nearly_the_same_maps(
    components: LdmComponents, make_unet: Callable[..., Any], mode: str, dtype: torch.dtype, near: float
) -> None:
    settings, half = replace(TINY, sampling=mode), replace(components, unet=make_unet().to(dtype))
    pairs = zip(*(LdmMethod(part, settings).ground_batch(two_queries()) for part in (components, half)), strict=True)
    for expected, found in ((full.values, rough.values) for full, rough in pairs):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=near * expected.max(), rtol=0)
        rounded = torch.from_numpy(found).to(dtype).float().numpy()
        assert not np.array_equal(found, rounded), "summed in half precision"
        assert not np.array_equal(found, expected)
