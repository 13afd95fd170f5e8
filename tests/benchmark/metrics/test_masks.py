"""Masks: the mixture's, Otsu's and fixed thresholds, by function and by name; also against the released code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from sklearn.mixture import GaussianMixture

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.metrics import iou, masks
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.metrics.masks import (
    CANDIDATES,
    best_threshold,
    carried_mask,
    fixed_mask,
    mean_filtered,
    mixture_mask,
    mixture_threshold,
    otsu_mask,
)
from gtg_bench.benchmark.metrics.named_masks import best_name, mask_name, named_mask, rule_of

PROTOCOL = Frame.original((512, 512))
NATIVE = Frame.stretch((512, 512), (64, 64))


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


RAMP = numbers([9, 6, 0], [10, 2, 3])
LEFT = grid("#..", "#..")


# The mixture of a large map


def test_a_mixture_is_fitted_to_a_sample_of_a_large_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal Gaussians around 0.3 and 0.7: the threshold is 0.5, whatever the sample."""
    monkeypatch.setattr(masks, "FITTED", 20_000)
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(mean, 0.05, 100_000) for mean in (0.3, 0.7)])
    sizes: list[int] = []
    fit = GaussianMixture.fit
    monkeypatch.setattr(GaussianMixture, "fit", lambda self, x: sizes.append(len(x)) or fit(self, x))  # type: ignore[func-returns-value]
    assert mixture_threshold(values) == pytest.approx(0.5, abs=0.003)
    assert mixture_threshold(values) == mixture_threshold(values)
    mixture_threshold(values[:20_000])
    assert sizes == [20_000] * 4


# The filter and carried masks


def test_the_filter_takes_the_majority_and_leaves_the_border() -> None:
    before = grid("#...#", ".#...", ".###.", ".##..", "....#")
    after = grid("#...#", ".....", ".##..", "..#..", "....#")
    assert (mean_filtered(before) == after).all()
    assert mean_filtered(grid("###", "#..", "#.."))[1, 1]  # 5 of 9
    assert not mean_filtered(grid("###", "#..", "..."))[1, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 9), (9, 2), (3, 3), (3, 8), (15, 15), (64, 40)])
def test_the_filter_is_the_rounded_mean(shape: tuple[int, int]) -> None:
    for seed in range(2):
        mask = np.random.default_rng(seed).random(shape) < 0.5
        expected = mask.copy()
        if min(shape) > 2:
            means = np.lib.stride_tricks.sliding_window_view(mask, (3, 3)).mean(axis=(2, 3))
            expected[1:-1, 1:-1] = means >= 0.5
        assert (mean_filtered(mask) == expected).all()


def test_a_carried_mask_rounds_half_down_and_ends_where_its_frame_ends() -> None:
    frame, to = Frame.stretch((4, 1), (4, 1)), Frame.stretch((4, 1), (2, 1))
    assert carried_mask(grid("#.##"), frame, to).tolist() == [[False, True]]
    crop = Frame.center_crop((8, 4), 4)
    assert (carried_mask(np.ones((2, 2), dtype=bool), crop, Frame.original((8, 4))) == grid("..####..")).all()


# The mixture, Otsu's and fixed thresholds


def test_the_mask_of_two_separated_levels() -> None:
    region = boxes_to_mask([(2, 3, 9, 12)], (16, 16))
    values = (region * 4.0 + np.random.default_rng(0).normal(0, 0.1, (16, 16)) - 7).astype(np.float32)
    mask = mixture_mask(values)
    assert mask.dtype == bool
    assert (mask != region).sum() <= 4  # the filter rounds the corners
    assert (mixture_mask(1000 * values + 5) == mask).all()
    spread = minmax(values)
    assert mixture_threshold(spread) == pytest.approx((spread[region].mean() + spread[~region].mean()) / 2, rel=1e-3)


@pytest.mark.parametrize("mask_of", [mixture_mask, otsu_mask, lambda values: fixed_mask(values, 0.5)])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64)])
def test_the_mask_of_a_constant_map_is_empty(mask_of: Callable, shape: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, 0.1, -3e38):
            mask = mask_of(np.full(shape, value, dtype=np.float32))
            assert (mask.shape, mask.any()) == (shape, False)


def test_no_map_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mixture_mask(numbers([0, 1])).tolist() == [[False, True]]
        values = boxes_to_mask([(2, 2, 7, 7)], (9, 9)).astype(np.float32)
        assert mixture_mask(values)[4, 4]
        assert not mixture_mask(values * 1e-42)[0, 0]
        for draw in MAPS.values():  # among them fits that do not converge
            mixture_mask(draw(np.random.default_rng(1), (40, 30)).astype(np.float32))


def test_a_fixed_threshold_is_on_the_normalised_map() -> None:
    assert (fixed_mask(RAMP, 0.6) == grid("#..", "#..")).all()
    assert (fixed_mask(RAMP * 5 - 300, 0.59) == grid("##.", "#..")).all()
    assert (fixed_mask(RAMP, 0) == grid("##.", "###")).all()
    for threshold in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="threshold"):
            fixed_mask(RAMP, threshold)


def test_otsu_by_hand() -> None:
    values = numbers([1, 2, 1.5, 40, 41], [2, 1, 1, 2, 42])
    assert (otsu_mask(values) == grid("...##", "....#")).all()
    assert (otsu_mask(1e-3 * values - 5) == grid("...##", "....#")).all()


