"""Sets of images against real ones: equal numbers, the floor, what each measure answers to, keys and small numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.quality.images import Picture, Pictures, halves, read_folder, read_pictures
from gtg_bench.benchmark.quality.measure import measure
from gtg_bench.benchmark.quality.networks import Network
from gtg_bench.benchmark.quality.results import FLOOR, Quality, Row

SIDE = 64


def extract(images: Tensor) -> Tensor:
    """Six features: brightness and contrast at three scales."""
    values, found = images[:, None].float() / 255, []
    for _ in range(3):
        found += [values.mean((1, 2, 3)), values.diff(dim=2).std((1, 2, 3))]
        values = torch.nn.functional.avg_pool2d(values, 3)
    return torch.stack(found, 1) * 10


NETWORK = Network("six", "1", "as they are", False, extract)


def images(n: int, seed: int) -> list[np.ndarray]:
    """Smooth random images of varying brightness, float32 in [0, 1]."""
    random = np.random.default_rng(seed)
    fields = [gaussian_filter(random.normal(size=(SIDE, SIDE)), random.uniform(2, 4)) for _ in range(n)]
    return [
        np.float32((field / field.std() * random.uniform(0.1, 0.2) + random.uniform(0.4, 0.6)).clip(0, 1))
        for field in fields
    ]


def pictures(name: str, pixels: Sequence[np.ndarray], generated: bool = True, per: int = 1, kinds: int = 1) -> Pictures:
    """A set with `per` images of each prompt (or patient) and `kinds` findings in turn."""
    items = [
        Picture(f"{i:03d}", lambda each=each: each, f"p{i // per}", (f"phrase {i // per}",), (f"kind {i % kinds}",))
        for i, each in enumerate(pixels)
    ]
    return Pictures(name, tuple(items), generated)


REAL = pictures("real", images(80, 0), generated=False, per=2)


@pytest.fixture(scope="module", autouse=True)
def few_halves() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gtg_bench.benchmark.quality.compare.HALVES", 12)
        yield


def rows(*sets: Pictures, **options) -> dict[str, Row]:
    return {row.name: row for row in measure(sets, REAL, NETWORK, **options).rows}


@pytest.fixture(scope="module")
def changed() -> dict[str, Row]:
    """Other images of the same kind, as they are and changed in ways that the literature describes."""
    same, random = images(40, 1), np.random.default_rng(2)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "same": lambda each: each,
        "noise": lambda each: np.float32((each + random.normal(0, 0.1, each.shape)).clip(0, 1)),
        "blur": lambda each: gaussian_filter(each, 3),
        "collapse": lambda each: same[0],
    }
    return rows(*(pictures(name, [way(each) for each in same], per=2) for name, way in ways.items()))


def test_each_measure_answers_to_noise_blur_and_collapse(changed: dict[str, Row]) -> None:
    values = {name: {key: one.value for key, one in row.values.items()} for name, row in changed.items()}
    floor, same = values[FLOOR], values["same"]
    for worse in ("noise", "blur", "collapse"):
        assert values[worse]["fid"] > 3 * max(floor["fid"], same["fid"])
        assert values[worse]["kid"] > max(floor["kid"], same["kid"]) + 0.1
        assert values[worse]["coverage"] < same["coverage"] - 0.3
    assert values["noise"]["precision"] < 0.3
    assert (values["collapse"]["precision"], values["collapse"]["recall"]) == (1, 0)
    assert changed["same"].values["kid"].low < 0 < changed["same"].values["kid"].high


def test_similarity_shows_collapse_beside_the_real_images(changed: dict[str, Row]) -> None:
    found = {name: row.similarity.estimate.value for name, row in changed.items() if row.similarity}
    assert found["collapse"] == pytest.approx(1)
    assert found["same"] < 0.5
    assert FLOOR not in found, "real images of one phrase are of one patient here"


def test_both_sides_and_the_floor_have_equally_many_images_of_different_patients() -> None:
    parts = halves(REAL, 0)
    assert [len(part) for part in parts] == [40, 40]
    assert not {one.patient for one in parts[0]} & {one.patient for one in parts[1]}
    found = rows(pictures("many", images(70, 1)), pictures("few", images(30, 3)))
    assert {row.n for row in found.values()} == {30}
    assert {row.n for row in rows(pictures("many", images(70, 1)), limit=20).values()} == {20}


def test_a_copy_of_the_reference_scores_0() -> None:
    reference = halves(REAL, 0)[0]
    found = rows(pictures("copy", [one.pixels() for one in reference]))["copy"].values
    assert found["fid"].value == pytest.approx(0, abs=1e-6)
    assert {found[name].value for name in ("precision", "recall", "coverage")} == {1}


def test_a_folder_identical_to_the_real_one_scores_0_with_the_spread_of_the_floor() -> None:
    same = Pictures("same", REAL.items, generated=True)
    found = measure([same], REAL, NETWORK)
    values = {row.name: row.values for row in found.rows}
    assert values["same"]["fid"].value == pytest.approx(0, abs=1e-6)
    assert {values["same"][name].value for name in ("precision", "recall", "coverage")} == {1}
    assert values[FLOOR]["fid"].value > 0
    widths = [values[name]["kid"].high - values[name]["kid"].low for name in ("same", FLOOR)]
    assert widths[0] == pytest.approx(widths[1], rel=0.6)
    assert "same: 40 of 40 images are identical to images of the reference." in found.notes
    for row in values.values():
        assert row["fid"].low >= 0
        assert row["precision"].high <= 1


def test_copies_of_training_images_are_found() -> None:
    trained = images(60, 5)
    found = rows(
        pictures("copies", [*trained[:10], *images(30, 6)]),
        pictures("others", images(40, 7)),
        training=pictures("training", trained, generated=False),
    )
    assert found["copies"].copies
    assert found["others"].copies
    assert (found["copies"].copies.identical, found["others"].copies.identical) == (10, 0)
    assert found["copies"].copies.near.value >= 0.25
    assert found["others"].copies.near.value <= 0.2
    assert found["copies"].copies.nearest[0] == found["copies"].copies.nearest[1]


def test_categories_with_enough_images_get_rows() -> None:
    real = pictures("real", images(100, 0), generated=False, kinds=2)
    few = pictures("few", images(92, 1), kinds=2)
    few = few.only([*few.items[::2], *few.items[1:9:2]])
    found = measure([few], real, NETWORK, by_category=True)
    kinds = {(row.name, row.category): row.n for row in found.rows if row.category}
    assert kinds.keys() == {(FLOOR, "kind 0"), ("few", "kind 0")}
    assert set(kinds.values()) <= set(range(20, 26))
    assert any("kind 1 (4)" in note for note in found.notes)


def test_a_key_covers_what_changes_a_value_and_nothing_else() -> None:
    base = images(12, 1)
    darker = [base[0] * 0.9, *base[1:]]

    def key(pixels: Sequence[np.ndarray] = base, name: str = "a", network: Network = NETWORK, **options) -> str:
        return rows_of(measure([pictures(name, pixels)], REAL, network, **options))[name].key

    def rows_of(found: Quality) -> dict[str, Row]:
        return {row.name: row for row in found.rows}

    other = Network("six", "2", "", False, extract)
    assert key() == key(name="b")
    assert len({key(), key(darker), key(network=other), key(seed=1), key(limit=10), key(profile="released")}) == 6


def test_a_key_covers_prompts_images_left_over_and_held_out_ones() -> None:
    base = images(12, 1)

    def key(pixels: Sequence[np.ndarray] = base, per: int = 2, real: Pictures = REAL, **options) -> str:
        return measure([pictures("a", pixels, per=per)], real, NETWORK, **options).rows[1].key

    left = {picture.name for picture in pictures("a", base).shuffled(0)[10:]}
    darker = [each * 0.9 if f"{i:03d}" in left else each for i, each in enumerate(base)]
    assert len({key(limit=10), key(darker, limit=10), key(per=3, limit=10)}) == 3, "MS-SSIM is of all images"
    held_out = halves(REAL, 0)[1].shuffled(0)[0].name
    changed = [replace(one, pixels=lambda: base[0]) if one.name == held_out else one for one in REAL]
    trained = pictures("training", images(8, 5), generated=False)
    real = REAL.only(changed)
    assert key() == key(real=real)
    assert key(training=trained) != key(training=trained, real=real)


def test_the_released_profile_takes_all_images_and_gives_no_interval() -> None:
    found = measure([pictures("few", images(12, 1), per=4)], REAL, NETWORK, profile="released")
    (row,) = found.rows
    assert (row.name, row.n, row.values.keys(), row.values["fid"].low) == ("few", 12, {"fid"}, None)
    assert row.similarity
    assert row.similarity.pairs == 18


@pytest.mark.parametrize(
    ("sets", "kind", "message"),
    [
        ([pictures("one", images(1, 1))], DataError, "one: has 1 image, "),
        ([pictures("a", images(5, 1)), pictures("a", images(5, 2))], UsageError, "same name"),
    ],
)
def test_too_few_images_and_equal_names_are_refused(sets: list[Pictures], kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        measure(sets, REAL, NETWORK)


def test_small_numbers_are_said() -> None:
    found = measure([pictures("few", [each[:40, :40] for each in images(4, 1)])], REAL, NETWORK)
    said = "\n".join(found.notes)
    assert "n = 4 is less than the 6 features" in said
    assert "not extrapolated" in said
    assert "sides of 40 px" in said
    assert "real 80 (40 in each half), few 4. All sets are cut to n = 4" in said
    assert "No precision" in said
    assert "No CI for real images, few" in said
    assert found.side == 40
    repeated = measure([pictures("one", images(1, 1) * 3)], REAL, NETWORK).notes
    assert {"No KID: it needs 4 images on each side.", "one: only 1 of 3 images are distinct."} <= set(repeated)
    assert not any("use KID" in note for note in repeated)
    mixed = measure([pictures("mixed", [*images(3, 1), images(1, 2)[0][:50, :50]])], REAL, NETWORK)
    assert [note for note in mixed.notes if "mixed: 1 image" in note]


# folders


def save(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / name)


def test_a_plain_folder_and_one_with_an_index_are_read(tmp_path: Path) -> None:
    one = images(2, 0)
    for name, pixels in zip(("b.png", "a.jpg"), one, strict=True):
        save(tmp_path, name, pixels)
    (tmp_path / "notes.txt").write_text("x")
    plain = read_folder(tmp_path)
    assert [(each.name, each.prompts, each.patient) for each in plain] == [("a.jpg", (), ""), ("b.png", (), "")]
    with (tmp_path / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "phrase", "patient_id", "category"), ("b.png", "edema", "p1", "Edema")])
    (found,) = read_folder(tmp_path)
    assert (found.name, found.prompts, found.patient, found.categories) == ("b.png", ("edema",), "p1", ("Edema",))
    assert read_folder(tmp_path).generated
    assert not read_pictures(str(tmp_path)).generated
    assert np.abs(found.bytes(SIDE).astype(int) - (one[0] * 255).astype(np.uint8)).max() == 0


def test_an_image_is_resized_cropped_and_quantised() -> None:
    wide = np.zeros((100, 300), np.float32)
    wide[:, 150:] = 0.7
    found = Picture("wide", lambda: wide).bytes(50)
    assert (found.shape, found.dtype) == ((50, 50), np.uint8)
    assert found[:, :24].max() == 0
    assert found[:, 26:].min() == found.max() == round(0.7 * 255)


@pytest.mark.parametrize(
    ("name", "message"), [("no", "neither a folder nor a data set"), (".", r"has no images \(\.png")]
)
def test_what_is_not_a_set_of_images_is_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, UsageError), match=message):
        read_pictures(name)
