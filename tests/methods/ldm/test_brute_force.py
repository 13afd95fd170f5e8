"""The latent diffusion method against a literal version of the paper that keeps everything.

The literal version is written here and shares no code with the package: every map of every step, layer, head and
token at full latent size in float64, its own noise schedule, DDIM loop and guidance, tokens counted by hand, and
Bimodal Bias Merging as section 2.3 words it. Inputs are shared: weights, text states, and the seeds of the noise.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from gtg_bench.benchmark.api.types import MethodSettings, Query, seed_for
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.text_bias import TextBiases

Array = NDArray[np.float64]
STEPS, GUIDANCE, SEED, SCALING = 3, 3.0, 4200, 2.5
MODES, CHOICES = ("text", "cfg", "gt1-cfg", "gt-cfg"), ("lexical", "disease", "all", "start", "end")
TOLERANCE = 1e-5
SETTINGS = MethodSettings("tiny", steps=STEPS, guidance=GUIDANCE, seed=SEED, lexicon="rule 1")

pytestmark = pytest.mark.usefixtures("torch")


# What is compared on: three U-Nets, three phrases whose tokens are counted by hand


def levels(*channels: int) -> dict[str, Any]:
    """Settings of a U-Net with cross-attention at every level."""
    down, up = ("CrossAttnDownBlock2D",) * len(channels), ("CrossAttnUpBlock2D",) * len(channels)
    return {"block_out_channels": channels, "down_block_types": down, "up_block_types": up}


@dataclass(frozen=True)
class Shape:
    """A latent size, a U-Net's seed and levels, and choices of layers with what they stand for, counted by hand."""

    side: int
    seed: int
    unet: dict[str, Any]
    layers: dict[str, list[int]]


SHAPES = {
    "even": Shape(8, 0, levels(16, 32), {"all": [*range(7)], "0,3": [0, 3], "4x4": [1, 2, 3, 4]}),
    "odd": Shape(9, 3, levels(16, 32), {"all": [*range(7)], "2,6": [2, 6], "9x9": [0, 5, 6]}),
    "deep": Shape(
        15, 2, levels(16, 16, 32, 32), {"all": [*range(13)], "0,4,9": [0, 4, 9], "8x8,2x2": [1, 3, 4, 5, 6, 9, 10]}
    ),
}


@dataclass(frozen=True)
class Phrase:
    """A phrase, its category, and the tokens of every choice."""

    text: str
    category: str
    tokens: dict[str, list[int]]


PHRASES = (
    # [start] small left pleural effusion . [end]
    Phrase(
        "Small left pleural effusion.",
        "Pleural Effusion",
        {"lexical": [1, 2, 3, 4], "disease": [3, 4], "all": [1, 2, 3, 4, 5], "start": [0], "end": [6]},
    ),
    # [start] right - sided pneumonia / edema [end]
    Phrase(
        "Right-sided pneumonia / edema",
        "pneumonia",
        {"lexical": [1, 2, 3, 4, 6], "disease": [4], "all": [1, 2, 3, 4, 5, 6], "start": [0], "end": [7]},
    ),
    # [start] there is a hazy opacity at the right base [end]: no word of its category, so all tokens
    Phrase(
        "there is a hazy opacity at the right base",
        "Edema",
        {"lexical": [4, 5, 8, 9], "disease": [*range(1, 10)], "all": [*range(1, 10)], "start": [0], "end": [10]},
    ),
)


def query(number: int, side: int) -> Query:
    """A picture that needs neither resizing nor cropping, with a phrase."""
    image = np.random.default_rng(number).random((2 * side, 2 * side), dtype=np.float32)
    return Query(image, PHRASES[number].text, 100 + number, PHRASES[number].category)


@dataclass(frozen=True)
class Case:
    """One point of the grid: a shape, the settings, and how the queries are fed."""

    shape: str
    sampling: str
    bbm: str = "none"
    tokens: str = "lexical"
    layers: str = "all"
    last_steps: int | None = None
    latent: str = "sample"
    numbers: tuple[int, ...] = (0, 1, 2)
    rows: int | None = None

    def __str__(self) -> str:
        kept = "all" if self.last_steps is None else self.last_steps
        fed = f"{len(self.numbers)}x{self.rows}" if self.rows else str(len(self.numbers))
        return " ".join(map(str, (*astuple(self)[:5], kept, self.latent, fed)))


# The literal version


def gaussian(seed: int, draws: int, side: int) -> Any:
    """Noise [draws, 4, side, side] of a seed."""
    return torch.randn((draws, 4, side, side), generator=torch.Generator().manual_seed(seed)).double()


def alpha_bar() -> Array:
    """Stable Diffusion's schedule: the share of the image's variance left at each of 1000 timesteps."""
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


