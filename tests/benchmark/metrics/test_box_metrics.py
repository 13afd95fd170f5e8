"""Metrics of rectangles: the mask's bounding box, boxes of several parts, the distance of centres."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.measure import label, regionprops
from torchvision.ops import box_iou as torchvision_box_iou
from torchvision.ops import masks_to_boxes

from gtg_bench.benchmark.api.geometry import BoolArray, boxes_to_mask
from gtg_bench.benchmark.metrics import METRICS, Scene, score
from gtg_bench.benchmark.metrics.box_iou import box_iou, box_iou_full, box_miou
from gtg_bench.benchmark.metrics.box_matching import Matching, box_matching
from gtg_bench.benchmark.metrics.distance import distance
from gtg_bench.benchmark.metrics.rectangles import bounding_box, box_ious, clipped_boxes, part_boxes

GOLDEN = Path(__file__).parents[2] / "golden"
EMPTY_ROW = 10


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def boxed(*boxes: tuple[float, float, float, float]) -> BoolArray:
    return boxes_to_mask(boxes, (40, 30))


NOWHERE, EVERYWHERE = boxed(), boxed((0, 0, 40, 30))
REGION = boxed((10, 5, 20, 15))


# Rectangles


def test_rectangles_by_hand() -> None:
    mask = grid("....", ".#..", "..#.", "#...")
    assert bounding_box(mask) == (0, 1, 3, 4)
    assert part_boxes(mask).tolist() == [[1, 1, 3, 3], [0, 3, 1, 4]]
    assert bounding_box(NOWHERE) is None
    assert part_boxes(NOWHERE).shape == (0, 4)


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


def test_boxes_are_cut_at_the_frame() -> None:
    boxes = [(-5, 2, 3, 50), (40, 0, 45, 5), (1, 1, 2, 2), (-9, -9, 0, 0)]
    assert clipped_boxes(boxes, (30, 40)).tolist() == [[0, 2, 3, 30], [1, 1, 2, 2]]


# The IoU of rectangles


def test_box_iou_by_hand() -> None:
    # The bounding rectangle is (10, 5, 20, 25); as released without its last row and column, (10, 5, 19, 24).
    mask = boxed((10, 5, 12, 7), (15, 20, 20, 25))
    assert box_iou(mask, REGION) == pytest.approx(90 / (171 + 100 - 90))
    assert box_iou_full(mask, REGION) == pytest.approx(100 / 200)
    assert box_miou(mask, REGION) == pytest.approx((90 / 181 + (1200 - 181) / (1200 - 90)) / 2)


def test_a_perfect_mask_has_a_full_box_iou_and_nearly_the_released_one() -> None:
    assert box_iou_full(REGION, REGION) == 1
    assert box_iou(REGION, REGION) == pytest.approx(81 / 100)


def test_several_boxes_are_compared_as_their_union() -> None:
    two = boxed((0, 0, 10, 10), (20, 10, 30, 20))
    assert box_iou_full(two, two) == pytest.approx(200 / 600)


@pytest.mark.parametrize("seed", range(3))
def test_box_iou_against_torchvision(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((30, 40)) < 0.003
    mask[12, 15:18] = True
    rectangle = masks_to_boxes(torch.from_numpy(mask)[None])
    box = torch.tensor([[10.0, 5.0, 20.0, 15.0]])
    # A rectangle from first to last index has just the area that the released code leaves.
    assert box_iou(mask, REGION) == pytest.approx(torchvision_box_iou(rectangle, box).item(), abs=1e-6)
    rectangle[:, 2:] += 1
    assert box_iou_full(mask, REGION) == pytest.approx(torchvision_box_iou(rectangle, box).item(), abs=1e-6)


def test_degenerate_box_ious() -> None:
    line = boxed((10, 5, 20, 6))
    assert box_iou(line, REGION) == 0  # without its last row nothing is left
    assert box_iou_full(line, REGION) == pytest.approx(10 / 100)
    assert box_iou(NOWHERE, REGION) == box_iou_full(NOWHERE, REGION) == 0
    assert box_miou(NOWHERE, REGION) == pytest.approx(1100 / 1200 / 2)
    assert box_iou_full(REGION, EVERYWHERE) == pytest.approx(100 / 1200)
    assert box_iou_full(EVERYWHERE, EVERYWHERE) == 1
    assert box_miou(REGION, EVERYWHERE) is None
    for metric in (box_iou, box_iou_full, box_miou):
        assert metric(REGION, NOWHERE) is None


# Matching


TWO = [(0.0, 0.0, 10.0, 10.0), (20.0, 10.0, 30.0, 20.0)]


def test_precision_and_recall_by_hand() -> None:
    mask = boxed((0, 0, 10, 9), (35, 25, 37, 27))
    assert box_matching(mask, boxed(*TWO), TWO) == (1, 2, 2)
    assert (Matching(1, 2, 2).precision, Matching(1, 2, 2).recall) == (0.5, 0.5)
    assert (Matching(1, 3, 2).precision, Matching(1, 3, 2).recall) == (pytest.approx(1 / 3), 0.5)


def test_half_an_overlap_is_a_match_and_less_is_none() -> None:
    box = [(0.0, 0.0, 10.0, 10.0)]
    assert box_matching(boxed((0, 0, 10, 5)), boxed(*box), box).matched == 1
    assert box_matching(boxed((0, 0, 7, 7)), boxed(*box), box).matched == 0
    assert box_matching(boxed((0, 0, 10, 4)), boxed(*box), box).matched == 0


def test_one_part_matches_one_box_only() -> None:
    overlapping = [(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 9.0)]
    assert box_matching(boxed((0, 0, 10, 10)), boxed(*overlapping), overlapping) == (1, 1, 2)


def test_the_matching_is_the_largest_not_the_greediest() -> None:
    """The best single pair leaves the other part without a partner."""
    boxes = [(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 16.0, 10.0)]
    mask = boxed((0, 0, 10, 9)) | boxed((11, 0, 30, 10))
    ious = box_ious(part_boxes(mask), np.array(boxes))
    assert (ious.round(2) == [[0.9, 0.56], [0, 0.17]]).all()
    assert box_matching(mask, boxed(*boxes), boxes) == (1, 2, 2)
    boxes[1] = (4.0, 0.0, 24.0, 10.0)
    mask = boxed((0, 0, 12, 10)) | boxed((13, 0, 24, 10))
    assert (box_ious(part_boxes(mask), np.array(boxes)).round(2) == [[0.83, 0.33], [0, 0.55]]).all()
    assert box_matching(mask, boxed(*boxes), boxes) == (2, 2, 2)


def most_pairs(allowed: NDArray[np.bool_]) -> int:
    if len(allowed) > allowed.shape[1]:
        return most_pairs(allowed.T)
    orders = itertools.permutations(range(allowed.shape[1]), len(allowed))
    return max((int(sum(allowed[row, column] for row, column in enumerate(order))) for order in orders), default=0)


@pytest.mark.parametrize("seed", range(20))
def test_the_matching_against_all_assignments(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes = random_boxes(4, seed)
    boxes[:, 2:] += 5
    parts = boxes[:3] + random.uniform(-1.5, 1.5, (3, 4))
    mask = boxes_to_mask(parts, (40, 30))
    allowed = box_ious(part_boxes(mask), boxes) >= 0.5
    assert box_matching(mask, boxes_to_mask(boxes, (40, 30)), boxes).matched == most_pairs(allowed)


def test_without_boxes_the_parts_of_the_region_are_the_truth() -> None:
    assert box_matching(boxed(*TWO), boxed(*TWO)) == (2, 2, 2)
    assert box_matching(boxed((0, 0, 12, 10)), boxed((0, 0, 10, 10), (2, 0, 12, 10))) == (1, 1, 1)


def test_degenerate_matchings() -> None:
    none = box_matching(NOWHERE, REGION)
    assert (none.precision, none.recall) == (None, 0)
    blind = box_matching(REGION, NOWHERE)
    assert (blind.precision, blind.recall) == (None, None)
    outside = box_matching(REGION, NOWHERE, [(50, 50, 60, 60)])
    assert (outside.precision, outside.recall) == (None, None)
    full = box_matching(EVERYWHERE, EVERYWHERE, [(-3, -3, 44, 44)])
    assert (full.precision, full.recall) == (1, 1)


# Distance


def test_distance_by_hand() -> None:
    # Centres (15, 10) and (18, 14).
    assert distance(boxed((13, 12, 23, 16)), REGION) == 5
    assert distance(boxed((13, 12, 14, 13), (22, 15, 23, 16)), REGION) == 5
    assert distance(REGION, REGION) == 0


def test_distance_is_undefined_without_a_mask_or_a_centre() -> None:
    assert distance(NOWHERE, REGION) is None
    assert distance(REGION, NOWHERE) is None
    assert distance(REGION, boxed(*TWO)) is None
    overlapping = [(0, 0, 10, 10), (5, 5, 15, 15)]
    assert distance(REGION, boxed(*overlapping), overlapping) is None
    assert distance(REGION, boxed(*overlapping)) == pytest.approx(np.hypot(15 - 7.5, 10 - 7.5))
    assert distance(REGION, boxed((10, 5, 20, 15)), [(10, 5, 20, 15), (90, 90, 99, 99)]) == 0


def test_distance_of_full_frames() -> None:
    assert distance(EVERYWHERE, REGION) == pytest.approx(np.hypot(20 - 15, 15 - 10))
    assert distance(REGION, EVERYWHERE) == pytest.approx(np.hypot(20 - 15, 15 - 10))


def test_only_distance_is_better_when_lower() -> None:
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["distance"]


# The paper's released code


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if not (GOLDEN / "metrics.npz").is_file():
        pytest.skip("golden values are absent: no shared/golden/metrics.npz beside the repository")
    with np.load(GOLDEN / "metrics.npz") as arrays:
        values: dict[str, Any] = dict(arrays)
    values["boxes"] = json.loads((GOLDEN / "metrics.json").read_text())["boxes_xywh"]
    return values


def golden_scene(golden: dict[str, Any], row: int, suffix: str, with_boxes: bool) -> Scene:
    mask = np.unpackbits(golden["mask512_packbits" + suffix][row], axis=-1).astype(bool)
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in golden["boxes"][row]], dtype=float)
    region = boxes_to_mask(boxes, (512, 512))
    return Scene(mask.astype(np.float32), mask, region, boxes=boxes if with_boxes else None)


@pytest.mark.parametrize("with_boxes", [True, False])
@pytest.mark.parametrize("suffix", ["", "_f32"])
def test_golden_rectangles(golden: dict[str, Any], suffix: str, with_boxes: bool) -> None:
    """Where the released code finds no distance (several boxes), there is none."""
    for row in range(EMPTY_ROW):
        scores = score(golden_scene(golden, row, suffix, with_boxes), ["box_iou", "box_miou", "distance"])
        for name, column in (("box_iou", "bboxiou"), ("box_miou", "bboxmiou"), ("distance", "distance")):
            expected = golden[f"metric{suffix}_{column}"][row]
            assert scores.get(name, np.nan) == pytest.approx(expected, abs=1e-4, nan_ok=True), (row, name)


def test_the_golden_row_with_an_empty_mask_has_no_distance(golden: dict[str, Any]) -> None:
    scene = golden_scene(golden, EMPTY_ROW, "", True)
    assert golden["metric_distance"][EMPTY_ROW] == golden["metric_bboxiou"][EMPTY_ROW] == 0
    assert score(scene, ["box_iou", "distance", "box_recall"]) == {"box_iou": 0, "box_recall": 0}
