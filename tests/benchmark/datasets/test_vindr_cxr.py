"""VinDr-CXR: three readers' boxes counted by hand, sizes before a reduction, the copy in torchxrayvision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import PhraseSample, sample_id
from gtg_bench.benchmark.datasets.vindr_cxr import LABELS, PUBLISHED, VinDrCxrDataset

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
HEART = "9a5094b2563a1ef3ff50dc5c7ff71345"
OPACITY = "0005e8e3701dfb1dd93d53e2ff537b6e"
NORMAL = "50a418190bc3fb1ef1633bf9678929b3"
ROWS = (
    f"{NORMAL},No finding,14,R11,,,,",
    f"{HEART},Cardiomegaly,3,R10,691.0,1375.0,1653.0,1831.0",
    f"{NORMAL},No finding,14,R9,,,,",
    f"{OPACITY},Lung Opacity,7,R10,900.0,587.0,1205.0,888.0",
    f"{HEART},Pleural effusion,10,R9,1789.0,1729.0,1875.0,1992.0",
    f"{OPACITY},Lung Opacity,7,R9,905.0,583.0,1203.0,890.0",
    f"{HEART},Cardiomegaly,3,R9,692.0,1375.0,1657.0,1799.0",
    f"{HEART},Cardiomegaly,3,R8,689.0,1313.0,1666.0,1763.0",
)
SIZES = {HEART: (2080, 2336), OPACITY: (1500, 1200)}
"""Made-up (width, height) of the DICOM images."""


def table(root: Path, *rows: str, name: str = "train.csv", header: str = HEADER) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join((header, *(rows or ROWS))) + "\n")
    return root


def folder(root: Path, *rows: str, divided: int = 1, dicom: tuple[str, Callable[..., Path]] | None = None) -> Path:
    """A data root with a table and images, smaller than SIZES by a factor: PNG, or DICOM of a suffix."""
    (root / "train").mkdir(parents=True, exist_ok=True)
    for name, (width, height) in SIZES.items():
        size, path = (width // divided, height // divided), root / "train" / name
        if dicom:
            dicom[1](Path(f"{path}{dicom[0]}"), np.zeros(size[::-1], np.uint8))
        else:
            Image.new("L", size, 51).save(f"{path}.png")
    return table(root, *rows)


def found(data: VinDrCxrDataset) -> list[tuple[str, str, int]]:
    return [(s.image_id, s.category, len(s.boxes)) for s in data.samples("test")]


@pytest.mark.parametrize("suffix", [".dicom", ".dcm", ".png"])
def test_samples_by_hand(suffix: str, tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    data = VinDrCxrDataset(folder(tmp_path, dicom=None if suffix == ".png" else (suffix, write_dicom)))
    heart, opacity, effusion = data.samples("test")
    assert heart == PhraseSample(
        sample_id=sample_id(HEART, "Cardiomegaly", "Cardiomegaly"),
        image_id=HEART,
        patient_id=HEART,
        image_path=tmp_path / "train" / f"{HEART}{suffix}",
        phrase="Cardiomegaly",
        category="Cardiomegaly",
        boxes=((691, 1375, 1653, 1831), (692, 1375, 1657, 1799), (689, 1313, 1666, 1763)),
        image_size=(2080, 2336),
    )
    assert opacity.boxes == ((900, 587, 1205, 888), (905, 583, 1203, 890))
    assert (effusion.category, effusion.boxes) == ("Pleural effusion", ((1789, 1729, 1875, 1992),))
    assert (data.problems, data.bad, data.negatives) == ([], {}, 1)
    assert data.image(opacity).shape == (1200, 1500)


@pytest.mark.parametrize(
    ("reader", "wanted", "negatives"),
    [
        ("union", [(HEART, "Cardiomegaly", 3), (OPACITY, "Lung Opacity", 2), (HEART, "Pleural effusion", 1)], 1),
        ("R9", [(HEART, "Pleural effusion", 1), (OPACITY, "Lung Opacity", 1), (HEART, "Cardiomegaly", 1)], 1),
        ("R10", [(HEART, "Cardiomegaly", 1), (OPACITY, "Lung Opacity", 1)], 0),
        ("R8", [(HEART, "Cardiomegaly", 1)], 0),
        ("R17", [], 0),
    ],
)
def test_readers(reader: str, wanted: list[tuple[str, str, int]], negatives: int, tmp_path: Path) -> None:
    data = VinDrCxrDataset(folder(tmp_path), {"readers": reader})
    assert (found(data), data.problems, data.negatives) == (wanted, [], negatives)


def test_wrong_options(tmp_path: Path) -> None:
    for options, said in (
        ({"readers": "R18"}, "readers.*'R18'"),
        ({"readers": "r9"}, "readers.*'r9'"),
        ({"phrase": "x"}, "phrase"),
        ({"views": "PA"}, "no option 'views'"),
    ):
        with pytest.raises(UsageError, match=said):
            VinDrCxrDataset(folder(tmp_path), options)


def test_a_reader_and_a_phrase_are_another_version(tmp_path: Path) -> None:
    root = folder(tmp_path)
    options = ({}, {"readers": "R9"}, {"readers": "R10"}, {"phrase": "there is {label}"})
    assert len({VinDrCxrDataset(root, each).version for each in options}) == 4


def test_reduced_images_with_their_sizes(tmp_path: Path) -> None:
    root = folder(tmp_path, divided=4)
    rows = [f"{name},{height},{width}" for name, (width, height) in SIZES.items()]
    table(root, *rows, name="train_meta.csv", header="image_id,dim0,dim1")
    data = VinDrCxrDataset(root)
    heart, opacity, _ = data.samples("test")
    assert (heart.image_size, opacity.image_size, data.problems) == ((520, 584), (375, 300), [])
    assert heart.boxes[0] == (172.75, 343.75, 413.25, 457.75)
    assert opacity.boxes[1] == (226.25, 145.75, 300.75, 222.5)
    table(root, rows[0], f"{OPACITY},1200,wide", name="train_meta.csv", header="image_id,dim0,dim1")
    data = VinDrCxrDataset(root)
    assert [sample.image_id for sample in data.samples("test") if sample.sample_id in data.bad] == [OPACITY]
    assert [(problem.file.name, problem.row) for problem in data.problems] == [
        ("train_meta.csv", 3),
        ("train.csv", 5),
        ("train.csv", 7),
    ]
    assert "dim1 is 'wide'" in str(data.problems[0])
    assert f"has no size of image {OPACITY}" in str(data.problems[1])


def test_reduced_images_without_their_sizes_are_refused(tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    root = folder(tmp_path / "png", divided=4)
    with pytest.raises(DataError, match=r"train\.csv: .*2 of 2 images .*520 x 584.*train_meta\.csv"):
        VinDrCxrDataset(root)
    data = VinDrCxrDataset(folder(tmp_path / "dicom", divided=4, dicom=(".dicom", write_dicom)))
    assert len(data.bad) == 3  # only the rows can be wrong
    assert "520 x 584" in str(data.problems[0])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{HEART},ILD,5,R9,2000,10,2090,90", "2080 x 2336"),
        (f"{HEART},ILD,5,R9,20,10,15,90", "no area"),
        (f"{HEART},ILD,5,R9,20,10,inf,90", "x_max is 'inf'"),
        (f"{HEART},ILD,5,R18,20,10,30,90", "unknown reader 'R18'"),
        (f"{HEART},Ild,5,R9,20,10,30,90", "unknown label 'Ild'; use one of Aortic"),
    ],
)
def test_a_bad_row_fails_its_own_sample_alone(row: str, said: str, tmp_path: Path, only_bad: Callable) -> None:
    data = VinDrCxrDataset(folder(tmp_path, ROWS[1], row, ROWS[3]))
    only_bad(data, f"{tmp_path / 'train.csv'}, row 3", said)


def test_physionets_table_and_labels(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "train.csv").unlink()
    header = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    row = f"{HEART},R9,Rib fracture,10.5,20.25,99.75,80"
    data = VinDrCxrDataset(table(root, row, name="annotations/annotations_train.csv", header=header))
    assert [(s.category, s.boxes) for s in data.everything] == [("Rib fracture", ((10.5, 20.25, 99.75, 80),))]
    assert len(LABELS) == len(set(LABELS)) == 22


def test_the_test_split(tmp_path: Path) -> None:
    """Consensus boxes: no rad_id. The training table comes first if both are there."""
    root = folder(tmp_path)
    (root / "train").rename(root / "test")
    header, name = "image_id,class_name,x_min,y_min,x_max,y_max", "annotations/annotations_test.csv"
    table(root, f"{HEART},Cardiomegaly,1,2,3,4", f"{OPACITY},No finding,,,,", name=name, header=header)
    assert len(VinDrCxrDataset(root).samples("test")) == 3
    (root / "train.csv").unlink()
    data = VinDrCxrDataset(root)
    assert [(s.image_id, s.boxes) for s in data.samples("test")] == [(HEART, ((1, 2, 3, 4),))]
    assert (data.problems, data.negatives) == ([], 1)
    with pytest.raises(UsageError, match="rad_id"):
        VinDrCxrDataset(root, {"readers": "R9"})


def test_the_packaged_table_is_the_challenges(tmp_path: Path) -> None:
    """Counts of the file: 36,096 boxes of 14 findings on 4,394 of 15,000 images."""
    (folder(tmp_path) / "train.csv").unlink()
    data = VinDrCxrDataset(tmp_path)
    assert (len(data.annotations), len(data.everything), data.negatives) == (36096, 15365, 10606)
    assert Counter(s.category for s in data.everything) == PUBLISHED.pairs
    assert len({s.image_id for s in data.everything}) == 4394
    assert [problem.kind for problem in data.problems] == ["missing"] * 4392
    usable = [s for s in data.samples("test") if s.sample_id not in data.bad]
    assert Counter(s.image_id for s in usable) == {HEART: 4, OPACITY: 4}
    assert {s.category: len(s.boxes) for s in usable if s.image_id == HEART} == {
        "Aortic enlargement": 1,
        "Cardiomegaly": 3,
        "Pleural effusion": 1,
        "Pleural thickening": 1,
    }
