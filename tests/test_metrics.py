"""The metrics against hand-computed cases, independent libraries and the paper's released code."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score, roc_auc_score

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import METRICS, Scene, score
from gtg_bench.benchmark.metrics.auroc import auroc
from gtg_bench.benchmark.metrics.cnr import cnr
from gtg_bench.benchmark.metrics.iou import iou
from gtg_bench.benchmark.metrics.masks import carried_mask, mean_filtered, mixture_mask, mixture_threshold
from gtg_bench.benchmark.metrics.miou import miou
from gtg_bench.benchmark.metrics.specificity import specificity
from gtg_bench.benchmark.metrics.top1 import top1

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
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


def test_auroc_by_hand() -> None:
    # Of the 8 pairs of inside 2, 1 and outside 1, 0, 3, 1: 2 beats 3 of 4; 1 beats one and ties with two.
    assert auroc(numbers([2, 1, 0], [1, 3, 1]), LEFT) == pytest.approx((3 + 1 + 2 * 0.5) / 8)
    assert auroc(VALUES, LEFT) == 1
    assert auroc(-VALUES, LEFT) == 0


def test_specificity_by_hand() -> None:
    middle, right = grid(".#.", ".#."), grid("..#", "..#")
    values = numbers([2, 1, 2], [1, 1, 3])
    assert specificity(values, LEFT, [middle]) == 1
    assert specificity(values, LEFT, [right]) == 0
    assert specificity(values, LEFT, [middle, right]) == 0.5


def test_specificity_leaves_out_what_two_regions_share() -> None:
    named, other = grid("##.", "..."), grid(".##", "...")
    assert specificity(numbers([1, 9, 0], [9, 9, 9]), named, [other]) == 1
    assert specificity(numbers([1, 9, 2], [9, 9, 9]), named, [other]) == 0
    assert specificity(numbers([1, 9, 1], [9, 9, 9]), named, [other]) == 0.5


# Degenerate cases


@pytest.mark.parametrize("name", METRICS)
def test_nothing_is_defined_on_an_empty_region(name: str) -> None:
    assert METRICS[name].compute(Scene(VALUES, LEFT, NOWHERE, (LEFT,))) is None


def test_a_region_that_fills_the_frame() -> None:
    scores = score(Scene(VALUES, LEFT, EVERYWHERE, (LEFT,)))
    assert scores == {"iou": pytest.approx(1 / 3), "top1": 1.0}
    assert miou(EVERYWHERE, EVERYWHERE) is None


def test_an_empty_mask_scores_zero_foreground() -> None:
    assert iou(NOWHERE, LEFT) == 0
    assert miou(NOWHERE, LEFT) == pytest.approx((4 / 6) / 2)


def test_a_constant_map() -> None:
    other = grid("..#", "..#")
    values = np.full_like(VALUES, 0.1)
    scores = score(Scene(values, mixture_mask(values), LEFT, (other,)))
    assert scores == {
        "miou": pytest.approx(1 / 3),
        "iou": 0.0,
        "top1": pytest.approx(1 / 3),
        "auroc": 0.5,
        "specificity": 0.5,
    }


def test_cnr_is_undefined_without_noise_or_with_one_pixel_on_a_side() -> None:
    assert cnr(LEFT.astype(np.float32), LEFT) is None
    corner = grid("#..", "...")
    assert cnr(VALUES, corner) is None
    assert cnr(VALUES, ~corner) is None


def test_specificity_is_undefined_without_comparable_others() -> None:
    assert specificity(VALUES, LEFT, []) is None
    assert specificity(VALUES, LEFT, [LEFT, NOWHERE, EVERYWHERE, grid("#..", "...")]) is None
    assert specificity(VALUES, LEFT, [EVERYWHERE, ~LEFT]) == 1


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e30, 3e38])
def test_auroc_of_extreme_ranges(scale: float) -> None:
    values = (numbers([1, 0, -1], [1, -1, 0]) * scale).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auroc(values, LEFT) == 1


def test_auroc_does_not_tell_the_two_zeros_apart() -> None:
    assert auroc(numbers([0.0, -0.0]), grid("#.")) == 0.5


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


@pytest.mark.parametrize("levels", [0, 2, 5, 300])
@pytest.mark.parametrize("size", [(2, 3), (1, 40), (17, 5), (64, 48)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parity_with_independent_implementations(size: tuple[int, int], levels: int, seed: int) -> None:
    scene = random_scene(size, levels, seed)
    region, mask, values = scene.region.ravel(), scene.mask.ravel(), scene.values.ravel()
    assert auroc(scene.values, scene.region) == pytest.approx(roc_auc_score(region, values), abs=1e-12)
    assert iou(scene.mask, scene.region) == pytest.approx(jaccard_score(region, mask), abs=1e-12)
    assert miou(scene.mask, scene.region) == pytest.approx(jaccard_score(region, mask, average="macro"), abs=1e-12)
    if values[region].std() + values[~region].std() > 0:
        assert cnr(scene.values, scene.region) == pytest.approx(cnr_by_loops(scene.values, scene.region), abs=1e-6)


def skewed(random: np.random.Generator) -> NDArray[np.float64]:
    """Nearly everything in the lowest bin, a few values far above."""
    return np.where(random.random((90, 90)) < 0.999, 1e-7, 1.0) * random.random((90, 90))


def smooth(random: np.random.Generator) -> FloatArray:
    return Frame.stretch((90, 90), (6, 6)).carry(random.random((6, 6)), Frame.original((90, 90)))[0]


@pytest.mark.parametrize("draw", [skewed, smooth])
def test_auroc_parity_on_skewed_and_on_smooth_maps(draw: Any) -> None:
    values = draw(np.random.default_rng(3)).astype(np.float32)
    for box in [(2, 3, 9, 9), (0, 0, 90, 80)]:
        region = boxes_to_mask([box], (90, 90))
        assert auroc(values, region) == pytest.approx(roc_auc_score(region.ravel(), values.ravel()), abs=1e-12)


# Masks


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


# The table


def test_the_table_is_in_order_and_scores_by_name() -> None:
    assert list(METRICS) == ["miou", "iou", "cnr", "top1", "auroc", "specificity"]
    scene = Scene(VALUES, LEFT, LEFT)
    assert list(score(scene)) == ["miou", "iou", "cnr", "top1", "auroc"]
    assert score(scene, ["top1", "specificity", "iou"]) == {"top1": 1.0, "iou": 1.0}
    assert all(type(value) is float for value in score(scene).values())


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(UsageError, match="dice"):
        score(Scene(VALUES, LEFT, LEFT), ["iou", "dice"])


def test_a_scene_is_of_one_frame_and_of_boolean_masks() -> None:
    with pytest.raises(ValueError, match="share"):
        Scene(VALUES, LEFT, LEFT.T)
    with pytest.raises(ValueError, match="boolean"):
        Scene(VALUES, LEFT, LEFT.astype(np.uint8))


def test_the_table_imports_nothing_heavy() -> None:
    code = "import sys, gtg_bench.benchmark.metrics; print(*sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
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
