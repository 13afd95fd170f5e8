"""Bimodal Bias Merging (section 2.3, Appendix B) against golden values and by hand; text biases and their cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
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
from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.ldm import text_bias as text_biases
from gtg_bench.methods.ldm.bbm import (
    check_size,
    linear,
    linear_as_quadratic,
    merged,
    mixture,
    quadratic,
    scaled,
    similarity,
)
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod

Array = NDArray[np.float64]
STEPS = 3
SETTINGS = MethodSettings("tiny", sampling="gt-cfg", steps=STEPS, guidance=3.0, bbm="mixture", lexicon="rule 1")

pytestmark = pytest.mark.usefixtures("torch")


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_released_codes_merged_maps(golden: Callable, golden_bbm: Callable, case: int) -> None:
    """Equal without quantisation, which moves them as much as is known."""
    combined, product, image, text = golden_bbm(case)
    facts, arrays = golden("bbm")
    known = facts["cases"][case]
    mult, comb, s = scaled(product), scaled(combined), similarity(image, text)
    found = merged(combined, product, s, "mixture")
    assert s == pytest.approx(known["s_f64"], abs=1e-6)
    np.testing.assert_allclose(mult, arrays[f"c{case}_f64_matmul_merged"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(found, arrays[f"c{case}_f64_matmul_bbm"], atol=2e-6, rtol=0)
    paper = {"merged": mult, "act": comb, "comb": (mult + comb + mult * comb) / 2, "bbm": found}
    for name, values in paper.items():
        moved = np.abs(values - arrays[f"c{case}_ref_{name}"].numpy()).max()
        assert moved == pytest.approx(known["maxabs_ref_minus_f64_matmul"][name], abs=1e-5)


# s, the similarity of two biases


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
def test_similarity_is_ssim_of_the_scaled_biases(side: int) -> None:
    """It ignores scale and offset, and is clipped to [0, 1]."""
    image, noise = np.random.default_rng(side).random((2, side, side))
    for share in (-1.0, 0.0, 0.3, 0.9, 1.0):
        text = share * image + (1 - abs(share)) * noise
        expected = min(1.0, max(0.0, literal_ssim(scaled(image), scaled(text))))
        assert similarity(image, text) == pytest.approx(expected, abs=1e-9)
        assert similarity(0.01 * image + 3, 500 * text - 7) == pytest.approx(expected, abs=1e-9)
    assert (similarity(image, -image), similarity(image, image)) == (0.0, 1.0)


# The merges, Eq. 2 to 6


@pytest.mark.parametrize("s", [0.0, 0.2, 0.87, 1.0])
def test_equations_2_to_6(s: float) -> None:
    """A constant map counts as 0: what remains of each equation is a share of P_comb."""
    combined, product = np.random.default_rng(5).random((2, 8, 8)) * [[[0.02]], [[30]]] + 0.01
    comb, mult, flat = scaled(combined), scaled(product), np.full((8, 8), 0.3)
    ends = (1 - s) ** 2 * comb + s**2 * mult
    by_hand = {
        "linear": (linear, s * mult + (1 - s) * comb, 1 - s),  # Eq. 3
        "quadratic": (quadratic, 2 * (1 - s) * s * (mult * comb) + ends, (1 - s) ** 2),  # Eq. 4
        "mixture": (mixture, 2 * (1 - s) * s * ((mult + comb + mult * comb) / 2) + ends, 1 - s),  # Eq. 2 and 6
    }
    np.testing.assert_allclose(linear_as_quadratic(comb, mult, s), linear(comb, mult, s), atol=1e-12)  # Eq. 5
    for how, (equation, expected, share) in by_hand.items():
        np.testing.assert_allclose(equation(comb, mult, s), expected, atol=1e-12)
        assert np.array_equal(merged(combined, product, s, how), equation(comb, mult, s))
        np.testing.assert_allclose(merged(combined, flat, s, how), share * comb, atol=1e-12)
    assert similarity(flat, flat) == 1.0
    assert similarity(flat, combined) == pytest.approx(max(0.0, literal_ssim(np.zeros((8, 8)), comb)))


# Text biases: one run per distinct prompt


def query(seed: int, text: str = "Small left effusion.", category: str = "") -> Query:
    return Query(np.random.default_rng(seed).random((16, 16), dtype=np.float32), text, seed, category)


QUERIES = [query(0), query(1, "hazy opacity"), query(2), query(3, "edema"), query(4, "hazy opacity")]


@contextmanager
def unconditional(components: LdmComponents) -> Iterator[list[int]]:
    """The unconditional rows of every forward that has any: one per guided step, every step of a run but the last."""
    empty, found = components.text_encoder.encode([""]).states[0], []
    forward = components.unet.forward

    def counted(x: Tensor, t: Tensor, states: Tensor, **options: Any) -> Any:
        if empties := sum(torch.equal(row, empty) for row in states):
            found.append(empties)
        return forward(x, t, states, **options)

    with patch.object(components.unet, "forward", counted):
        yield found


GUIDED = STEPS - 1
"""Guided steps of one run."""


def test_one_run_for_each_distinct_prompt(components: LdmComponents) -> None:
    method = LdmMethod(replace(components), SETTINGS)
    with unconditional(components) as rows:
        for queries in ([QUERIES[0]], [QUERIES[2]], QUERIES, QUERIES[::-1]):  # 0 and 2 share a prompt
            method.ground_batch(queries)
        assert rows == [1] * GUIDED + [2] * GUIDED, "two new prompts together, each once"
    disease, text = LdmMethod(replace(components), replace(SETTINGS, tokens="disease")), "small effusion, mild edema"
    with unconditional(components) as rows:
        disease.ground_batch([query(0, text, "Edema"), query(0, text, "Pleural Effusion"), query(1, text, "edema")])
    assert rows == [2] * GUIDED, "one for each choice of tokens"
    with unconditional(components) as rows:
        LdmMethod(replace(components), SETTINGS, 1).ground_batch(QUERIES)
    assert rows == [1] * 3 * GUIDED, "no more than `rows` at once"
    with unconditional(components) as rows:
        LdmMethod(replace(components), replace(SETTINGS, bbm="none")).ground_batch(QUERIES)
    assert rows == [], "without merging"


def test_dropped_text_biases_are_computed_again(components: LdmComponents, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one prompt: the same maps, and the oldest is dropped."""
    expected = LdmMethod(replace(components), SETTINGS).ground_batch(QUERIES)
    one = STEPS * 4 * (3 * 8 * 8 + 4 * 4 * 4)  # bytes of a prompt: three layers of 8 x 8, four of 4 x 4
    monkeypatch.setattr(text_biases, "MOST_BYTES", one + 1)
    method = LdmMethod(replace(components), SETTINGS)
    with unconditional(components) as rows:
        found = [method.ground_batch([QUERIES[number]])[0] for number in (0, 2, 1, 2, 3, 0)]  # prompts a a b a c a
        found += method.ground_batch(QUERIES)
    for map_, other in zip(found, [expected[k] for k in (0, 2, 1, 2, 3, 0)] + expected, strict=True):
        np.testing.assert_allclose(map_.values, other.values, atol=1e-5, rtol=0)
    assert rows == [1] * GUIDED * 5 + [2] * GUIDED


# What cannot be merged


def test_tiny_latents_are_refused(components: LdmComponents, make_unet: Callable[..., Any]) -> None:
    small = replace(components, unet=make_unet(sample_size=6))
    with pytest.raises(UsageError, match=r"--bbm .* 7 x 7 .* 6 x 6"):
        LdmMethod(small, SETTINGS)
    LdmMethod(small, replace(SETTINGS, bbm="none"))
    check_size(7)


def test_methods_without_attention_cannot_merge() -> None:
    others = [entry for entry in METHODS.entries() if not entry.samplings]
    assert {entry.card.kind for entry in others} >= {"baseline", "prior", "discriminative"}
    for entry, how in itertools.product(others, ("linear", "quadratic", "mixture")):
        with pytest.raises(UsageError, match=f"--bbm {how}: {entry.name}"):
            entry.completed(MethodSettings(entry.name, bbm=how))
    baseline = next(entry for entry in others if entry.card.kind == "baseline")
    assert baseline.completed(MethodSettings(baseline.name, bbm="none", dataset="phantom")).bbm is None
