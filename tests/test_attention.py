"""Cross-attention maps against the paper's released code, and against a literal average over everything."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gtg_bench.methods.ldm.attention import AttentionCapture, cross_attention_layers, layer_size
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.reduction import MeanMaps
from gtg_bench.methods.ldm.sampling import ddim_timesteps, ground_truth

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
TOKENS, WIDTH = 6, 32
MakeUnet = Callable[..., Any]
Maps = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("torch")


# The released code's numbers


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The golden facts and arrays."""
    if not (GOLDEN / "attention.npz").is_file():
        pytest.skip("the golden values of the released code are not beside this checkout")
    with np.load(GOLDEN / "attention.npz") as arrays:
        return json.loads((GOLDEN / "attention.json").read_text()), {k: torch.from_numpy(arrays[k]) for k in arrays}


@pytest.fixture(scope="module")
def golden_run(golden: tuple[dict, dict[str, Tensor]], components: LdmComponents) -> dict[str, Any]:
    """The golden image through the golden U-Net: every token's maps by layer, outputs, and the mean of 3 steps."""
    facts, arrays = golden
    spec = importlib.util.spec_from_file_location("golden_tiny_unet", GOLDEN / "tiny_unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unet, digest = module.build()
    assert digest == facts["weights_sha256"]["unet"]
    latents, noise = arrays["gt_latents"], arrays["gt_noise"]
    t = ddim_timesteps(components.scheduler, facts["T"])
    noisy = components.scheduler.add_noise(latents, noise, t)
    maps, means = {}, MeanMaps(1, (64, 64), torch.device("cpu"))
    means.rows = torch.zeros(facts["rev_diff_steps"], dtype=torch.int64)

    def keep(layer: str, found: Tensor) -> None:
        maps[layer] = found
        means.add(layer, found[-facts["rev_diff_steps"] :])

    states = arrays["p0_text_emb"].expand(len(t), -1, -1)
    with AttentionCapture(unet, keep).open() as capture:
        output = capture.forward(noisy, t, states, torch.eye(77).expand(len(t), -1, -1))
    return {"maps": maps, "output": output, "mean": means.mean()[0], "t": t}


def test_golden_timesteps(golden: tuple[dict, dict], golden_run: dict[str, Any]) -> None:
    assert golden_run["t"].tolist() == golden[0]["timesteps"]["gt"] == [751, 501, 251, 1]


def test_golden_layer_order(golden: tuple[dict, dict], golden_run: dict[str, Any]) -> None:
    assert list(golden_run["maps"]) == golden[0]["layer_order"]


def test_golden_maps_of_every_layer(golden: tuple[dict, dict[str, Tensor]], golden_run: dict[str, Any]) -> None:
    for number, maps in enumerate(golden_run["maps"].values()):
        expected = golden[1][f"p0_gt_native_{number:02d}"]
        torch.testing.assert_close(maps[:, [0, 2]], expected, atol=1e-5, rtol=0)


def test_golden_mean_map(golden: tuple[dict, dict[str, Tensor]], golden_run: dict[str, Any]) -> None:
    expected = golden[1]["p0_gt_avg"]
    torch.testing.assert_close(golden_run["mean"][: len(expected)], expected, atol=1e-5, rtol=0)


def test_golden_spatial_mean_and_deviation(golden: tuple[dict, dict], golden_run: dict[str, Any]) -> None:
    flat = [maps.flatten(2) for maps in golden_run["maps"].values()]
    mean = torch.stack([maps.mean(-1) for maps in flat], 1)
    deviation = torch.stack([maps.std(-1, unbiased=False) for maps in flat], 1)
    torch.testing.assert_close(mean, golden[1]["p0_gt_spmean"], atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, golden[1]["p0_gt_spstd"], atol=1e-5, rtol=0)


def test_golden_output(golden: tuple[dict, dict[str, Tensor]], golden_run: dict[str, Any]) -> None:
    torch.testing.assert_close(golden_run["output"][[0, -1]], golden[1]["p0_gt_eps_cond"], atol=1e-4, rtol=0)


# The literal average: every map of every step, layer, head and token is kept, upsampled by index, and averaged


@contextmanager
def recorded(unet: Any) -> Iterator[Maps]:
    """Plain hooks on the projections: name -> probabilities [heads, tokens, h, w] of one row's forward."""
    maps: Maps = {}
    shape: list[tuple[int, int]] = [(0, 0)]
    queries: Maps = {}

    def enter(module: Any, inputs: tuple[Tensor, ...]) -> None:
        shape[0] = (inputs[0].shape[-2], inputs[0].shape[-1])

    def query(name: str, module: Any, inputs: Any, output: Tensor) -> None:
        queries[name] = output[0]

    def key(name: str, heads: int, module: Any, inputs: Any, output: Tensor) -> None:
        q, k = (part.double().unflatten(-1, (heads, -1)).transpose(0, 1) for part in (queries[name], output[0]))
        probabilities = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
        maps[name] = probabilities.transpose(1, 2).unflatten(-1, shape[0])

    handles = []
    for name, module in unet.named_modules():
        if type(module).__name__ == "Transformer2DModel":
            handles.append(module.register_forward_pre_hook(enter))
        elif name.endswith("attn2") or (name.endswith("attn1") and module.to_k.in_features != module.query_dim):
            handles.append(module.to_q.register_forward_hook(partial(query, name)))
            handles.append(module.to_k.register_forward_hook(partial(key, name, module.heads)))
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


def literal_mean(unet: Any, noisy: Tensor, t: Tensor, states: Tensor, tokens: list[int]) -> Tensor:
    """The mean map [H, W] of one sample: noisy [T, C, H, W], states [L, D]."""
    height, width = noisy.shape[-2:]
    kept = []
    for x_t, step in zip(noisy, t, strict=True):
        with recorded(unet) as maps:
            unet(x_t[None], step, states[None])
        for found in maps.values():
            rows = [y * found.shape[-2] // height for y in range(height)]
            columns = [x * found.shape[-1] // width for x in range(width)]
            large = found[:, :, rows][:, :, :, columns]
            kept += [large[head, token] for head in range(len(large)) for token in tokens]
    return torch.stack(kept).mean(0)


def random_inputs(batch: int, steps: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and noise [B, T, 4, H, W], states [B, L, D]."""
    generator = torch.Generator().manual_seed(batch * 100 + size[0])
    latents, noise = torch.randn((2, batch, steps, 4, *size), generator=generator)
    return latents, noise, torch.randn((batch, TOKENS, WIDTH), generator=generator)


def captured_mean(unet: Any, scheduler: Any, t: Tensor, inputs: tuple, tokens: list[list[int]], rows: int) -> Tensor:
    """The mean maps [B, H, W] as `LdmMethod` makes them."""
    latents, noise, states = inputs
    weights = torch.zeros(len(latents), 1, TOKENS)
    for sample, chosen in enumerate(tokens):
        weights[sample, 0, chosen] = 1 / len(chosen)
    means = MeanMaps(len(latents), (latents.shape[-2], latents.shape[-1]), torch.device("cpu"))
    capture = AttentionCapture(unet, means.add)

    def forward(x_t: Tensor, t_rows: Tensor, sample: Tensor) -> None:
        means.rows = sample
        capture.forward(x_t, t_rows, states[sample], weights[sample])

    with capture.open():
        ground_truth(forward, scheduler, t, latents, noise, rows)
    return means.mean()[:, 0]


@pytest.mark.parametrize("only_cross", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (12, 8), (9, 7), (5, 11)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("tokens", "rows"), [([[2]], 1), ([[0], [1, 3, 4]], 3), ([[5], [1, 2], [0, 3]], 16)])
def test_capture_is_the_literal_average(
    make_unet: MakeUnet, components: Any, only_cross: bool, size: tuple[int, int], tokens: list[list[int]], rows: int
) -> None:
    unet = make_unet(only_cross_attention=(only_cross, False))
    t = ddim_timesteps(components.scheduler, 4, 2)
    inputs = random_inputs(len(tokens), len(t), size)
    found = captured_mean(unet, components.scheduler, t, inputs, tokens, rows)
    for sample, chosen in enumerate(tokens):
        latents, noise, states = (part[sample] for part in inputs)
        noisy = components.scheduler.add_noise(latents, noise, t)
        expected = literal_mean(unet, noisy, t, states, chosen)
        assert expected.std() > 1e-4, "an even map would prove nothing"
        torch.testing.assert_close(found[sample], expected.float(), atol=1e-5, rtol=0)


def test_steps_of_one_image_may_share_a_forward_with_another(make_unet: MakeUnet, components: Any) -> None:
    t, tokens = ddim_timesteps(components.scheduler, 5), [[1], [2, 3], [4]]
    inputs = random_inputs(3, 5, (8, 8))
    alone, shared = (captured_mean(make_unet(), components.scheduler, t, inputs, tokens, rows) for rows in (1, 4))
    torch.testing.assert_close(alone, shared, atol=1e-6, rtol=0)


# Which layers, and what stays as it was


def test_only_attention_to_the_text_is_captured(make_unet: MakeUnet) -> None:
    layers = cross_attention_layers(make_unet())
    assert len(layers) == 7
    assert all(name.endswith("attn2") for name in layers)


def test_first_attention_of_only_cross_attention_blocks_is_captured(make_unet: MakeUnet) -> None:
    layers = cross_attention_layers(make_unet(only_cross_attention=(True, False)))
    assert [name.replace("transformer_blocks.0.", "") for name in layers if name.endswith("attn1")] == [
        "down_blocks.0.attentions.0.attn1",
        "up_blocks.1.attentions.0.attn1",
        "up_blocks.1.attentions.1.attn1",
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_output_under_capture_is_the_plain_output(make_unet: MakeUnet, dtype: torch.dtype, tolerance: float) -> None:
    unet = make_unet(only_cross_attention=(True, False)).to(dtype)
    latents, _, states = (part.to(dtype) for part in random_inputs(2, 1, (9, 8)))
    t, kept = torch.tensor([751, 1]), []
    with AttentionCapture(unet, lambda _, maps: kept.append(maps)).open() as capture:
        found = capture.forward(latents[:, 0], t, states, torch.full((2, 1, TOKENS), 1.0))
    torch.testing.assert_close(found, unet(latents[:, 0], t, states).sample, atol=tolerance, rtol=0)
    assert {maps.dtype for maps in kept} == {torch.float32}
    assert max(float((maps - 1).abs().max()) for maps in kept) < tolerance, "probabilities of all tokens add up to one"


def test_processors_come_back_after_an_exception(make_unet: MakeUnet) -> None:
    unet = make_unet()
    before = unet.attn_processors
    latents, _, states = random_inputs(1, 1, (8, 8))

    def fail(layer: str, maps: Tensor) -> None:
        assert unet.attn_processors != before
        raise RuntimeError("in the middle of a forward")

    capture = AttentionCapture(unet, fail)
    with pytest.raises(RuntimeError, match="in the middle"), capture.open():
        capture.forward(latents[:, 0], torch.tensor([1]), states, torch.ones(1, 1, TOKENS))
    assert unet.attn_processors == before


def test_masked_attention_is_refused(make_unet: MakeUnet) -> None:
    unet = make_unet()
    latents, _, states = random_inputs(1, 1, (8, 8))
    mask = torch.tensor([[1, 1, 0, 0, 0, 0]])
    with AttentionCapture(unet, lambda *_: None).open(), pytest.raises(ValueError, match="unmasked"):
        unet(latents[:, 0], 1, states, encoder_attention_mask=mask)


def test_layer_size() -> None:
    assert layer_size(64 * 64, (64, 64)) == (64, 64)
    assert [layer_size(pixels, (15, 20)) for pixels in (300, 80, 20, 6)] == [(15, 20), (8, 10), (4, 5), (2, 3)]
    with pytest.raises(ValueError, match="7 positions"):
        layer_size(7, (8, 8))


def test_ddim_timesteps_keep_the_least_noisy(components: LdmComponents) -> None:
    assert ddim_timesteps(components.scheduler, 4).tolist() == [751, 501, 251, 1]
    assert ddim_timesteps(components.scheduler, 50, 3).tolist() == [41, 21, 1]
    assert ddim_timesteps(components.scheduler, 1).tolist() == [1]
