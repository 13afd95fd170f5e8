"""The profile `released`: the released code's numbers with their quantisation, and its choice of tokens by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.ldm import bbm
from gtg_bench.methods.ldm import build as building
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.released import ReleasedLdmMethod, normalised, truncated

SETTINGS = MethodSettings(
    "tiny", sampling="gt-cfg", steps=4, guidance=3.0, tokens="lexical", profile="released", lexicon="rule 1"
)

pytestmark = pytest.mark.usefixtures("torch")


@pytest.fixture(scope="module")
def method(components: LdmComponents) -> ReleasedLdmMethod:
    return ReleasedLdmMethod(components, SETTINGS)


def same_bits(found: Any, expected: Any) -> None:
    """Equal except for a few pixels, which another processor's float32 may round to the next of 256 levels."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    level = 1 if expected.max() > 1 else 1 / 255
    assert (found == expected).mean() > 0.99
    assert np.abs(found - expected).max() < 1.01 * level


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_released_codes_merged_maps(
    golden: Callable, golden_bbm: Callable, method: ReleasedLdmMethod, case: int
) -> None:
    _, arrays = golden("bbm")
    combined, product, image, text = golden_bbm(case)
    mult, comb = normalised(torch.from_numpy(truncated(product))), normalised(torch.from_numpy(combined).float())
    parts = {
        "image_bias_u8": truncated(image),
        "text_bias_u8": truncated(text),
        "merged": mult,
        "act": comb,
        "merged_x_act": mult * comb,
        "comb": (mult + comb + mult * comb) / 2,
    }
    for name, values in parts.items():
        same_bits(values, arrays[f"c{case}_ref_{name}"])
    found, expected = method.merge(combined, product, image, text), arrays[f"c{case}_ref_bbm"].numpy()
    assert found.dtype == np.float64
    same_bits(found, expected)
    paper = bbm.merged(combined, product, bbm.similarity(image, text), "mixture")
    with pytest.raises(AssertionError):
        same_bits(paper, found)


# Which tokens, counted by hand. Word pieces: [start] right - sided pneumonia / edema [end]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("Small left pleural effusion.", [1, 2, 3, 4]),
        ("mild cardiomegaly, large in degree", [1, 2, 4, 6]),
        ("the pleural cart", [2, 3]),  # the pleural c ##a ##r ##t: the first sub-token of a rare word
        ("there is a hazy opacity at the right base", [4, 5, 8, 9]),
        # "edema" is the third word, but the slash is third between spaces
        ("Right-sided pneumonia / edema", [1, 4, 5]),
        # "left" is mistaken for "base", and "base" for the end token
        ("right,left base", [1, 4, 5]),
    ],
)
def test_lexical_tokens_are_first_sub_tokens_at_drifting_indices(
    method: ReleasedLdmMethod, text: str, places: list[int]
) -> None:
    prompt = method.prompts(text, "")
    default = ReleasedLdmMethod(method.components, replace(SETTINGS, tokens=None)).prompts(text, "")
    assert torch.equal(prompt.chosen, default.chosen)
    assert prompt.chosen.nonzero()[:, 0].tolist() == places
    torch.testing.assert_close(prompt.chosen.sum(), torch.tensor(1.0))
    assert len(set(prompt.chosen[places].tolist())) == 1
    assert prompt.note == ""


@pytest.mark.parametrize(
    ("text", "category", "expected"),
    [
        ("Small left pleural effusion.", "Pleural Effusion", {3: 0.5, 4: 0.25, 5: 0.25}),
        ("Right-sided pneumonia / edema", "Edema", {6: 1.0}),
        ("mild cardiomegaly, large in degree", "Cardiomegaly", {2: 0.5, 3: 0.5}),
    ],
)
def test_every_disease_word_has_the_same_weight(
    components: LdmComponents, text: str, category: str, expected: dict[int, float]
) -> None:
    chosen = ReleasedLdmMethod(components, replace(SETTINGS, tokens="disease")).prompts(text, category).chosen
    assert {place: weight for place, weight in enumerate(chosen.tolist()) if weight} == pytest.approx(expected)


@pytest.mark.parametrize(("tokens", "text"), [("lexical", "there is a"), ("disease", "Small left base")])
def test_the_paper_decides_if_no_token_is_found(components: LdmComponents, tokens: str, text: str) -> None:
    method = ReleasedLdmMethod(components, replace(SETTINGS, tokens=tokens))
    found = method.prompts(text, "Edema")
    assert found.chosen.nonzero()[:, 0].tolist() == [1, 2, 3]
    assert f"no {tokens} word" in found.note
    truncated = method.prompts("small edema " * 20, "Edema").chosen  # 40 words, of which 22 are read
    assert len(truncated) == 24
    assert truncated[:22].sum() > 0.9


# Steps, rounding, merging


def query(seed: int, text: str = "Small left effusion.") -> Query:
    return Query(np.random.default_rng(seed).random((16, 16), dtype=np.float32), text, seed)


def test_the_last_40_steps_are_averaged_by_default(folder: Path) -> None:
    for steps, last_steps, kept in ((50, None, 40), (40, None, 40), (4, None, 4), (50, 50, 50)):
        wanted = MethodSettings("tiny-ldm", weights=str(folder), steps=steps, last_steps=last_steps, profile="released")
        method = building.build(building.complete(wanted))
        assert isinstance(method, ReleasedLdmMethod)
        assert method.kept == kept


def test_maps_are_normalised_in_half_precision(components: LdmComponents) -> None:
    found = ReleasedLdmMethod(components, replace(SETTINGS, tokens="all")).ground_batch([query(0)])[0].values
    paper = LdmMethod(components, replace(SETTINGS, tokens="all")).ground_batch([query(0)])[0].values
    assert found.dtype == np.float32
    assert np.array_equal(found, found.astype(np.float16).astype(np.float32))
    assert (found.min(), found.max()) == (0.0, 1.0)
    np.testing.assert_allclose(found, bbm.scaled(paper), atol=2e-2)


def test_merging_gets_the_papers_parts(components: LdmComponents) -> None:
    """The merged maps are the paper's; only the merge is the released code's. Batches do not matter."""
    settings = replace(SETTINGS, tokens="all", bbm="mixture")
    released, paper = ReleasedLdmMethod(components, settings), LdmMethod(components, settings)
    queries = [query(0), query(1, "edema")]
    with patch.object(paper, "merge", wraps=paper.merge) as merge:
        clean = paper.ground_batch(queries)
    found = released.ground_batch(queries)
    for call, asked, map_, other in zip(merge.call_args_list, queries, found, clean, strict=True):
        assert np.array_equal(map_.values, released.merge(*call.args).astype(np.float32))
        np.testing.assert_allclose(released.ground_batch([asked])[0].values, map_.values, atol=1e-2)
        assert not np.array_equal(map_.values, other.values)
        np.testing.assert_allclose(map_.values, other.values, atol=0.1)


@pytest.mark.parametrize("how", ["linear", "quadratic"])
def test_other_merges_are_refused(components: LdmComponents, folder: Path, how: str) -> None:
    wanted = MethodSettings("tiny-ldm", weights=str(folder), bbm=how)
    with pytest.raises(UsageError, match=f"--bbm {how}: .* mixture only"):
        building.build(building.complete(replace(wanted, profile="released")))
    assert type(building.build(building.complete(wanted))) is LdmMethod
