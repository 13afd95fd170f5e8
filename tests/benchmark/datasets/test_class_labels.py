"""RSNA's pneumonia boxes, and with them what every table of class labels has: options, packed tables, damaged rows."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import sample_id
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.datasets.check import check
from gtg_bench.benchmark.datasets.rsna_pneumonia import RsnaPneumoniaDataset

HEADER = "patientId,x,y,width,height,Target"
TABLE = "stage_2_train_labels.csv"
TWO = "00436515-870c-4b36-a041-de91049b9ab4"
FOUR = "0ab261f9-4eb5-42ab-a9a5-e918904d6356"
NEGATIVE = "0004cfab-14fd-4e49-80ba-63a80b6bddd6"
ROWS = (
    f"{NEGATIVE},,,,,0",
    f"{TWO},264.0,152.0,213.0,379.0,1",
    "00313ee0-9eaa-42f4-b0ab-c148ed3241cd,,,,,0",
    f"{FOUR},613.0,352.0,106.0,102.0,1",
    f"{TWO},562.0,152.0,256.0,453.0,1",
)


def folder(root: Path, *rows: str, images: str = "stage_2_train_images", suffix: str = ".png") -> Path:
    """A data root with a table and two images: one of 256 x 256, one of 1024 x 1024."""
    (root / TABLE).write_text("\n".join((HEADER, *(rows or ROWS))) + "\n")
    (root / images).mkdir(parents=True, exist_ok=True)
    for name, side in ((TWO, 256), (FOUR, 1024)):
        Image.new("L", (side, side), 51).save(root / images / f"{name}{suffix}")
    return root


def test_samples_by_hand(tmp_path: Path) -> None:
    data = load_dataset("rsna-pneumonia", str(folder(tmp_path)))
    assert isinstance(data, RsnaPneumoniaDataset)
    two, four = data.samples("test")
    assert two.sample_id == sample_id(TWO, "Pneumonia", "Pneumonia")
    assert (two.image_id, two.patient_id, two.phrase, two.category) == (TWO, TWO, "Pneumonia", "Pneumonia")
    assert two.boxes == ((66, 38, 119.25, 132.75), (140.5, 38, 204.5, 151.25))  # a quarter of 1024
    assert (two.image_size, two.mask) == ((256, 256), None)
    assert (four.boxes, four.image_size) == (((613, 352, 719, 454),), (1024, 1024))
    assert (data.problems, data.bad, data.negatives) == ([], {}, 2)
    np.testing.assert_allclose(data.image(two), np.full((256, 256), 0.2), atol=1e-6)


@pytest.mark.parametrize(("images", "suffix"), [(".", ".png"), ("images", ".jpg"), ("stage_2_train_images", ".jpeg")])
def test_layouts(images: str, suffix: str, tmp_path: Path) -> None:
    assert not RsnaPneumoniaDataset(folder(tmp_path, images=images, suffix=suffix)).problems


def test_dicom_images(tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    root = folder(tmp_path)
    for path in (root / "stage_2_train_images").iterdir():
        path.unlink()
        write_dicom(path.with_suffix(".dcm"), np.zeros((1024, 1024), np.uint8))
    data = RsnaPneumoniaDataset(root)
    assert not data.problems
    assert [sample.image_size for sample in data.samples("test")] == [(1024, 1024)] * 2
    assert data.samples("test")[0].boxes[0] == (264, 152, 477, 531)
    assert data.image(data.samples("test")[0]).shape == (1024, 1024)


def test_options(tmp_path: Path) -> None:
    root = folder(tmp_path)
    first = load_dataset("rsna-pneumonia", root, phrase="findings of {label}").samples("test")[0]
    assert first.phrase == "findings of Pneumonia"
    assert first.sample_id == sample_id(TWO, "Pneumonia", "findings of Pneumonia")
    with zipfile.ZipFile(root / f"{TABLE}.zip", "w") as archive:
        archive.write(root / TABLE, TABLE)
    (root / TABLE).rename(root / "mine.csv")
    assert len(RsnaPneumoniaDataset(root, {"annotations": "mine.csv"}).everything) == 2
    assert len(RsnaPneumoniaDataset(root).everything) == 2  # the zipped one
    (root / "stage_2_train_images" / f"{TWO}.png").unlink()
    assert len(load_dataset("rsna-pneumonia", root, present_only=True).samples("test")) == 1
    for options, said in (
        ({"phrase": "opacity"}, r"phrase.*\{label\}"),
        ({"annotations": "his.csv"}, r"annotations=his\.csv"),
        ({"readers": "R1"}, "no option 'readers'"),
        ({"present_only": "yes"}, "present-only"),
    ):
        with pytest.raises(UsageError, match=said):
            load_dataset("rsna-pneumonia", root, **options)
    with pytest.raises(UsageError, match="--data-root"):
        load_dataset("rsna-pneumonia")
    with pytest.raises(UsageError, match="no split 'train'"):
        RsnaPneumoniaDataset(root).samples("train")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{TWO},1000,0,100,10,1", "1024 x 1024"),
        (f"{TWO},10,nan,10,10,1", "y is 'nan'"),
        (f"{TWO},10,10,10,10,0", "Target is '0'"),
        (f"{TWO},10,10,10,10,1,7", "7 values for 6 columns"),
        (f"{TWO},10,10,10,10,1\n{TWO},,,,,0", "row 4 says that it has none"),
        ("../secret,1,1,9,9,1", "'../secret' is not a valid image name"),
        (",1,1,9,9,1", "'' is not a valid image name"),
    ],
)
def test_a_bad_row_fails_its_own_sample_alone(row: str, said: str, tmp_path: Path, only_bad: Callable) -> None:
    data = RsnaPneumoniaDataset(folder(tmp_path, ROWS[0], row, ROWS[3]))
    only_bad(data, f"{tmp_path / TABLE}, row 3", said)
    assert {(problem.file, problem.row) for problem in data.problems} == {(tmp_path / TABLE, 3)}


def test_a_broken_row_without_a_finding_is_reported(tmp_path: Path) -> None:
    data = RsnaPneumoniaDataset(folder(tmp_path, f"{NEGATIVE},,,,,0,,x", ROWS[3]))
    assert [(problem.row, problem.what) for problem in data.problems] == [(2, "has 8 values for 6 columns")]
    assert (len(data.everything), data.bad, data.negatives) == (1, {}, 0)


def test_a_missing_column(tmp_path: Path) -> None:
    (folder(tmp_path) / TABLE).write_text("patientId,x,y,width,height\na,1,1,1,1\n")
    with pytest.raises(DataError, match=r"stage_2_train_labels\.csv: has no column 'Target'"):
        RsnaPneumoniaDataset(tmp_path)


def test_the_packaged_table_is_the_published_one(tmp_path: Path) -> None:
    """Counts of the challenge's stage 2: 6,012 of 26,684 images have 9,555 boxes."""
    Image.new("L", (512, 512)).save(tmp_path / f"{TWO}.png")
    report = check("rsna-pneumonia", tmp_path, {})
    said = {line.name: (line.state, line.text) for line in report.checks()}
    assert report.counts == {"pairs": 6012, "boxes": 2, "masks": 0, "images": 6012, "patients": 6012, "usable": 1}
    assert said["images"] == ("error", "6011 problems")
    assert said["negatives"][1].startswith("20672 images")
    assert said["counts"][1].endswith("stage_2_train_labels.csv): 2 boxes instead of 9555")
    data = RsnaPneumoniaDataset(tmp_path, {"present-only": "true"})
    assert sum(row.box is not None for row in data.annotations) == 2
    (only,) = data.samples("test")
    assert only.boxes == ((132, 76, 238.5, 265.5), (281, 76, 409, 302.5))
    assert data.annotations[0].row == 6
