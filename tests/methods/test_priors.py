"""Prior tables, computed by hand, and the maps of the baselines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, Mask, boxes_to_mask
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.types import Box, MethodSettings, PhraseSample
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets.phantom import dataset, world
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset
from gtg_bench.methods import baselines, priors
from gtg_bench.methods.priors import GRID, MIN_COUNT, PriorTable
from gtg_bench.training.priors import MEAN_SIDE, fit_user_table, training_split, users_table

ANY, EFFUSION = (None, None, None, None), ("Pleural Effusion", None, None, None)
LEFT, SMALL_LEFT = ("Pleural Effusion", "left", None, None), ("Pleural Effusion", "left", None, "small")
A, B, C = (0, 0, 32, 32), (32, 32, 64, 64), (0, 32, 32, 64)
IMAGE = np.random.default_rng(0).random((30, 50)).astype(np.float32)


def sample(phrase: str, *boxes: Box, image_size: tuple[int, int] = (64, 64)) -> PhraseSample:
    return PhraseSample("id", "image", "patient", None, phrase, "unread", boxes, image_size)


SAMPLES = [sample("small left effusion", A)] * 6 + [sample("left effusion", B)] * 2 + [sample("right effusion", C)] * 4


def area(box: Box) -> BoolArray:
    return boxes_to_mask([box], (GRID, GRID))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide the tables that this machine's user has fitted."""
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PriorTable:
    """The table of `SAMPLES` and two images, saved and loaded for the data set `toy`."""
    monkeypatch.setattr(priors, "TABLES", tmp_path)
    priors.save(tmp_path / "toy.npz", *priors.fit(SAMPLES, [np.zeros((8, 8)), np.full((8, 8), 0.5)]))
    return priors.load("toy")


# Tables


def test_mean_masks_and_image_by_hand() -> None:
    images = (np.full((2, 3), value, dtype=np.float32) for value in (0, 0.25, 0.5))
    maps, mean = priors.fit(SAMPLES, images)
    assert set(maps) == {ANY, EFFUSION, LEFT, SMALL_LEFT}
    np.testing.assert_array_equal(maps[SMALL_LEFT], area(A))
    np.testing.assert_allclose(maps[LEFT], 6 / 8 * area(A) + 2 / 8 * area(B))
    np.testing.assert_allclose(maps[EFFUSION], (6 * area(A) + 2 * area(B) + 4 * area(C)) / 12, rtol=1e-6)
    np.testing.assert_array_equal(maps[ANY], maps[EFFUSION])
    assert {values.dtype for values in (mean, *maps.values())} == {np.dtype(np.float32)}
    assert mean.tolist() == [[0.25] * 3] * 2
    maps, _ = priors.fit(SAMPLES[: MIN_COUNT - 1], [np.zeros((2, 2))])
    assert set(maps) == {ANY}, "however few phrases a training split has"


def test_regions_are_unions_of_boxes_or_masks_over_images_of_any_size() -> None:
    overlapping = sample("opacity", (0, 0, 100, 50), (50, 0, 200, 50), image_size=(200, 100))
    maps, _ = priors.fit([overlapping] * MIN_COUNT, [np.zeros((2, 2))])
    np.testing.assert_array_equal(maps[ANY], area((0, 0, 64, 32)))
    mask = Mask.of((64, 64), "polygon", "0 0 32 0 32 32 0 32")
    masked, without_region = replace(sample("small left effusion"), mask=mask), sample("small left effusion")
    maps, _ = priors.fit([*SAMPLES[:3], masked, masked, masked, without_region], [np.zeros((2, 2))])
    np.testing.assert_array_equal(maps[SMALL_LEFT], area(A))


@pytest.mark.parametrize(
    ("phrase", "depth", "key"),
    [
        ("small left effusion", 4, SMALL_LEFT),
        ("small left effusion", 3, LEFT),
        ("small left effusion", 1, EFFUSION),
        ("small left effusion", 0, ANY),
        ("large left effusion", 4, LEFT),
        ("right effusion", 4, EFFUSION),
        ("pneumonia", 4, ANY),
        ("frontal chest radiograph", 4, ANY),
    ],
)
def test_rare_keys_fall_back_to_coarser_ones(table: PriorTable, phrase: str, depth: int, key: priors.Key) -> None:
    assert table.lookup(read_phrase(phrase), depth) is table.maps[key]


def test_a_table_is_loaded_as_saved(table: PriorTable) -> None:
    maps, mean_image = priors.fit(SAMPLES, [np.zeros((8, 8)), np.full((8, 8), 0.5)])
    with pytest.raises(UsageError, match=r"--out TABLE\.npz"):  # a packaged table takes precedence
        users_table("toy")
    assert set(table.maps) == set(maps)
    for key, values in maps.items():
        np.testing.assert_allclose(table.maps[key], values, atol=2**-11)
    np.testing.assert_allclose(table.mean_image, mean_image, atol=0.5 / 255 + 1e-6)
    assert table.mean_image.dtype == table.maps[ANY].dtype == np.float32
    assert table.sha256 == hashlib.sha256((priors.TABLES / "toy.npz").read_bytes()).hexdigest()


