"""Metrics of box answers: matched IoU, average precision, pointing by the best box, and what a map is compared by."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from torch import from_numpy
from torchvision.ops import box_iou as torchvision_box_iou

from gtg_bench.benchmark.api.geometry import boxes_to_mask
from gtg_bench.benchmark.api.types import BoxAnswer
from gtg_bench.benchmark.metrics import METRICS, Scene, box_ap10, box_ap50, box_top1, compute, iou, matched_iou
from gtg_bench.benchmark.metrics.answered_boxes import box_ap

ONE, TWO, HALF = (0, 0, 10, 10), (20, 0, 30, 10), (0, 0, 10, 5)
NAMES = ("matched_iou", "box_ap10", "box_ap30", "box_ap50", "box_top1")


def boxes(*given: Any) -> Any:
    return np.array(given, dtype=np.float64).reshape(-1, 4)


def scores(*given: float) -> Any:
    return np.array(given, dtype=np.float64)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([ONE, TWO], [TWO, ONE], 1),  # a mean over all pairs would be 0.5
        ([ONE], [ONE, TWO], 1 / 2),
        ([ONE, TWO, (40, 0, 50, 10)], [ONE], 1 / 3),
        ([HALF], [ONE], 1 / 2),
        ([HALF, TWO], [ONE, TWO], 3 / 4),
        ([TWO], [ONE], 0),
        ([], [ONE], 0),
        ([ONE], [], None),
    ],
)
def test_matched_iou_by_hand(predicted: list, true: list, expected: float | None) -> None:
    assert matched_iou(boxes(*predicted), boxes(*true)) == expected


def drawn(random: np.random.Generator, count: int) -> Any:
    corners = random.uniform(0, 30, (count, 2))
    return np.hstack([corners, corners + random.uniform(5, 20, (count, 2))])


@pytest.mark.parametrize("seed", range(12))
def test_matched_iou_against_all_assignments(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, true = drawn(random, random.integers(1, 4)), drawn(random, random.integers(1, 5))
    ious = torchvision_box_iou(from_numpy(predicted), from_numpy(true)).numpy()
    wide = ious if len(predicted) <= len(true) else ious.T
    best = max(
        sum(wide[k, column] for k, column in enumerate(columns))
        for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert matched_iou(predicted, true) == pytest.approx(best / max(ious.shape))


@pytest.mark.parametrize(
    ("predicted", "confidence", "true", "expected"),
    [
        ([ONE, TWO], (0.9, 0.8), [ONE, TWO], 1),
        ([TWO, ONE], (0.9, 0.8), [ONE], 1 / 2),  # the right box comes second
        ([ONE, TWO], (0.9, 0.8), [ONE], 1),  # and first
        ([TWO, ONE], (0, 0), [ONE], 1 / 2),  # without scores: precision 1/2 times recall 1
        ([ONE], (0,), [ONE, TWO], 1 / 2),
        ([ONE, ONE], (0.9, 0.8), [ONE, TWO], 1 / 2),  # a repeated box is a false one
        # hit, miss, hit: recall 1/2 at precision 1, then 1 at 2/3
        ([ONE, (50, 0, 60, 10), TWO], (3, 2, 1), [ONE, TWO], 1 / 2 + 1 / 2 * 2 / 3),
        # miss, hit, hit: the precision of 2/3 at full recall counts for the half as well
        ([(50, 0, 60, 10), ONE, TWO], (3, 2, 1), [ONE, TWO], 2 / 3),
        ([], (), [ONE], 0),
        ([ONE], (1,), [], None),
    ],
)
def test_average_precision_by_hand(predicted: list, confidence: tuple, true: list, expected: float | None) -> None:
    found = box_ap(boxes(*predicted), scores(*confidence), boxes(*true), 0.5)
    assert found == (None if expected is None else pytest.approx(expected))
    again = box_ap(boxes(*predicted[::-1]), scores(*confidence[::-1]), boxes(*true), 0.5)
    assert found == again, "the order in the file does not matter"


def test_average_precision_depends_on_the_iou_and_only_on_the_order_of_scores() -> None:
    third = boxes((0, 0, 10, 3.5))  # an IoU of 0.35
    assert [box_ap(third, scores(1), boxes(ONE), least) for least in (0.1, 0.3, 0.5)] == [1, 1, 0]
    assert box_ap10(third, scores(1), boxes(ONE)) == 1
    assert box_ap50(third, scores(1), boxes(ONE)) == 0
    random = np.random.default_rng(0)
    predicted, true, confidence = drawn(random, 6), drawn(random, 3), random.random(6)
    assert box_ap10(predicted, confidence, true) == box_ap10(predicted, np.exp(9 * confidence), true)


def test_pointing_by_the_centre_of_the_best_box() -> None:
    region = boxes_to_mask([ONE], (40, 30))
    assert box_top1(boxes(TWO, ONE), scores(0.1, 0.9), region) == 1
    assert box_top1(boxes(TWO, ONE), scores(0.9, 0.1), region) == 0
    assert box_top1(boxes(TWO, ONE), scores(0.5, 0.5), region) == 1 / 2, "tied boxes share, whatever their order"
    assert box_top1(boxes((0, 0, 25, 4)), scores(0), region) == 0, "it overlaps, but its centre is outside"
    assert box_top1(boxes(), scores(), region) == 0
    assert box_top1(boxes((-30, 0, 10, 10)), scores(0), region) == 0, "a centre beyond the frame"
    assert box_top1(boxes(ONE), scores(0), np.zeros((30, 40), bool)) is None


def scene(*given: Any, true: Any = (ONE, TWO)) -> Scene:
    """A box answer with equal scores; its map is a picture that no metric may read."""
    region, mask = (boxes_to_mask(one, (40, 30)) for one in (true, given))
    answer = BoxAnswer(boxes(*given), np.zeros(len(given)))
    return Scene(np.eye(30, 40, dtype=np.float32), mask, region, (mask,), boxes(*true), np.ones_like(mask), answer)


def test_metrics_of_the_map_are_undefined_for_boxes() -> None:
    found = compute(scene(ONE, TWO), METRICS)
    of_map = {name for name, metric in METRICS.items() if metric.of_map}
    assert {"cnr", "auroc", "ap", "gcnr", "phrase_discrimination", "iou_sweep"} <= of_map
    assert not of_map & found.keys()
    assert {name: found[name] for name in (*NAMES, "iou", "top1", "dice", "box_recall")} == dict.fromkeys(
        (*NAMES, "iou", "top1", "dice", "box_recall"), 1
    )


def test_no_box_is_a_miss_in_every_metric() -> None:
    names = (*NAMES, "iou", "top1", "dice")
    assert compute(scene(), names) == dict.fromkeys(names, 0)


def test_a_map_is_scored_by_the_boxes_of_its_mask() -> None:
    values = np.zeros((30, 40), np.float32)
    values[0:10, 0:10], values[5, 5], values[0:5, 20:30] = 0.5, 1, 0.7
    region = boxes_to_mask([ONE], (40, 30))
    found = Scene(values, values > 0, region, (), boxes(ONE))
    np.testing.assert_array_equal(found.predicted.boxes, boxes(ONE, (20, 0, 30, 5)))
    np.testing.assert_allclose(found.predicted.scores, [1, 0.7])
    assert compute(found, NAMES) == {**dict.fromkeys(NAMES, 1), "matched_iou": 1 / 2}
    assert compute(found, ["iou"])["iou"] == iou(values > 0, region) == 100 / 150
    empty = Scene(values, np.zeros_like(region), region, (), boxes(ONE))
    assert compute(empty, NAMES) == dict.fromkeys(NAMES, 0)


def test_boxes_are_clipped_to_the_frame_and_true_boxes_of_a_mask_are_its_components() -> None:
    found = scene((-10, -10, 10, 10), (50, 0, 60, 10), true=[ONE])
    np.testing.assert_array_equal(found.predicted.boxes, boxes(ONE))
    region = boxes_to_mask([ONE, TWO], (40, 30))
    np.testing.assert_array_equal(Scene(region.astype(np.float32), region, region).true, boxes(ONE, TWO))


@pytest.mark.parametrize(
    ("given", "confidence", "said"),
    [
        (boxes((5, 0, 5, 9)), scores(1), "no area"),
        (boxes((0, 0, np.nan, 9)), scores(1), "finite"),
        (boxes(ONE), scores(np.inf), "finite"),
        (boxes(ONE), scores(), "scores"),
    ],
)
def test_invalid_answers_are_refused(given: Any, confidence: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BoxAnswer(given, confidence)
