"""The Python interface: the same numbers as the command line, for names, loaded methods and plain objects."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import gtg_bench
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS


class Brightness:
    """The image itself."""

    def ground(self, image: np.ndarray, text: str) -> gtg_bench.GroundingMap:
        return gtg_bench.GroundingMap(image, gtg_bench.Frame.original(image.shape[::-1]))


def test_the_package_explains_itself() -> None:
    assert gtg_bench.__version__
    assert set(gtg_bench.__all__) <= set(dir(gtg_bench))
    for name in gtg_bench.__all__:
        assert getattr(gtg_bench, name).__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        gtg_bench.nonsense  # noqa: B018
    said = subprocess.run([sys.executable, "-c", "import gtg_bench; help(gtg_bench)"], capture_output=True, text=True)
    assert "evaluate(" in said.stdout
    assert "load_run(" in said.stdout


def test_evaluate_gives_the_numbers_of_the_command(tmp_path: Path) -> None:
    result = gtg_bench.evaluate("class-prior", limit=12, runs_dir=tmp_path / "python", protocol="strict")
    words = ["run", "-m", "class-prior", "--limit", "12", "--protocol", "strict", "--runs-dir", str(tmp_path / "shell")]
    done = CliRunner().invoke(app, [*words, "--leaderboards-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "phantom.strict@4.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["run_key"] == result.spec.key
    assert list(result.table.index) == list(PROTOCOLS["strict"].metrics)
    for metric, (mean, low, high, _) in zip(result.table.index, result.table.itertuples(index=False), strict=True):
        ends = [row[f"{metric}_macro{end}"] for end in ("", "_low", "_high")]
        assert ["" if np.isnan(value) else f"{value:.5f}" for value in (mean, low, high)] == ends, metric
    again = gtg_bench.load_run(result.spec.key, tmp_path / "python")
    assert again.to_dataframe().equals(result.to_dataframe())
    assert gtg_bench.load_run("class-prior:protocol=strict", str(tmp_path / "python")).spec == result.spec


def test_one_row_a_sample(tmp_path: Path) -> None:
    plain = gtg_bench.evaluate("class-prior", limit=8, runs_dir=str(tmp_path))
    swapped = gtg_bench.evaluate("class-prior", limit=8, runs_dir=tmp_path, control="phrase-swap")
    rows, other = plain.to_dataframe(), swapped.to_dataframe()
    samples = gtg_bench.load_dataset("phantom").samples("test")[:8]
    asked = "sample_id image_id patient_id phrase category region status seconds map_file".split()
    assert {*asked, *PROTOCOLS["gtg"].metrics} <= set(rows.columns)
    assert list(rows["phrase"]) == [sample.phrase for sample in samples]
    assert list(rows["region"]) == [[list(box) for box in sample.boxes] for sample in samples]
    assert not set(other["phrase"]) & {sample.phrase for sample in samples if sample.category == "Cardiomegaly"}
    assert list(other["phrase"]) != list(rows["phrase"])
    assert all(Path(path).is_file() for path in rows["map_file"])
    found = plain.map(samples[0].sample_id)
    assert found.on_image().shape == samples[0].image_size[::-1]
    assert np.nanmean(found.on_image()) == pytest.approx(float(found.values.mean()), rel=0.1)
    with pytest.raises(DataError, match="nobody"):
        plain.map("nobody")


def test_an_object_is_evaluated_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = gtg_bench.evaluate(Brightness(), limit=6)
    assert first.spec.method == "brightness"
    assert first.folder.is_dir()
    monkeypatch.setattr(
        Brightness,
        "ground",
        lambda self, image, text: gtg_bench.GroundingMap(-image, gtg_bench.Frame.original((128, 128))),
    )
    second = gtg_bench.evaluate(Brightness(), limit=6)
    kept = [gtg_bench.evaluate(Brightness(), limit=6, runs_dir=tmp_path / "kept").table.loc["auroc", "mean"]]
    monkeypatch.undo()
    kept.append(gtg_bench.evaluate(Brightness(), limit=6, runs_dir=tmp_path / "kept").table.loc["auroc", "mean"])
    aurocs = [one.table.loc["auroc", "mean"] for one in (first, second)]
    assert sum(aurocs) == pytest.approx(1)
    assert kept == pytest.approx(aurocs[::-1])
    assert not (tmp_path / "runs").exists()


def test_a_loaded_method_is_the_registered_one(tmp_path: Path) -> None:
    method = gtg_bench.load_method("cxrbert-ldm", steps=2)
    loaded = gtg_bench.evaluate(method, limit=3, runs_dir=tmp_path / "a")
    named = gtg_bench.evaluate("cxrbert-ldm", limit=3, runs_dir=tmp_path / "b", steps=2)
    assert loaded.spec == named.spec
    assert [r.map_sha256 for r in loaded.records] == [r.map_sha256 for r in named.records]


def test_images_of_every_kind_give_one_map(tmp_path: Path) -> None:
    method = gtg_bench.load_method("cxrbert-ldm", steps=1)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cxr.png")
    kinds: list[Any] = [
        tmp_path / "cxr.png",
        str(tmp_path / "cxr.png"),
        Image.open(tmp_path / "cxr.png"),
        pixels,
        pixels.astype(np.float32) / 255,
        np.stack([pixels] * 3, -1),
    ]
    maps = [method.ground(kind, "left effusion") for kind in kinds]
    for found in maps[1:]:
        np.testing.assert_allclose(found.values, maps[0].values, atol=1e-5)
    assert maps[0].on_image().shape == (90, 120)
    with pytest.raises(UsageError, match="phrase is empty"):
        method.ground(pixels, " ")
    with pytest.raises(UsageError, match="pass a path"):
        method.ground(pixels.astype(np.float32), "left effusion")


def test_unknown_names_are_refused_with_the_near_ones() -> None:
    for call in (
        lambda: gtg_bench.evaluate("clas-prior"),
        lambda: gtg_bench.evaluate("class-prior", "fantom"),
        lambda: gtg_bench.evaluate("class-prior", smaplings=3),
        lambda: gtg_bench.load_method("cxrbert-ldm", stepz=3),
        lambda: gtg_bench.load_run("nobody", "nowhere"),
    ):
        with pytest.raises(UsageError):
            call()


def test_score_takes_an_array_and_boxes_or_a_mask() -> None:
    values = np.zeros((40, 60), dtype=np.float32)
    values[10:20, 30:50] = 1
    mask = values > 0
    found = gtg_bench.score(values, mask)
    assert found["top1"] == 1
    assert found["auroc"] > 0.999
    boxes = gtg_bench.score(values, [(30, 10, 50, 20)], image_size=(60, 40))
    assert boxes["auroc"] > 0.999
    assert set(found) <= set(METRICS)
