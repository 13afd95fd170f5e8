"""The table of metrics: public names, scenes, degenerate cases, and the scores of the paper's released code."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from gtg_bench.benchmark import metrics
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, Frame, boxes_to_mask
from gtg_bench.benchmark.metrics import METRICS, Scene, compute, table
from gtg_bench.benchmark.metrics.masks import carried_mask, mixture_mask

PROTOCOL = Frame.original((512, 512))
NATIVE = Frame.stretch((512, 512), (64, 64))
LEFT, RIGHT = (np.array([row, row], dtype=bool) for row in ([1, 0, 0], [0, 0, 1]))
VALUES = np.array([[3, 1, 0], [5, 2, 1]], dtype=np.float32)
NOWHERE, EVERYWHERE = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_a_public_function_that_equals_its_column(name: str) -> None:
    random = np.random.default_rng(0)
    values, mask = random.random((9, 7), dtype=np.float32), random.random((9, 7)) < 0.3
    region, other = boxes_to_mask([(1, 2, 5, 6)], (7, 9)), boxes_to_mask([(4, 5, 7, 9)], (7, 9))
    scene = Scene(values, mask, region, (other,), np.array([[1.0, 2, 5, 6]]), mask)
    given: dict[str, tuple] = {"phrase_discrimination": (values, region, [other]), "coverage": (mask, region)}
    for metric in ("distance", "box_precision", "box_recall"):
        given[metric] = (mask, region, scene.boxes)
    boxes = scene.predicted.boxes, scene.predicted.scores
    given |= dict.fromkeys(("box_ap10", "box_ap30", "box_ap50"), (*boxes, scene.true))
    given |= {"matched_iou": (boxes[0], scene.true), "box_top1": (*boxes, region)}
    of_map = "cnr cnr_abs gcnr auroc ap top1 top1_tolerance".split()
    of_map += "miou_thresholds miou_thresholds_minmax iou_sweep dice_sweep".split()
    arguments = given.get(name, (values if name in of_map else mask, region))
    function = getattr(metrics, name)
    assert function(*arguments) == METRICS[name].compute(scene)
    assert name in metrics.__all__
    assert "Returns:" in function.__doc__
    assert METRICS[name].higher_is_better == (name != "distance")


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_is_defined_on_an_empty_region(name: str) -> None:
    assert METRICS[name].compute(Scene(VALUES, LEFT, NOWHERE, (LEFT,), covered=EVERYWHERE)) is None
    assert METRICS[name].compute(Scene(VALUES, LEFT, NOWHERE, (LEFT,), np.array([[5.0, 0, 6, 2]]), EVERYWHERE)) is None


def test_a_region_that_fills_the_frame() -> None:
    scene = Scene(VALUES, EVERYWHERE, EVERYWHERE, (LEFT,), np.array([[0.0, 0, 3, 2]]), EVERYWHERE)
    perfect = {"iou", "top1", "dice", "top1_tolerance", "box_iou_full", "box_precision", "box_recall", "coverage"}
    perfect |= {"matched_iou", "box_ap10", "box_ap30", "box_ap50", "box_top1"}
    imperfect = {"distance": 0, "box_iou": 2 / 6, "miou_thresholds": 5 / 6, "miou_thresholds_minmax": 1 / 2}
    imperfect |= {"iou_sweep": 1 / 5, "dice_sweep": (1 / 2 + 4 * 2 / 7) / 5}
    assert compute(scene, METRICS) == pytest.approx(dict.fromkeys(perfect, 1) | imperfect)


def test_an_empty_mask() -> None:
    names = ("iou", "miou", "dice", "box_iou", "box_miou", "box_iou_full", "box_recall", "box_precision", "distance")
    background = {"miou": pytest.approx((4 / 6) / 2), "box_miou": pytest.approx((4 / 6) / 2)}
    assert compute(Scene(VALUES, NOWHERE, LEFT), names) == dict.fromkeys(names[:-2], 0) | background


def test_a_constant_map() -> None:
    values = np.full_like(VALUES, 0.1)
    names = [
        name for name in METRICS if not name.startswith("box") and name not in ("distance", "coverage", "matched_iou")
    ]
    third = pytest.approx(1 / 3)
    assert compute(Scene(values, mixture_mask(values), LEFT, (RIGHT,)), names) == {
        **{"miou": third, "iou": 0.0, "top1": third, "auroc": 0.5, "ap": third, "phrase_discrimination": 0.5},
        **{"dice": 0.0, "gcnr": 0.0, "miou_thresholds": 0.0, "miou_thresholds_minmax": 0.0, "top1_tolerance": 1.0},
        **{"iou_sweep": 0.0, "dice_sweep": 0.0},
    }


def test_scores_are_by_name_in_the_order_asked_for() -> None:
    scene = Scene(VALUES, LEFT, LEFT)
    found = compute(scene, ["top1", "phrase_discrimination", "iou"])
    assert list(found.items()) == [("top1", 1.0), ("iou", 1.0)]
    assert all(type(value) is float for value in compute(scene, METRICS).values())
    with pytest.raises(UsageError, match="hausdorff"):
        compute(scene, ["iou", "hausdorff"])
    assert compute(scene, ["coverage"]) == {}, "unknown coverage is undefined, not guessed"


@pytest.mark.parametrize("wrong", [LEFT.T, LEFT.astype(np.uint8)])
def test_a_scene_has_one_frame_and_boolean_masks(wrong: Any) -> None:
    for scene in ({"region": wrong}, {"covered": wrong}, {"others": (wrong,)}, {"mask": wrong}):
        with pytest.raises(ValueError, match="must"):
            Scene(**{"values": VALUES, "mask": LEFT, "region": LEFT} | scene)


@pytest.mark.parametrize(
    ("shared", "names"), [("ranked", ["auroc", "ap"]), ("match_boxes", ["box_precision", "box_recall"])]
)
def test_metrics_share_the_costly_step(shared: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = [], getattr(table, shared)
    monkeypatch.setattr(table, shared, lambda *arrays: calls.append(1) or original(*arrays))
    scene = Scene(VALUES, LEFT, LEFT)
    assert compute(scene, ["iou", "cnr", "top1"])
    assert not calls
    assert compute(scene, names) == dict.fromkeys(names, 1.0)
    assert len(calls) == 1


@pytest.mark.parametrize("room", ["metrics", "scoring.protocols", "statistics"])
def test_the_import_loads_nothing_heavy(room: str) -> None:
    heavy = {"torch", "sklearn", "scipy", "skimage", "pandas", "matplotlib"}
    code = f"import sys, gtg_bench.benchmark.{room}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Which metrics need counts of their own


def degenerate() -> list[Scene]:
    """Maps and masks that separate nothing, on regions that are neither empty nor the whole frame."""
    flat, ramp = np.zeros((6, 6), np.float32), np.arange(36, dtype=np.float32).reshape(6, 6)
    empty, full, one = np.zeros((6, 6), bool), np.ones((6, 6), bool), np.zeros((6, 6), bool)
    one[2, 3] = True
    two = one.copy()
    two[5, 0] = True
    boxes = {one.tobytes(): [[3, 2, 4, 3]], two.tobytes(): [[3, 2, 4, 3], [0, 5, 1, 6]]}
    return [
        Scene(values, mask, region, (), np.array(boxes.get(region.tobytes(), [[0, 0, 6, 6]]), float), full)
        for values in (flat, ramp)
        for mask in (empty, full, one)
        for region in (one, two, ~one)
    ]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_can_be_undefined_is_marked_partial(name: str) -> None:
    assert all(name in compute(scene, [name]) for scene in degenerate()) != METRICS[name].partial


# The paper's released code


def released_scene(released: Any, row: int, maps: str, mask: BoolArray | None = None) -> Scene:
    values = released[maps][row]
    low, span = float(values.min()), float(values.max()) - float(values.min())
    carried, _ = NATIVE.carry((values.astype(np.float64) - low) / span, PROTOCOL)
    mask = carried_mask(mixture_mask(values), NATIVE, PROTOCOL) if mask is None else mask
    return Scene(carried, mask, boxes_to_mask(released.boxes[row], (512, 512)))


def test_released_maps_are_carried_alike(released: Any) -> None:
    for row, values in enumerate(released["maps_stored"]):
        carried, _ = NATIVE.carry(values, PROTOCOL)
        np.testing.assert_allclose(carried[[0, 100, 255, 256, 511]], released["map512_rows_0_100_255_256_511"][row])
        assert carried.argmax() == released["map512_argmax"][row]


@pytest.mark.parametrize(("maps", "suffix"), [("maps_stored", ""), ("maps_raw", "_f32")])
def test_released_scores(released: Any, maps: str, suffix: str) -> None:
    """From the released masks, so that the rounding of `maps_stored`'s threshold plays no part.

    For an empty mask the released code scores 0 throughout; here the map keeps its own scores and the background its
    IoU.
    """
    columns = {"iou": "iou", "miou": "miou", "top1": "top1", "auroc": "aucroc", "cnr": "cnr"}
    for row in range(released.empty):
        scores = compute(released_scene(released, row, maps, released.mask(row, suffix)), columns)
        expected = {name: released[f"metric{suffix}_{column}"][row] for name, column in columns.items()}
        assert scores == pytest.approx(expected, abs=1e-4), row
    scene = released_scene(released, released.empty, maps)
    assert not scene.mask.any()
    assert all(released[f"metric{suffix}_{column}"][released.empty] == 0 for column in columns.values())
    inside, outside = (scene.values[side].astype(np.float64) for side in (scene.region, ~scene.region))
    assert compute(scene, columns) == pytest.approx(
        {
            "iou": 0,
            "miou": (1 - 90 * 90 / 512**2) / 2,
            "top1": float(scene.region.flat[scene.values.argmax()]),
            "auroc": roc_auc_score(scene.region.ravel(), scene.values.ravel()),
            "cnr": (inside.mean() - outside.mean()) / np.sqrt(inside.var(ddof=1) + outside.var(ddof=1)),
        },
        abs=1e-12,
    )


def test_released_scores_from_end_to_end(released: Any) -> None:
    for row in range(released.empty):
        scene = released_scene(released, row, "maps_raw")
        expected = {name: released["metric_f32_" + name][row] for name in ("iou", "miou")}
        assert compute(scene, ["iou", "miou"]) == pytest.approx(expected, abs=1e-4)
        expected = average_precision_score(scene.region.ravel(), scene.values.ravel())
        assert compute(scene, ["ap"])["ap"] == pytest.approx(expected, abs=1e-12)
