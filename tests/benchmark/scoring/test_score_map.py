"""Maps and regions in the evaluation frame, uncovered pixels, and the scores of a single array."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from sklearn.metrics import roc_auc_score

from gtg_bench.benchmark.api.errors import SampleError, UsageError
from gtg_bench.benchmark.api.geometry import Frame, Mask, boxes_to_mask
from gtg_bench.benchmark.api.types import Box, GroundingMap, PhraseSample
from gtg_bench.benchmark.metrics import METRICS, arrays
from gtg_bench.benchmark.metrics.named_masks import BEST
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOLS
from gtg_bench.benchmark.scoring.score_map import evaluation_frame, facts_of, region_of, score, score_map, view
from gtg_bench.benchmark.scoring.smoothing import smoothed
from gtg_bench.benchmark.scoring.trial import Trial

ORIGINAL = PROTOCOLS["gtg"].changed(frame="original")
EXCLUDE = ORIGINAL.changed(uncovered="exclude")
SIZES = [(300, 200), (200, 300), (256, 256), (641, 480)]


def sample(size: tuple[int, int], *boxes: Box) -> PhraseSample:
    return PhraseSample(f"s{size}", "i", "p", None, "edema", "Edema", boxes, size)


def trial(own: PhraseSample, *others: PhraseSample, scored_on: PhraseSample | None = None) -> Trial:
    return Trial(own, own.phrase, own.category, scored_on or own, others)


def blob(size: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    return np.exp(-((x - 0.4) ** 2 + (y - 0.5) ** 2) * 20).astype(np.float32)


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


@pytest.mark.parametrize(
    ("size", "resized", "window"),
    [
        ((518, 518), (518, 518), (32, 32)),
        ((3036, 2544), (518, 434), (32, 32 - 42)),  # 42 rows of padding above the image and 42 below
        ((200, 400), (259, 518), (32 - 129, 32)),
    ],
)
def test_the_centre_of_the_padded_square(size: Any, resized: Any, window: Any) -> None:
    assert evaluation_frame(size, "pad518") == Frame(size, resized, (*window, 453, 453))


def test_smoothing_in_the_padded_frame_is_a_share_of_the_longer_side() -> None:
    values = np.zeros((64, 32), np.float32)
    values[32, 16] = 1
    long = smoothed(GroundingMap(values, Frame.original((32, 64))), "0.05", of_longer=True).values
    short = smoothed(GroundingMap(values, Frame.original((32, 64))), "0.1").values
    np.testing.assert_array_equal(long, short)


def test_uncovered_pixels_hold_the_minimum_or_do_not_count() -> None:
    """The method sees only the left half and is right there; a second box is in the right half."""
    size = (200, 100)
    frame = Frame(size, size, (0, 0, 100, 100))
    values = np.zeros((100, 100), dtype=np.float32)
    values[20:40, 20:40] = 1
    both = trial(sample(size, (20, 20, 40, 40), (150, 50, 170, 70)))
    lowest = score_map(GroundingMap(values, frame), both, ORIGINAL).metrics
    exclude = score_map(GroundingMap(values, frame), both, EXCLUDE).metrics
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
    assert "field of view" in score_map(grounding, unseen, EXCLUDE).unscorable
    assert score_map(grounding, unseen, ORIGINAL).metrics["auroc"] < 0.5


def test_another_images_region_is_stretched_to_this_image() -> None:
    ours, theirs = sample((200, 100), (0, 0, 10, 10)), sample((400, 400), (100, 200, 300, 400))
    values = np.zeros((100, 200), dtype=np.float32)
    values[50:, 50:150] = 1
    swapped = trial(ours, scored_on=theirs)
    found = score_map(GroundingMap(values, Frame.original((200, 100))), swapped, ORIGINAL).metrics
    assert found["iou"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("box", "why"), [((0, 0, 300, 200), "fills"), ((0, 0, 20, 20), "outside")])
def test_a_region_that_fills_or_leaves_the_frame_is_unscorable(box: Box, why: str) -> None:
    grounding = GroundingMap(blob((300, 200)), Frame.original((300, 200)))
    assert f"{why} the evaluation frame" in score_map(grounding, trial(sample((300, 200), box))).unscorable


ALL = replace(ORIGINAL, metrics=tuple(METRICS))
HALF = Frame((200, 100), (200, 100), (100, 0, 100, 100))
"""The right half of an image of 200 x 100 pixels."""


def spots(*boxes: Box) -> np.ndarray:
    """A map that is hot in boxes of an image of 200 x 100 pixels."""
    return boxes_to_mask(boxes, (200, 100)).astype(np.float32)


def test_overlapping_boxes_are_several_boxes() -> None:
    one, other = (20.0, 20.0, 60.0, 60.0), (50.0, 50.0, 90.0, 90.0)
    whole = Frame.original((200, 100))
    both = score_map(GroundingMap(spots(one, other), whole), trial(sample((200, 100), one, other)), ALL).metrics
    assert "distance" not in both
    assert both["box_recall"] == 0.0, "the bounding box of the mask's only component covers both"
    single = score_map(GroundingMap(spots(one), whole), trial(sample((200, 100), one)), ALL).metrics
    assert single["distance"] == pytest.approx(0, abs=1)
    assert single["box_recall"] == 1.0


def test_boxes_move_with_what_is_cut_off() -> None:
    """The method sees only the right half; the window's origin is (100, 0)."""
    box = (150.0, 20.0, 170.0, 40.0)
    found = score_map(
        GroundingMap(spots(box)[:, 100:], HALF), trial(sample((200, 100), box)), replace(ALL, uncovered="exclude")
    )
    assert found.metrics["box_recall"] == 1.0
    assert found.metrics["distance"] == pytest.approx(0, abs=1)
    seen = view(GroundingMap(spots(box)[:, 100:], HALF), trial(sample((200, 100), box)), EXCLUDE).scene
    np.testing.assert_array_equal(seen.boxes, [[50, 20, 70, 40]])
    assert seen.values.shape == (100, 100)


