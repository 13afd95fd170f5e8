"""Cross-attention maps against the paper's released code, and against a literal average over everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm import build as building
from gtg_bench.methods.ldm.attention import (
    AttentionCapture,
    attend,
    cross_attention_layers,
    layer_sizes,
    select_layers,
)
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.reduction import LayerMaps, MeanMaps, Reduction, Rows, StepMaps
from gtg_bench.methods.ldm.sampling import ddim_timesteps, ground_truth

TOKENS, WIDTH = 6, 32
FOUR_LEVELS = {
    "block_out_channels": (16, 16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D",) * 4,
    "up_block_types": ("CrossAttnUpBlock2D",) * 4,
}
MakeUnet = Callable[..., Any]
Golden = tuple[dict[str, Any], dict[str, Tensor]]

pytestmark = pytest.mark.usefixtures("torch")


# The released code's numbers


@pytest.fixture(scope="module")
def facts(golden: Callable[[str], Golden]) -> dict[str, Any]:
    return golden("attention")[0]


@pytest.fixture(scope="module")
def arrays(golden: Callable[[str], Golden]) -> dict[str, Tensor]:
    return golden("attention")[1]


@pytest.fixture(scope="module")
def golden_run(facts: dict, arrays: dict[str, Tensor], golden_unet: Any, components: LdmComponents) -> dict[str, Any]:
    """The golden image through the golden U-Net: every token's maps by layer, outputs, and the mean of 3 steps."""
    t = ddim_timesteps(components.scheduler, facts["T"])
    noisy = components.scheduler.add_noise(arrays["gt_latents"], arrays["gt_noise"], t)
    maps, means = {}, MeanMaps(1, (64, 64), len(t) - facts["rev_diff_steps"])
    means.rows = Rows(torch.zeros(len(t), dtype=torch.int64), torch.arange(len(t)))

    def keep(layer: str, found: Tensor) -> None:
        maps[layer] = found
        means.add(layer, found)

    states = arrays["p0_text_emb"].expand(len(t), -1, -1)
    with torch.inference_mode(), AttentionCapture(golden_unet, keep).open() as capture:
        output = capture.forward(noisy, t, states, torch.eye(77).expand(len(t), -1, -1))
    return {"maps": maps, "output": output, "mean": means.mean()[0], "t": t}


def test_golden_timesteps(facts: dict[str, Any], golden_run: dict[str, Any]) -> None:
    assert golden_run["t"].tolist() == facts["timesteps"]["gt"] == [751, 501, 251, 1]


def test_golden_layer_order(facts: dict[str, Any], golden_run: dict[str, Any], golden_unet: Any) -> None:
    assert list(golden_run["maps"]) == facts["layer_order"]
    assert cross_attention_layers(golden_unet) == facts["layer_order"]


def test_golden_maps_of_every_layer(arrays: dict[str, Tensor], golden_run: dict[str, Any]) -> None:
    for number, maps in enumerate(golden_run["maps"].values()):
        torch.testing.assert_close(maps[:, [0, 2]], arrays[f"p0_gt_native_{number:02d}"], atol=1e-5, rtol=0)


def test_golden_mean_map(arrays: dict[str, Tensor], golden_run: dict[str, Any]) -> None:
    expected = arrays["p0_gt_avg"]
    torch.testing.assert_close(golden_run["mean"][: len(expected)], expected, atol=1e-5, rtol=0)


def test_golden_spatial_mean_and_deviation(arrays: dict[str, Tensor], golden_run: dict[str, Any]) -> None:
    flat = [maps.flatten(2) for maps in golden_run["maps"].values()]
    mean = torch.stack([maps.mean(-1) for maps in flat], 1)
    deviation = torch.stack([maps.std(-1, unbiased=False) for maps in flat], 1)
    torch.testing.assert_close(mean, arrays["p0_gt_spmean"], atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, arrays["p0_gt_spstd"], atol=1e-5, rtol=0)


def test_golden_output(arrays: dict[str, Tensor], golden_run: dict[str, Any]) -> None:
    torch.testing.assert_close(golden_run["output"][[0, -1]], arrays["p0_gt_eps_cond"], atol=1e-4, rtol=0)


# One layer: weight columns beside the values


class OnGpu(Tensor):
    """A tensor that takes itself for one on a GPU, where the fused kernels want widths that are multiples of 8."""

    is_cuda = property(lambda self: True)  # type: ignore[assignment]


