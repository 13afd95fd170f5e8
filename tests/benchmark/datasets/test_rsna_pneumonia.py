"""RSNA's pneumonia boxes: samples counted by hand, the copy in torchxrayvision, damaged rows, folders."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import sample_id
from gtg_bench.benchmark.datasets import open_dataset
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


def dicom(path: Path, size: tuple[int, int]) -> None:
    """A grey DICOM file of (width, height) `size`."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    file.Columns, file.Rows = size
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 8, 8, 7
    file.PixelData = bytes(size[0] * size[1])
    file.save_as(path, enforce_file_format=True)


def test_samples_by_hand(tmp_path: Path) -> None:
    data = open_dataset("rsna-pneumonia", folder(tmp_path), {})
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


def test_dicom_images(tmp_path: Path) -> None:
    root = folder(tmp_path)
    for path in (root / "stage_2_train_images").iterdir():
        path.unlink()
        dicom(path.with_suffix(".dcm"), (1024, 1024))
    data = RsnaPneumoniaDataset(root)
    assert not data.problems
    assert [sample.image_size for sample in data.samples("test")] == [(1024, 1024)] * 2
    assert data.samples("test")[0].boxes[0] == (264, 152, 477, 531)
    assert data.image(data.samples("test")[0]).shape == (1024, 1024)


def test_options(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (phrase, *_) = (s.phrase for s in RsnaPneumoniaDataset(root, {"phrase": "findings of {label}"}).samples("test"))
    assert phrase == "findings of Pneumonia"
    (root / TABLE).rename(root / "mine.csv")
    assert len(RsnaPneumoniaDataset(root, {"annotations": "mine.csv"}).everything) == 2
    for options, said in (
        ({"phrase": "opacity"}, "rsna-pneumonia's phrase must have {label} in it"),
        ({"annotations": "his.csv"}, r"annotations=his\.csv: no such file"),
        ({"readers": "R1"}, "no option 'readers'; it has: images, annotations, phrase, present-only"),
    ):
        with pytest.raises(UsageError, match=said):
            RsnaPneumoniaDataset(root, options)


def test_a_table_in_a_zip_file(tmp_path: Path) -> None:
    root = folder(tmp_path)
    with zipfile.ZipFile(root / f"{TABLE}.zip", "w") as archive:
        archive.write(root / TABLE, TABLE)
    (root / TABLE).unlink()
    assert len(RsnaPneumoniaDataset(root).everything) == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"{TWO},1000,0,100,10,1", "sticks out of its 1024 x 1024 image"),
        (f"{TWO},10,10,0,10,1", "no area"),
        (f"{TWO},10,ten,10,10,1", "y is 'ten', not a number"),
        (f"{TWO},10,nan,10,10,1", "y is 'nan', not a number"),
        (f"{TWO},,,,,1", "x is '', not a number"),
        (f"{TWO},10,10,10,10,0", "has a box, but its Target is '0', not 1"),
        (f"{TWO},10,10,10,10,2", "has a box, but its Target is '2', not 1"),
        (f"{TWO},10,10,10,10,1,7", "has 7 values for 6 columns"),
        (f"{TWO},10,10,10,10,1\n{TWO},,,,,0", "has a finding here, but row 4 says that it has none"),
    ],
)
def test_a_bad_row_fails_its_own_sample_alone(row: str, said: str, tmp_path: Path) -> None:
    root = folder(tmp_path, ROWS[0], row, ROWS[3])
    data = RsnaPneumoniaDataset(root)
    bad, good = data.samples("test")
    assert (list(data.bad), bad.boxes, len(good.boxes)) == ([bad.sample_id], (), 1)
    assert {(problem.file, problem.row) for problem in data.problems} == {(root / TABLE, 3)}
    assert f"{root / TABLE}, row 3: " in data.bad[bad.sample_id]
    assert said in data.bad[bad.sample_id]
    with pytest.raises(DataError, match="row 3"):
        data.image(bad)


@pytest.mark.parametrize("name", ["../secret", "", "/etc/passwd"])
def test_a_row_without_an_image(name: str, tmp_path: Path) -> None:
    data = RsnaPneumoniaDataset(folder(tmp_path, f"{name},1,1,9,9,1", ROWS[3]))
    assert [str(problem).split(": ")[1].split(";")[0] for problem in data.problems] == [
        f"{name!r} is not the name of an image"
    ]


def test_a_broken_row_without_a_finding_is_said(tmp_path: Path) -> None:
    root = folder(tmp_path, f"{NEGATIVE},,,,,0,,x", ROWS[3])
    data = RsnaPneumoniaDataset(root)
    assert [(problem.row, problem.what) for problem in data.problems] == [(2, "has 8 values for 6 columns")]
    assert (len(data.everything), data.bad, data.negatives) == (1, {}, 0)


def test_no_column_and_no_root(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / TABLE).write_text("patientId,x,y,width,height\na,1,1,1,1\n")
    with pytest.raises(DataError, match=r"stage_2_train_labels\.csv: has no column 'Target'"):
        RsnaPneumoniaDataset(tmp_path)
    with pytest.raises(UsageError, match=r"rsna-pneumonia needs --data-root DIR, the folder with its annotations"):
        open_dataset("rsna-pneumonia", None, {})


def test_the_carried_table_is_the_published_one(tmp_path: Path) -> None:
    """Counts of the challenge's stage 2: 6,012 of 26,684 images have 9,555 boxes."""
    Image.new("L", (512, 512)).save(tmp_path / f"{TWO}.png")
    report = check("rsna-pneumonia", tmp_path, {})
    said = {line.name: (line.state, line.text) for line in report.checks()}
    assert report.counts == {"pairs": 6012, "boxes": 2, "masks": 0, "images": 6012, "patients": 6012, "usable": 1}
    assert said["images"] == ("error", "6011 problems")
    assert said["negatives"] == ("note", "20672 images without a finding have no region and are left out")
    assert said["counts"][1].endswith("stage_2_train_labels.csv): 2 boxes instead of 9555")
    data = RsnaPneumoniaDataset(tmp_path, {"present-only": "true"})
    assert sum(row.box is not None for row in data.annotations) == 2
    (only,) = data.samples("test")
    assert only.boxes == ((132, 76, 238.5, 265.5), (281, 76, 409, 302.5))
    assert data.annotations[0].row == 6


def test_loading_imports_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from gtg_bench.benchmark.datasets import open_dataset
open_dataset("rsna-pneumonia", Path({str(folder(tmp_path))!r}), {{}})
assert not {{"torch", "torchxrayvision", "pydicom", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