def hills(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    rows, columns = (np.linspace(-2, 2, side) - random.normal() for side in shape)
    return np.exp(-random.uniform(0.3, 5) * (rows[:, None] ** 2 + columns**2))


MAPS: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray]] = {
    "uniform": lambda random, shape: random.random(shape),
    "normal": lambda random, shape: random.standard_normal(shape),
    "two groups": lambda random, shape: random.standard_normal(shape) + 6 * (random.random(shape) < 0.2),
    "hills": hills,
    "mostly zero": lambda random, shape: random.random(shape) * (random.random(shape) < 0.05),
    "ramp": lambda random, shape: np.linspace(0, 1, shape[0] * shape[1]).reshape(shape),
}


def between_variance(values: NDArray, threshold: float) -> float:
    low, high = values[values <= threshold], values[values > threshold]
    return low.size * high.size * (low.mean() - high.mean()) ** 2


@pytest.mark.parametrize("name", MAPS)
def test_otsu_against_scikit_image_and_brute_force(name: str) -> None:
    for seed in range(3):
        values = MAPS[name](np.random.default_rng(seed), (40, 30)).astype(np.float32)
        mask = otsu_mask(values)
        assert (mask == (values > threshold_otsu(values))).mean() > 0.999
        best = max(between_variance(values, threshold) for threshold in np.unique(values)[:-1])
        assert between_variance(values, values[~mask].max()) > 0.98 * best


# The choice of a threshold


def test_the_best_threshold_by_hand() -> None:
    # Normalised to 0.9, 0.6, 0 and 1, 0.2, 0.3: from 0.6 up to just below 0.9 the mask equals the region.
    assert best_threshold([RAMP], [LEFT]) == 0.6
    assert best_threshold([RAMP], [LEFT], candidates=[0.1, 0.5, 0.7, 0.8]) == 0.7
    assert best_threshold([-RAMP, RAMP], [LEFT & False, LEFT]) == 0.6, "a sample without a region does not choose"


def test_the_best_threshold_is_that_of_a_loop() -> None:
    random = np.random.default_rng(0)
    samples = [(random.standard_normal((14, 9)), random.random((14, 9)) < 0.4) for _ in range(4)]
    means = [np.mean([iou(fixed_mask(values, t), region) for values, region in samples]) for t in CANDIDATES]
    assert best_threshold(*zip(*samples, strict=True)) == CANDIDATES[int(np.argmax(means))]


@pytest.mark.parametrize("regions", [[LEFT & False], [LEFT, LEFT]])
def test_a_threshold_is_not_chosen_without_a_region_for_each_map(regions: list[BoolArray]) -> None:
    with pytest.raises(ValueError, match=r"region|zip"):
        best_threshold([RAMP], regions)


# Masks by name


@pytest.mark.parametrize("text", ["mixture", "otsu", "0.5", ".50", "5e-1", "0", "-0"])
def test_a_mask_has_one_spelling(text: str) -> None:
    assert mask_name(text) == {".50": "0.5", "5e-1": "0.5", "-0": "0"}.get(text, text)


@pytest.mark.parametrize(
    "text", ["", "Otsu", "1", "1.5", "-0.1", "nan", "inf", "0.99999999", "none", "0,5", "best:0.3"]
)
def test_an_unknown_mask_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mask"):
        mask_name(text)


@pytest.mark.parametrize("window", [np.s_[:, :], np.s_[8:40, 3:50], np.s_[0:0, 0:0]])
@pytest.mark.parametrize("mask", ["mixture", "otsu", "0.3", "best:0.3", "none"])
def test_masks_by_name(mask: str, window: tuple[slice, slice]) -> None:
    native = np.random.default_rng(0).random((12, 9), dtype=np.float32) ** 3
    frame, to = Frame.original((36, 48)), Frame.center_crop((36, 48), 64)
    values, _ = frame.carry(native, to)
    found, pixels = named_mask(mask, GroundingMap(native, frame), to, values, window), values[window]
    if mask == "none" or not pixels.size:
        assert (found.shape, found.any()) == (pixels.shape, False)
        return
    expected = carried_mask(mixture_mask(native), frame, to)[window]  # from the native map, then carried
    if mask != "mixture":
        expected = otsu_mask(pixels) if mask == "otsu" else fixed_mask(pixels, 0.3)
    np.testing.assert_array_equal(found, expected)


def test_a_tuned_threshold_says_so() -> None:
    assert best_name(0.37) == "best:0.37"
    assert [rule_of(name) for name in ("best:0.37", "0.37", "otsu")] == ["best", "0.37", "otsu"]


# The paper's released code


def test_released_thresholds_and_masks_of_raw_maps(released: Any) -> None:
    for row, values in enumerate(released["maps_raw"]):
        spread = minmax(values)
        threshold = mixture_threshold(spread)
        assert threshold == pytest.approx(released["gmm_threshold_f32"][row], abs=1e-7)
        assert ((spread > threshold) == released["mask_gmm_f32"][row]).all()
        mask = mixture_mask(values)
        assert (mask == released["mask64_f32"][row]).all()
        assert (carried_mask(mask, NATIVE, PROTOCOL) == released.mask(row, "_f32")).all()


def test_released_masks_of_rounded_maps(released: Any) -> None:
    """The released code compares float16 maps with a float16 threshold; only then do ">" and ">=" differ."""
    for row, values in enumerate(released["maps_stored"]):
        threshold = mixture_threshold(minmax(values))
        assert ((values > np.float16(threshold)) == released["mask_gmm"][row]).all()
        differ = (minmax(values) > threshold) != released["mask_gmm"][row]
        assert differ.sum() == released["fp16_vs_f64_threshold_pixel_diff"][row]
        assert (mean_filtered(released["mask_gmm"][row]) == released["mask64"][row]).all()