TIMESTEPS = [step * (1000 // STEPS) + 1 for step in reversed(range(STEPS))]


class Literal:
    """Every map of every run on one U-Net; each run is made once."""

    def __init__(self, components: LdmComponents, side: int, forward: Callable) -> None:
        self.components = components
        self.unet = copy.deepcopy(components.unet).double()
        self.side = side
        self.forward = forward
        self.image_run = cache(self._image_run)
        self.text_run = cache(self._text_run)
        self.states = cache(lambda text: components.text_encoder.encode([text]).states[0].double())

    def _image_run(self, mode: str, number: int, latent: str) -> Array:
        """Of a query: [steps, layers, tokens, side, side], mean over heads."""
        asked = query(number, self.side)
        draws = STEPS if mode == "gt-cfg" else 1
        drawn = gaussian(asked.seed, 2 * draws, self.side)
        fresh, noise = drawn[:draws], drawn[draws:]
        if mode in ("text", "cfg"):
            return self.denoised(noise[0], asked.text, GUIDANCE if mode == "cfg" else None)
        pixels = torch.from_numpy(asked.image)[None, None]
        with torch.inference_mode():
            posterior = self.components.vae.encode(2 * pixels - 1).latent_dist
        mean, std = posterior.mean[0].double(), posterior.std[0].double()
        z = [SCALING * (mean + (std * part if latent == "sample" else 0)) for part in fresh]
        if mode == "gt1-cfg":
            return self.denoised(noised(z[0], noise[0], 999), asked.text, GUIDANCE)
        steps = [(noised(z_t, e_t, t), t) for z_t, e_t, t in zip(z, noise, TIMESTEPS, strict=True)]
        return together([self.forward(self.unet, x, t, self.states(asked.text))[1] for x, t in steps])

    def _text_run(self, text: str) -> Array:
        """The text bias: from Gaussian noise with guidance."""
        return self.denoised(gaussian(seed_for("text bias", SEED, text), 1, self.side)[0], text, GUIDANCE)

    def denoised(self, x: Any, text: str, guidance: float | None) -> Array:
        """DDIM without noise of its own (Song et al. 2021), guidance as e = u + g (c - u)."""
        kept, alphas = [], alpha_bar()
        for t, following in zip(TIMESTEPS, [*TIMESTEPS[1:], None], strict=True):
            noise, maps = self.forward(self.unet, x, t, self.states(text))
            kept.append(maps)
            if following is None:
                return together(kept)
            if guidance is not None:
                empty, _ = self.forward(self.unet, x, t, self.states(""))
                noise = empty + guidance * (noise - empty)
            clean = (x - (1 - alphas[t]) ** 0.5 * noise) / alphas[t] ** 0.5
            x = alphas[following] ** 0.5 * clean + (1 - alphas[following]) ** 0.5 * noise
        raise AssertionError("no step")


def noised(z: Any, noise: Any, t: int) -> Any:
    """The image's latent at a level of noise."""
    alpha = alpha_bar()[t]
    return alpha**0.5 * z + (1 - alpha) ** 0.5 * noise


def together(run: Sequence[Sequence[Any]]) -> Array:
    """Of maps by step and layer, each [heads, tokens, side, side]: [steps, layers, tokens, side, side]."""
    return np.stack([[maps.mean(0).numpy() for maps in layers] for layers in run])


def chosen(run: Array, layers: Sequence[int], tokens: Sequence[int]) -> Array:
    """[steps, layers, tokens, side, side] of some layers and tokens."""
    return run[:, layers][:, :, tokens]


def min_max(values: Array) -> Array:
    return (values - values.min()) / (values.max() - values.min())


def p_comb(literal: Literal, case: Case, number: int) -> Array:
    """The mean over steps, layers, heads and tokens (section 2.2), before its normalisation."""
    run = literal.image_run(case.sampling, number, case.latent)
    maps = chosen(run, SHAPES[case.shape].layers[case.layers], PHRASES[number].tokens[case.tokens])
    return maps[-(case.last_steps or STEPS) :].mean((0, 1, 2))


def p_mult(p_img: Array, p_txt: Array) -> Array:
    """Matrix products for every step, layer and token, averaged over all three, before its normalisation."""
    every = itertools.product(*(range(size) for size in p_txt.shape[:3]))
    return np.mean([p_img[step, layer, 0] @ p_txt[step, layer, token] for step, layer, token in every], 0)


def biases(literal: Literal, case: Case, number: int) -> tuple[Array, Array]:
    """P_img and P_txt: [steps, layers, tokens, side, side]."""
    layers, tokens = SHAPES[case.shape].layers[case.layers], PHRASES[number].tokens[case.tokens]
    run = literal.image_run(case.sampling, number, case.latent)
    return chosen(run, layers, [0]), chosen(literal.text_run(PHRASES[number].text), layers, tokens)


def similarity(p_img: Array, p_txt: Array) -> float:
    """s: SSIM of the mean biases, clipped."""
    means = (min_max(bias.mean((0, 1, 2))) for bias in (p_img, p_txt))
    return min(1.0, max(0.0, float(structural_similarity(*means, data_range=1.0))))


def p_bbm(mult: Array, comb: Array, s: float, bbm: str) -> Array:
    """Eq. 3, 4 and 2."""
    if bbm == "linear":
        return s * mult + (1 - s) * comb
    point = {"quadratic": mult * comb, "mixture": (mult + comb + mult * comb) / 2}[bbm]
    return 2 * (1 - s) * s * point + (1 - s) ** 2 * comb + s**2 * mult


# The comparison


def grid() -> Iterator[Case]:
    """Every mode with every choice of tokens, merging, shape, layers, last steps and batches; not all with all."""
    for mode, choice in itertools.product(MODES, CHOICES):
        yield Case("even", mode, "mixture", choice)
        if mode == "gt-cfg" or choice == "disease":  # what is merged is compared too, so P_comb is seen throughout
            yield Case("even", mode, "none", choice)
    for mode, bbm in itertools.product(MODES, ("linear", "quadratic")):
        yield Case("even", mode, bbm, last_steps=1 if bbm == "linear" else 2)
        yield Case("even", mode, last_steps=1 if bbm == "linear" else 2)
    for shape, mode in itertools.product(("odd", "deep"), MODES):
        yield Case(shape, mode, tokens="disease", numbers=(2, 1))
        yield Case(shape, mode, "mixture", numbers=(1, 2))
    for shape, layers in [(name, layers) for name in SHAPES for layers in SHAPES[name].layers if layers != "all"]:
        yield Case(shape, "gt-cfg", layers=layers, numbers=(1, 2))
        yield Case(shape, "gt-cfg", "mixture", layers=layers, last_steps=2, numbers=(1, 2))
        yield Case(shape, "cfg", "mixture", layers=layers, numbers=(1, 2))
    for mode, bbm in itertools.product(("gt1-cfg", "gt-cfg"), ("none", "linear")):
        yield Case("even", mode, bbm, latent="mode")
    for mode in MODES:
        yield Case("even", mode, "mixture", numbers=(2,), rows=1)
        yield Case("even", mode, "quadratic", "disease", numbers=(0, 1, 2, 0), rows=2)
        yield Case("odd", mode, numbers=(2, 1), rows=4)


@pytest.fixture(scope="module")
def literals(components: LdmComponents, make_unet: Callable[..., Any], literal_forward: Callable) -> dict[str, Literal]:
    """By shape: the tiny model with a U-Net of that shape."""

    def of(shape: Shape) -> Literal:
        unet = make_unet(shape.seed, sample_size=shape.side, **shape.unet)
        return Literal(replace(components, unet=unet), shape.side, literal_forward)

    return {name: of(shape) for name, shape in SHAPES.items()}


def near(found: Any, expected: Array) -> None:
    """The same to 1e-6, and once more on their own scale: maps and products are small."""
    assert expected.std() > 1e-4, "an even map would prove nothing"
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(min_max(found), min_max(expected), atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def build(literals: dict[str, Literal]) -> Callable[[Case], LdmMethod]:
    """Builds the method of a case. Text biases depend on shape and layers alone, so methods may share them."""
    shared: dict[Any, TextBiases] = {}

    def build(case: Case) -> LdmMethod:
        names = ("sampling", "bbm", "tokens", "layers", "last_steps", "latent")
        settings = replace(SETTINGS, **{name: getattr(case, name) for name in names})
        method = LdmMethod(literals[case.shape].components, settings, case.rows)
        method.text_biases = shared.setdefault((case.shape, case.layers, case.rows), method.text_biases)
        return method

    return build


@pytest.mark.parametrize("case", grid(), ids=str)
def test_the_method_is_the_literal_version(
    literals: dict[str, Literal], build: Callable[[Case], LdmMethod], case: Case
) -> None:
    literal, method = literals[case.shape], build(case)
    with patch.object(method, "merge", wraps=method.merge) as merge:
        found = method.ground_batch([query(number, literal.side) for number in case.numbers])
    assert merge.call_count == (0 if case.bbm == "none" else len(case.numbers))
    for place, number in enumerate(case.numbers):
        comb = p_comb(literal, case, number)
        if case.bbm == "none":
            near(found[place].values, comb)
            continue
        p_img, p_txt = biases(literal, case, number)
        mult, s = p_mult(p_img, p_txt), similarity(p_img, p_txt)
        means = (part.mean((0, 1, 2)) for part in (p_img, p_txt))
        for part, expected in zip(merge.call_args_list[place].args, (comb, mult, *means), strict=True):
            near(part, expected)
        expected = p_bbm(min_max(mult), min_max(comb), s, case.bbm)
        np.testing.assert_allclose(found[place].values, expected, atol=TOLERANCE, rtol=0)


def test_many_maps_are_really_merged(literals: dict[str, Literal]) -> None:
    """Where the similarity is 0 the merged map is P_comb."""
    merged = [case for case in grid() if case.bbm != "none"]
    found = [similarity(*biases(literals[case.shape], case, n)) for case in merged for n in case.numbers]
    assert sum(0.1 < s < 0.95 for s in found) > len(found) / 3
    assert any(s == 0 for s in found)
