"""Metrics of a mask and a region: overlap, coverage, bounding boxes, matched boxes, distance of centres."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.measure import label, regionprops
from sklearn.metrics import f1_score, jaccard_score, recall_score
from torchvision.ops import box_iou as torchvision_box_iou
from torchvision.ops import masks_to_boxes

from gtg_bench.benchmark.api.geometry import BoolArray, boxes_to_mask
from gtg_bench.benchmark.metrics import (
    Scene,
    box_iou,
    box_iou_full,
    box_miou,
    box_precision,
    box_recall,
    compute,
    coverage,
    dice,
    distance,
    iou,
    miou,
)
from gtg_bench.benchmark.metrics.matched_boxes import match_boxes
from gtg_bench.benchmark.metrics.rectangles import bounding_box, box_ious, clipped_boxes, part_boxes


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def boxed(*boxes: Any) -> BoolArray:
    return boxes_to_mask(boxes, (40, 30))


LEFT = grid("#..", "#..")
NOWHERE, EVERYWHERE = boxed(), boxed((0, 0, 40, 30))
REGION = boxed((10, 5, 20, 15))
TWO = [(0.0, 0.0, 10.0, 10.0), (20.0, 10.0, 30.0, 20.0)]


# Overlap and coverage


def test_overlap_by_hand() -> None:
    mask = grid("##.", "#..")
    assert iou(mask, LEFT) == pytest.approx(2 / 3)
    assert miou(mask, LEFT) == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert dice(mask, LEFT) == pytest.approx(2 * 2 / (3 + 2))
    assert coverage(grid("##.", "..."), LEFT) == 1 / 2
    for metric in (iou, miou, dice, coverage):
        assert metric(LEFT, LEFT) == 1
        assert metric(~LEFT, LEFT) == 0


@pytest.mark.parametrize("size", [(2, 3), (1, 40), (17, 5), (64, 48)])
def test_overlap_against_scikit_learn(size: tuple[int, int]) -> None:
    for seed in range(6):
        random = np.random.default_rng(seed)
        mask, region = random.random((2, *size)) < random.uniform(0.1, 0.9)
        region.flat[:2], region.flat[-2:] = True, False
        one, other = region.ravel(), mask.ravel()
        assert iou(mask, region) == pytest.approx(jaccard_score(one, other), abs=1e-12)
        assert miou(mask, region) == pytest.approx(jaccard_score(one, other, average="macro"), abs=1e-12)
        assert dice(mask, region) == pytest.approx(f1_score(one, other), abs=1e-12)
        assert coverage(mask, region) == pytest.approx(recall_score(one, other), abs=1e-12)


def test_degenerate_overlap() -> None:
    share = 100 / 1200
    for metric, empty_mask, full_region in ((iou, 0, share), (dice, 0, 2 / 13), (coverage, 0, share)):
        assert metric(NOWHERE, REGION) == empty_mask
        assert metric(REGION, EVERYWHERE) == pytest.approx(full_region)
        assert metric(EVERYWHERE, EVERYWHERE) == 1
        assert metric(REGION, NOWHERE) is None
    assert miou(NOWHERE, REGION) == pytest.approx((1 - share) / 2)
    assert miou(REGION, NOWHERE) is miou(REGION, EVERYWHERE) is None


# Bounding boxes


def test_rectangles_by_hand() -> None:
    mask = grid("....", ".#..", "..#.", "#...")
    assert bounding_box(mask) == (0, 1, 3, 4)
    assert part_boxes(mask).tolist() == [[1, 1, 3, 3], [0, 3, 1, 4]]
    assert bounding_box(NOWHERE) is None
    assert part_boxes(NOWHERE).shape == (0, 4)
    boxes = [(-5, 2, 3, 50), (40, 0, 45, 5), (1, 1, 2, 2), (-9, -9, 0, 0)]
    assert clipped_boxes(boxes, (30, 40)).tolist() == [[0, 2, 3, 30], [1, 1, 2, 2]]


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_rectangles_against_scikit_image_and_torchvision(share: float) -> None:
    mask = np.random.default_rng(0).random((37, 50)) < share
    found = {(left, top, right, bottom) for top, left, bottom, right in (p.bbox for p in regionprops(label(mask)))}
    assert {tuple(map(int, box)) for box in part_boxes(mask)} == found
    inclusive = masks_to_boxes(torch.from_numpy(mask)[None])[0].tolist()
    assert bounding_box(mask) == (inclusive[0], inclusive[1], inclusive[2] + 1, inclusive[3] + 1)


def random_boxes(count: int, seed: int) -> NDArray[np.float64]:
    corners = np.random.default_rng(seed).random((count, 2, 2)) * 20
    return np.concatenate([corners.min(axis=1), corners.max(axis=1) + 0.1], axis=1)


def test_ious_of_boxes_against_torchvision() -> None:
    ones, others = random_boxes(7, 0), random_boxes(5, 1)
    expected = torchvision_box_iou(torch.from_numpy(ones), torch.from_numpy(others))
    np.testing.assert_allclose(box_ious(ones, others), expected, atol=1e-12)
    assert box_ious(ones[:0], others).shape == (0, 5)


def test_box_iou_by_hand() -> None:
    # The bounding box is (10, 5, 20, 25); as released, without its last row and column, (10, 5, 19, 24).
    mask = boxed((10, 5, 12, 7), (15, 20, 20, 25))
    assert box_iou(mask, REGION) == pytest.approx(90 / (171 + 100 - 90))
    assert box_iou_full(mask, REGION) == pytest.approx(100 / 200)
    assert box_miou(mask, REGION) == pytest.approx((90 / 181 + (1200 - 181) / (1200 - 90)) / 2)
    assert (box_iou_full(REGION, REGION), box_iou(REGION, REGION)) == (1, pytest.approx(81 / 100))
    two = boxed((0, 0, 10, 10), (20, 10, 30, 20))  # compared as their union
    assert box_iou_full(two, two) == pytest.approx(200 / 600)


@pytest.mark.parametrize("seed", range(3))
def test_box_iou_against_torchvision(seed: int) -> None:
    mask = np.random.default_rng(seed).random((30, 40)) < 0.003
    mask[12, 15:18] = True
    rectangle = masks_to_boxes(torch.from_numpy(mask)[None])
    box = torch.tensor([[10.0, 5.0, 20.0, 15.0]])
    # A rectangle from the first to the last index has exactly the area that the released code uses.
    assert box_iou(mask, REGION) == pytest.approx(torchvision_box_iou(rectangle, box).item(), abs=1e-6)
    rectangle[:, 2:] += 1
    assert box_iou_full(mask, REGION) == pytest.approx(torchvision_box_iou(rectangle, box).item(), abs=1e-6)


def test_degenerate_box_ious() -> None:
    line = boxed((10, 5, 20, 6))
    assert box_iou(line, REGION) == 0  # nothing is left without its last row
    assert box_iou_full(line, REGION) == pytest.approx(10 / 100)
    assert box_iou(NOWHERE, REGION) == box_iou_full(NOWHERE, REGION) == 0
    assert box_miou(NOWHERE, REGION) == pytest.approx(1100 / 1200 / 2)
    assert box_iou_full(REGION, EVERYWHERE) == pytest.approx(100 / 1200)
    assert box_iou_full(EVERYWHERE, EVERYWHERE) == 1
    assert box_miou(REGION, EVERYWHERE) is None
    for metric in (box_iou, box_iou_full, box_miou):
        assert metric(REGION, NOWHERE) is None


# Matched boxes


def test_precision_and_recall_by_hand() -> None:
    mask = boxed((0, 0, 10, 9), (35, 25, 37, 27))
    assert match_boxes(mask, boxed(*TWO), TWO) == (1, 2, 2)
    mask |= boxed((35, 0, 37, 2))
    assert box_precision(mask, boxed(*TWO), TWO) == pytest.approx(1 / 3)
    assert box_recall(mask, boxed(*TWO), TWO) == 0.5


def test_a_match_needs_an_iou_of_one_half() -> None:
    box = [(0.0, 0.0, 10.0, 10.0)]
    for part, matched in (((0, 0, 10, 5), 1), ((0, 0, 7, 7), 0), ((0, 0, 10, 4), 0)):
        assert match_boxes(boxed(part), boxed(*box), box).matched == matched
    overlapping = [(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 9.0)]  # one component matches one box only
    assert match_boxes(boxed((0, 0, 10, 10)), boxed(*overlapping), overlapping) == (1, 1, 2)


def most_pairs(allowed: NDArray[np.bool_]) -> int:
    if len(allowed) > allowed.shape[1]:
        return most_pairs(allowed.T)
    orders = itertools.permutations(range(allowed.shape[1]), len(allowed))
    return max((int(sum(allowed[row, column] for row, column in enumerate(order))) for order in orders), default=0)


def test_the_matching_against_all_assignments() -> None:
    sizes = set()
    for seed in range(40):
        random = np.random.default_rng(seed)
        boxes = random_boxes(4, seed)
        boxes[:, 2:] += 5
        mask = boxes_to_mask(boxes[:3] + random.uniform(-1.5, 1.5, (3, 4)), (40, 30))
        allowed = box_ious(part_boxes(mask), boxes) >= 0.5
        matched = match_boxes(mask, boxes_to_mask(boxes, (40, 30)), boxes).matched
        assert matched == most_pairs(allowed), seed
        sizes.add(matched)
    assert len(sizes) > 2


def test_the_matching_is_the_largest_one_not_the_greedy_one() -> None:
    """An L around a square: the box of the L overlaps most with the box that is the square's only partner."""
    shape, square = boxed((0, 0, 3, 20), (0, 17, 20, 20)), boxed((10, 0, 20, 15))
    boxes = [(0.0, 0.0, 20.0, 10.0), (5.0, 0.0, 20.0, 15.0)]
    assert (box_ious(part_boxes(shape | square), np.array(boxes)).round(2) == [[0.5, 0.56], [0.4, 0.67]]).all()
    assert match_boxes(shape | square, boxed(*boxes), boxes) == (2, 2, 2)


