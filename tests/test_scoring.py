"""Maps and regions carried to the evaluation frame, and what becomes of pixels that a method does not cover."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gtg_bench.benchmark.api.geometry import Frame, boxes_to_mask
from gtg_bench.benchmark.api.types import Box, GroundingMap, PhraseSample
from gtg_bench.benchmark.controls import Trial
from gtg_bench.benchmark.scoring import evaluation_frame, region_of, score_map
from gtg_bench.benchmark.spec import FRAMES

SIZES = [(300, 200), (200, 300), (256, 256), (641, 480)]


def sample(size: tuple[int, int], *boxes: Box) -> PhraseSample:
    return PhraseSample(f"s{size}", "i", "p", None, "edema", "Edema", boxes, size)


def trial(own: PhraseSample, *others: PhraseSample, scored_on: PhraseSample | None = None) -> Trial:
    return Trial(own, own.phrase, own.category, scored_on or own, others)


def blob(size: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    return np.exp(-((x - 0.4) ** 2 + (y - 0.5) ** 2) * 20).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_in_the_original_frame_a_full_map_is_scored_as_it_is(size: tuple[int, int]) -> None:
    box = (size[0] * 0.25, size[1] * 0.3, size[0] * 0.5, size[1] * 0.7)
    values = blob(size)
    found = score_map(GroundingMap(values, Frame.original(size)), trial(sample(size, box)), "original").metrics
    region = boxes_to_mask([box], size)
    assert found["auroc"] == pytest.approx(roc_auc_score(region.ravel(), values.ravel()), abs=1e-9)
    assert found["top1"] == float(region[np.unravel_index(values.argmax(), values.shape)])


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("size", SIZES)
def test_a_box_comes_back_from_its_frame(size: tuple[int, int], kind: str) -> None:
    box = (size[0] * 0.41, size[1] * 0.37, size[0] * 0.58, size[1] * 0.66)
    frame = evaluation_frame(size, kind)
    there = frame.boxes_from_image([box])
    np.testing.assert_allclose(frame.boxes_to_image(there)[0], box, atol=1e-9)
    area = region_of(sample(size, box), kind, frame.size).sum()
    width, height = there[0, 2] - there[0, 0], there[0, 3] - there[0, 1]
    assert area == pytest.approx(width * height, rel=0.03)


def test_what_a_method_does_not_cover_is_its_lowest_value_or_does_not_count() -> None:
    """The method sees the left half alone and is right there; a second box lies in the right half."""
    size = (200, 100)
    frame = Frame(size, size, (0, 0, 100, 100))
    values = np.zeros((100, 100), dtype=np.float32)
    values[20:40, 20:40] = 1
    both = trial(sample(size, (20, 20, 40, 40), (150, 50, 170, 70)))
    lowest = score_map(GroundingMap(values, frame), both, "original", "lowest").metrics
    exclude = score_map(GroundingMap(values, frame), both, "original", "exclude").metrics
    whole = np.zeros((100, 200), dtype=np.float32)
    whole[:, :100] = values
    region = boxes_to_mask([(20, 20, 40, 40), (150, 50, 170, 70)], size)
    assert lowest["auroc"] == pytest.approx(roc_auc_score(region.ravel(), whole.ravel()))
    assert lowest["auroc"] < 0.9
    assert exclude["auroc"] == pytest.approx(1.0)
    assert lowest["iou"] == pytest.approx(0.5, abs=0.02)
    assert exclude["iou"] == pytest.approx(1.0, abs=0.02)


def test_a_region_that_the_method_does_not_cover_at_all() -> None:
    size = (200, 100)
    grounding = GroundingMap(np.eye(10, dtype=np.float32), Frame(size, size, (0, 0, 100, 100)))
    unseen = trial(sample(size, (150, 50, 170, 70)))
    assert score_map(grounding, unseen, "original", "exclude").unscorable == (
        "the region lies outside what the method covers"
    )
    assert score_map(grounding, unseen, "original", "lowest").metrics["auroc"] < 0.5


def test_another_images_region_is_stretched_to_this_image() -> None:
    ours, theirs = sample((200, 100), (0, 0, 10, 10)), sample((400, 400), (100, 200, 300, 400))
    values = np.zeros((100, 200), dtype=np.float32)
    values[50:, 50:150] = 1
    swapped = trial(ours, scored_on=theirs)
    found = score_map(GroundingMap(values, Frame.original((200, 100))), swapped, "original").metrics
    assert found["iou"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("box", "why"), [((0, 0, 300, 200), "fills"), ((0, 0, 20, 20), "lies outside")])
def test_a_region_that_fills_or_leaves_the_frame_is_unscorable(box: Box, why: str) -> None:
    grounding = GroundingMap(blob((300, 200)), Frame.original((300, 200)))
    assert score_map(grounding, trial(sample((300, 200), box))).unscorable == f"the region {why} the evaluation frame"
