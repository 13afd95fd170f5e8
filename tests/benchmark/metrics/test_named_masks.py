"""Masks by name."""

from __future__ import annotations

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.metrics.masks import carried_mask, fixed_mask, mixture_mask, otsu_mask
from gtg_bench.benchmark.metrics.named_masks import best_name, mask_name, mask_of_pixels, named_mask, rule_of

VALUES = np.random.default_rng(0).random((12, 9), dtype=np.float32) ** 3
FRAME, TO = Frame.original((36, 48)), Frame.center_crop((36, 48), 64)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mixture", "mixture"),
        ("otsu", "otsu"),
        ("0.5", "0.5"),
        (".50", "0.5"),
        ("5e-1", "0.5"),
        ("0", "0"),
        ("-0", "0"),
    ],
)
def test_a_mask_has_one_spelling(text: str, name: str) -> None:
    assert mask_name(text) == name


@pytest.mark.parametrize("text", ["", "Otsu", "1", "1.5", "-0.1", "nan", "inf", "0.99999999", "none", "0,5"])
def test_what_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is neither mixture, otsu, nor a threshold from 0 to below 1"):
        mask_name(text)


def test_the_mixture_is_made_of_the_native_map_and_carried() -> None:
    found = named_mask("mixture", VALUES, FRAME, TO)
    np.testing.assert_array_equal(found, carried_mask(mixture_mask(VALUES), FRAME, TO))
    empty = named_mask("none", VALUES, FRAME, TO)
    assert empty is not None
    assert (empty.shape, empty.any()) == ((64, 64), False)


@pytest.mark.parametrize("mask", ["otsu", "0.3", "best:0.3"])
def test_the_others_are_made_of_pixels(mask: str) -> None:
    assert named_mask(mask, VALUES, FRAME, TO) is None
    expected = otsu_mask(VALUES) if mask == "otsu" else fixed_mask(VALUES, 0.3)
    np.testing.assert_array_equal(mask_of_pixels(mask, VALUES), expected)
    assert not mask_of_pixels(mask, np.ones_like(VALUES)).any()


def test_a_chosen_threshold_says_so() -> None:
    assert (best_name(0.37), rule_of(best_name(0.37)), rule_of("0.37"), rule_of("otsu")) == (
        *("best:0.37", "best"),
        *("0.37", "otsu"),
    )
    with pytest.raises(ValueError, match="is no mask of a frame's pixels"):
        mask_of_pixels("mixture", VALUES)
