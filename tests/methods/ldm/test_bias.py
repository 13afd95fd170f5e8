"""Bimodal Bias Merging (section 2.3, Appendix B) against golden values and by hand; text biases and their cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings, Query
from gtg_bench.methods.ldm import text_bias as text_biases
from gtg_bench.methods.ldm.bias import (
    BiasedMaps,
    BiasProducts,
    check_size,
    merged,
    repeats,
    scaled,
    similarity,
    text_bias,
)
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.reduction import MeanMaps, Rows

Array = NDArray[np.float64]
CASES = [0, 1, 2]
STEPS = 3
SETTINGS = MethodSettings("tiny", sampling="gt-cfg", steps=STEPS, guidance=3.0, bbm="mixture", lexicon="rule 1")

pytestmark = pytest.mark.usefixtures("torch")


# The released code's golden values


@pytest.mark.parametrize("case", CASES)
def test_golden_similarity(golden: Callable, golden_bbm: Callable, case: int) -> None:
    s = similarity(*golden_bbm(case)[2:])
    assert s == pytest.approx(golden("bbm")[0]["cases"][case]["s_f64"], abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_golden_merging_without_quantisation(golden: Callable, golden_bbm: Callable, case: int) -> None:
    combined, product, image, text = golden_bbm(case)
    _, arrays = golden("bbm")
    np.testing.assert_allclose(scaled(product), arrays[f"c{case}_f64_matmul_merged"], atol=2e-6, rtol=0)
    found = merged(combined, product, similarity(image, text), "mixture")
    np.testing.assert_allclose(found, arrays[f"c{case}_f64_matmul_bbm"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_golden_quantisation_moves_no_more_than_is_known(golden: Callable, golden_bbm: Callable, case: int) -> None:
    combined, product, image, text = golden_bbm(case)
    facts, arrays = golden("bbm")
    known, slack = facts["cases"][case]["maxabs_ref_minus_f64_matmul"], 1e-5
    mult, comb = scaled(product), scaled(combined)
    paper = {
        "merged": mult,
        "act": comb,
        "comb": (mult + comb + mult * comb) / 2,
        "bbm": merged(combined, product, similarity(image, text), "mixture"),
    }
    for name, values in paper.items():
        moved = np.abs(values - arrays[f"c{case}_ref_{name}"].numpy()).max()
        assert known[name] - slack < moved < known[name] + slack


@pytest.mark.parametrize("case", CASES)
def test_golden_products_are_not_the_product_of_means(golden: Callable, golden_bbm: Callable, case: int) -> None:
    combined, product, image, text = golden_bbm(case)
    known = golden("bbm")[0]["cases"][case]["maxabs_f64_matmulofmeans_minus_matmul"]
    of_means = scaled(image @ text)
    assert np.abs(of_means - scaled(product)).max() == pytest.approx(known["merged"], abs=1e-5)
    s = similarity(image, text)
    moved = merged(combined, of_means, s, "mixture") - merged(combined, product, s, "mixture")
    assert np.abs(moved).max() == pytest.approx(known["bbm"], abs=1e-5)


# Products at the layers' own resolution


def enlarged(maps: Array, side: int) -> Array:
    """Nearest upsampling by index."""
    rows = [cell * maps.shape[0] // side for cell in range(side)]
    return maps[rows][:, rows]


def random_biases(side: int, sizes: Sequence[int], samples: int) -> tuple[dict, dict]:
    """Image and text maps by layer, float32 [samples, steps, tokens, n, n]; the image's have one token."""
    random = np.random.default_rng(side)
    image = {str(n): random.random((samples, STEPS, 1, n, n), dtype=np.float32) for n in sizes}
    text = {str(n): random.random((samples, STEPS, 2, n, n), dtype=np.float32) for n in sizes}
    return image, text


def literal_product(image: dict, text: dict, sample: int, side: int) -> Array:
    """The mean over steps, layers and tokens of the products of maps at full size."""
    full = []
    for layer, step, token in itertools.product(image, range(STEPS), range(2)):
        p_img, p_txt = image[layer][sample, step, 0], text[layer][sample, step, token]
        full.append(enlarged(p_img.astype(float), side) @ enlarged(p_txt.astype(float), side))
    return np.mean(full, 0)


def products_of(image: dict, text: dict, side: int, prompt: list[int], at_once: int) -> BiasProducts:
    """The products of samples whose steps come in groups of `at_once`, in no order."""
    products = BiasProducts(
        {layer: torch.from_numpy(maps).mean(2) for layer, maps in text.items()}, torch.tensor(prompt), (side, side)
    )
    order = np.random.default_rng(0).permutation(list(itertools.product(range(len(prompt)), range(STEPS))))
    for start in range(0, len(order), at_once):
        sample, step = torch.from_numpy(order[start : start + at_once].T.copy())
        for layer, maps in image.items():
            products.add(layer, torch.from_numpy(maps)[sample, step, 0], Rows(sample, step))
    return products


