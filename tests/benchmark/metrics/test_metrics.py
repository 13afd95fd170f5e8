"""The metrics against hand-computed cases, independent libraries and the paper's released code; AUROC and average
precision are in test_ranking.py, metrics of thresholds, histograms and maxima in test_threshold_metrics.py, those of
rectangles in test_box_metrics.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, jaccard_score, roc_auc_score

from gtg_bench.benchmark import metrics
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import GTG, METRICS, Scene, score
from gtg_bench.benchmark.metrics.box_matching import box_matching
from gtg_bench.benchmark.metrics.cnr import cnr
from gtg_bench.benchmark.metrics.iou import iou
from gtg_bench.benchmark.metrics.masks import carried_mask, mixture_mask
from gtg_bench.benchmark.metrics.miou import miou
from gtg_bench.benchmark.metrics.phrase_discrimination import phrase_discrimination
from gtg_bench.benchmark.metrics.top1 import top1

GOLDEN = Path(__file__).parents[2] / "golden"
VARIANTS = [("maps_stored", ""), ("maps_raw", "_f32")]
EMPTY_ROW = 10
PROTOCOL = Frame.original((512, 512))
NATIVE = Frame.stretch((512, 512), (64, 64))


def grid(*rows: str) -> BoolArray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def numbers(*rows: list[float]) -> FloatArray:
    return np.array(rows, dtype=np.float32)


LEFT = grid("#..", "#..")
VALUES = numbers([3, 1, 0], [5, 2, 1])
NOWHERE, EVERYWHERE = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)


# Hand-computed cases


def test_iou_by_hand() -> None:
    assert iou(grid("##.", "#.."), LEFT) == pytest.approx(2 / 3)
    assert iou(LEFT, LEFT) == 1
    assert iou(~LEFT, LEFT) == 0


def test_miou_is_the_mean_of_foreground_and_background() -> None:
    assert miou(grid("##.", "#.."), LEFT) == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert miou(LEFT, LEFT) == 1
    assert miou(~LEFT, LEFT) == 0


def test_a_one_pixel_mask_on_a_small_box_has_a_high_miou() -> None:
    region, mask = np.zeros((2, 100, 100), dtype=bool)
    region[:15], mask[99, 99] = True, True
    assert miou(mask, region) == pytest.approx(0.425, abs=0.001)
    assert iou(mask, region) == 0


def test_cnr_by_hand() -> None:
    # Inside 3, 5: mean 4, variance 2. Outside 1, 0, 2, 1: mean 1, variance 2/3.
    assert cnr(VALUES, LEFT) == pytest.approx(3 / np.sqrt(2 + 2 / 3))
    assert cnr(-VALUES, LEFT) == pytest.approx(-3 / np.sqrt(2 + 2 / 3))


def test_cnr_ignores_affine_changes() -> None:
    assert cnr(7 * VALUES + 4, LEFT) == pytest.approx(cnr(VALUES, LEFT))


def test_top1_by_hand() -> None:
    assert top1(VALUES, LEFT) == 1
    assert top1(VALUES, ~LEFT) == 0


def test_top1_shares_equal_maxima() -> None:
    assert top1(numbers([5, 5, 0], [0, 0, 5]), LEFT) == pytest.approx(1 / 3)
    assert top1(np.ones_like(VALUES), LEFT) == pytest.approx(1 / 3)


def test_phrase_discrimination_by_hand() -> None:
    middle, right = grid(".#.", ".#."), grid("..#", "..#")
    values = numbers([2, 1, 2], [1, 1, 3])
    assert phrase_discrimination(values, LEFT, [middle]) == 1
    assert phrase_discrimination(values, LEFT, [right]) == 0
    assert phrase_discrimination(values, LEFT, [middle, right]) == 0.5


def test_phrase_discrimination_leaves_out_what_two_regions_share() -> None:
    named, other = grid("##.", "..."), grid(".##", "...")
    assert phrase_discrimination(numbers([1, 9, 0], [9, 9, 9]), named, [other]) == 1
    assert phrase_discrimination(numbers([1, 9, 2], [9, 9, 9]), named, [other]) == 0
    assert phrase_discrimination(numbers([1, 9, 1], [9, 9, 9]), named, [other]) == 0.5


# Degenerate cases


@pytest.mark.parametrize("name", METRICS)
def test_nothing_is_defined_on_an_empty_region(name: str) -> None:
    assert METRICS[name].compute(Scene(VALUES, LEFT, NOWHERE, (LEFT,), covered=EVERYWHERE)) is None
    assert METRICS[name].compute(Scene(VALUES, LEFT, NOWHERE, (LEFT,), np.array([[5.0, 0, 6, 2]]), EVERYWHERE)) is None


def test_a_region_that_fills_the_frame() -> None:
    scores = score(Scene(VALUES, LEFT, EVERYWHERE, (LEFT,)))
    assert scores == {"iou": pytest.approx(1 / 3), "top1": 1.0}
    assert miou(EVERYWHERE, EVERYWHERE) is None
    scene = Scene(VALUES, EVERYWHERE, EVERYWHERE, (LEFT,), np.array([[0.0, 0, 3, 2]]), EVERYWHERE)
    perfect = {"iou", "top1", "dice", "top1_tolerance", "box_iou_full", "box_precision", "box_recall", "coverage"}
    imperfect = {"distance": 0, "box_iou": 2 / 6, "miou_thresholds": 5 / 6, "miou_thresholds_minmax": 1 / 2}
    assert score(scene, METRICS) == pytest.approx(dict.fromkeys(perfect, 1) | imperfect)


def test_an_empty_mask_scores_zero_foreground() -> None:
    assert iou(NOWHERE, LEFT) == 0
    assert miou(NOWHERE, LEFT) == pytest.approx((4 / 6) / 2)
    of_the_mask = ("iou", "miou", "dice", "box_iou", "box_miou", "box_iou_full", "box_recall")
    background = {"miou": pytest.approx(1 / 3), "box_miou": pytest.approx(1 / 3)}
    undefined = ("box_precision", "distance")
    assert score(Scene(VALUES, NOWHERE, LEFT), of_the_mask + undefined) == dict.fromkeys(of_the_mask, 0) | background


def test_a_constant_map() -> None:
    other = grid("..#", "..#")
    values = np.full_like(VALUES, 0.1)
    scores = score(Scene(values, mixture_mask(values), LEFT, (other,)))
    assert scores == {
        "miou": pytest.approx(1 / 3),
        "iou": 0.0,
        "top1": pytest.approx(1 / 3),
        "auroc": 0.5,
        "phrase_discrimination": 0.5,
    }
    of_the_map = ("ap", "cnr_abs", "gcnr", "miou_thresholds", "miou_thresholds_minmax", "top1_tolerance")
    assert score(Scene(values, NOWHERE, LEFT), of_the_map) == {
        "ap": pytest.approx(1 / 3),
        "gcnr": 0.0,
        "miou_thresholds": 0.0,  # 0.1 does not exceed 0.1
        "miou_thresholds_minmax": 0.0,
        "top1_tolerance": 1.0,
    }


def test_cnr_is_undefined_without_noise_or_with_one_pixel_on_a_side() -> None:
    assert cnr(LEFT.astype(np.float32), LEFT) is None
    corner = grid("#..", "...")
    assert cnr(VALUES, corner) is None
    assert cnr(VALUES, ~corner) is None


def test_phrase_discrimination_is_undefined_without_comparable_others() -> None:
    assert phrase_discrimination(VALUES, LEFT, []) is None
    assert phrase_discrimination(VALUES, LEFT, [LEFT, NOWHERE, EVERYWHERE, grid("#..", "...")]) is None
    assert phrase_discrimination(VALUES, LEFT, [EVERYWHERE, ~LEFT]) == 1


# Independent implementations


def random_scene(size: tuple[int, int], levels: int, seed: int) -> Scene:
    """A random scene; `levels` distinct values make ties, 0 makes none."""
    random = np.random.default_rng(seed)
    values = random.integers(0, levels, size) if levels else random.standard_normal(size)
    region, mask = random.random((2, *size)) < random.uniform(0.1, 0.9)
    region.flat[:2], region.flat[-2:] = True, False
    return Scene(values.astype(np.float32), mask, region)


def cnr_by_loops(values: FloatArray, region: BoolArray) -> float:
    groups: dict[bool, list[float]] = {True: [], False: []}
    for value, inside in zip(values.ravel().tolist(), region.ravel().tolist(), strict=True):
        groups[inside].append(value)
    means = {side: sum(group) / len(group) for side, group in groups.items()}
    noise = sum(sum((v - means[side]) ** 2 for v in group) / (len(group) - 1) for side, group in groups.items())
    return (means[True] - means[False]) / noise**0.5


@pytest.mark.parametrize("size", [(17, 5), (300, 200)])
@pytest.mark.parametrize("scale", [1, 1e-20, 1e18])
def test_cnr_is_exactly_that_of_numpy_in_double_precision(size: tuple[int, int], scale: float) -> None:
    scene = random_scene(size, 0, seed=5)
    values = (scene.values * scale).astype(np.float32)
    inside, outside = (values[side].astype(np.float64) for side in (scene.region, ~scene.region))
    expected = (inside.mean() - outside.mean()) / np.sqrt(inside.var(ddof=1) + outside.var(ddof=1))
    assert cnr(values, scene.region) == expected


@pytest.mark.parametrize("levels", [0, 2, 5, 300])
@pytest.mark.parametrize("size", [(2, 3), (1, 40), (17, 5), (64, 48)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parity_with_independent_implementations(size: tuple[int, int], levels: int, seed: int) -> None:
    scene = random_scene(size, levels, seed)
    region, mask, values = scene.region.ravel(), scene.mask.ravel(), scene.values.ravel()
    assert iou(scene.mask, scene.region) == pytest.approx(jaccard_score(region, mask), abs=1e-12)
    assert miou(scene.mask, scene.region) == pytest.approx(jaccard_score(region, mask, average="macro"), abs=1e-12)
    if values[region].std() + values[~region].std() > 0:
        assert cnr(scene.values, scene.region) == pytest.approx(cnr_by_loops(scene.values, scene.region), abs=1e-6)


# The table


def test_the_table_is_in_order_and_scores_by_name() -> None:
    assert list(METRICS)[:7] == ["miou", "iou", "cnr", "top1", "auroc", "ap", "phrase_discrimination"]
    assert set(list(METRICS)[7:]) == {
        *("dice", "miou_thresholds", "miou_thresholds_minmax", "cnr_abs", "gcnr", "top1_tolerance", "coverage"),
        *("box_iou", "box_miou", "box_iou_full", "box_precision", "box_recall", "distance"),
    }
    assert GTG == ("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination")
    scene = Scene(VALUES, LEFT, LEFT)
    assert list(score(scene)) == ["miou", "iou", "cnr", "top1", "auroc"]
    assert score(scene, ["top1", "phrase_discrimination", "iou"]) == {"top1": 1.0, "iou": 1.0}
    assert all(type(value) is float for value in score(scene).values())


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(UsageError, match="hausdorff"):
        score(Scene(VALUES, LEFT, LEFT), ["iou", "hausdorff"])


def test_a_scene_is_of_one_frame_and_of_boolean_masks() -> None:
    with pytest.raises(ValueError, match="share"):
        Scene(VALUES, LEFT, LEFT.T)
    with pytest.raises(ValueError, match="boolean"):
        Scene(VALUES, LEFT, LEFT.astype(np.uint8))
    with pytest.raises(ValueError, match="share"):
        Scene(VALUES, LEFT, LEFT, covered=LEFT.T)
    with pytest.raises(ValueError, match="boolean"):
        Scene(VALUES, LEFT, LEFT, covered=LEFT.astype(np.uint8))


def test_what_is_not_said_about_a_scene_is_undefined_and_not_guessed() -> None:
    assert METRICS["coverage"].compute(Scene(VALUES, LEFT, LEFT)) is None
    assert METRICS["coverage"].compute(Scene(VALUES, LEFT, LEFT, covered=grid("...", "#.."))) == 0.5


def test_boxes_are_matched_once_for_both_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(metrics, "box_matching", lambda *arrays: calls.append(1) or box_matching(*arrays))
    assert score(Scene(VALUES, LEFT, LEFT), ["box_precision", "box_recall"]) == {"box_precision": 1, "box_recall": 1}
    assert len(calls) == 1


def test_the_table_imports_nothing_heavy() -> None:
    heavy = {"torch", "sklearn", "scipy", "skimage"}
    code = f"import sys, gtg_bench.benchmark.metrics; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# The paper's released code


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if not (GOLDEN / "metrics.npz").is_file():
        pytest.skip("golden values are absent: no shared/golden/metrics.npz beside the repository")
    with np.load(GOLDEN / "metrics.npz") as arrays:
        values: dict[str, Any] = dict(arrays)
    values["boxes"] = json.loads((GOLDEN / "metrics.json").read_text())["boxes_xywh"]
    return values


def normalised(values: FloatArray) -> NDArray[np.float64]:
    spread = values.astype(np.float64)
    return (spread - spread.min()) / (spread.max() - spread.min())


def golden_mask(golden: dict[str, Any], row: int, suffix: str) -> BoolArray:
    return np.unpackbits(golden["mask512_packbits" + suffix][row], axis=-1).astype(bool)


def golden_region(golden: dict[str, Any], row: int) -> BoolArray:
    return boxes_to_mask([(x, y, x + w, y + h) for x, y, w, h in golden["boxes"][row]], (512, 512))


def golden_scene(golden: dict[str, Any], row: int, maps: str) -> Scene:
    values = golden[maps][row]
    mask = carried_mask(mixture_mask(values), NATIVE, PROTOCOL)
    carried, _ = NATIVE.carry(normalised(values), PROTOCOL)
    return Scene(carried, mask, golden_region(golden, row))


def test_golden_maps_are_carried_alike(golden: dict[str, Any]) -> None:
    for row, values in enumerate(golden["maps_stored"]):
        carried, _ = NATIVE.carry(values, PROTOCOL)
        np.testing.assert_allclose(carried[[0, 100, 255, 256, 511]], golden["map512_rows_0_100_255_256_511"][row])
        assert carried.argmax() == golden["map512_argmax"][row]


@pytest.mark.parametrize(("maps", "suffix"), VARIANTS)
@pytest.mark.parametrize("name", ["iou", "miou", "top1", "auroc", "cnr"])
def test_golden_scores(golden: dict[str, Any], name: str, maps: str, suffix: str) -> None:
    """From the released masks, so that the rounding of `maps_stored`'s threshold plays no part."""
    column = "metric" + suffix + "_" + {"auroc": "aucroc"}.get(name, name)
    for row in range(EMPTY_ROW):
        scene = golden_scene(golden, row, maps)
        scene = Scene(scene.values, golden_mask(golden, row, suffix), scene.region)
        assert score(scene, [name])[name] == pytest.approx(golden[column][row], abs=1e-4), row


