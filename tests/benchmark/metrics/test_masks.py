"""Masks: the mixture's, Otsu's and fixed thresholds, the filter, the carrying to another frame; against the paper's
released code too."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import mixture
from gtg_bench.benchmark.metrics.masks import carried_mask, fixed_mask, mean_filtered, mixture_mask, otsu_mask
from gtg_bench.benchmark.metrics.mixture import mixture_threshold

GOLDEN = Path(__file__).parents[2] / "golden"
PROTOCOL = Frame.original((512, 512))
NATIVE = Frame.stretch((512, 512), (64, 64))


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


def normalised(values: NDArray[np.floating]) -> NDArray[np.float64]:
    spread = values.astype(np.float64)
    return (spread - spread.min()) / (spread.max() - spread.min())


# The filter, masks, carried masks


def test_the_filter_takes_the_majority_and_leaves_the_border() -> None:
    before = grid("#...#", ".#...", ".###.", ".##..", "....#")
    after = grid("#...#", ".....", ".##..", "..#..", "....#")
    assert (mean_filtered(before) == after).all()


def test_the_filter_asks_for_five_of_nine() -> None:
    assert mean_filtered(grid("###", "#..", "#.."))[1, 1]
    assert not mean_filtered(grid("###", "#..", "..."))[1, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 9), (9, 2)])
def test_the_filter_leaves_grids_without_inner_cells(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.5
    assert (mean_filtered(mask) == mask).all()


def test_the_mask_of_two_separated_levels() -> None:
    region = boxes_to_mask([(2, 3, 9, 12)], (16, 16))
    values = (region * 4.0 + np.random.default_rng(0).normal(0, 0.1, (16, 16)) - 7).astype(np.float32)
    mask = mixture_mask(values)
    assert mask.dtype == bool
    assert (mask != region).sum() <= 4  # the filter rounds the corners
    assert (mixture_mask(1000 * values + 5) == mask).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 64)])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e38])
def test_the_mask_of_a_constant_map_is_empty(shape: tuple[int, int], value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = mixture_mask(np.full(shape, value, dtype=np.float32))
    assert mask.shape == shape
    assert not mask.any()


def test_maps_of_two_values_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mixture_mask(numbers([0, 1])).tolist() == [[False, True]]
        values = boxes_to_mask([(2, 2, 7, 7)], (9, 9)).astype(np.float32)
        assert mixture_mask(values)[4, 4]
        assert not mixture_mask(values * 1e-42)[0, 0]


def test_a_carried_mask_rounds_half_down() -> None:
    frame, to = Frame.stretch((4, 1), (4, 1)), Frame.stretch((4, 1), (2, 1))
    assert carried_mask(grid("#.##"), frame, to).tolist() == [[False, True]]


def test_a_carried_mask_ends_where_its_frame_ends() -> None:
    crop = Frame.center_crop((8, 4), 4)
    assert (carried_mask(np.ones((2, 2), dtype=bool), crop, Frame.original((8, 4))) == grid("..####..")).all()


@pytest.mark.parametrize("shape", [(3, 3), (3, 8), (15, 15), (64, 40)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_filter_is_the_rounded_mean(shape: tuple[int, int], seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.5
    means = np.lib.stride_tricks.sliding_window_view(mask, (3, 3)).mean(axis=(2, 3))
    assert (mean_filtered(mask)[1:-1, 1:-1] == (means >= 0.5)).all()


# Otsu's and fixed thresholds


def test_a_fixed_threshold_is_on_the_normalised_map() -> None:
    values = numbers([9, 6, 0], [10, 2, 3])
    assert (fixed_mask(values, 0.6) == grid("#..", "#..")).all()
    assert (fixed_mask(values * 5 - 300, 0.59) == grid("##.", "#..")).all()
    assert (fixed_mask(values, 0) == grid("##.", "###")).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.0, np.nan])
def test_a_threshold_outside_the_normalised_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        fixed_mask(numbers([0, 1]), threshold)


def test_otsu_by_hand() -> None:
    """Two groups of values, whatever their sizes and scale."""
    values = numbers([1, 2, 1.5, 40, 41], [2, 1, 1, 2, 42])
    assert (otsu_mask(values) == grid("...##", "....#")).all()
    assert (otsu_mask(1e-3 * values - 5) == grid("...##", "....#")).all()


@pytest.mark.parametrize("mask_of", [otsu_mask, lambda values: fixed_mask(values, 0.5)])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e38])
def test_other_masks_of_a_constant_map_are_empty(mask_of: Callable, value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = mask_of(np.full((4, 7), value, dtype=np.float32))
    assert mask.shape == (4, 7)
    assert not mask.any()


def between_variance(values: NDArray, threshold: float) -> float:
    low, high = values[values <= threshold], values[values > threshold]
    return low.size * high.size * (low.mean() - high.mean()) ** 2


@pytest.mark.parametrize("name", ["uniform", "normal", "two groups", "hills", "mostly zero", "ramp"])
def test_otsu_against_scikit_image_and_brute_force(name: str) -> None:
    for seed in range(3):
        values = MAPS[name](np.random.default_rng(seed), (40, 30)).astype(np.float32)
        mask = otsu_mask(values)
        assert (mask == (values > threshold_otsu(values))).mean() > 0.999
        best = max(between_variance(values, threshold) for threshold in np.unique(values)[:-1])
        assert between_variance(values, values[~mask].max()) > 0.98 * best


def test_otsu_is_close_to_that_of_eight_bits() -> None:
    """CheXlocalize rounds the map down to 8 bits before."""
    for seed in range(5):
        spread = normalised(hills(np.random.default_rng(seed), (64, 64)))
        levels = (255 * spread).astype(np.uint8)
        apart = otsu_mask(spread.astype(np.float32)) ^ (levels > threshold_otsu(levels))
        assert np.ptp(spread[apart]) < 2 / 255 if apart.any() else True


# The mixture against scikit-learn's


def hills(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    rows, columns = (np.linspace(-2, 2, side) - random.normal() for side in shape)
    return np.exp(-random.uniform(0.3, 5) * (rows[:, None] ** 2 + columns**2))


def one_apart(values: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    values.flat[0] = value
    return values


MAPS: dict[str, Callable[[np.random.Generator, tuple[int, int]], NDArray]] = {
    "uniform": lambda random, shape: random.random(shape),
    "normal": lambda random, shape: random.standard_normal(shape),
    "two groups": lambda random, shape: random.standard_normal(shape) + 6 * (random.random(shape) < 0.2),
    "two tight groups": lambda random, shape: 1e-4 * random.standard_normal(shape) + (random.random(shape) < 0.5),
    "hills": hills,
    "heavy tails": lambda random, shape: random.standard_cauchy(shape),
    "heavier tails": lambda random, shape: np.exp(10 * random.standard_normal(shape)),
    "one apart": lambda random, shape: one_apart(random.random(shape), 1e6),
    "two values": lambda random, shape: random.random(shape) < 0.3,
    "two values, one of them once": lambda random, shape: one_apart(np.zeros(shape), 1),
    "three values": lambda random, shape: random.integers(0, 3, shape),
    "fifty values": lambda random, shape: random.integers(0, 50, shape),
    "nearly constant": lambda random, shape: 1 + 1e-7 * random.integers(0, 3, shape),
    "mostly zero": lambda random, shape: random.random(shape) * (random.random(shape) < 0.05),
    "chequered": lambda random, shape: np.indices(shape).sum(axis=0) % 2,
    "ramp": lambda random, shape: np.linspace(0, 1, shape[0] * shape[1]).reshape(shape),
    "nearest upsampled": lambda random, shape: np.kron(random.random(shape), np.ones((4, 4))),
}


@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (3, 5), (5, 5), (15, 15), (32, 32), (64, 64), (128, 128)])
@pytest.mark.parametrize("name", MAPS)
def test_the_threshold_is_that_of_scikit_learn(name: str, shape: tuple[int, int]) -> None:
    for seed in range(4 if shape[0] < 64 else 1):
        values = MAPS[name](np.random.default_rng(seed), shape).astype(np.float32)
        if values.min() == values.max():
            continue
        spread = normalised(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = GaussianMixture(2, random_state=0).fit(spread.reshape(-1, 1))
        threshold = mixture_threshold(spread)
        assert threshold == pytest.approx(fitted.means_.mean(), rel=1e-9)
        assert ((spread > threshold) == (spread > fitted.means_.mean())).all()


def test_the_fit_takes_as_many_steps_as_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    expected = mixture._expected
    monkeypatch.setattr(mixture, "_expected", lambda *given: steps.append(1) or expected(*given))
    taken = set()
    for name in ("normal", "two groups", "hills", "heavy tails", "mostly zero", "one apart"):
        spread = normalised(MAPS[name](np.random.default_rng(1), (32, 32)))
        steps.clear()
        mixture_threshold(spread)
        assert len(steps) == GaussianMixture(2, random_state=0).fit(spread.reshape(-1, 1)).n_iter_
        taken.add(len(steps))
    assert len(taken) > 3


def test_a_fit_that_does_not_settle_ends_where_scikit_learn_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "_SMALLEST_GAIN", 0.0)
    spread = normalised(MAPS["normal"](np.random.default_rng(1), (15, 15)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianMixture(2, random_state=0, tol=0.0).fit(spread.reshape(-1, 1))
    assert fitted.n_iter_ == 100
    assert mixture_threshold(spread) == pytest.approx(fitted.means_.mean(), rel=1e-9)


@pytest.mark.parametrize("random_state", [1, 2, 3])
def test_the_random_state_reaches_the_start(random_state: int) -> None:
    spread = normalised(np.random.default_rng(0).standard_cauchy((15, 15)))
    fitted = GaussianMixture(2, random_state=random_state).fit(spread.reshape(-1, 1))
    assert mixture_threshold(spread, random_state) == pytest.approx(fitted.means_.mean(), rel=1e-9)


# The paper's released code


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if not (GOLDEN / "metrics.npz").is_file():
        pytest.skip("golden values are absent: no shared/golden/metrics.npz beside the repository")
    with np.load(GOLDEN / "metrics.npz") as arrays:
        return dict(arrays)


def golden_mask(golden: dict[str, Any], row: int, suffix: str) -> BoolArray:
    return np.unpackbits(golden["mask512_packbits" + suffix][row], axis=-1).astype(bool)


def test_golden_thresholds_and_mixture_masks(golden: dict[str, Any]) -> None:
    for row, values in enumerate(golden["maps_raw"]):
        spread = normalised(values)
        threshold = mixture_threshold(spread)
        assert threshold == pytest.approx(golden["gmm_threshold_f32"][row], abs=1e-7)
        assert ((spread > threshold) == golden["mask_gmm_f32"][row]).all()


def test_golden_mixture_masks_of_rounded_maps(golden: dict[str, Any]) -> None:
    """The released code compares float16 maps with a float16 threshold; only then can ">" be told from ">="."""
    for row, values in enumerate(golden["maps_stored"]):
        threshold = np.float16(mixture_threshold(normalised(values)))
        assert ((values > threshold) == golden["mask_gmm"][row]).all()
        unrounded = normalised(values) > mixture_threshold(normalised(values))
        assert (unrounded != golden["mask_gmm"][row]).sum() == golden["fp16_vs_f64_threshold_pixel_diff"][row]


@pytest.mark.parametrize("suffix", ["", "_f32"])
def test_golden_filter_and_carried_masks(golden: dict[str, Any], suffix: str) -> None:
    for row, mask in enumerate(golden["mask_gmm" + suffix]):
        filtered = mean_filtered(mask)
        assert (filtered == golden["mask64" + suffix][row]).all()
        assert (carried_mask(filtered, NATIVE, PROTOCOL) == golden_mask(golden, row, suffix)).all()


def test_golden_masks_from_end_to_end(golden: dict[str, Any]) -> None:
    for row, values in enumerate(golden["maps_raw"]):
        mask = mixture_mask(values)
        assert (mask == golden["mask64_f32"][row]).all()
        assert (carried_mask(mask, NATIVE, PROTOCOL) == golden_mask(golden, row, "_f32")).all()