@pytest.mark.parametrize("rules", [ALL, replace(ALL, uncovered="exclude")])
def test_coverage_is_of_the_whole_region(rules: object) -> None:
    both = trial(sample((200, 100), (40, 20, 60, 40), (150, 20, 170, 40), (150, 60, 170, 80)))
    values = np.random.default_rng(0).random((10, 10), dtype=np.float32)
    assert score_map(GroundingMap(values, HALF), both, rules).metrics["coverage"] == pytest.approx(2 / 3)  # type: ignore[arg-type]


def test_a_region_that_is_a_mask_has_no_boxes() -> None:
    """Its connected components are counted instead: two of them have no single centre."""
    two = Mask((200, 100), (("polygon", "20 20 60 20 60 60 20 60"), ("polygon", "80 20 90 20 90 30 80 30")))
    by_mask = replace(sample((200, 100)), mask=two)
    grounding = GroundingMap(spots((20, 20, 60, 60)), Frame.original((200, 100)))
    assert view(grounding, trial(by_mask), ALL).scene.boxes is None
    found = score_map(grounding, trial(by_mask), ALL).metrics
    assert "distance" not in found
    assert found["box_recall"] == 0.5
    facts = facts_of(by_mask, "original")
    assert facts.keys() == {"side", "n_words", "region_share"}
    assert facts["region_share"] == pytest.approx(1700 / 20000)


@pytest.mark.parametrize("uncovered", ["lowest", "exclude"])
def test_otsu_and_fixed_thresholds_use_the_frames_pixels(uncovered: str) -> None:
    """The map's maximum is outside the crop, so the native map has another range and threshold."""
    size, native = (200, 100), np.random.default_rng(1).random((10, 20), dtype=np.float32)
    native[0, 0] = 5
    both = trial(sample(size, (80, 20, 120, 60)))
    crop = PROTOCOLS["gtg"].changed(uncovered=uncovered)
    frame = evaluation_frame(size, "crop512")
    values = Frame.original(size).carry(native, frame)[0].astype(float)
    spread = (values - values.min()) / np.ptp(values)
    for mask, threshold in (("otsu", threshold_otsu(spread, nbins=256)), ("0.4", 0.4)):
        found = view(GroundingMap(native, Frame.original(size)), both, crop.changed(mask=mask)).scene.mask
        np.testing.assert_array_equal(found, spread > threshold)
    assert spread.max() == 1.0


def test_uncovered_pixels_are_never_in_the_mask_but_in_otsus_histogram() -> None:
    box, random = (150.0, 20.0, 170.0, 40.0), np.random.default_rng(2)
    values = random.random((100, 100), dtype=np.float32) + 1
    whole = np.full((100, 200), values.min(), dtype=np.float32)
    whole[:, 100:] = values
    grounding, both = GroundingMap(values, HALF), trial(sample((200, 100), box))
    lowest = view(grounding, both, ORIGINAL.changed(mask="otsu")).scene.mask
    exclude = view(grounding, both, EXCLUDE.changed(mask="otsu")).scene.mask
    np.testing.assert_array_equal(lowest[:, 100:], values > _otsu(whole))
    np.testing.assert_array_equal(exclude, values > _otsu(values))
    assert not lowest[:, :100].any()


def _otsu(values: np.ndarray) -> float:
    low, span = float(values.min()), float(np.ptp(values))
    return float(threshold_otsu((values.astype(float) - low) / span, nbins=256)) * span + low


@pytest.mark.parametrize("mask", ["mixture", "otsu", "0", "0.5"])
def test_a_method_that_sees_nothing_of_the_frame(mask: str) -> None:
    """It sees a strip at the left edge, which the crop cuts off."""
    grounding = GroundingMap(np.eye(10, dtype=np.float32), Frame((200, 100), (200, 100), (0, 0, 20, 100)))
    rules = PROTOCOLS["gtg"].changed(uncovered="exclude", mask=mask)
    found = score_map(grounding, trial(sample((200, 100), (80, 20, 120, 60))), rules)
    assert "field of view" in found.unscorable


# Facts for subgroups


