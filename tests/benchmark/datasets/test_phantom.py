"""The phantom: the same on every machine and in every order, and as varied as its test split must be."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.datasets.negation import negated
from gtg_bench.benchmark.datasets.phantom import dataset, world
from gtg_bench.benchmark.datasets.phantom.anatomy import SIZE, Chest, Patient
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies
from gtg_bench.benchmark.datasets.phantom.film import expose
from gtg_bench.benchmark.datasets.phantom.findings import CATEGORY_WEIGHTS, box_of
from gtg_bench.benchmark.datasets.phantom.stream import Stream
from gtg_bench.benchmark.datasets.phantom.world import Statement, Study, patient_studies

FROZEN = (*range(5), *range(6130, 6140))
HASHES = {
    ("2", 0): "52a9534f3d23b39dda9564c1d2ea3bb5e13b2032ef461fe64f0cc2bbfad8114a",
    ("2", 7): "3fc9f1de2850423db9e4df26ca85dfcf04795fb832e2e7676b891d240dc97517",
}
"""(version, seed) -> sha256 of the patients `FROZEN`: pixels or phrases that change need a new version."""

SMALL = {"train": (0, 4), "validate": (6000, 6001), "test": (6130, 6133)}
Pair = tuple[Study, Statement]


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return [study for number in range(*world.SPLITS["test"]) for study in patient_studies(0, number)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Splits of a few patients, and an empty cache, whose folder it returns."""
    for module in (world, dataset):
        monkeypatch.setattr(module, "SPLITS", SMALL)
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path))
    return tmp_path


def pairs(studies: Iterable[Study]) -> list[Pair]:
    return [(study, statement) for study in studies for statement in study.statements]


def notes(study: Study) -> list[object]:
    """Everything of a study but its pixels."""
    statements = [[s.phrase, asdict(s.finding), s.boxes] for s in study.statements]
    return [study.image_id, study.patient_id, statements, study.report]


def same(ours: list[Study], theirs: list[Study]) -> bool:
    pixels = all(np.array_equal(a.pixels, b.pixels) for a, b in zip(ours, theirs, strict=True))
    return pixels and [notes(study) for study in ours] == [notes(study) for study in theirs]


# Bit identity


@pytest.mark.parametrize("seed", [0, 7])
def test_a_version_never_changes(seed: int) -> None:
    digest = hashlib.sha256()
    for study in (study for number in FROZEN for study in patient_studies(seed, number)):
        digest.update(study.pixels.tobytes())
        digest.update(json.dumps(notes(study)).encode())
    assert digest.hexdigest() == HASHES[world.VERSION, seed], "give the phantom a new VERSION and hash"


def test_a_patient_depends_on_no_other(small: Path) -> None:
    for split, (first, last) in SMALL.items():
        alone = {number: list(patient_studies(0, number)) for number in reversed(range(first, last))}
        assert same(dataset.generate(0, split), [study for number in sorted(alone) for study in alone[number]])


def test_seeds_are_other_worlds() -> None:
    ours, theirs = next(patient_studies(0, 3)), next(patient_studies(1, 3))
    assert ours.image_id != theirs.image_id
    assert not np.array_equal(ours.pixels, theirs.pixels)


def test_splits_share_no_patient() -> None:
    assert list(world.SPLITS) == ["train", "validate", "test"]
    for ours, theirs in combinations(world.SPLITS.values(), 2):
        assert not set(range(*ours)) & set(range(*theirs))


# Findings and phrases of the test split


def test_images_and_patients_vary(studies: list[Study]) -> None:
    images, found = Counter(study.patient_id for study in studies), pairs(studies)
    assert len(images) == 170
    assert set(images.values()) == {1, 2, 3}
    assert {len(study.statements) for study in studies} == {0, 1, 2, 3}
    assert all(study.report and study.pixels.std() > 10 for study in studies)
    assert {(study.pixels.shape, study.pixels.dtype) for study in studies} == {((SIZE, SIZE), np.dtype(np.uint8))}
    assert len({dataset.sample_of(*pair).sample_id for pair in found}) == len(found) >= 300
    assert sum(len(study.statements) > 1 for study, _ in found) >= len(found) / 3, "beside another finding"


def test_phrases_are_clean_and_vary_for_every_finding(studies: list[Study]) -> None:
    wordings = defaultdict(set)
    for _, statement in pairs(studies):
        wordings[statement.finding.category].add(statement.phrase.lower().rstrip("."))
        assert not set(statement.phrase) & set("[]{}_")
        assert " ".join(statement.phrase.split()) == statement.phrase
        assert " ," not in statement.phrase
        assert negated(statement.phrase, statement.finding.category) == ""
        assert not statement.phrase.endswith((",", ".."))
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|(left|right) zone", statement.phrase.lower()), statement.phrase
    assert set(wordings) == set(CATEGORY_WEIGHTS)
    assert min(map(len, wordings.values())) >= 8