def attention_inputs(width: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value [2, 3, 5 or 7, width], weights [2, 7, columns]."""
    generator = torch.Generator().manual_seed(10 * width + columns)
    query, key, value = (torch.randn((2, 3, tokens, width), generator=generator) for tokens in (5, 7, 7))
    return query, key, value, torch.rand((2, 7, columns), generator=generator)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("width", [1, 4, 7, 8, 40])
@pytest.mark.parametrize("columns", [1, 2, 7, 8])
def test_attend_is_attention_and_its_weighted_maps(width: int, columns: int, on_gpu: bool) -> None:
    query, key, value, weights = attention_inputs(width, columns)
    probabilities = torch.softmax(query.double() @ key.double().transpose(2, 3) * 0.3, -1)
    with patch.object(F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as fused:
        attended, maps = attend(query, key, value.as_subclass(OnGpu) if on_gpu else value, weights, 0.3)
    assert len({part.shape[-1] for part in fused.call_args.args}) == 1, "the fused kernels want one width"
    assert not on_gpu or fused.call_args.args[0].shape[-1] % 8 == 0
    torch.testing.assert_close(attended.as_subclass(Tensor), (probabilities @ value.double()).float())
    expected = torch.einsum("bhql,blk->bkq", probabilities, weights.double()) / 3
    torch.testing.assert_close(maps.as_subclass(Tensor), expected.float())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_half_precision_is_averaged_over_the_heads_in_float32(dtype: torch.dtype, tolerance: float) -> None:
    parts = attention_inputs(8, 2)
    _, expected = attend(*parts, 0.3)
    _, found = attend(*(part.to(dtype) for part in parts[:3]), parts[3], 0.3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    assert not torch.equal(found, found.to(dtype).float()), "the mean over heads was rounded"


# The literal average: every map of every step, layer, head and token is kept, upsampled by index, and averaged


def random_inputs(batch: int, steps: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and noise [B, T, 4, H, W], states [B, L, D]."""
    generator = torch.Generator().manual_seed(batch * 100 + size[0])
    latents, noise = torch.randn((2, batch, steps, 4, *size), generator=generator)
    return latents, noise, torch.randn((batch, TOKENS, WIDTH), generator=generator)


def token_weights(tokens: Sequence[Sequence[int]]) -> Tensor:
    """float32 [B, 1, L]: the mean over each sample's tokens."""
    weights = torch.zeros(len(tokens), 1, TOKENS)
    for sample, chosen in enumerate(tokens):
        weights[sample, 0, chosen] = 1 / len(chosen)
    return weights


def reduce(
    maps: Reduction, unet: Any, scheduler: Any, t: Tensor, inputs: tuple, weights: Tensor, rows: int, first: int = 0
) -> None:
    """Feed the reduction as `Engine` does in GT mode."""
    latents, noise, states = inputs
    capture = AttentionCapture(unet, maps.add)

    def forward(x_t: Tensor, t_rows: Tensor, of: Rows) -> Tensor:
        maps.rows = of
        return capture.forward(x_t, t_rows, states[of.sample], weights[of.sample])

    with torch.inference_mode(), capture.open():
        ground_truth(forward, scheduler, t, latents, noise, rows, first)


def literal_maps(
    literal_forward: Callable, unet: Any, scheduler: Any, t: Tensor, inputs: list[Tensor], first: int = 0
) -> list[list[Tensor]]:
    """Of one sample: by step, from the `first` one, and by layer [heads, tokens, H, W]."""
    latents, noise, states = inputs
    noisy = list(zip(scheduler.add_noise(latents, noise, t), t.tolist(), strict=True))
    return [literal_forward(unet, x_t, step, states)[1] for x_t, step in noisy[first:]]


@pytest.mark.parametrize("only_cross", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (12, 8), (9, 7), (5, 11)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("tokens", "rows"), [([[2]], 1), ([[0], [1, 3, 4]], 3), ([[5], [1, 2], [0, 3]], 16)])
def test_capture_is_the_literal_average(
    make_unet: MakeUnet,
    components: Any,
    literal_forward: Callable,
    only_cross: bool,
    size: tuple[int, int],
    tokens: list[list[int]],
    rows: int,
) -> None:
    unet, scheduler = make_unet(only_cross_attention=(only_cross, False)), components.scheduler
    t = ddim_timesteps(scheduler, 4)
    inputs = random_inputs(len(tokens), len(t), size)
    means = MeanMaps(len(tokens), size, first_step=2)
    reduce(means, unet, scheduler, t, inputs, token_weights(tokens), rows, first=1)
    for sample, chosen in enumerate(tokens):
        steps = literal_maps(literal_forward, unet, scheduler, t, [part[sample] for part in inputs], 2)
        expected = torch.cat([maps[:, chosen].flatten(0, 1) for layers in steps for maps in layers]).mean(0)
        assert expected.std() > 1e-4, "an even map would prove nothing"
        torch.testing.assert_close(means.mean()[sample, 0], expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_step_and_layer_maps_are_the_literal_ones(
    make_unet: MakeUnet, components: Any, literal_forward: Callable, rows: int
) -> None:
    unet, scheduler = make_unet(), components.scheduler
    t, weights = ddim_timesteps(scheduler, 3), token_weights([[1, 4], [2]])
    inputs = random_inputs(2, 3, (9, 9))
    by_step, by_layer = StepMaps(2, 3), LayerMaps(2, (9, 9), first_step=1)
    for maps in (by_step, by_layer):
        reduce(maps, unet, scheduler, t, inputs, weights, rows)
    for sample, chosen in enumerate([[1, 4], [2]]):
        steps = literal_maps(literal_forward, unet, scheduler, t, [part[sample] for part in inputs])
        literal = torch.stack([torch.stack([m[:, chosen].mean((0, 1)) for m in layers]) for layers in steps]).float()
        torch.testing.assert_close(by_layer.mean()[sample], literal[1:].mean(0), atol=1e-5, rtol=0)
        found = [maps[sample][:, places][:, :, places] for maps in by_step.maps.values() for places in [up(maps)]]
        torch.testing.assert_close(torch.stack(found, 1), literal, atol=1e-5, rtol=0)
    assert list(by_step.maps) == cross_attention_layers(unet)


def up(maps: Tensor) -> list[int]:
    """Which cell of a map of n x n each of 9 cells comes from."""
    return [cell * maps.shape[-1] // 9 for cell in range(9)]


def test_steps_of_one_image_may_share_a_forward_with_another(make_unet: MakeUnet, components: Any) -> None:
    t, weights = ddim_timesteps(components.scheduler, 5), token_weights([[1], [2, 3], [4]])
    inputs = random_inputs(3, 5, (8, 8))
    alone, shared = MeanMaps(3, (8, 8)), MeanMaps(3, (8, 8))
    reduce(alone, make_unet(), components.scheduler, t, inputs, weights, 1)
    reduce(shared, make_unet(), components.scheduler, t, inputs, weights, 4)
    torch.testing.assert_close(alone.mean(), shared.mean(), atol=1e-6, rtol=0)


# Which layers, and their sizes


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


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((8, 8), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ((15, 15), [(15, 15), (8, 8), (4, 4), (2, 2)]),
        ((15, 20), [(15, 20), (8, 10), (4, 5), (2, 3)]),
    ],
)
def test_layer_sizes_down_and_up_again(make_unet: MakeUnet, size: tuple[int, int], expected: list) -> None:
    a, b, c, d = expected
    assert list(layer_sizes(make_unet(**FOUR_LEVELS), size).values()) == [a, b, c, d, d, d, d, c, c, b, b, a, a]


@pytest.mark.parametrize(
    "size", [(7, 7), (9, 13), (11, 6), (15, 15), (16, 10)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_layer_sizes_are_those_of_a_forward(
    make_unet: MakeUnet, literal_forward: Callable, size: tuple[int, int]
) -> None:
    unet = make_unet(**FOUR_LEVELS)
    latents, _, states = random_inputs(1, 1, size)
    seen: dict[str, tuple[int, int]] = {}
    capture = AttentionCapture(unet, lambda layer, maps: seen.update({layer: (maps.shape[-2], maps.shape[-1])}))
    with torch.inference_mode(), capture.open():
        capture.forward(latents[0], torch.tensor([1]), states, torch.ones(1, 1, TOKENS))
    assert list(seen.items()) == list(layer_sizes(unet, size).items()), "or in another order"
    assert len(literal_forward(unet, latents[0, 0], 1, states[0])[1]) == len(seen)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("all", list(range(13))),
        ("0", [0]),
        ("12,3", [3, 12]),
        ("8x8", [1, 9, 10]),
        ("2x2,15x15", [0, 3, 4, 5, 6, 11, 12]),
        ("4x4,2,1", [1, 2, 7, 8]),
    ],
)
def test_layers_are_chosen_by_number_and_by_resolution(make_unet: MakeUnet, choice: str, expected: list[int]) -> None:
    unet = make_unet(sample_size=15, **FOUR_LEVELS)
    names = cross_attention_layers(unet)
    assert select_layers(unet, choice) == [names[number] for number in expected]


@pytest.mark.parametrize("choice", ["7", "0,99", "7x7", "8", "8x4", "4x4,16x16"])
def test_layers_that_are_not_there_are_refused(make_unet: MakeUnet, choice: str) -> None:
    unet = make_unet()
    with pytest.raises(UsageError, match=r"has cross-attention layers 0 to 6, at 8x8, 4x4") as raised:
        select_layers(unet, choice)
    assert f"--layers {choice.split(',')[-1]}:" in str(raised.value)


def completed(folder: Path, layers: str) -> MethodSettings:
    return building.complete(MethodSettings("tiny-ldm", weights=str(folder), layers=layers))


@pytest.mark.parametrize("layers", ["8y8", "first", "1,,2", "-1", "8x", "all,3", "1.5"])
def test_layers_are_numbers_or_resolutions(folder: Path, layers: str) -> None:
    with pytest.raises(UsageError, match="neither 'all', indices such as 3,4,5, nor resolutions such as 16x16"):
        completed(folder, layers)


@pytest.mark.parametrize(
    ("layers", "expected"), [("4, 3,4", "3,4"), ("8X8,16x16,4x4", "4x4,8x8,16x16"), ("8x8,10,9", "9,10,8x8")]
)
def test_layers_are_written_in_one_way(folder: Path, layers: str, expected: str) -> None:
    assert completed(folder, layers).layers == expected


@pytest.mark.parametrize(("layers", "expected"), [("3,03", "3"), ("08x8", "8x8")])
def test_layers_with_leading_zeros_are_written_in_one_way(folder: Path, layers: str, expected: str) -> None:
    assert completed(folder, layers).layers == expected


def test_layers_that_the_unet_does_not_have_are_refused_before_a_run(folder: Path) -> None:
    for layers in ("7", "8x8,16x16"):
        with pytest.raises(UsageError, match=r"this U-Net has cross-attention layers 0 to 6, at 8x8, 4x4"):
            building.build(completed(folder, layers))


# What stays as it was


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_output_under_capture_is_the_plain_output(make_unet: MakeUnet, dtype: torch.dtype, tolerance: float) -> None:
    unet = make_unet(only_cross_attention=(True, False)).to(dtype)
    latents, _, states = (part.to(dtype) for part in random_inputs(2, 1, (9, 8)))
    t, kept = torch.tensor([751, 1]), []
    with AttentionCapture(unet, lambda _, maps: kept.append(maps)).open() as capture:
        found = capture.forward(latents[:, 0], t, states, torch.full((2, 1, TOKENS), 1.0))
        unwatched = unet(latents[:, 0], t, states).sample
    expected = unet(latents[:, 0], t, states).sample
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(unwatched, expected, atol=tolerance, rtol=0)
    assert len(kept) == len(cross_attention_layers(unet)), "outside of `forward` nothing is captured"
    assert {maps.dtype for maps in kept} == {torch.float32}
    assert max(float((maps - 1).abs().max()) for maps in kept) < tolerance, "probabilities of all tokens add up to one"


def test_layers_that_are_not_chosen_keep_their_processors(make_unet: MakeUnet) -> None:
    unet = make_unet()
    before, layer = unet.attn_processors, cross_attention_layers(unet)[3]
    with AttentionCapture(unet, lambda *_: None, [layer]).open():
        changed = [name for name, processor in unet.attn_processors.items() if processor is not before[name]]
    assert changed == [f"{layer}.processor"]
    assert unet.attn_processors == before


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
    assert capture.weights is None


def test_masked_attention_is_refused(make_unet: MakeUnet) -> None:
    unet = make_unet()
    latents, _, states = random_inputs(1, 1, (8, 8))
    mask = torch.tensor([[1, 1, 0, 0, 0, 0]])
    with AttentionCapture(unet, lambda *_: None).open(), pytest.raises(ValueError, match="unmasked"):
        unet(latents[:, 0], 1, states, encoder_attention_mask=mask)


def test_ddim_timesteps_are_the_noisiest_first(components: LdmComponents) -> None:
    assert ddim_timesteps(components.scheduler, 4).tolist() == [751, 501, 251, 1]
    assert ddim_timesteps(components.scheduler, 50).tolist() == list(range(981, 0, -20))
    assert ddim_timesteps(components.scheduler, 1).tolist() == [1]
