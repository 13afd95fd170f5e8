"""Cross-attention maps against Eq. 1, and against a literal average over everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    attention_probabilities,
    cross_attention_layers,
    layer_sizes,
    select_layers,
)
from gtg_bench.methods.ldm.reduction import LayerMaps, MeanMaps, Reduction, Rows, StepMaps
from gtg_bench.methods.ldm.sampling import ddim_timesteps, ground_truth

TOKENS, WIDTH = 6, 32
FOUR_LEVELS = {
    "block_out_channels": (16, 16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D",) * 4,
    "up_block_types": ("CrossAttnUpBlock2D",) * 4,
}
SD15 = {
    "layers_per_block": 2,
    "block_out_channels": (16, 16, 32, 32),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
MakeUnet = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("torch")


def by_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# One layer: fused attention against Eq. 1


class OnGpu(Tensor):
    """A tensor that claims to be on a GPU, where the fused kernels need widths that are multiples of 8."""

    is_cuda = property(lambda self: True)  # type: ignore[assignment]


def attention_inputs(width: int, columns: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value [2, 3, 5 or 7, width], weights [2, 7, columns]."""
    generator = torch.Generator().manual_seed(10 * width + columns)
    query, key, value = (torch.randn((2, 3, tokens, width), generator=generator) for tokens in (5, 7, 7))
    return query, key, value, torch.rand((2, 7, columns), generator=generator)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("width", [1, 4, 7, 8, 40])
