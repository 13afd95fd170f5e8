"""Sheets of chosen samples, and of runs side by side: which samples, which phrase, which region, which score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.report.pictures.examples import Choice, dataset_sheet
from gtg_bench.benchmark.report.pictures.run_sheet import _scored_region, runs_sheet
from gtg_bench.benchmark.scoring.trial import Trial


def sample(name: str, category: str = "A", size: tuple[int, int] = (600, 400)) -> PhraseSample:
    return PhraseSample(name, name, name, None, f"phrase {name}", category, ((10.0, 10.0, 20.0, 20.0),), size)


SAMPLES = [sample(name, category) for name, category in zip("abcdef", "ABABAB", strict=True)]
SCORES = {"a": 0.5, "b": 0.1, "c": 0.9, "d": 0.5, "f": -1.0}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), "abcdef"),
        (Choice(limit=2), "ab"),
        (Choice(ids=("e", "b", "e"), limit=1), "eb"),
        (Choice(category="b"), "bdf"),
        (Choice(order="worst"), "fbadce"),
        (Choice(order="best"), "cadbfe"),
        (Choice(order="worst", metric="distance"), "cadbfe"),
        (Choice(order="best", category="A", limit=2), "ca"),
    ],
)
def test_choice(choice: Choice, expected: str) -> None:
    assert "".join(one.sample_id for one in choice.of(SAMPLES, SCORES)) == expected


def test_a_random_choice_follows_its_seed_and_not_the_order() -> None:
    found = [[s.sample_id for s in Choice(order="random", seed=k, limit=4).of(SAMPLES)] for k in range(20)]
    again = [[s.sample_id for s in Choice(order="random", seed=k, limit=4).of(SAMPLES[::-1])] for k in range(20)]
    assert found == again
    assert len({tuple(one) for one in found}) > 10
    assert all(len(set(one)) == 4 for one in found)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(ids=("a", "z")), "'z'"),
        (Choice(category="C"), "'C'"),
        (Choice(order="worst"), "needs a run"),
        (Choice(order="wurst"), "worst"),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_choice(choice: Choice, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choice.of(SAMPLES)


def test_a_sheet_of_a_data_set(toy: Any) -> None:
    dataset = load_dataset("phantom")
    sheet = dataset_sheet(dataset, "test", Choice(limit=3, order="random", seed=4))
    assert len(sheet.figure.axes) == 3
    phrases = {s.sample_id: s.phrase for s in dataset.samples("test")}
    for name in sheet.sample_ids:
        assert phrases[name].split()[0] in " ".join(texts(sheet.figure))


def test_runs_side_by_side(toy: Any) -> None:
    """A row per sample, the input and a column per run; the phrase that a control was given is above its map."""
    plain, swapped = toy.run(), toy.run(control="phrase-swap")
    scores = {record.sample_id: record.metrics["cnr"] for record in plain.records}
    runs = toy.folder / "runs"
    names = ["toy", "toy:control=phrase-swap"]
    sheet = runs_sheet(names, runs, Choice(limit=3, order="worst", metric="cnr"), titles=["ours", "swapped"])
    assert list(sheet.sample_ids) == sorted(scores, key=scores.__getitem__)[:3]
    assert len(sheet.figure.axes) == 3 * 3 + 1
    assert [len(axes.images) for axes in sheet.figure.axes[:9]] == [1, 2, 2] * 3
    written = " ".join(texts(sheet.figure))
    for record in swapped.records:
        if record.sample_id in sheet.sample_ids:
            assert f"given: {record.phrase}"[:18] in written
            assert f"CNR {record.metrics['cnr']:.2f}".replace("-", "\u2212") in written
    assert {"input", "ours", "swapped"} <= set(texts(sheet.figure))


def test_one_run_under_a_control_shows_what_was_given_and_what_was_scored(toy: Any) -> None:
    (record,) = toy.run(control="phrase-swap", limit=1).records
    own = load_dataset("phantom").samples("test")[0].phrase
    sheet = runs_sheet(["toy:control=phrase-swap:limit=1"], toy.folder / "runs")
    written = " ".join(texts(sheet.figure))
    assert f"given: {record.phrase}"[:20] in written
    assert f"region: {own}"[:20] in written
    assert record.phrase != own


def test_a_swapped_region_is_carried_over_as_it_is_scored() -> None:
    """Both images are cropped to 512 x 512: (600, 400) by 1.28 with 128 pixels off the left, (400, 800) by 1.28."""
    here, there = sample("a"), sample("b", size=(400, 800))
    ((x0, y0, x1, y1),), mask = _scored_region(Trial(here, "", "", there, ()), "crop512")
    scored = np.array([10 * 1.28, 10 * 1.28 - 256])
    assert np.allclose([x0, y0], [(scored[0] + 128) / 1.28, scored[1] / 1.28])
    assert np.allclose([x1 - x0, y1 - y0], 10)
    assert mask is None
    assert _scored_region(Trial(here, "", "", here, ()), "crop512")[0] == here.boxes


def test_runs_that_cannot_be_shown(toy: Any) -> None:
    toy.run()
    toy.run(split="validate")
    runs: Path = toy.folder / "runs"
    for names, choice, message in (
        (["toy:split=test", "toy:split=validate"], Choice(), "split"),
        (["toy:split=test"], Choice(metric="gcnr"), "gcnr"),
        (["toi"], Choice(), "toy"),
    ):
        with pytest.raises(UsageError, match=message):
            runs_sheet(names, runs, choice)
    with pytest.raises(UsageError, match="titles"):
        runs_sheet(["toy:split=test"], runs, titles=["a", "b"])
    for path in runs.rglob("*.npz"):
        path.unlink()
    with pytest.raises(DataError, match="no map"):
        runs_sheet(["toy:split=test"], runs)


def test_a_missing_map_leaves_its_place_to_the_image(toy: Any) -> None:
    toy.run(limit=2)
    next((toy.folder / "runs").rglob("*.npz")).unlink()
    sheet = runs_sheet(["toy"], toy.folder / "runs")
    assert sorted(len(axes.images) for axes in sheet.figure.axes[:2]) == [1, 2]
    assert "no map" in texts(sheet.figure)
    assert len(sheet.problems) == 1
