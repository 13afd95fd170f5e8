"""Metrics of the map at thresholds, of its histograms and of its maximum; the choice of a threshold; coverage."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import f1_score, jaccard_score, recall_score

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, boxes_to_mask
from gtg_bench.benchmark.metrics.best_threshold import CANDIDATES, best_threshold
from gtg_bench.benchmark.metrics.cnr import cnr
from gtg_bench.benchmark.metrics.cnr_abs import cnr_abs
from gtg_bench.benchmark.metrics.coverage import coverage
from gtg_bench.benchmark.metrics.dice import dice
from gtg_bench.benchmark.metrics.gcnr import BINS, gcnr
from gtg_bench.benchmark.metrics.iou import iou
from gtg_bench.benchmark.metrics.masks import fixed_mask
from gtg_bench.benchmark.metrics.miou_thresholds import THRESHOLDS, miou_thresholds, miou_thresholds_minmax
from gtg_bench.benchmark.metrics.scaling import minmax
from gtg_bench.benchmark.metrics.top1 import top1
from gtg_bench.benchmark.metrics.top1_tolerance import top1_tolerance


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


LEFT = grid("#..", "#..")
NOWHERE, EVERYWHERE = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
COSINES = numbers([0.55, 0.25, -0.3], [0.35, 0.15, 0.05])


def drawn(size: tuple[int, int], levels: int, seed: int) -> tuple[FloatArray, BoolArray]:
    """A random map and region; `levels` distinct values make ties, 0 makes none."""
    random = np.random.default_rng(seed)
    values = random.integers(-levels // 2, levels - levels // 2, size) if levels else random.standard_normal(size)
    region = random.random(size) < random.uniform(0.1, 0.9)
    region.flat[0], region.flat[-1] = True, False
    return values.astype(np.float32), region


# BioViL's mIoU


def test_miou_thresholds_by_hand() -> None:
    # Above 0.1: four pixels, two of them right; above 0.2: three; 0.3: exactly two; 0.4 and 0.5: one of two.
    assert miou_thresholds(COSINES, LEFT) == pytest.approx((2 / 4 + 2 / 3 + 1 + 1 / 2 + 1 / 2) / 5)


def test_miou_thresholds_of_a_normalised_map_by_hand() -> None:
    # Normalised, the six values of 0 to 10 are 0.9, 0.6, 0 and 1, 0.2, 0.3.
    values = numbers([9, 6, 0], [10, 2, 3])
    expected = (2 / 5 + 2 / 4 + 2 / 3 + 2 / 3 + 2 / 3) / 5
    assert miou_thresholds_minmax(values, LEFT) == pytest.approx(expected)
    assert miou_thresholds_minmax(4 * values - 70, LEFT) == pytest.approx(expected)
    assert miou_thresholds(values, LEFT) != pytest.approx(expected)


def test_clipping_to_the_unit_interval_changes_nothing() -> None:
    values, region = drawn((30, 20), 0, seed=0)
    assert values.min() < 0
    assert values.max() > 1
    assert miou_thresholds(values, region) == miou_thresholds(np.clip(values, 0, 1), region)


@pytest.mark.parametrize("seed", range(5))
def test_miou_thresholds_against_scikit_learn(seed: int) -> None:
    values, region = drawn((23, 31), 0, seed)
    for metric, spread in ((miou_thresholds, values.astype(np.float64)), (miou_thresholds_minmax, minmax(values))):
        ious = [jaccard_score(region.ravel(), spread.ravel() > threshold) for threshold in THRESHOLDS]
        assert metric(values, region) == pytest.approx(np.mean(ious), abs=1e-12)


def test_degenerate_threshold_metrics() -> None:
    constant = np.full((2, 3), 0.35, dtype=np.float32)
    assert miou_thresholds(constant, LEFT) == pytest.approx(3 / 5 * 1 / 3)  # three thresholds take everything
    assert miou_thresholds_minmax(constant, LEFT) == 0
    assert miou_thresholds(-COSINES - 1, LEFT) == 0  # nothing passes any threshold
    assert miou_thresholds(constant + 1, EVERYWHERE) == 1
    for metric in (miou_thresholds, miou_thresholds_minmax):
        assert metric(COSINES, NOWHERE) is None


# The choice of a threshold


def test_the_best_threshold_by_hand() -> None:
    # Normalised to 0.9, 0.6, 0 and 1, 0.2, 0.3: from 0.6 up to just below 0.9 exactly the region passes.
    values = numbers([9, 6, 0], [10, 2, 3])
    assert best_threshold([values], [LEFT]) == 0.6
    assert best_threshold([values], [LEFT], candidates=[0.1, 0.5, 0.7, 0.8]) == 0.7
    assert iou(fixed_mask(values, best_threshold([values], [LEFT])), LEFT) == 1


def test_the_best_threshold_is_that_of_a_loop() -> None:
    samples = [drawn((14, 9), 0, seed) for seed in range(4)]
    means = [np.mean([iou(fixed_mask(values, t), region) for values, region in samples]) for t in CANDIDATES]
    assert best_threshold(*zip(*samples, strict=True)) == CANDIDATES[int(np.argmax(means))]


def test_samples_without_a_region_do_not_choose() -> None:
    values = numbers([9, 6, 0], [10, 2, 3])
    assert best_threshold([-values, values], [NOWHERE, LEFT]) == 0.6
    with pytest.raises(ValueError, match="region"):
        best_threshold([values], [NOWHERE])
    with pytest.raises(ValueError, match="zip"):
        best_threshold([values, values], [LEFT])


# Contrast without a sign


@pytest.mark.parametrize("seed", range(3))
def test_the_absolute_cnr_is_the_signed_one_without_its_sign(seed: int) -> None:
    values, region = drawn((9, 8), 0, seed)
    assert cnr_abs(values, region) == abs(cnr(values, region) or np.nan) == cnr_abs(-values, region)


def test_the_absolute_cnr_is_undefined_where_the_signed_one_is() -> None:
    for region in (NOWHERE, EVERYWHERE, grid("#..", "...")):
        assert cnr_abs(COSINES, region) is None
    assert cnr_abs(np.ones_like(COSINES), LEFT) is None


# Histograms


def test_gcnr_by_hand() -> None:
    # Ranks 0 to 199: every second one is inside, so each bin of two pixels holds one of either side.
    ranks = np.arange(200, dtype=np.float32)[None]
    assert gcnr(ranks, ranks % 2 == 0) == pytest.approx(1 / 100)  # 199 lies above the region's highest
    # 75 bins hold both sides, one pixel of each; the region's other 50 pixels fill 25 bins alone.
    assert gcnr(ranks, (ranks % 2 == 0) | (ranks >= 150)) == pytest.approx(1 - 75 / 125)
    # Everything outside lies below or above the region's range.
    assert gcnr(ranks, (ranks >= 50) & (ranks < 150)) == 1


def test_gcnr_of_equal_values_by_hand() -> None:
    # The value 1 is 2 of 4 inside and 1 of 4 outside, the value 0 the rest: overlap 1/4 + 2/4.
    values, region = numbers([1, 1, 0, 0, 1, 0, 0, 0]), grid("####....")
    assert gcnr(values, region) == pytest.approx(1 / 4)
    assert gcnr(values.repeat(100, axis=1), region.repeat(100, axis=1)) == pytest.approx(1 / 4)


CHANGES: dict[str, Callable[[NDArray], NDArray]] = {
    "affine": lambda values: 7 * values - 3,
    "gamma": lambda values: minmax(values) ** 5,
    "exponential": np.exp,
    "one bright pixel": lambda values: np.where(values == values.max(), 1e9, values),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("levels", [0, 2, 40])
def test_rising_changes_leave_gcnr_exactly_as_it_is(change: str, levels: int) -> None:
    values, region = drawn((60, 50), levels, seed=1)
    changed = CHANGES[change](values.astype(np.float64) / max(levels, 1))
    assert gcnr(changed, region) == gcnr(values, region)


def test_the_contrast_that_a_gamma_curve_buys_is_none() -> None:
    random = np.random.default_rng(0)
    region = boxes_to_mask([(10, 10, 40, 40)], (100, 100))
    values = minmax(random.standard_normal((100, 100)) + 1.2 * region)
    found = [(cnr(curve, region), gcnr(curve, region)) for curve in (values, values**3)]
    assert found[0][0] != pytest.approx(found[1][0], abs=0.02)
    assert found[0][1] == found[1][1]


def gcnr_by_loops(values: FloatArray, region: BoolArray) -> float:
    """Every pixel of the region's range into the bin of its value's mean rank, with exact fractions."""
    inside, outside = sorted(values[region].tolist()), sorted(values[~region].tolist())
    ranged = [value for value in sorted(inside + outside) if inside[0] <= value <= inside[-1]]
    bins: dict[int, list[int]] = {}
    for value in ranged:
        middle = Fraction(2 * sum(other < value for other in ranged) + ranged.count(value), 2 * len(ranged))
        bins[int(BINS * middle)] = [0, 0]
    for value in set(ranged):
        middle = Fraction(2 * sum(other < value for other in ranged) + ranged.count(value), 2 * len(ranged))
        bins[int(BINS * middle)][0] += inside.count(value)
        bins[int(BINS * middle)][1] += outside.count(value)
    return float(1 - sum(min(Fraction(i, len(inside)), Fraction(o, len(outside))) for i, o in bins.values()))


@pytest.mark.parametrize("levels", [0, 2, 7])
@pytest.mark.parametrize("size", [(1, 2), (2, 3), (1, 40), (17, 9)])
def test_gcnr_against_loops(size: tuple[int, int], levels: int) -> None:
    for seed in range(3):
        values, region = drawn(size, levels, seed)
        assert gcnr(values, region) == pytest.approx(gcnr_by_loops(values, region), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gcnr_against_numpys_histogram_of_ranks(seed: int) -> None:
    values, region = drawn((50, 40), 0, seed)
    region.flat[values.argmin()] = region.flat[values.argmax()] = True  # the range is the map's: 20 pixels a bin
    ranks = values.ravel().argsort().argsort()
    inside, outside = (np.histogram(ranks[region.ravel() == side], BINS, (0, 2000))[0] for side in (True, False))
    assert gcnr(values, region) == pytest.approx(1 - np.minimum(inside / inside.sum(), outside / outside.sum()).sum())


def test_gcnr_is_close_to_that_of_bins_of_equal_width() -> None:
    """The published definition, where no gamma curve has crowded the values together."""
    random = np.random.default_rng(0)
    region = boxes_to_mask([(60, 40, 160, 180)], (256, 256))
    for shift in (-1, 0.3, 2):
        values = random.standard_normal((256, 256)) + shift * region
        edges = np.linspace(values.min(), values.max(), 101)
        inside, outside = (np.histogram(values[side], edges)[0] / side.sum() for side in (region, ~region))
        assert gcnr(values, region) == pytest.approx(1 - np.minimum(inside, outside).sum(), abs=0.01)


@pytest.mark.parametrize("hot", [True, False])
def test_perfect_separation_is_exactly_one(hot: bool) -> None:
    random = np.random.default_rng(0)
    region = boxes_to_mask([(3, 4, 12, 20)], (50, 40))
    values = random.random((40, 50)) + (region if hot else ~region)
    assert gcnr(values, region) == 1


def test_gcnr_tells_what_the_best_observer_can() -> None:
    """Two normal distributions d apart overlap by 2 Phi(-d / 2)."""
    random = np.random.default_rng(0)
    region = random.random((400, 400)) < 0.5
    values = random.standard_normal((400, 400)) + 1.5 * region
    assert gcnr(values, region) == pytest.approx(1 - 2 * 0.22663, abs=0.01)


def test_degenerate_gcnr() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gcnr(np.full((2, 3), 0.3, dtype=np.float32), LEFT) == pytest.approx(0, abs=1e-12)
        assert gcnr(COSINES, NOWHERE) is None
        assert gcnr(COSINES, EVERYWHERE) is None
        assert gcnr(LEFT.astype(np.float32), LEFT) == 1


# The pointing game with a tolerance


def test_top1_with_a_tolerance_by_hand() -> None:
    region = boxes_to_mask([(20, 20, 30, 30)], (64, 64))
    for row, column, hit in [(25, 25, 1), (25, 5, 1), (25, 4, 0), (44, 29, 1), (45, 29, 0), (9, 10, 1), (8, 8, 0)]:
        values = np.zeros((64, 64), dtype=np.float32)
        values[row, column] = 1
        assert top1_tolerance(values, region) == hit, (row, column)
        assert top1_tolerance(values, region, tolerance=0) == top1(values, region)


def test_top1_with_a_tolerance_shares_equal_maxima() -> None:
    values = np.zeros((1, 64), dtype=np.float32)
    values[0, [3, 16, 30, 60]] = 1
    assert top1_tolerance(values, np.arange(64)[None] < 2) == 2 / 4


@pytest.mark.parametrize("levels", [0, 2, 50])
@pytest.mark.parametrize("seed", range(4))
def test_top1_with_a_tolerance_against_the_distance_transform(levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, levels, (90, 70)) if levels else random.random((90, 70))
    left, top = random.integers(0, 60, 2)
    region = boxes_to_mask([(left, top, left + 9, top + 14)], (70, 90))
    near = distance_transform_edt(~region) <= 15
    assert top1_tolerance(values.astype(np.float32), region) == pytest.approx(near[values == values.max()].mean())


def test_degenerate_top1_with_a_tolerance() -> None:
    constant, line = np.ones((1, 64), dtype=np.float32), np.arange(64)[None]
    assert top1_tolerance(constant, line < 2) == (2 + 15) / 64
    assert top1_tolerance(constant, line < 64) == 1
    assert top1_tolerance(constant, line < 0) is None


# Dice and coverage


def test_dice_and_coverage_by_hand() -> None:
    mask = grid("##.", "...")
    assert dice(mask, LEFT) == pytest.approx(2 * 1 / (2 + 2))
    assert coverage(mask, LEFT) == 1 / 2
    assert dice(LEFT, LEFT) == dice(EVERYWHERE, EVERYWHERE) == coverage(EVERYWHERE, LEFT) == 1


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_coverage_against_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask, region = random.random((2, 17, 12)) < random.uniform(0.2, 0.8)
    overlap = iou(mask, region) or 0.0
    assert dice(mask, region) == pytest.approx(f1_score(region.ravel(), mask.ravel()), abs=1e-12)
    assert dice(mask, region) == pytest.approx(2 * overlap / (1 + overlap), abs=1e-12)
    assert coverage(mask, region) == pytest.approx(recall_score(region.ravel(), mask.ravel()), abs=1e-12)


def test_degenerate_dice_and_coverage() -> None:
    assert dice(NOWHERE, LEFT) == coverage(NOWHERE, LEFT) == 0
    assert dice(LEFT, EVERYWHERE) == pytest.approx(2 * 2 / (2 + 6))
    assert coverage(LEFT, EVERYWHERE) == pytest.approx(1 / 3)
    assert dice(LEFT, NOWHERE) is None
    assert coverage(LEFT, NOWHERE) is None
