"""Metrics of a map and a region: contrast, ranking, histograms, maxima, thresholds, phrase discrimination."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import (
    ap,
    arrays,
    auroc,
    cnr,
    cnr_abs,
    dice_sweep,
    gcnr,
    iou_sweep,
    miou_thresholds,
    miou_thresholds_minmax,
    phrase_discrimination,
    top1,
    top1_tolerance,
)
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.metrics.generalized_cnr import BINS
from gtg_bench.benchmark.metrics.thresholded_iou import THRESHOLDS


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


LEFT = grid("#..", "#..")
VALUES = numbers([3, 1, 0], [5, 2, 1])
COSINES = numbers([0.55, 0.25, -0.3], [0.35, 0.15, 0.05])
NOWHERE, EVERYWHERE = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
OF_THRESHOLDS = (miou_thresholds, miou_thresholds_minmax, iou_sweep, dice_sweep)
OF_MAP = (auroc, ap, cnr, cnr_abs, gcnr, top1, top1_tolerance, *OF_THRESHOLDS)


def drawn(size: tuple[int, int], levels: int, seed: int) -> tuple[FloatArray, BoolArray]:
    """A random map and region; `levels` distinct values make ties, 0 makes none."""
    random = np.random.default_rng(seed)
    values = random.integers(-levels // 2, levels - levels // 2, size) if levels else random.standard_normal(size)
    region = random.random(size) < random.uniform(0.1, 0.9)
    region.flat[0], region.flat[-1] = True, False
    return values.astype(np.float32), region


@pytest.mark.parametrize("metric", OF_MAP, ids=lambda metric: metric.__name__)
def test_degenerate_regions_and_wrong_arrays(metric: Callable) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric(VALUES, NOWHERE) is None
        partly = metric in (*OF_THRESHOLDS, top1, top1_tolerance)
        assert (metric(VALUES, EVERYWHERE) is None) != partly
    for region in (LEFT.astype(np.uint8), LEFT.T, LEFT[0]):
        with pytest.raises(ValueError, match="must"):
            metric(VALUES, region)


# Contrast-to-noise ratio


def test_cnr_by_hand() -> None:
    # Inside 3, 5: mean 4, variance 2. Outside 1, 0, 2, 1: mean 1, variance 2/3.
    expected = 3 / np.sqrt(2 + 2 / 3)
    assert cnr(VALUES, LEFT) == pytest.approx(expected)
    assert cnr(-VALUES, LEFT) == pytest.approx(-expected)
    assert cnr(7 * VALUES + 4, LEFT) == pytest.approx(expected)
    assert cnr_abs(VALUES, LEFT) == cnr_abs(-VALUES, LEFT) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(17, 5), (300, 200)])
@pytest.mark.parametrize("scale", [1, 1e-20, 1e18])
def test_cnr_is_exactly_that_of_numpy_in_double_precision(size: tuple[int, int], scale: float) -> None:
    values, region = drawn(size, 0, seed=5)
    values = (values * scale).astype(np.float32)
    inside, outside = (values[side].astype(np.float64) for side in (region, ~region))
    assert cnr(values, region) == (inside.mean() - outside.mean()) / np.sqrt(inside.var(ddof=1) + outside.var(ddof=1))


def test_cnr_is_undefined_without_noise_or_with_one_pixel_on_a_side() -> None:
    corner = grid("#..", "...")
    for values, region in ((LEFT.astype(np.float32), LEFT), (VALUES, corner), (VALUES, ~corner)):
        assert cnr(values, region) is cnr_abs(values, region) is None


# AUROC and average precision


def test_auroc_and_ap_by_hand() -> None:
    values = numbers([2, 1, 0], [1, 3, 1])
    # Of the 8 pairs of inside 2, 1 and outside 1, 0, 3, 1: 2 beats 3 of 4; 1 beats one and ties with two.
    assert auroc(values, LEFT) == pytest.approx((3 + 1 + 2 * 0.5) / 8)
    # Down to 3: nothing found. Down to 2: half of the region, one of two right. Down to 1: all of it, 2 of 5 right.
    assert ap(values, LEFT) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 5)
    assert auroc(VALUES, LEFT) == ap(VALUES, LEFT) == 1
    assert auroc(-VALUES, LEFT) == 0
    # In the order 0, -1, -1, -2, -3, -5 the region holds the last two.
    assert ap(-VALUES, LEFT) == pytest.approx(0.5 * 1 / 5 + 0.5 * 2 / 6)
    assert ap(numbers([2, 2, 0], [1, 0, 0]), LEFT) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)  # ties enter together


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -3e38])
def test_constant_maps_rank_at_chance(value: float) -> None:
    values, region = np.full((3, 5), value, dtype=np.float32), boxes_to_mask([(0, 0, 2, 2)], (5, 3))
    assert auroc(values, region) == 0.5
    assert ap(values, region) == pytest.approx(4 / 15)
    assert auroc(numbers([0.0, -0.0]), grid("#.")) == ap(numbers([-0.0, 0.0]), grid("#.")) == 0.5


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e30, 3e38])
def test_extreme_ranges(scale: float) -> None:
    values = (numbers([1, 0, -1], [1, -1, 0]) * scale).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auroc(values, LEFT) == ap(values, LEFT) == gcnr(values, LEFT) == 1


def exact(values: FloatArray, region: BoolArray) -> tuple[Fraction, Fraction]:
    """AUROC pair by pair and average precision threshold by threshold, as fractions."""
    inside, outside = values[region].tolist(), values[~region].tolist()
    wins = sum((a > b) + Fraction(a == b, 2) for a, b in itertools.product(inside, outside))
    precision, recall = Fraction(0), Fraction(0)
    for threshold in sorted(set(inside), reverse=True):
        hits, found = sum(a >= threshold for a in inside), int((values >= threshold).sum())
        precision += (Fraction(hits, len(inside)) - recall) * Fraction(hits, found)
        recall = Fraction(hits, len(inside))
    return Fraction(wins, len(inside) * len(outside)), precision


def assert_parity(values: NDArray, region: BoolArray) -> None:
    flat, truth = values.ravel(), region.ravel()
    assert auroc(values, region) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert ap(values, region) == pytest.approx(average_precision_score(truth, flat), abs=1e-12)


@pytest.mark.parametrize("levels", [0, 2, 5, 300])
@pytest.mark.parametrize("size", [(1, 2), (2, 3), (1, 40), (17, 5), (200, 300)])
def test_auroc_and_ap_are_exact_and_those_of_scikit_learn(size: tuple[int, int], levels: int) -> None:
    for seed in range(3):
        values, region = drawn(size, levels, seed)
        assert_parity(values, region)
        if values.size < 100:
            area, precision = exact(values, region)
            assert auroc(values, region) == float(area)
            assert ap(values, region) == pytest.approx(float(precision), rel=1e-14)


def skewed(random: np.random.Generator) -> NDArray[np.float64]:
    """Almost all values close to the lowest one, a few far above."""
    return np.where(random.random((90, 90)) < 0.999, 1e-7, 1.0) * random.random((90, 90))


def smooth(random: np.random.Generator) -> FloatArray:
    return Frame.stretch((90, 90), (6, 6)).carry(random.random((6, 6)), Frame.original((90, 90)))[0]


def all_magnitudes(random: np.random.Generator) -> NDArray[np.float64]:
    """Both signs and subnormals, so that every bit of the sorting keys is used."""
    return random.choice([-1, 1], (90, 90)) * 10 ** random.uniform(-44, 38, (90, 90))


@pytest.mark.parametrize("draw", [skewed, smooth, all_magnitudes])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("box", [(2, 3, 9, 9), (0, 0, 90, 80), (40, 40, 41, 41)])
def test_auroc_and_ap_on_other_maps(draw: Callable, dtype: type, box: tuple[int, ...]) -> None:
    values = draw(np.random.default_rng(3)).astype(dtype)
    region = boxes_to_mask([box], (90, 90))
    assert_parity(values, region)
    assert_parity(values.T, region)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16, bool])
def test_other_types_of_numbers_rank_alike(dtype: type) -> None:
    random = np.random.default_rng(0)
    assert_parity(random.integers(0, 200, (40, 30)).astype(dtype), random.random((40, 30)) < 0.3)


# Generalized contrast-to-noise ratio


def test_gcnr_by_hand() -> None:
    # Four bins over 0 to 8, edges at 2, 4, 6: inside 1/4, 0, 1/4, 1/2; outside 1/2, 1/4, 0, 1/4.
    values, region = numbers([0, 5, 7, 8, 1, 1, 2, 7]), grid("####....")
    assert gcnr(values, region, bins=4) == pytest.approx(1 - (1 / 4 + 0 + 0 + 1 / 4))
    assert gcnr(values, region, bins=1) == 0
    # The value 1 is 2 of 4 inside and 1 of 4 outside, the value 0 the rest.
    assert gcnr(numbers([1, 1, 0, 0, 1, 0, 0, 0]), region) == pytest.approx(1 - (1 / 4 + 2 / 4))


def gcnr_by_loops(values: NDArray, region: BoolArray) -> float:
    """Every pixel into its bin, with exact fractions; the maximum belongs to the last bin."""
    low, high = Fraction(float(values.min())), Fraction(float(values.max()))
    bins: dict[int, list[int]] = {}
    for value, inside in zip(values.ravel().tolist(), region.ravel().tolist(), strict=True):
        bins.setdefault(min(int((Fraction(value) - low) / (high - low) * BINS), BINS - 1), [0, 0])[inside] += 1
    outside, inside = (int((region == side).sum()) for side in (False, True))
    return float(1 - sum(min(Fraction(o, outside), Fraction(i, inside)) for o, i in bins.values()))


@pytest.mark.parametrize("levels", [0, 2, 7, 300])
@pytest.mark.parametrize("size", [(1, 2), (2, 3), (1, 40), (17, 9), (60, 50)])
def test_gcnr_against_loops(size: tuple[int, int], levels: int) -> None:
    for seed in range(3):
        values, region = drawn(size, levels, seed)
        if np.ptp(values):
            assert gcnr(values, region) == pytest.approx(gcnr_by_loops(values, region), abs=1e-12)


def test_degenerate_gcnr() -> None:
    assert gcnr(np.full((2, 3), 0.3, dtype=np.float32), LEFT) == 0
    assert gcnr(LEFT.astype(np.float32), LEFT) == gcnr(-LEFT.astype(np.float32), LEFT) == 1
    corner = grid("#..", "...")
    assert gcnr(VALUES, corner) == 1  # 3 is found nowhere else
    assert gcnr(numbers([3, 3, 0], [5, 2, 1]), corner) == pytest.approx(1 - 1 / 5)


@pytest.mark.parametrize("metric", [auroc, ap, cnr, gcnr])
def test_blocks_change_nothing(metric: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [drawn((40, 30), levels, seed=1) for levels in (0, 7)]
    whole = [metric(*one) for one in data]
    monkeypatch.setattr(arrays, "BLOCK", 37)
    assert [metric(*one) for one in data] == pytest.approx(whole, abs=1e-12)


# The pointing game


def test_top1_by_hand() -> None:
    assert (top1(VALUES, LEFT), top1(VALUES, ~LEFT)) == (1, 0)
    assert top1(numbers([5, 5, 0], [0, 0, 5]), LEFT) == top1(np.ones_like(VALUES), LEFT) == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", [top1, top1_tolerance])
def test_rounding_does_not_decide_the_pointing_game(metric: Callable) -> None:
    """The range is 10: 4 - 0.9e-5 ties with the maximum 4, 4 - 1.1e-5 does not."""
    region = grid("#" + "." * 39)
    for below, score in ((0.9e-5, 1 / 2), (1.1e-5, 0)):
        values = np.full((1, 40), -6, dtype=np.float32)
        values[0, [0, 39]] = 4 - below, 4
        assert metric(values, region) == score
        assert metric(values * 2.0**-40, region) == metric(values + 2, region) == score
    assert metric(np.array([[3e38] + [-3e38] * 39], dtype=np.float32), region) == 1  # no overflow


def test_top1_with_a_tolerance_by_hand() -> None:
    region = boxes_to_mask([(20, 20, 30, 30)], (64, 64))
    for row, column, hit in [(25, 25, 1), (25, 5, 1), (25, 4, 0), (44, 29, 1), (45, 29, 0), (9, 10, 1), (8, 8, 0)]:
        values = np.zeros((64, 64), dtype=np.float32)
        values[row, column] = 1
        assert top1_tolerance(values, region) == hit, (row, column)
        assert top1_tolerance(values, region, tolerance=0) == top1(values, region)
    line = np.arange(64)[None]
    assert top1_tolerance(np.isin(line, [3, 16, 30, 60]).astype(np.float32), line < 2) == 2 / 4  # ties share
    assert top1_tolerance(np.ones((1, 64), dtype=np.float32), line < 2) == (2 + 15) / 64
    assert top1_tolerance(np.ones((1, 64), dtype=np.float32), line < 64) == 1


@pytest.mark.parametrize("levels", [0, 2, 50])
def test_top1_with_a_tolerance_against_the_distance_transform(levels: int) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        values = random.integers(0, levels, (90, 70)) if levels else random.random((90, 70))
        left, top = random.integers(0, 60, 2)
        region = boxes_to_mask([(left, top, left + 9, top + 14)], (70, 90))
        near = distance_transform_edt(~region) <= 15
        assert top1_tolerance(values.astype(np.float32), region) == pytest.approx(near[values == values.max()].mean())


# BioViL's mIoU


def test_miou_thresholds_by_hand() -> None:
    # Above 0.1: four pixels, two of them right; above 0.2: three; 0.3: exactly two; 0.4 and 0.5: one of two.
    assert miou_thresholds(COSINES, LEFT) == pytest.approx((2 / 4 + 2 / 3 + 1 + 1 / 2 + 1 / 2) / 5)
    # Normalised, the six values of 0 to 10 are 0.9, 0.6, 0 and 1, 0.2, 0.3.
    values, expected = numbers([9, 6, 0], [10, 2, 3]), (2 / 5 + 2 / 4 + 2 / 3 + 2 / 3 + 2 / 3) / 5
    assert miou_thresholds_minmax(values, LEFT) == pytest.approx(expected)
    assert miou_thresholds_minmax(4 * values - 70, LEFT) == pytest.approx(expected)
    assert miou_thresholds(values, LEFT) != pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_miou_thresholds_against_scikit_learn(seed: int) -> None:
    values, region = drawn((23, 31), 0, seed)
    for metric, spread in ((miou_thresholds, values.astype(np.float64)), (miou_thresholds_minmax, minmax(values))):
        ious = [jaccard_score(region.ravel(), spread.ravel() > threshold) for threshold in THRESHOLDS]
        assert metric(values, region) == pytest.approx(np.mean(ious), abs=1e-12)
    assert values.min() < 0 < 1 < values.max()
    assert miou_thresholds(values, region) == miou_thresholds(np.clip(values, 0, 1), region)


def test_degenerate_threshold_metrics() -> None:
    constant = np.full((2, 3), 0.35, dtype=np.float32)
    assert miou_thresholds(constant, LEFT) == pytest.approx(3 / 5 * 1 / 3)  # everything exceeds three thresholds
    assert miou_thresholds_minmax(constant, LEFT) == 0
    assert miou_thresholds(-COSINES - 1, LEFT) == 0  # nothing exceeds any threshold
    assert miou_thresholds(constant + 1, EVERYWHERE) == 1


def test_sweep_by_hand() -> None:
    # Rescaled to [-1, 1], the region's two values are 0.8 and 1, the others 0.25, -1, -0.6 and -0.4.
    values = numbers([9, 6.25, 0], [10, 2, 3])
    assert iou_sweep(values, LEFT) == pytest.approx((2 / 3 + 2 / 3 + 1 + 1 + 1) / 5)
    assert dice_sweep(values, LEFT) == pytest.approx((4 / 5 + 4 / 5 + 1 + 1 + 1) / 5)
    assert iou_sweep(3 * values + 2, LEFT) == pytest.approx(iou_sweep(values, LEFT))
    assert (iou_sweep(0 * values, LEFT), dice_sweep(0 * values, LEFT)) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_sweep_against_scikit_learn(seed: int) -> None:
    values, region = drawn((23, 31), 0, seed)
    signed = np.interp(values, (values.min(), values.max()), (-1, 1))
    for metric, reference in ((iou_sweep, jaccard_score), (dice_sweep, f1_score)):
        each = [reference(region.ravel(), signed.ravel() > threshold) for threshold in THRESHOLDS]
        assert metric(values, region) == pytest.approx(np.mean(each), abs=1e-12)


# Phrase discrimination


def test_phrase_discrimination_by_hand() -> None:
    middle, right = grid(".#.", ".#."), grid("..#", "..#")
    values = numbers([2, 1, 2], [1, 1, 3])
    assert phrase_discrimination(values, LEFT, [middle]) == 1
    assert phrase_discrimination(values, LEFT, [right]) == 0
    assert phrase_discrimination(values, LEFT, [middle, right]) == 0.5
    named, other = grid("##.", "..."), grid(".##", "...")
    for last, expected in ((0, 1), (2, 0), (1, 0.5)):  # what the two share does not count
        assert phrase_discrimination(numbers([1, 9, last], [9, 9, 9]), named, [other]) == expected


def test_phrase_discrimination_is_undefined_without_comparable_regions() -> None:
    assert phrase_discrimination(VALUES, LEFT, []) is None
    assert phrase_discrimination(VALUES, LEFT, [LEFT, NOWHERE, EVERYWHERE, grid("#..", "...")]) is None
    assert phrase_discrimination(VALUES, LEFT, [EVERYWHERE, ~LEFT]) == 1