def test_phrases_say_what_is_there_or_say_nothing(studies: list[Study]) -> None:
    silent: Counter[tuple[bool, ...]] = Counter()
    for _, statement in pairs(studies):
        said, finding = read_phrase(statement.phrase), statement.finding
        assert said.category == finding.category
        assert said.side in (None, finding.side)
        assert said.size in (None, finding.size)
        assert said.zone in (None, finding.zone) or "costophrenic" in statement.phrase
        if finding.side and finding.zone:
            silent.update([(said.side is None, said.zone is None), (said.size is None,)])
    assert min(silent[(side, zone)] for side in (False, True) for zone in (False, True)) >= 10
    assert silent[(True,)] >= 50


def test_the_same_finding_on_both_sides_is_told_apart_by_its_side(studies: list[Study]) -> None:
    twins = 0
    for study in studies:
        for a, b in combinations(study.statements, 2):
            if a.finding.category == b.finding.category:
                twins += 1
                assert {read_phrase(s.phrase).side for s in (a, b)} == {"left", "right"}
                assert (a.boxes[0][0] > b.boxes[0][0]) == (a.finding.side == "left")  # as a radiologist sees it
    assert twins >= 15


def test_boxes_lie_in_the_image_and_are_not_tiny(studies: list[Study]) -> None:
    statements = [statement for _, statement in pairs(studies)]
    boxes = np.array([box for statement in statements for box in statement.boxes])
    assert (boxes.min() >= 0, boxes.max() <= SIZE) == (True, True)
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 4
    assert (boxes == np.floor(boxes)).all()
    bilateral = [s.finding.side == "bilateral" for s in statements]
    assert [len(s.boxes) for s in statements] == [1 + both for both in bilateral], "a box on each side"
    assert sum(bilateral) >= 10


def test_the_box_of_a_mask() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    assert box_of(mask) is None
    mask[2, 1:5] = mask[2:6, 3] = True
    assert box_of(mask) == (1, 2, 5, 6)
    mask[5] = False
    assert box_of(mask) is None


# The data set


def test_samples_are_the_statements(small: Path) -> None:
    phantom = PhantomDataset()
    samples = phantom.samples("test")
    found = pairs(study for number in range(*SMALL["test"]) for study in patient_studies(0, number))
    assert [(s.image_id, s.patient_id, s.phrase, s.category, s.boxes) for s in samples] == [
        (study.image_id, study.patient_id, s.phrase, s.finding.category, s.boxes) for study, s in found
    ]
    assert all(sample.image_size == (SIZE, SIZE) and sample.image_path is None for sample in samples)
    image = phantom.image(samples[0])
    assert image.dtype == np.float32
    assert (image * 255).round().astype(np.uint8).tolist() == found[0][0].pixels.tolist()
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_cache_gives_back_what_was_made(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_studies(5, "train")
    with monkeypatch.context() as patched:
        patched.delattr(dataset, "generate")
        patched.delattr(dataset, "locked")  # it could not be taken in a folder that is read-only
        read = load_studies(5, "train")
    assert same(made, read)
    assert same(read, [study for number in range(4) for study in patient_studies(5, number)])
    assert read[0].statements == made[0].statements
    (path,) = (small / "phantom").glob("*.npz")
    assert path.name == "v2-seed5-train-0-4.npz"
    for damage in (b"", path.read_bytes()[:-99]):
        path.write_bytes(damage)
        assert same(load_studies(5, "train"), made)


def test_many_processes_make_the_same_studies(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = dataset.generate(0, "train")
    monkeypatch.setattr(dataset, "_PARALLEL_FROM", 1)
    monkeypatch.setattr(dataset, "_CHUNK", 3)
    assert same(dataset.generate(0, "train"), alone)


def test_a_script_without_a_main_guard_may_generate(tmp_path: Path) -> None:
    """Processes of multiprocessing would run the script again, and wait for the lock that it holds."""
    script = tmp_path / "script.py"
    script.write_text(
        "from gtg_bench.benchmark.datasets.phantom import dataset, world\n"
        "world.SPLITS['train'], dataset._PARALLEL_FROM, dataset._CHUNK = (0, 4), 1, 2\n"
        "print(len(dataset.load_studies(0, 'train')))\n"
    )
    environment = {**os.environ, "GTG_BENCH_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(sum(1 for n in range(4) for _ in patient_studies(0, n)))], done.stderr


def test_the_drawn_lesion_fills_the_boxes() -> None:
    """What is at least half opaque spans exactly the box of the only lesion, and each finding has its own."""
    phantom = PhantomDataset(options={"seed": "3"})
    samples = phantom.samples("test")[:12]
    for sample in samples:
        alpha = phantom.lesion(sample)
        assert (alpha.shape, alpha.dtype) == ((128, 128), np.float32)
        x0, y0, x1, y1 = (round(end([box[i] for box in sample.boxes])) for i, end in enumerate((min, min, max, max)))
        rows, columns = np.nonzero(alpha >= 0.5)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


def test_unknown_options_and_splits_are_refused(small: Path) -> None:
    with pytest.raises(UsageError, match="no option 'size'"):
        PhantomDataset(options={"size": "3", "seed": "1"})
    for seed in ("-1", "1.5", "", "one", "²"):
        with pytest.raises(UsageError, match="seed"):
            PhantomDataset(options={"seed": seed})
    with pytest.raises(UsageError, match="no split 'val'"):
        PhantomDataset().samples("val")


# Random numbers


def test_a_stream_is_a_function_of_its_parts() -> None:
    draws = [[Stream(*parts).uniform(0, 1) for _ in range(2)] for parts in [("a", 1), ("a", 2), ("a", 1, 0)]]
    assert all(first == second for first, second in draws)
    assert len({first for first, _ in draws}) == 3


def test_uniform_numbers() -> None:
    stream = Stream("uniform")
    drawn = np.array([stream.uniform(-2, 6) for _ in range(4000)])
    assert drawn.min() >= -2
    assert drawn.max() < 6
    assert drawn.mean() == pytest.approx(2, abs=0.15)
    assert drawn.std() == pytest.approx(8 / 12**0.5, abs=0.1)
    assert np.histogram(drawn, 8, (-2, 6))[0].min() > 400


def test_choices_follow_their_weights() -> None:
    stream = Stream("choice")
    drawn = Counter(stream.choice("abc", (1, 0, 3)) for _ in range(4000))
    assert set(drawn) == {"a", "c"}
    assert drawn["c"] == pytest.approx(3000, abs=120)
    assert set(Counter(stream.choice("abc") for _ in range(100))) == set("abc")
    assert sum(stream.chance(0.25) for _ in range(4000)) == pytest.approx(1000, abs=120)
    orders = {tuple(stream.shuffled("abc")) for _ in range(100)}
    assert (len(orders), {tuple(sorted(order)) for order in orders}) == (6, {("a", "b", "c")})


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (120, 121)])
def test_fields(height: int, width: int) -> None:
    field = Stream("field").field(height, width)
    assert field.shape == (height, width)
    assert field.dtype == np.float32
    assert np.abs(field).max() <= 510 / 147
    if height > 100:
        assert field.mean() == pytest.approx(0, abs=0.03)
        assert field.std() == pytest.approx(1, abs=0.03)
        assert abs(np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1]) < 0.03