def test_fused_attention_gives_the_weighted_sums_of_equation_1(width: int, on_gpu: bool) -> None:
    for columns in (1, 2, 7, 8):
        query, key, value, weights = attention_inputs(width, columns)
        probabilities = attention_probabilities(query.double(), key.double())
        by_hand = torch.exp(query.double() @ key.double().transpose(2, 3) / width**0.5)
        torch.testing.assert_close(probabilities, by_hand / by_hand.sum(-1, keepdim=True))
        with patch.object(F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as fused:
            attended, maps = attend(query, key, value.as_subclass(OnGpu) if on_gpu else value, weights, width**-0.5)
        assert len({part.shape[-1] for part in fused.call_args.args}) == 1, "the fused kernels need one width"
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


def reduce(maps: Reduction, unet: Any, scheduler: Any, t: Tensor, inputs: tuple, weights: Tensor, rows: int) -> None:
    """Feed the reduction as `Engine` does in GT mode."""
    latents, noise, states = inputs
    capture = AttentionCapture(unet)

    def observe(x_t: Tensor, t_rows: Tensor, of: Rows) -> None:
        def on_maps(layer: str, found: Tensor) -> None:
            maps.add(layer, found, of)

        capture.maps_only(x_t, t_rows, states[of.sample], weights[of.sample], on_maps)

    with torch.inference_mode(), capture.open():
        ground_truth(observe, scheduler, t, latents, noise, rows)


def literal_maps(
    literal_forward: Callable, unet: Any, scheduler: Any, t: Tensor, inputs: list[Tensor]
) -> list[list[Tensor]]:
    """One sample's maps by step and by layer, [heads, tokens, H, W]."""
    latents, noise, states = inputs
    noisy = zip(scheduler.add_noise(latents, noise, t), t.tolist(), strict=True)
    return [literal_forward(unet, x_t, step, states)[1] for x_t, step in noisy]


@pytest.mark.parametrize("only_cross", [False, True])
def test_step_layer_and_mean_maps_are_the_literal_ones(
    make_unet: MakeUnet, components: Any, literal_forward: Callable, only_cross: bool
) -> None:
    unet, scheduler, tokens = make_unet(only_cross_attention=(only_cross, False)), components.scheduler, [[1, 4], [2]]
    t, inputs = ddim_timesteps(scheduler, 3), random_inputs(2, 3, (9, 9))
    steps = [literal_maps(literal_forward, unet, scheduler, t, [part[row] for part in inputs]) for row in range(2)]
    for rows in (1, 16):
        by_step, by_layer, means = StepMaps(2, 3), LayerMaps(2, (9, 9), first_step=1), MeanMaps(2, (9, 9), first_step=1)
        for maps in (by_step, by_layer, means):
            reduce(maps, unet, scheduler, t, inputs, token_weights(tokens), rows)
        for row, chosen in enumerate(tokens):
            expected = torch.stack(
                [torch.stack([m[:, chosen].mean((0, 1)) for m in layers]) for layers in steps[row]]
            ).float()
            assert expected.std() > 1e-4, "a constant map would prove nothing"
            torch.testing.assert_close(by_layer.mean()[row], expected[1:].mean(0), atol=1e-5, rtol=0)
            torch.testing.assert_close(means.mean()[row, 0], expected[1:].mean((0, 1)), atol=1e-5, rtol=0)
            for layer, found in enumerate(by_step.maps.values()):
                cells = [cell * found.shape[-1] // 9 for cell in range(9)]  # upsampling by index
                torch.testing.assert_close(found[row][:, cells][:, :, cells], expected[:, layer], atol=1e-5, rtol=0)
        assert list(by_step.maps) == cross_attention_layers(unet)


# The U-Net stops after the last captured layer


@contextmanager
def entered(unet: Any) -> Iterator[list[str]]:
    """Names of the modules that were entered, in order."""
    names: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: names.append(name))
        for name, module in unet.named_modules()
    ]
    yield names
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("shape", [{}, SD15, {"only_cross_attention": (True, False)}], ids=["tiny", "sd15", "cross"])
def test_the_maps_of_a_stopped_forward_are_those_of_a_whole_one(make_unet: MakeUnet, shape: dict[str, Any]) -> None:
    """For one and many rows, and every layer as the last one: alone, and with all layers before it, in any order."""
    unet, t = make_unet(**shape), torch.tensor([751, 1, 1])
    latents, _, states = random_inputs(3, 1, (8, 8))
    names, before = cross_attention_layers(unet), unet.attn_processors
    alone, together = [[name] for name in names], [names[last::-1] for last in range(len(names))]
    for rows, layers in (*((1, choice) for choice in alone), *((3, choice) for choice in together)):
        capture, whole, stopped = AttentionCapture(unet, layers), {}, {}
        inputs = latents[:rows, 0], t[:rows], states[:rows], torch.rand(rows, 2, TOKENS)
        with torch.inference_mode(), capture.open(), entered(unet) as modules:
            capture.maps_only(*inputs, stopped.__setitem__)
            assert modules[-1] == f"{layers[0]}.to_v", "the U-Net went on"
            capture.forward(*inputs, whole.__setitem__)
            assert modules[-1] == "conv_out"
        assert list(stopped) == list(whole) == layers[::-1]
        assert all(torch.equal(stopped[name], whole[name]) for name in layers)
    assert unet.attn_processors == before


def test_an_error_in_a_stopped_forward_is_raised(make_unet: MakeUnet) -> None:
    unet, (latents, _, states) = make_unet(), random_inputs(1, 1, (8, 8))
    capture, before = AttentionCapture(unet), unet.attn_processors
    with pytest.raises(ZeroDivisionError), capture.open():
        capture.maps_only(latents[:, 0], torch.tensor([1]), states, torch.ones(1, 1, TOKENS), lambda *_: 1 / 0)
    assert capture.request is None
    assert unet.attn_processors == before


# Which layers, and their sizes


@pytest.mark.parametrize("size", [(7, 7), (9, 13), (11, 6), (15, 15), (16, 10)], ids=by_size)
def test_layer_sizes_are_those_of_a_forward(
    make_unet: MakeUnet, literal_forward: Callable, size: tuple[int, int]
) -> None:
    unet = make_unet(**FOUR_LEVELS)
    latents, _, states = random_inputs(1, 1, size)
    seen: dict[str, tuple[int, int]] = {}

    def keep(layer: str, maps: Tensor) -> None:
        seen[layer] = (maps.shape[-2], maps.shape[-1])

    with torch.inference_mode(), AttentionCapture(unet).open() as capture:
        capture.forward(latents[0], torch.tensor([1]), states, torch.ones(1, 1, TOKENS), keep)
    assert list(seen.items()) == list(layer_sizes(unet, size).items()), "sizes or order differ"
    assert len(literal_forward(unet, latents[0, 0], 1, states[0])[1]) == len(seen)