@pytest.mark.usefixtures("table")
def test_a_data_set_without_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ms-cxr", "", None):
        with pytest.raises(UsageError, match=rf"{name!r} has no prior table .*: toy\)"):
            priors.load(name)
    monkeypatch.setattr(priors, "TABLES", tmp_path / "absent")
    with pytest.raises(UsageError, match="none"):
        priors.load("phantom")


# Maps


def ground(build: Callable[[MethodSettings], baselines.Fixed], image: FloatArray = IMAGE) -> FloatArray:
    grounding = build(MethodSettings("any")).ground(image, "left effusion")
    assert grounding.frame == Frame.original((image.shape[1], image.shape[0]))
    return grounding.values


def test_the_centre_prior_is_symmetric_and_falls_from_the_centre() -> None:
    values = ground(baselines.center_prior)
    for turned in (values[::-1], values[:, ::-1], values.T, ground(baselines.center_prior, 1 - IMAGE)):
        np.testing.assert_allclose(turned, values, rtol=1e-6)
    centre = GRID // 2
    assert (np.diff(values[centre:, centre]) < 0).all()
    assert values[centre + 16, centre] / values[centre, centre] == pytest.approx(np.exp(-0.5), rel=0.04)  # one sigma
    assert np.unique(ground(baselines.uniform)).size == 1


@pytest.mark.usefixtures("table")
def test_only_the_phrase_prior_depends_on_the_side() -> None:
    settings = MethodSettings("any", dataset="toy")
    by_class, by_phrase = baselines.class_prior(settings), baselines.phrase_prior(settings)
    left, right = "left effusion", "right effusion"
    np.testing.assert_array_equal(by_class.ground(IMAGE, left).values, by_class.ground(IMAGE, right).values)
    assert (by_phrase.ground(IMAGE, left).values != by_phrase.ground(IMAGE, right).values).any()
    np.testing.assert_array_equal(by_phrase.ground(IMAGE, left).values, by_phrase.ground(1 - IMAGE, left).values)
    assert by_phrase.ground(IMAGE, left).frame == Frame.original((50, 30))


@pytest.mark.usefixtures("table")
def test_difference_depends_on_the_image_only() -> None:
    method = baselines.difference(MethodSettings("difference", dataset="toy"))
    ours, theirs = method.ground(IMAGE, "left effusion"), method.ground(IMAGE, "cardiomegaly")
    np.testing.assert_array_equal(ours.values, theirs.values)
    np.testing.assert_allclose(ours.values, np.abs(IMAGE - 64 / 255), atol=1e-6)  # 0.25 in eight bits
    assert (ours.frame, ours.values.dtype) == (Frame.original((50, 30)), np.float32)
    ramp, wide = (np.tile(np.linspace(0, 1, n, dtype=np.float32), (m, 1)) for n, m in ((16, 16), (64, 48)))
    carried = baselines.Difference(ramp).ground(wide, "").values
    assert carried.shape == (48, 64)
    assert carried.max() < 0.05, "the mean image is stretched to the image"


# Settings


def test_the_only_setting_of_a_baseline_is_its_table(table: PriorTable) -> None:
    wanted = MethodSettings("uniform", weights="x", sampling="gt-cfg", steps=5, guidance=2.0, seed=7, dataset="toy")
    assert baselines.complete(wanted) == MethodSettings("uniform", seed=7, dataset="toy")
    completed = baselines.complete_with_table(MethodSettings("class-prior", sampling="gt-cfg", dataset="toy"))
    assert completed.weights_version == table.sha256[:12]
    assert completed.weights == "toy training split"
    assert completed.sampling is None
    with pytest.raises(UsageError, match="no prior table"):
        baselines.complete_with_table(MethodSettings("difference", dataset="elsewhere"))


# A user's own tables


class Toy:
    """Twelve samples of four images of two sizes, in the splits train and test; image 3 is damaged."""

    name, version = "toy", "v1"
    options: Mapping[str, str] = {"phrase": "x"}

    def samples(self, split: str) -> Sequence[PhraseSample]:
        if split not in ("train", "test"):
            raise UsageError(f"no split {split!r}")
        made = [replace(each, image_id=str(number % 4)) for number, each in enumerate(SAMPLES)]
        return [*made, replace(sample("left effusion"), image_id="bad row")]

    def image(self, wanted: PhraseSample) -> FloatArray:
        if wanted.image_id == "3":
            raise DataError("3.png is damaged")
        return np.full((8, 8) if wanted.image_id == "0" else (300, 200), 0.25 * int(wanted.image_id), dtype=np.float32)


