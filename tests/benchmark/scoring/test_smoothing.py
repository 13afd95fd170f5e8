"""Smoothing: a Gaussian in fractions of the image's shorter side, on the map's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api import Frame, GroundingMap, UsageError
from gtg_bench.benchmark.datasets.phantom import world
from gtg_bench.benchmark.metrics.named_masks import best_name
from gtg_bench.benchmark.runs.rescore import Place, Rules, find_stored, prepare_stored, tuned
from gtg_bench.benchmark.runs.runner import run
from gtg_bench.benchmark.runs.tuned import with_best_smoothing
from gtg_bench.benchmark.scoring.smoothing import SIGMAS, smooth_name, smoothed


def brute_force(values: np.ndarray, cells: tuple[float, float]) -> np.ndarray:
    """The weighted mean over all cells of the map, continued by its edges for four standard deviations."""
    found = values.astype(float)
    for axis, sigma in enumerate(cells):
        reach = int(4 * sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        padded = np.pad(found, [(reach, reach) if k == axis else (0, 0) for k in (0, 1)], mode="edge")
        shifted = [np.take(padded, np.arange(found.shape[axis]) + k, axis=axis) for k in range(2 * reach + 1)]
        found = sum(w * s for w, s in zip(weights, shifted, strict=True)) / weights.sum()
    return found


@pytest.mark.parametrize(
    ("frame", "shape", "cells"),
    [
        (Frame.original((200, 100)), (10, 20), (1.0, 1.0)),  # cells of 10 pixels; 0.1 of 100 pixels is one
        (Frame.original((200, 100)), (20, 20), (2.0, 1.0)),  # cells of 5 x 10 pixels
        (Frame.center_crop((200, 100), 50), (25, 25), (2.5, 2.5)),  # resized to half: 5 pixels, cells of 2
        (Frame.stretch((200, 100), (64, 64)), (16, 16), (1.6, 0.8)),  # 6.4 of 64 rows, 3.2 of 64 columns, cells of 4
    ],
)
def test_sigma_is_a_fraction_of_the_shorter_side(
    frame: Frame, shape: tuple[int, int], cells: tuple[float, float]
) -> None:
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    grounding = GroundingMap(values, frame, "a note")
    found = smoothed(grounding, "0.1")
    np.testing.assert_allclose(found.values, brute_force(values, cells), atol=1e-6)
    assert (found.values.dtype, found.frame, found.note) == (np.float32, frame, "a note")
    assert np.array_equal(smoothed(grounding, best_name(0.1)).values, found.values)
    assert smoothed(grounding, "0") is grounding


def test_names() -> None:
    assert [smooth_name(text) for text in ("0", "-0", "0.060", "6e-2", "0.5")] == ["0", "0", "0.06", "0.06", "0.5"]
    assert smooth_name("best") == "best"
    for text in ("best:0.06", "much", "nan", "-0.1", "0.6"):
        with pytest.raises(UsageError, match="--smooth"):
            smooth_name(text)


def test_stored_maps_are_smoothed_when_they_are_rescored(toy: Any) -> None:
    plain, smooth = toy.run(), toy.run("scratch", smooth="0.05")
    toy.forbidden = True
    again = run(prepare_stored(toy.folder / "runs", plain.spec, Rules(smooth="0.050"), Place()), toy.request())
    assert again.spec == smooth.spec
    assert [record.metrics for record in again.records] == [record.metrics for record in smooth.records]
    assert [record.metrics for record in again.records] != [record.metrics for record in plain.records]


@pytest.mark.parametrize("parts", [["smooth"], ["mask", "smooth"]])
def test_the_best_smoothing_maximises_the_primary_metric_on_the_other_split(toy: Any, parts: list[str]) -> None:
    runs, place = toy.folder / "runs", Place()
    scored, other = toy.run(), toy.run(split="validate")
    prepared = prepare_stored(runs, scored.spec, Rules(), place)
    (found,) = tuned([prepared], parts, [other.spec.key], None, runs, place)
    means = []
    for sigma in SIGMAS:
        validated = toy.run(split="validate", smooth=str(sigma))
        means.append(np.mean([record.metrics["cnr"] for record in validated.records if record.status == "ok"]))
    assert found.spec.smooth == best_name(SIGMAS[int(np.argmax(means))])
    assert found.spec.mask.startswith("best:") == ("mask" in parts)
    assert find_stored(runs, scored.spec.key) == scored.spec


def test_the_choice_says_how_far_it_is(toy: Any) -> None:
    runs, told = toy.folder / "runs", list[tuple[int, int]]()
    specs = toy.run().spec, toy.run(split="validate").spec
    scored, other = (prepare_stored(runs, spec, Rules(), Place()) for spec in specs)
    with_best_smoothing(scored, other, runs, lambda done, total: told.append((done, total)))
    total = len(SIGMAS) * len(other.trials)
    assert told == [(done, total) for done in range(1, total + 1)]


def test_a_run_chooses_its_smoothing_on_the_validation_split_once(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(world.SPLITS, "validate", (6000, 6006))
    runs, place = toy.folder / "runs", Place()
    plain = toy.run()
    with pytest.raises(UsageError, match="--split validate"):
        prepare_stored(runs, plain.spec, Rules(smooth="best"), place)
    found, whole = toy.run(smooth="best"), toy.run(split="validate", limit=None)
    prepared = prepare_stored(runs, plain.spec, Rules(), place)
    (wanted,) = tuned([prepared], ["smooth"], [whole.spec.key], None, runs, place)
    assert found.spec == wanted.spec
    assert toy.run(smooth="best", control="phrase-swap").spec.smooth == found.spec.smooth
    toy.forbidden = True
    monkeypatch.setattr("gtg_bench.benchmark.runs.tuned._means", lambda *_: pytest.fail("chosen again"))
    again = run(prepare_stored(runs, plain.spec, Rules(smooth="best"), place), toy.request())
    assert (again.spec, again.records) == (found.spec, found.records)
    with pytest.raises(UsageError, match="validate"):
        toy.run(split="validate", smooth="best")