@pytest.mark.parametrize("at_once", [1, 4, 9])
@pytest.mark.parametrize(
    ("side", "sizes"), [(8, [8, 4, 2, 1]), (9, [9, 5, 3]), (15, [15, 8, 4, 2]), (7, [4, 7]), (10, [5, 3]), (64, [8])]
)
def test_products_of_small_maps_are_those_of_the_enlarged(side: int, sizes: list[int], at_once: int) -> None:
    image, text = random_biases(side, sizes, 3)
    found = products_of(image, text, side, [0, 1, 2], at_once).mean().numpy()
    for sample in range(3):
        expected = literal_product(image, text, sample, side)
        np.testing.assert_allclose(found[sample], expected, rtol=1e-5)
        assert expected.std() > 1e-2


def test_samples_share_the_text_bias_of_their_prompt() -> None:
    image, text = random_biases(9, [9, 5], 3)
    found = products_of(image, text, 9, [2, 0, 2], 4).mean().numpy()
    shared = {layer: maps[[2, 0, 2]] for layer, maps in text.items()}
    for sample in range(3):
        np.testing.assert_allclose(found[sample], literal_product(image, shared, sample, 9), rtol=1e-5)


def test_a_product_of_means_is_another_map() -> None:
    image, text = random_biases(8, [8, 4], 1)
    found = products_of(image, text, 8, [0], 3).mean()[0].numpy()
    means = [
        np.mean([enlarged(maps[0, t, n], 8) for maps in part.values() for t in range(STEPS) for n in range(count)], 0)
        for part, count in ((image, 1), (text, 2))
    ]
    assert np.abs(scaled(means[0] @ means[1]) - scaled(found)).max() > 0.05
    assert np.abs(scaled(means[1] @ means[0]) - scaled(found)).max() > 0.05, "and not the other way round"