def test_without_boxes_the_components_of_the_region_are_the_truth() -> None:
    assert match_boxes(boxed(*TWO), boxed(*TWO)) == (2, 2, 2)
    assert match_boxes(boxed((0, 0, 12, 10)), boxed((0, 0, 10, 10), (2, 0, 12, 10))) == (1, 1, 1)


@pytest.mark.parametrize(
    ("mask", "region", "boxes", "expected"),
    [
        (NOWHERE, REGION, None, (None, 0)),
        (REGION, NOWHERE, None, (None, None)),
        (REGION, NOWHERE, [(50, 50, 60, 60)], (None, None)),
        (EVERYWHERE, EVERYWHERE, [(-3, -3, 44, 44)], (1, 1)),
    ],
)
def test_degenerate_matchings(mask: BoolArray, region: BoolArray, boxes: Any, expected: Any) -> None:
    assert (box_precision(mask, region, boxes), box_recall(mask, region, boxes)) == expected


# Distance


def test_distance_by_hand() -> None:
    # Centres (15, 10) and (18, 14).
    assert distance(boxed((13, 12, 23, 16)), REGION) == 5
    assert distance(boxed((13, 12, 14, 13), (22, 15, 23, 16)), REGION) == 5
    assert distance(REGION, REGION) == 0
    assert distance(EVERYWHERE, REGION) == distance(REGION, EVERYWHERE) == pytest.approx(np.hypot(20 - 15, 15 - 10))


