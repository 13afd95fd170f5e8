"""ChestX-Det, CheXlocalize and PadChest-GR: samples counted by hand in the published layouts, options, damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.analysis.subgroups import BY, known_groups
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import KnowsAbsence, sample_id
from gtg_bench.benchmark.datasets import DATASETS, load_dataset
from gtg_bench.benchmark.datasets.check import check
from gtg_bench.benchmark.datasets.chestx_det import LABELS, ChestXDetDataset
from gtg_bench.benchmark.datasets.chexlocalize import CheXlocalizeDataset
from gtg_bench.benchmark.datasets.padchest_gr import PadChestGrDataset
from gtg_bench.benchmark.runs.external_boxes import prepare_reader
from gtg_bench.benchmark.runs.identity import digest_of_samples
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run
from gtg_bench.benchmark.scoring.controls import plan


def picture(path: Path, size: tuple[int, int], kind: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], 60, kind)).save(path)
    return path


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) if not isinstance(value, str) else value, encoding="utf-8")
    return path


# ChestX-Det

SQUARE, CORNER = [[0, 0], [512, 0], [512, 512], [0, 512]], [[0, 0], [256, 0], [0, 256]]
TEST: list[dict[str, Any]] = [
    {
        "file_name": "36346.png",
        "syms": ["Effusion", "Cardiomegaly", "Effusion"],
        "boxes": [[0, 0, 512, 512], [335, 454, 804, 751], [0, 0, 256, 256]],
        "polygons": [SQUARE, [[335, 454], [804, 454], [804, 751]], CORNER],
    },
    {"file_name": "36347.png", "syms": [], "boxes": [], "polygons": []},
]
TRAIN = [{"file_name": "1.png", "syms": ["Mass"], "boxes": [[1, 2, 3, 4]]}]


@pytest.fixture
def chestx_det(tmp_path: Path) -> Path:
    write(tmp_path / "ChestX_Det_test.json", TEST)
    write(tmp_path / "ChestX_Det_train.json", TRAIN)
    picture(tmp_path / "test_data" / "test" / "36346.png", (256, 256))
    picture(tmp_path / "train_data" / "1.png", (1024, 1024))
    return tmp_path


def test_chestx_det_by_hand(chestx_det: Path) -> None:
    data = ChestXDetDataset(chestx_det)
    effusion, heart = data.samples("test")
    assert effusion.sample_id == sample_id("36346", "Effusion", "Effusion")
    assert (effusion.image_size, effusion.boxes, heart.category) == ((256, 256), (), "Cardiomegaly")
    assert effusion.mask is not None
    assert effusion.mask.decode().sum() == 512 * 512, "the smaller outline is inside the larger one"
    assert effusion.mask.size == (1024, 1024)
    (mass,) = data.samples("train")
    assert mass.boxes == ((1, 2, 3, 4),), "an entry without outlines has boxes"
    assert (data.problems, data.bad, data.splits) == ([], {}, ("train", "test"))
    assert "1 images instead of 3,025; 0 of them" in data.notes()["train"]
    assert "2 images instead of 553; 1 of them" in data.notes()["test"]
    boxed = ChestXDetDataset(chestx_det, {"region": "box", "phrase": "there is {label}"}).samples("test")[0]
    assert (boxed.phrase, boxed.boxes) == ("there is Effusion", ((0, 0, 128, 128), (0, 0, 64, 64)))  # a quarter
    assert len(set(LABELS)) == 13


def test_chestx_det10_and_other_places(tmp_path: Path) -> None:
    write(tmp_path / "test.json", [TEST[0] | {"polygons": []}])
    picture(tmp_path / "images" / "36346.png", (1024, 1024))
    data = ChestXDetDataset(tmp_path)
    assert (data.splits, [len(sample.boxes) for sample in data.samples("test")]) == (("test",), [2, 1])
    named = write(tmp_path / "mine.json", TRAIN)
    picture(tmp_path / "1.png", (1024, 1024))
    assert [s.category for s in ChestXDetDataset(tmp_path, {"annotations": named.name}).samples("test")] == ["Mass"]
    with pytest.raises(UsageError, match="region"):
        ChestXDetDataset(tmp_path, {"region": "mask"})
    (tmp_path / "test.json").unlink()
    with pytest.raises(DataError, match=r"ChestX_Det_test\.json: file not found"):
        ChestXDetDataset(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"syms": ["Effuse"], "boxes": [[1, 1, 9, 9]], "polygons": [SQUARE]}, "unknown label 'Effuse'"),
        ({"syms": ["Mass"], "boxes": [[9, 1, 9, 9]], "polygons": []}, "no area"),
        ({"syms": ["Mass"], "boxes": [[1, 1, 1030, 9]], "polygons": []}, "beyond its 1024 x 1024"),
        ({"syms": ["Mass"], "boxes": [[1, 1, 9]], "polygons": []}, "not [x1, y1, x2, y2]"),
        ({"syms": ["Mass"], "boxes": [[1, 1, "x", 9]], "polygons": []}, "boxes[0] is 'x'"),
        ({"syms": ["Mass"], "boxes": [[1, 1, 9, 9]], "polygons": [[[0, 0], [5, 5]]]}, "polygons[0]"),
        ({"syms": ["Mass"], "boxes": [[1, 1, 9, 9]], "polygons": [[[0, 0], [2000, 0], [0, 9]]]}, "polygons[0]"),
        ({"syms": ["Mass", "Mass"], "boxes": [[1, 1, 9, 9]] * 2, "polygons": [SQUARE]}, "polygons[1]"),
        ({"file_name": "../1.png", "syms": ["Mass"], "boxes": [[1, 1, 9, 9]], "polygons": [SQUARE]}, "image name"),
    ],
)
def test_a_bad_entry_of_chestx_det_fails_its_own_sample(
    chestx_det: Path, only_bad: Callable, changes: dict[str, Any], said: str
) -> None:
    path = write(chestx_det / "ChestX_Det_test.json", [TEST[0], {"file_name": "36348.png"} | changes])
    picture(chestx_det / "test_data" / "36348.png", (1024, 1024))
    only_bad(ChestXDetDataset(chestx_det), f"{path}, [1]", said)


@pytest.mark.parametrize("entry", [7, {"file_name": "a.png", "syms": ["Mass"], "boxes": []}, {"syms": "Mass"}])
def test_an_entry_of_chestx_det_that_is_not_one_is_a_problem(chestx_det: Path, entry: Any) -> None:
    write(chestx_det / "ChestX_Det_test.json", [TEST[0], entry])
    data = ChestXDetDataset(chestx_det)
    assert [problem.row for problem in data.problems] == ["[1]"]
    assert len(data.samples("test")) == 2


# CheXlocalize

NAME = "patient64741_study1_view1_frontal"
EMPTY = {"size": [4, 6], "counts": "h0"}
"""24 pixels outside."""
TWO_PIXELS = {"size": [4, 6], "counts": "52a0"}
"""5 pixels outside, 2 inside, 17 outside, down the columns."""


@pytest.fixture
def chexlocalize(tmp_path: Path) -> Path:
    found = {NAME: {"Cardiomegaly": TWO_PIXELS, "Edema": EMPTY, "Support Devices": TWO_PIXELS}}
    write(tmp_path / "CheXlocalize" / "gt_segmentations_test.json", found)
    picture(tmp_path / "CheXpert" / "test" / "patient64741" / "study1" / "view1_frontal.jpg", (6, 4))
    return tmp_path


def test_chexlocalize_by_hand(chexlocalize: Path) -> None:
    data = CheXlocalizeDataset(chexlocalize)
    heart, devices = data.samples("test")
    assert (heart.image_id, heart.patient_id, heart.category) == (NAME, "patient64741", "Cardiomegaly")
    assert heart.mask is not None
    assert np.argwhere(heart.mask.decode()).tolist() == [[1, 1], [2, 1]]  # row, column
    assert (devices.phrase, data.problems, data.bad, data.splits) == ("Support Devices", [], {}, ("test",))
    assert data.notes() == {
        "test": "gt_segmentations_test.json lists 1 images instead of 499; 1 empty masks are left out"
    }
    assert data.image(heart).shape == (4, 6)


def test_chexlocalizes_polygons_and_flat_folders(tmp_path: Path) -> None:
    square = [[1, 1], [3, 1], [3, 3], [1, 3]]
    other = NAME.replace("64741", "64541")
    found = {other: {"img_size": [4, 6], "Cardiomegaly": [square, [[4, 0], [6, 0], [6, 2], [4, 2]]], "Edema": []}}
    write(tmp_path / "gt_annotations_val.json", found)
    picture(tmp_path / f"{other}.png", (3, 2))
    (heart,) = CheXlocalizeDataset(tmp_path).samples("validate")
    assert (heart.image_size, heart.mask.size, heart.mask.decode().sum()) == ((3, 2), (6, 4), 8)


@pytest.mark.parametrize(
    ("image", "label", "region", "said"),
    [
        (NAME, "Oedema", TWO_PIXELS, "unknown label 'Oedema'"),
        (NAME, "Edema", {"size": [4, 6], "counts": "~"}, "mask cannot be used"),
        (NAME, "Edema", {"size": [4], "counts": "52a0"}, "mask cannot be used"),
        (NAME, "Edema", {"counts": "52a0"}, "mask cannot be used"),
        (NAME, "Edema", {"size": [2, 2], "counts": "52a0"}, "mask cannot be used"),
        (NAME, "Edema", 7, "mask cannot be used"),
        ("../patient1", "Edema", TWO_PIXELS, "not named like"),
    ],
)
def test_a_bad_mask_of_chexlocalize_fails_its_own_sample(
    chexlocalize: Path, only_bad: Callable, image: str, label: str, region: Any, said: str
) -> None:
    path = chexlocalize / "CheXlocalize" / "gt_segmentations_test.json"
    found = {NAME: {"Cardiomegaly": TWO_PIXELS}}
    found[image] = found.get(image, {}) | {label: region}
    write(path, found)
    only_bad(CheXlocalizeDataset(chexlocalize), f"{path}, {image}: {label}", said)


# PadChest-GR

LEFT, RIGHT = "216840111366964012373310883942009117084022290_00-014-025.png", "1.png"
SENTENCES: list[dict[str, Any]] = [
    {
        "sentence_en": "Left pleural effusion.",
        "sentence_es": "Derrame pleural izquierdo.",
        "abnormal": True,
        "boxes": [[0.5, 0.25, 1.0, 0.75], [0.0, 0.0, 0.25, 0.5]],
        "extra_boxes": [[0.5, 0.5, 1.0, 0.75]],
        "labels": ["pleural effusion", "costophrenic angle blunting"],
        "locations": ["left"],
    },
    {"sentence_en": "No pneumothorax.", "sentence_es": "Sin neumotórax.", "abnormal": False},
    {"sentence_en": "Scoliosis.", "sentence_es": "Escoliosis.", "abnormal": True, "boxes": [], "labels": ["scoliosis"]},
    {"sentence_en": "Nodule.", "sentence_es": "Nódulo.", "abnormal": True, "boxes": [[0, 0, 0.5, 0.5]], "labels": []},
]
MASTER = "StudyID,ImageID,PatientID,split,label\ns1,x,p1,test,a\ns1,x,p1,test,b\ns2,y,p2,validation,a\n"


@pytest.fixture
def padchest_gr(tmp_path: Path) -> Path:
    studies = [
        {"StudyID": "s1", "ImageID": LEFT, "findings": SENTENCES},
        {"StudyID": "s2", "ImageID": RIGHT, "findings": SENTENCES[3:]},
    ]
    write(tmp_path / "grounded_reports_20240819.json", studies)
    write(tmp_path / "master_table.csv", MASTER)
    picture(tmp_path / "Padchest_GR_files" / "PadChest_GR" / LEFT, (200, 100), np.uint16)
    picture(tmp_path / "Padchest_GR_files" / "PadChest_GR" / RIGHT, (40, 40), np.uint16)
    return tmp_path


def test_padchest_gr_by_hand(padchest_gr: Path) -> None:
    data = PadChestGrDataset(padchest_gr)
    effusion, nodule = data.samples("test")
    assert (effusion.phrase, effusion.category) == ("Left pleural effusion.", "pleural effusion")
    assert effusion.boxes == ((100, 25, 200, 75), (0, 0, 50, 50))
    assert (effusion.patient_id, effusion.image_id, effusion.image_size) == ("p1", LEFT[:-4], (200, 100))
    assert (nodule.category, nodule.boxes) == ("unlabelled", ((0, 0, 100, 50),))
    assert [(s.patient_id, s.boxes) for s in data.samples("validate")] == [("p2", ((0, 0, 20, 20),))]
    assert isinstance(data, KnowsAbsence)
    (denied,) = data.absent_samples("test")
    assert (denied.phrase, denied.boxes, data.absent_samples("validate")) == ("No pneumothorax.", (), [])
    assert (data.problems, data.bad) == ([], {})
    assert data.image(effusion).max() == pytest.approx(60 / 65535)
    notes = data.notes()
    assert "2 studies instead of 4,555, 4 positive sentences instead of 7,037" in notes["sentences"]
    assert "1 positive sentences have no box" in notes["unboxed"]


def test_padchest_grs_sex_and_age_form_subgroups(padchest_gr: Path, tmp_path: Path) -> None:
    plain = PadChestGrDataset(padchest_gr).samples("test")
    master = "StudyID,PatientID,split,PatientSex_DICOM,Age\ns1,p1,test,F,061Y\ns2,p2,validation,,old\n"
    write(padchest_gr / "master_table.csv", master)
    data = PadChestGrDataset(padchest_gr)
    assert [dict(s.traits) for s in data.samples("test")] == [{"sex": "female", "age": "61"}] * 2
    assert [s.traits for s in data.samples("validate")] == [()]
    digests = {digest_of_samples(plan(samples, "none")) for samples in (plain, data.samples("test"))}
    assert len(digests) == 2
    options = {"dataset": "padchest-gr", "data_root": padchest_gr, "runs_dir": tmp_path / "runs"}
    request = RunRequest.of("center-prior", **options)
    records = run(prepare(request), request).records
    assert known_groups(records) == ["size", "boxes", "side", "length", "category", "sex", "age"]
    assert {BY["age"][0](record) for record in records} == {"60 to 79"}


def test_padchest_grs_second_reader_and_language(padchest_gr: Path) -> None:
    first = PadChestGrDataset(padchest_gr).samples("test")[0]
    second = PadChestGrDataset(padchest_gr, {"reader": "2"})
    (found,) = second.samples("test")
    assert (found.sample_id, found.boxes) == (first.sample_id, ((100, 50, 200, 75),))
    assert "3 positive sentences" in second.notes()["unboxed"]
    twice = PadChestGrDataset(padchest_gr, {"read-twice": "true"})
    assert [(s.sample_id, s.boxes) for s in twice.everything] == [(first.sample_id, first.boxes)]
    spanish = load_dataset("padchest-gr", padchest_gr, language="es")
    assert spanish.samples("test")[0].phrase == "Derrame pleural izquierdo."
    for option in ("language", "reader", "read-twice"):
        with pytest.raises(UsageError, match=option):
            PadChestGrDataset(padchest_gr, {option: "3"})


def test_the_second_reader_is_a_row_on_what_both_outlined(padchest_gr: Path, tmp_path: Path) -> None:
    options = {"dataset": "padchest-gr", "data_root": padchest_gr, "protocol": "boxes", "runs_dir": tmp_path / "runs"}
    with pytest.raises(UsageError, match=r"1 of 2 samples.*read-twice"):
        prepare_reader(("reader", "2"), RunRequest.of("second", **options))
    request = RunRequest.of("second", dataset_options={"read-twice": "true"}, **options)
    (record,) = run(prepare_reader(("reader", "2"), request), request).records
    # The first reader has two boxes. The second one's covers the lower half of the first of them.
    assert record.metrics["matched_iou"] == pytest.approx((25 / 50 + 0) / 2)
    assert record.metrics["iou"] == pytest.approx(100 * 25 / (100 * 50 + 50 * 50))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"boxes": [[0.5, 0.5, 0.5, 0.75]]}, "x1 < x2"),
        ({"boxes": [[50, 25, 100, 75]]}, "<= 1"),
        ({"boxes": [[0.5, 0.25, 0.75]]}, "not [x1, y1, x2, y2]"),
        ({"boxes": [[0.5, 0.25, None, 0.75]]}, "boxes is None"),
        ({"boxes": 7}, "has the boxes 7"),
        ({"abnormal": "yes"}, "abnormal is 'yes'"),
        ({"labels": "nodule"}, "labels is 'nodule'"),
        ({"sentence_en": None}, "the phrase is empty"),
    ],
)
def test_a_bad_sentence_fails_its_own_sample(
    padchest_gr: Path, only_bad: Callable, changes: dict[str, Any], said: str
) -> None:
    path = padchest_gr / "grounded_reports_20240819.json"
    findings = [SENTENCES[0], SENTENCES[3] | changes]
    write(path, [{"StudyID": "s1", "ImageID": LEFT, "findings": findings}])
    only_bad(PadChestGrDataset(padchest_gr), f"{path}, [0].findings[1]", said)


@pytest.mark.parametrize(
    ("study", "master", "said"),
    [
        ({"StudyID": "s9"}, MASTER, "no study 's9'"),
        ({}, MASTER.replace("s2,y,p2,validation", "s2,y,p2,val"), "unknown split 'val'"),
        ({"ImageID": "../1.png"}, MASTER, "image name"),
    ],
)
def test_a_bad_study_of_padchest_gr(padchest_gr: Path, study: dict[str, str], master: str, said: str) -> None:
    write(padchest_gr / "master_table.csv", master)
    good = {"StudyID": "s1", "ImageID": LEFT, "findings": SENTENCES[:1]}
    bad = {"StudyID": "s2", "ImageID": RIGHT, "findings": SENTENCES[3:]} | study
    write(padchest_gr / "grounded_reports_20240819.json", [good, bad, 7])
    data = PadChestGrDataset(padchest_gr)
    assert (len(data.samples("test")), len(data.bad)) == (1, 1)
    assert said in next(iter(data.bad.values()))
    assert {problem.row for problem in data.problems} == {"[1].findings[0]", "[2]"}


# All three


@pytest.mark.parametrize("name", ["chestx-det", "chexlocalize", "padchest-gr"])
def test_check_and_files_that_cannot_be_used(name: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(name.replace("-", "_"))
    report = check(name, root, {}, deep=True)
    bad = [problem for problem in report.problems if problem.kind not in ("range", "phrase")]
    assert (bad, report.counts["pairs"] > 1) == ([], True)
    assert any(line.name in ("test", "sentences") and "instead of" in line.text for line in report.checks())
    assert set(load_dataset(name, root).splits) <= set(DATASETS[name].splits)
    (path,) = [*root.glob("*_test.json"), *root.glob("*/gt_*.json"), *root.glob("grounded*.json")]
    for content in ("", "{", "<!doctype html>", "7", "[]", "{}"):
        path.write_text(content)
        with pytest.raises(DataError, match=path.name):
            load_dataset(name, root)