def test_absent_phrases_name_no_finding_of_their_image(small: Path) -> None:
    data = PhantomDataset()
    absent = data.absent_samples("test")
    shown = defaultdict(set)
    for sample in data.samples("test"):
        shown[sample.image_id].add(sample.category)
    studies = load_studies(0, "test", pixels=False)
    assert Counter(sample.image_id for sample in absent) == {study.image_id: 2 for study in studies}
    assert len({sample.sample_id for sample in absent}) == len(absent)
    for sample in absent:
        assert sample.category not in shown[sample.image_id]
        assert read_phrase(sample.phrase).category == sample.category
        assert (sample.boxes, sample.mask) == ((), None)
    assert [bool(negated(sample.phrase, sample.category)) for sample in absent] == [False, True] * len(studies)
    assert PhantomDataset().absent_samples("test") == absent
    assert PhantomDataset(options={"seed": "1"}).absent_samples("test") != absent


# How an image is taken


def test_a_side_marker_is_on_the_side_that_it_names() -> None:
    """The patient's left is at the image's right; a marker is the only thing that bright on a black film."""
    sides = set()
    for number in range(60):
        pixels = expose(np.zeros((SIZE, SIZE), np.float32), Stream("film", number)).astype(int)
        bright = pixels > 150
        assert bright.any() == (bright.sum() > 30)
        if bright.any():
            rows, columns = np.nonzero(bright)
            letter = bright[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            is_left = not letter[: len(letter) // 2, letter.shape[1] // 2 :].any()  # an L is empty at its upper right
            assert rows.max() < SIZE / 4
            assert (columns.min() > SIZE / 2) == is_left
            sides.add(is_left)
    assert sides == {True, False}


def test_vessels_are_in_the_lungs_and_leave_the_hilum() -> None:
    stream = Stream("vessels")
    chest = Chest(Patient.draw(stream), stream)
    for side in (-1, 1):
        there = chest.vessels * chest.lungs[side]
        near = np.abs(chest.x - side * 0.25) + np.abs(chest.y) < 0.2
        far = np.abs(chest.x - side * 0.25) + np.abs(chest.y) > 0.6
        assert there[near].mean() > 2 * there[far & (chest.lungs[side] > 0.5)].mean() > 0