def test_distance_is_undefined_without_a_mask_or_a_single_centre() -> None:
    assert distance(NOWHERE, REGION) is distance(REGION, NOWHERE) is distance(REGION, boxed(*TWO)) is None
    overlapping = [(0, 0, 10, 10), (5, 5, 15, 15)]
    assert distance(REGION, boxed(*overlapping), overlapping) is None
    assert distance(REGION, boxed(*overlapping)) == pytest.approx(np.hypot(15 - 7.5, 10 - 7.5))
    assert distance(REGION, boxed((10, 5, 20, 15)), [(10, 5, 20, 15), (90, 90, 99, 99)]) == 0


# The paper's released code


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("suffix", ["", "_f32"])
def test_released_rectangles(released: Any, suffix: str, with_boxes: bool) -> None:
    """The released code leaves out the distance (NaN) for several boxes. For an empty mask it writes 0, the best."""
    for row, boxes in enumerate(released.boxes):
        mask = released.mask(row, suffix)
        scene = Scene(
            mask.astype(np.float32), mask, boxes_to_mask(boxes, (512, 512)), boxes=boxes if with_boxes else None
        )
        scores = compute(scene, ["box_iou", "box_miou", "distance", "box_recall"])
        if row == released.empty:
            assert released[f"metric{suffix}_distance"][row] == released[f"metric{suffix}_bboxiou"][row] == 0
            assert scores.keys() == {"box_iou", "box_miou", "box_recall"}
            assert (scores["box_iou"], scores["box_recall"]) == (0, 0)
            continue
        for name, column in (("box_iou", "bboxiou"), ("box_miou", "bboxmiou"), ("distance", "distance")):
            expected = released[f"metric{suffix}_{column}"][row]
            assert scores.get(name, np.nan) == pytest.approx(expected, abs=1e-4, nan_ok=True), (row, name)