@pytest.mark.parametrize(("cells", "to"), [(1, 7), (2, 15), (4, 15), (8, 15), (3, 9), (5, 9), (32, 64), (7, 7)])
def test_repeats_count_how_often_a_cell_is_enlarged(cells: int, to: int) -> None:
    expected = np.bincount([cell * cells // to for cell in range(to)], minlength=cells)
    assert repeats(cells, to, torch.device("cpu")).tolist() == expected.tolist()


def test_the_text_bias_is_the_mean_over_steps_and_layers() -> None:
    _, text = random_biases(15, [15, 8, 4], 2)
    found = text_bias({layer: torch.from_numpy(maps).mean(2) for layer, maps in text.items()}, (15, 15)).numpy()
    for sample in range(2):
        full = [enlarged(maps[sample, t, n], 15) for maps in text.values() for t in range(STEPS) for n in range(2)]
        np.testing.assert_allclose(found[sample], np.mean(full, 0), rtol=1e-5)


def test_biased_maps_part_the_chosen_tokens_from_the_start_token() -> None:
    """P_comb is of the last steps, the biases of all."""
    image, text = random_biases(8, [8, 4], 1)
    products = products_of({}, text, 8, [0], 1)
    maps = BiasedMaps(MeanMaps(1, (8, 8), first_step=2), products)
    maps.rows = Rows(torch.zeros(STEPS, dtype=torch.int64), torch.arange(STEPS))
    for layer, start in image.items():
        maps.add(layer, torch.from_numpy(np.concatenate([text[layer][0, :, :1], start[0]], 1)))
    last = [enlarged(part[0, 2, 0], 8) for part in text.values()]
    every = [enlarged(part[0, t, 0], 8) for part in image.values() for t in range(STEPS)]
    np.testing.assert_allclose(maps.combined.mean()[0, 0], np.mean(last, 0), rtol=1e-5)
    np.testing.assert_allclose(maps.image.mean()[0, 0], np.mean(every, 0), rtol=1e-5)
    np.testing.assert_allclose(products.mean()[0], literal_product(image, text, 0, 8), rtol=1e-5)


# How alike two biases are


def literal_ssim(x: Array, y: Array) -> float:
    """Wang et al. 2004 with a flat 7 x 7 window and unbiased variances, where the window fits; data range 1."""
    found, side = [], len(x)
    for row, column in itertools.product(range(side - 6), repeat=2):
        a, b = (part[row : row + 7, column : column + 7].ravel() for part in (x, y))
        (va, cov), (_, vb) = np.cov(a, b)
        means = (2 * a.mean() * b.mean() + 0.01**2) / (a.mean() ** 2 + b.mean() ** 2 + 0.01**2)
        found.append(means * (2 * cov + 0.03**2) / (va + vb + 0.03**2))
    return float(np.mean(found))


@pytest.mark.parametrize("side", [7, 8, 15])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_similarity_is_ssim_of_the_scaled_biases(side: int, share: float) -> None:
    random = np.random.default_rng(side)
    image, noise = random.random((2, side, side))
    text = share * image + (1 - share) * noise
    expected = min(1.0, max(0.0, literal_ssim(scaled(image), scaled(text))))
    assert similarity(image, text) == pytest.approx(expected, abs=1e-9)
    assert similarity(0.01 * image + 3, 500 * text - 7) == pytest.approx(expected, abs=1e-9)


def test_similarity_is_clipped() -> None:
    image = np.random.default_rng(0).random((8, 8))
    assert literal_ssim(scaled(image), scaled(-image)) < -0.1
    assert similarity(image, -image) == 0.0
    assert similarity(image, image) == 1.0


# The three merges


@pytest.fixture(scope="module")
def two_maps() -> tuple[Array, Array]:
    """P_comb and P_mult before their normalisation."""
    combined, product = np.random.default_rng(5).random((2, 8, 8))
    return 0.02 * combined + 0.01, 30 * product


@pytest.mark.parametrize("s", [0.0, 0.2, 0.5, 0.87, 1.0])
def test_equations_2_to_6(two_maps: tuple[Array, Array], s: float) -> None:
    comb, mult = (scaled(part) for part in two_maps)
    linear, quadratic, mixture = (merged(*two_maps, s, how) for how in ("linear", "quadratic", "mixture"))
    np.testing.assert_allclose(linear, s * mult + (1 - s) * comb, atol=1e-12)
    ends = (1 - s) ** 2 * comb + s**2 * mult
    np.testing.assert_allclose(linear, 2 * (1 - s) * s * (mult + comb) / 2 + ends, atol=1e-12, err_msg="Eq. 5")
    np.testing.assert_allclose(quadratic, 2 * (1 - s) * s * mult * comb + ends, atol=1e-12, err_msg="Eq. 4")
    np.testing.assert_allclose(mixture, linear + (1 - s) * s * mult * comb, atol=1e-12, err_msg="Eq. 6 less Eq. 5")


def test_the_ends_of_the_curves_are_the_two_maps(two_maps: tuple[Array, Array]) -> None:
    for how in ("linear", "quadratic", "mixture"):
        np.testing.assert_allclose(merged(*two_maps, 0.0, how), scaled(two_maps[0]))
        np.testing.assert_allclose(merged(*two_maps, 1.0, how), scaled(two_maps[1]))


def test_constant_maps_count_as_0(two_maps: tuple[Array, Array]) -> None:
    flat, comb = np.full((8, 8), 0.3), scaled(two_maps[0])
    for how, share in (("linear", 0.6), ("quadratic", 0.6**2), ("mixture", 0.6)):
        np.testing.assert_allclose(merged(two_maps[0], flat, 0.4, how), share * comb)
        assert (merged(flat, flat, 0.4, how) == 0).all()
    assert similarity(flat, flat) == 1.0
    assert similarity(flat, two_maps[0]) == pytest.approx(max(0.0, literal_ssim(np.zeros((8, 8)), comb)))


# Text biases: one pass a distinct prompt


def query(seed: int, text: str = "Small left effusion.", category: str = "") -> Query:
    return Query(np.random.default_rng(seed).random((16, 16), dtype=np.float32), text, seed, category)


QUERIES = [query(0), query(1, "hazy opacity"), query(2), query(3, "edema"), query(4, "hazy opacity")]


@contextmanager
def passes(components: LdmComponents) -> Iterator[list[int]]:
    """The rows of every guided step: two branches, so unconditional forwards; one a step, but not at the last."""
    empty, found = components.text_encoder.encode([""]).states[0], []
    forward = components.unet.forward

    def counted(x: Tensor, t: Tensor, states: Tensor, **options: Any) -> Any:
        if torch.equal(states[0], empty):
            found.append(len(states))
        return forward(x, t, states, **options)

    with patch.object(components.unet, "forward", counted):
        yield found


GUIDED = STEPS - 1
"""Guided steps of one pass."""


def test_one_pass_for_each_distinct_prompt(components: LdmComponents) -> None:
    method = LdmMethod(components, SETTINGS)
    with passes(components) as rows:
        method.ground_batch([QUERIES[0]])
        assert rows == [1] * GUIDED
        method.ground_batch([QUERIES[2]])
        assert rows == [1] * GUIDED, "another image with the same prompt"
        method.ground_batch(QUERIES)
        assert rows == [1] * GUIDED + [2] * GUIDED, "two new prompts together, each once"
        method.ground_batch(QUERIES[::-1])
        assert rows == [1] * GUIDED + [2] * GUIDED


def test_prompts_are_distinct_by_text_and_chosen_tokens(components: LdmComponents) -> None:
    method = LdmMethod(components, replace(SETTINGS, tokens="disease"))
    text = "small effusion, mild edema"
    with passes(components) as rows:
        method.ground_batch([query(0, text, "Edema"), query(0, text, "Pleural Effusion"), query(1, text, "edema")])
    assert rows == [2] * GUIDED


@pytest.mark.parametrize("rows_at_once", [1, 2])
def test_no_pass_is_larger_than_a_forward_may_be(components: LdmComponents, rows_at_once: int) -> None:
    with passes(components) as rows:
        LdmMethod(components, SETTINGS, rows_at_once).ground_batch(QUERIES)
    assert max(rows) == rows_at_once
    assert sum(rows) == 3 * GUIDED


def test_without_merging_there_is_no_pass(components: LdmComponents) -> None:
    with passes(components) as rows:
        LdmMethod(components, replace(SETTINGS, bbm="none")).ground_batch(QUERIES)
    assert rows == []


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_is_forgotten_is_made_again(components: LdmComponents, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """With room for so many prompts: the same maps, and the oldest is what goes."""
    expected = LdmMethod(components, SETTINGS).ground_batch(QUERIES)
    one = STEPS * 4 * (3 * 8 * 8 + 4 * 4 * 4)  # bytes of a prompt: three layers of 8 x 8, four of 4 x 4
    monkeypatch.setattr(text_biases, "MOST_BYTES", kept * one + 1)
    method = LdmMethod(components, SETTINGS)
    with passes(components) as rows:
        for number in (0, 1, 2, 3, 4, 0):  # three prompts: a b a c b a
            assert_same([method.ground_batch([QUERIES[number]])[0]], [expected[number]])
        assert_same(method.ground_batch(QUERIES), expected)
    singles, together = {0: (6, [3]), 1: (6, [2]), 2: (5, [1])}[kept]
    assert rows == [1] * GUIDED * singles + together * GUIDED
    assert len(method.text_biases._known) == kept


def assert_same(found: Sequence[GroundingMap], expected: Sequence[GroundingMap]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["text", "cfg", "gt1-cfg", "gt-cfg"])
def test_a_batch_gives_the_merged_maps_of_its_queries_alone(components: LdmComponents, mode: str) -> None:
    settings = replace(SETTINGS, sampling=mode)
    together = LdmMethod(components, settings).ground_batch(QUERIES)
    assert_same(together, [LdmMethod(components, settings, rows=1).ground_batch([q])[0] for q in QUERIES])
    for found in together:
        assert found.values.dtype == np.float32
        assert 0 <= found.values.min() < found.values.max() <= 1.5


def test_the_text_bias_depends_on_the_runs_seed_and_on_no_image(components: LdmComponents) -> None:
    def bias(seed: int, number: int) -> Tensor:
        method = LdmMethod(components, replace(SETTINGS, seed=seed))
        maps, places = method.text_biases([method.prompts(QUERIES[number].text, "")])
        assert places.tolist() == [0]
        return maps["mid_block.attentions.0.transformer_blocks.0.attn2"]

    assert torch.equal(bias(1, 0), bias(1, 2))
    assert not torch.equal(bias(1, 0), bias(2, 0))
    assert not torch.equal(bias(1, 0), bias(1, 1))


# What cannot be merged


@pytest.mark.parametrize("side", [1, 4, 6])
def test_tiny_latents_are_refused(components: LdmComponents, make_unet: Callable[..., Any], side: int) -> None:
    small = replace(components, unet=make_unet(sample_size=side))
    with pytest.raises(
        UsageError, match=f"--bbm needs latents of at least 7 x 7 cells, this model has {side} x {side}"
    ):
        LdmMethod(small, SETTINGS)
    LdmMethod(small, replace(SETTINGS, bbm="none"))
    with pytest.raises(UsageError, match="7 x 7"):
        check_size(side)
    check_size(7)


@pytest.mark.parametrize("how", ["linear", "quadratic", "mixture"])
def test_methods_without_attention_have_nothing_to_merge(how: str) -> None:
    others = [entry for entry in METHODS.entries() if not entry.samplings]
    assert {entry.card.kind for entry in others} >= {"baseline", "prior", "discriminative"}
    for entry in others:
        with pytest.raises(UsageError, match=f"--bbm {how}: {entry.name} has no cross-attention maps"):
            entry.completed(MethodSettings(entry.name, bbm=how))
    baseline = next(entry for entry in others if entry.card.kind == "baseline")
    assert baseline.completed(MethodSettings(baseline.name, bbm="none", dataset="phantom")).bbm is None