def test_layers_are_chosen_by_index_and_by_resolution(make_unet: MakeUnet) -> None:
    unet = make_unet(sample_size=15, **FOUR_LEVELS)
    names = cross_attention_layers(unet)
    choices = {
        "all": list(range(13)),
        "12,3": [3, 12],
        "8x8": [1, 9, 10],
        "4x4,2,1": [1, 2, 7, 8],
    }
    for choice, expected in choices.items():
        assert select_layers(unet, choice) == [names[number] for number in expected]
    unet = make_unet()
    for choice in ("7", "0,99", "7x7", "8", "8x4", "4x4,16x16"):
        with pytest.raises(UsageError, match=rf"--layers {choice.split(',')[-1]}: .* 0 to 6, at 8x8, 4x4"):
            select_layers(unet, choice)


def test_the_layers_option(folder: Path) -> None:
    """It is normalised, and refused before a run if the U-Net has no such layer."""

    def completed(layers: str) -> MethodSettings:
        return building.complete(MethodSettings("tiny-ldm", weights=str(folder), layers=layers))

    for layers in ("8y8", "first", "1,,2", "-1", "8x", "all,3", "1.5"):
        with pytest.raises(UsageError, match="--layers"):
            completed(layers)
    for layers, expected in {"4, 3,4": "3,4", "8X8,08x8,4x4": "4x4,8x8", "8x8,10,9": "9,10,8x8"}.items():
        assert completed(layers).layers == expected
    with pytest.raises(UsageError, match=r"--layers 16x16"):
        building.build(completed("8x8,16x16"))


# The U-Net stays as it was


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_output_under_capture_is_the_plain_output(make_unet: MakeUnet, dtype: torch.dtype, tolerance: float) -> None:
    unet = make_unet(only_cross_attention=(True, False)).to(dtype)
    latents, _, states = (part.to(dtype) for part in random_inputs(2, 1, (9, 8)))
    t, kept, ones = torch.tensor([751, 1]), [], torch.full((2, 1, TOKENS), 1.0)
    with AttentionCapture(unet).open() as capture:
        found = capture.forward(latents[:, 0], t, states, ones, lambda _, maps: kept.append(maps))
        uncaptured = unet(latents[:, 0], t, states).sample
    expected = unet(latents[:, 0], t, states).sample
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(uncaptured, expected, atol=tolerance, rtol=0)
    assert len(kept) == len(cross_attention_layers(unet)), "only `forward` captures"
    assert {maps.dtype for maps in kept} == {torch.float32}
    assert max(float((maps - 1).abs().max()) for maps in kept) < tolerance, "probabilities of all tokens add up to one"


def test_layers_that_are_not_chosen_keep_their_processors(make_unet: MakeUnet) -> None:
    unet = make_unet()
    before, layer = unet.attn_processors, cross_attention_layers(unet)[3]
    with AttentionCapture(unet, [layer]).open():
        changed = [name for name, processor in unet.attn_processors.items() if processor is not before[name]]
    assert changed == [f"{layer}.processor"]
    assert unet.attn_processors == before


def test_masked_attention_is_refused(make_unet: MakeUnet) -> None:
    unet = make_unet()
    latents, _, states = random_inputs(1, 1, (8, 8))
    with AttentionCapture(unet).open(), pytest.raises(ValueError, match="unmasked"):
        unet(latents[:, 0], 1, states, encoder_attention_mask=torch.tensor([[1, 1, 0, 0, 0, 0]]))