def test_average_precision_of_golden_maps(golden: dict[str, Any]) -> None:
    for row in range(EMPTY_ROW + 1):
        scene = golden_scene(golden, row, "maps_raw")
        expected = average_precision_score(scene.region.ravel(), scene.values.ravel())
        assert score(scene, ["ap"])["ap"] == pytest.approx(expected, abs=1e-12)


def test_golden_scores_from_end_to_end(golden: dict[str, Any]) -> None:
    for row in range(EMPTY_ROW):
        scores = score(golden_scene(golden, row, "maps_raw"), ["iou", "miou"])
        expected = {name: golden["metric_f32_" + name][row] for name in ("iou", "miou")}
        assert scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("maps", "suffix"), VARIANTS)
def test_golden_row_with_an_empty_mask(golden: dict[str, Any], maps: str, suffix: str) -> None:
    """The released code scores 0 throughout; here the map keeps its own scores and the background its overlap."""
    scene = golden_scene(golden, EMPTY_ROW, maps)
    assert not scene.mask.any()
    assert all(golden[f"metric{suffix}_{name}"][EMPTY_ROW] == 0 for name in ("iou", "miou", "top1", "aucroc", "cnr"))
    scores = score(scene)
    assert scores["iou"] == 0
    assert scores["miou"] == pytest.approx((1 - 90 * 90 / 512**2) / 2)
    assert scores["top1"] == float(scene.region.flat[scene.values.argmax()])
    assert scores["auroc"] == pytest.approx(roc_auc_score(scene.region.ravel(), scene.values.ravel()), abs=1e-12)
    assert scores["cnr"] == pytest.approx(cnr_by_loops(scene.values, scene.region), abs=1e-6)