def test_facts_by_hand() -> None:
    found = replace(sample((200, 100), (20, 20, 60, 60), (30, 30, 70, 70)), phrase="small left  basal edema")
    assert facts_of(found, "original") == {
        "side": "left",
        "n_words": 4,
        "n_boxes": 2,
        "region_share": (1600 + 1600 - 900) / 20000,
    }
    assert facts_of(found, "crop512")["region_share"] == pytest.approx((400 + 800 - 300) / 10000, abs=1e-3)


def test_unknown_facts_are_absent() -> None:
    assert facts_of(sample((200, 100)), "original") == {"side": "none", "n_words": 1}
    assert facts_of(sample((200, 100), (500, 0, 600, 9)), "original") == {"side": "none", "n_words": 1, "n_boxes": 1}


# A single array


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", SIZES)
def test_boxes_a_mask_and_a_grounding_map_give_the_scores_of_a_run(size: tuple[int, int], protocol: str) -> None:
    """`score` against `score_map` on a sample; whole pixels, so that the mask of the boxes is the same region."""
    boxes = [(size[0] // 3, size[1] // 4, size[0] // 2, size[1] // 2), (size[0] // 2 + 9, 90, size[0] // 2 + 39, 120)]
    values = np.random.default_rng(0).random((8, 10)) + blob((10, 8))
    grounding, own = GroundingMap(values.astype(np.float32), Frame.original(size)), trial(sample(size, *boxes))
    rules = PROTOCOLS[protocol]
    if rules.smooth == BEST:
        with pytest.raises(UsageError, match="validation split"):
            score(values, boxes, protocol, image_size=size)
        rules = rules.changed(smooth="0")
    expected = score_map(grounding, own, rules).metrics
    assert expected
    assert score(values, boxes, rules, image_size=size) == expected
    assert score(values.tolist(), np.array(boxes), rules, image_size=size) == expected
    assert score(grounding, boxes, rules) == expected
    assert score(values, boxes_to_mask(boxes, size), rules) == expected
    part = GroundingMap(values.astype(np.float32), Frame.center_crop(size, 100))
    assert score(part, boxes, rules) == score_map(part, own, rules).metrics


def test_the_memory_of_a_large_image_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 20 bytes per pixel: 2.9 GB for 144 megapixels, the largest image."""
    monkeypatch.setattr(arrays, "BLOCK", 100_000)  # as small beside this image as the real one beside 144 megapixels
    side, values = 2000, np.random.default_rng(0).random((8, 8))
    rules = PROTOCOLS["strict"].changed(smooth="0")
    small = score(values, [(300, 600, 1200, 900)], rules, image_size=(side, side))  # imports count only once
    tracemalloc.start()
    try:
        assert score(values, [(300, 600, 1200, 900)], rules, image_size=(side, side)) == small
        assert tracemalloc.get_traced_memory()[1] < 20 * side**2
    finally:
        tracemalloc.stop()


GOOD: dict[str, Any] = {"map": blob((30, 20)), "region": [(40, 30, 120, 90)], "image_size": (300, 200)}
NAN, MASK = np.full((20, 30), np.nan), boxes_to_mask(GOOD["region"], (300, 200))


@pytest.mark.parametrize(
    ("changes", "error", "noun"),
    [
        ({"map": NAN}, UsageError, "NaN"),
        ({"map": blob((30, 20)) * np.inf}, UsageError, "NaN"),
        ({"map": np.zeros(5)}, UsageError, "2-D"),
        ({"map": np.zeros((0, 5))}, UsageError, "2-D"),
        ({"map": np.zeros((4, 5), dtype=bool)}, UsageError, "bool"),
        ({"region": []}, SampleError, "empty"),
        ({"region": MASK & False, "image_size": None}, SampleError, "empty"),
        ({"region": [(9, 9, 9, 20)]}, SampleError, "box"),
        ({"region": [(9, 9, np.nan, 20)]}, SampleError, "box"),
        ({"region": [(9, 9, 301, 20)]}, SampleError, "300 x 200"),
        ({"region": (9, 9, 20, 20)}, UsageError, "shape"),
        ({"region": [(9, 9, 20)]}, UsageError, "shape"),
        ({"region": MASK.astype(np.uint8)}, UsageError, "uint8"),
        ({"region": [("a", "b", "c", "d")]}, UsageError, "boxes"),
        ({"region": MASK[None]}, UsageError, "shape"),
        ({"region": ~MASK | MASK}, SampleError, "fills"),
        ({"region": [(0, 0, 20, 20)]}, SampleError, "outside"),
        ({"image_size": None}, UsageError, "image_size"),
        ({"region": MASK.T}, UsageError, "sizes differ"),
        ({"map": GroundingMap(blob((30, 20)), Frame.original((200, 300)))}, UsageError, "sizes differ"),
        ({"protocol": "strickt"}, UsageError, "strict"),
    ],
)
def test_unusable_arguments_are_refused_in_one_line(changes: dict[str, Any], error: type, noun: str) -> None:
    assert score(**GOOD)
    with pytest.raises(error, match=noun) as caught:
        score(**GOOD | changes)
    assert "\n" not in str(caught.value)
