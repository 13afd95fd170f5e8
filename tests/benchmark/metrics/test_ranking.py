"""AUROC and average precision, and the one sort that both are counted from."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from gtg_bench.benchmark import metrics
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import Scene, score
from gtg_bench.benchmark.metrics.ap import ap
from gtg_bench.benchmark.metrics.auroc import auroc
from gtg_bench.benchmark.metrics.ranking import ranked


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


LEFT = grid("#..", "#..")
VALUES = numbers([3, 1, 0], [5, 2, 1])


# Hand-computed cases


def test_auroc_by_hand() -> None:
    # Of the 8 pairs of inside 2, 1 and outside 1, 0, 3, 1: 2 beats 3 of 4; 1 beats one and ties with two.
    assert auroc(numbers([2, 1, 0], [1, 3, 1]), LEFT) == pytest.approx((3 + 1 + 2 * 0.5) / 8)
    assert auroc(VALUES, LEFT) == 1
    assert auroc(-VALUES, LEFT) == 0


def test_ap_by_hand() -> None:
    # Down to 3: nothing found. Down to 2: half of the region, one of two right. Down to 1: all of it, 2 of 5 right.
    assert ap(numbers([2, 1, 0], [1, 3, 1]), LEFT) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 5)
    assert ap(VALUES, LEFT) == 1
    # Of 5, 3, 2, 1, 1, 0 upside down the region holds the last two.
    assert ap(-VALUES, LEFT) == pytest.approx(0.5 * 1 / 5 + 0.5 * 2 / 6)


def test_ap_takes_equal_values_together() -> None:
    assert ap(numbers([2, 2, 0], [1, 0, 0]), LEFT) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)


def test_a_ranking_counts_from_the_lowest_value_of_the_region() -> None:
    ranking = ranked(numbers([2, 1, 0], [1, 3, 1]), LEFT)
    assert ranking.pixels.tolist() == [1, 4, 5, 6]
    assert ranking.inside.tolist() == [0, 1, 2, 2]


# Degenerate cases


@pytest.mark.parametrize("metric", [auroc, ap])
@pytest.mark.parametrize("full", [False, True])
def test_undefined_where_the_region_is_empty_or_fills_the_frame(metric: Callable, full: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric(VALUES, np.full(VALUES.shape, full)) is None


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, -3e38])
def test_a_constant_map(value: float) -> None:
    values = np.full((3, 5), value, dtype=np.float32)
    region = boxes_to_mask([(0, 0, 2, 2)], (5, 3))
    assert auroc(values, region) == 0.5
    assert ap(values, region) == pytest.approx(4 / 15)


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e30, 3e38])
def test_extreme_ranges(scale: float) -> None:
    values = (numbers([1, 0, -1], [1, -1, 0]) * scale).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auroc(values, LEFT) == 1
        assert ap(values, LEFT) == 1


def test_the_two_zeros_are_one_value() -> None:
    for values in (numbers([0.0, -0.0]), numbers([-0.0, 0.0])):
        assert auroc(values, grid("#.")) == 0.5
        assert ap(values, grid("#.")) == 0.5


# Independent implementations


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


def drawn(size: tuple[int, int], levels: int, seed: int) -> tuple[FloatArray, BoolArray]:
    """A random map and region; `levels` distinct values make ties, 0 makes none."""
    random = np.random.default_rng(seed)
    values = random.integers(-levels // 2, levels - levels // 2, size) if levels else random.standard_normal(size)
    region = random.random(size) < random.uniform(0.1, 0.9)
    region.flat[0], region.flat[-1] = True, False
    return values.astype(np.float32), region


@pytest.mark.parametrize("levels", [0, 2, 5, 300])
@pytest.mark.parametrize("size", [(1, 2), (2, 3), (1, 40), (17, 5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_are_exact(size: tuple[int, int], levels: int, seed: int) -> None:
    values, region = drawn(size, levels, seed)
    area, precision = exact(values, region)
    assert auroc(values, region) == float(area)
    assert ap(values, region) == pytest.approx(float(precision), rel=1e-14)


def assert_parity(values: NDArray, region: BoolArray) -> None:
    flat, truth = values.ravel(), region.ravel()
    assert auroc(values, region) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert ap(values, region) == pytest.approx(average_precision_score(truth, flat), abs=1e-12)


@pytest.mark.parametrize("levels", [0, 2, 5, 300])
@pytest.mark.parametrize("size", [(2, 3), (1, 40), (17, 5), (64, 48), (200, 300)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parity_with_scikit_learn(size: tuple[int, int], levels: int, seed: int) -> None:
    assert_parity(*drawn(size, levels, seed))


def skewed(random: np.random.Generator) -> NDArray[np.float64]:
    """Nearly everything close to the lowest value, a few values far above."""
    return np.where(random.random((90, 90)) < 0.999, 1e-7, 1.0) * random.random((90, 90))


def smooth(random: np.random.Generator) -> FloatArray:
    return Frame.stretch((90, 90), (6, 6)).carry(random.random((6, 6)), Frame.original((90, 90)))[0]


def all_magnitudes(random: np.random.Generator) -> NDArray[np.float64]:
    """Both signs, subnormals included, so that every bit of the sorting keys is used."""
    return random.choice([-1, 1], (90, 90)) * 10 ** random.uniform(-44, 38, (90, 90))


@pytest.mark.parametrize("draw", [skewed, smooth, all_magnitudes])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("box", [(2, 3, 9, 9), (0, 0, 90, 80), (40, 40, 41, 41)])
def test_parity_on_other_maps(draw: Callable, dtype: type, box: tuple[int, ...]) -> None:
    values = draw(np.random.default_rng(3)).astype(dtype)
    region = boxes_to_mask([box], (90, 90))
    assert_parity(values, region)
    assert_parity(values.T, region)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16, bool])
def test_other_types_of_numbers_rank_alike(dtype: type) -> None:
    random = np.random.default_rng(0)
    values, region = random.integers(0, 200, (40, 30)).astype(dtype), random.random((40, 30)) < 0.3
    assert_parity(values, region)


def test_monotone_changes_leave_both_as_they_are() -> None:
    values, region = drawn((50, 40), 300, seed=4)
    for changed in (values * 3 - 7, np.exp(values / 100)):
        assert auroc(changed, region) == auroc(values, region)
        assert ap(changed, region) == ap(values, region)


# Sharing


def test_a_scene_is_sorted_once_and_only_if_a_metric_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts = []
    monkeypatch.setattr(metrics, "ranked", lambda *arrays: sorts.append(1) or ranked(*arrays))
    scene = Scene(VALUES, LEFT, LEFT)
    assert score(scene, ["iou", "cnr", "top1"])
    assert not sorts
    assert score(scene, ["auroc", "ap"]) == {"auroc": 1.0, "ap": 1.0}
    assert len(sorts) == 1