def test_a_fitted_table_is_used_by_its_data_set(cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = fit_user_table(Toy(), "train", users_table("toy"), lambda done, total: seen.append((done, total)))
    assert made.path == cache / "priors" / "toy.npz"
    assert (made.phrases, made.images, made.keys, made.unread) == (12, 3, 4, ["3.png is damaged"])
    assert seen[-1] == (4, 4)
    table = priors.load("toy")
    assert set(table.maps) == {ANY, EFFUSION, LEFT, SMALL_LEFT}
    np.testing.assert_array_equal(table.maps[SMALL_LEFT], area(A))
    np.testing.assert_allclose(table.mean_image, np.full((MEAN_SIDE, MEAN_SIDE), 0.25), atol=0.002)
    completed = baselines.complete_with_table(MethodSettings("class-prior", dataset="toy"))
    assert (completed.weights, completed.weights_version) == ("toy training split", table.sha256[:12])
    assert baselines.class_prior(completed).table.sha256 == table.sha256


def test_a_file_named_as_weights(tmp_path: Path) -> None:
    path = fit_user_table(Toy(), "test", tmp_path / "mine.npz").path
    assert path.read_bytes() == fit_user_table(Toy(), "test", tmp_path / "again.npz").path.read_bytes()
    settings = baselines.complete_with_table(MethodSettings("phrase-prior", dataset="elsewhere", weights=str(path)))
    assert settings.weights == str(path)
    values = baselines.phrase_prior(settings).ground(IMAGE, "small left effusion").values
    np.testing.assert_array_equal(values, area(A))
    with pytest.raises(UsageError, match=r"absent\.npz"):
        baselines.complete_with_table(MethodSettings("phrase-prior", weights="absent.npz"))
    fit_user_table(Toy(), "test", users_table("toy"))
    assert priors.load("toy").name == "toy test split", "a table of another split is named as such"


def test_a_damaged_table_is_named(cache: Path) -> None:
    path = users_table("toy")
    path.parent.mkdir(parents=True)
    np.savez(path, keys=np.zeros(3, dtype=np.uint8))
    for content in (path.read_bytes(), b"", b"PK\x03\x04", b"<html>", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"toy\.npz .*fit it again"):
            priors.load("toy")


def test_a_prior_is_not_fitted_on_evaluated_splits() -> None:
    assert training_split("ms-cxr", ("train", "validate", "test", "all"), None) == "train"
    assert training_split("ms-cxr", ("train", "validate", "test", "all"), "validate") == "validate"
    for splits, chosen in ((("test",), None), (("all",), None), (("all",), "all"), (("train", "test"), "test")):
        with pytest.raises(UsageError, match="split"):
            training_split("ms-cxr", splits, chosen)


def test_nothing_to_fit_on_and_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"t\.npz"):
        fit_user_table(Toy(), "train", tmp_path / "file" / "t.npz")
    monkeypatch.setattr(Toy, "image", lambda self, wanted: (_ for _ in ()).throw(DataError("gone")))
    with pytest.raises(DataError, match=r"image.*toy.*gone"):
        fit_user_table(Toy(), "train", tmp_path / "t.npz")
    monkeypatch.setattr(Toy, "samples", lambda self, split: [sample("left effusion")])
    with pytest.raises(DataError, match=r"toy.*region"):
        fit_user_table(Toy(), "train", tmp_path / "t.npz")
    assert not (tmp_path / "t.npz").exists()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The phantom, exported as MS-CXR 1.1.0 and fitted there, has the same maps as the phantom itself."""
    monkeypatch.chdir(tmp_path)
    for module in (world, dataset):
        monkeypatch.setattr(module, "SPLITS", {"train": (0, 1), "validate": (6000, 6024), "test": (6130, 6133)})

    def call(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    call("data", "export", "phantom", "--split", "validate", "--split", "test", "--to", "files")
    assert "split" in call("data", "priors", "ms-cxr", "--data-root", "files", code=2)
    text = call("data", "priors", "ms-cxr", "--data-root", "files", "--split", "validate")
    fitted = fit_user_table(PhantomDataset(), "validate", tmp_path / "phantom.npz")
    assert f"{fitted.phrases} phrases, mean of {fitted.images} images" in text
    ours, theirs = np.load(fitted.path), np.load(tmp_path / "cache" / "priors" / "ms-cxr.npz")
    assert all((ours[name] == theirs[name]).all() for name in ("keys", "maps", "mean_image"))
    run = ("run", "-m", "phrase-prior", "--dataset", "ms-cxr", "--data-root", "files", "--limit", "3")
    assert "phrase-prior" in call(*run)
    assert "phantom" in call("data", "priors", "phantom", code=2)
    assert "--out" in call("data", "priors", "phantom", "--to", ".", "--out", "a.npz", code=2)
    assert ".npz" in call("data", "priors", "phantom", "--out", "a.csv", code=2)
