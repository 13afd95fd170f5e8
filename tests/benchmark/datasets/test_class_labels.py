"""ChestX-ray14, RSNA, SIIM-ACR and VinDr-CXR: samples counted by hand, layouts, options, packaged tables, damage."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import PhraseSample, sample_id
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.datasets.check import check
from gtg_bench.benchmark.datasets.chestxray14 import ChestXray14Dataset
from gtg_bench.benchmark.datasets.rsna_pneumonia import RsnaPneumoniaDataset
from gtg_bench.benchmark.datasets.siim_pneumothorax import SiimPneumothoraxDataset
from gtg_bench.benchmark.datasets.vindr_cxr import LABELS, PUBLISHED, VinDrCxrDataset
from gtg_bench.benchmark.runs.external_boxes import prepare_reader
from gtg_bench.benchmark.runs.runner import RunRequest, run


@dataclass(frozen=True)
class Files:
    """A data set's class, folder of images, table, and image sizes as published; PNGs may be reduced by a factor."""

    kind: Callable[..., Any]
    images: str
    table: str
    text: str
    sizes: dict[str, tuple[int, int]]
    reduced: dict[str, int] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


SIDE = (1024, 1024)
FIRST, SECOND = "00000001_000", "00000002_001"
NIH_TABLE = f"""Image Index,Finding Label,Bbox [x,y,w,h],,,
{FIRST}.png,Mass,0,0,512,256
{SECOND}.png,Nodule,10,20,30,40.5
{FIRST}.png,Mass,512,512,512,512
{FIRST}.png,Effusion,100,100,200,300"""
NIH = Files(
    ChestXray14Dataset, "images", "BBox_List_2017.csv", NIH_TABLE, {FIRST: SIDE, SECOND: SIDE}, reduced={FIRST: 16}
)
TWO, FOUR = "00436515-870c-4b36-a041-de91049b9ab4", "0ab261f9-4eb5-42ab-a9a5-e918904d6356"
NEGATIVE = "0004cfab-14fd-4e49-80ba-63a80b6bddd6"
RSNA_TABLE = f"""patientId,x,y,width,height,Target
{NEGATIVE},,,,,0
{TWO},264.0,152.0,213.0,379.0,1
00313ee0-9eaa-42f4-b0ab-c148ed3241cd,,,,,0
{FOUR},613.0,352.0,106.0,102.0,1
{TWO},562.0,152.0,256.0,453.0,1"""
RSNA_PLACES = ("stage_2_train_images", "stage_2_train_labels.csv")
RSNA = Files(RsnaPneumoniaDataset, *RSNA_PLACES, RSNA_TABLE, {TWO: SIDE, FOUR: SIDE}, reduced={TWO: 4})
NUMBERS = ("31952.1517875157.662284", "4588.1517875183.632318", "6904.1517875201.850819")
SMALL, LARGE, CLEAR = (f"1.2.276.0.7230010.3.1.4.8323329.{number}" for number in NUMBERS)
SIIM_TABLE = f"""ImageId, EncodedPixels
{CLEAR},-1
{LARGE},7 5
{SMALL},0 1 1023 2
{LARGE}, 3 2"""
SIIM = Files(
    SiimPneumothoraxDataset, "images", "train-rle.csv", SIIM_TABLE, {SMALL: SIDE, LARGE: SIDE}, reduced={SMALL: 8}
)
HEART, OPACITY = "9a5094b2563a1ef3ff50dc5c7ff71345", "0005e8e3701dfb1dd93d53e2ff537b6e"
NORMAL = "50a418190bc3fb1ef1633bf9678929b3"
VINDR_TABLE = f"""image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
{NORMAL},No finding,14,R11,,,,
{HEART},Cardiomegaly,3,R10,691.0,1375.0,1653.0,1831.0
{NORMAL},No finding,14,R9,,,,
{OPACITY},Lung Opacity,7,R10,900.0,587.0,1205.0,888.0
{HEART},Pleural effusion,10,R9,1789.0,1729.0,1875.0,1992.0
{OPACITY},Lung Opacity,7,R9,905.0,583.0,1203.0,890.0
{HEART},Cardiomegaly,3,R9,692.0,1375.0,1657.0,1799.0
{HEART},Cardiomegaly,3,R8,689.0,1313.0,1666.0,1763.0"""
VINDR = Files(VinDrCxrDataset, "train", "train.csv", VINDR_TABLE, {HEART: (2080, 2336), OPACITY: (1500, 1200)})
"""The sizes of VinDr's images are made up."""


def table(root: Path, name: str, *lines: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n")
    return root


def tree(
    root: Path, of: Files, *rows: str, images: str = "", suffix: str = ".png", dicom: Any = None, divided: int = 1
) -> Path:
    """A data root with a table and two images."""
    folder = root / (images or of.images)
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height) in of.sizes.items():
        factor, path = divided if dicom else divided * of.reduced.get(name, 1), folder / f"{name}{suffix}"
        pixels = np.full((height // factor, width // factor), 51, np.uint8)
        dicom(path, pixels) if dicom else Image.fromarray(pixels).save(path)
    return table(root, of.table, of.lines[0], *(rows or of.lines[1:]))


# Samples


def test_chestxray14_by_hand(tmp_path: Path) -> None:
    data = ChestXray14Dataset(tree(tmp_path, NIH))
    mass, nodule, effusion = data.samples("test")
    assert mass == PhraseSample(
        sample_id(FIRST, "Mass", "Mass"),
        *(FIRST, "00000001", tmp_path / "images" / f"{FIRST}.png", "Mass", "Mass"),
        *(((0, 0, 32, 16), (32, 32, 64, 64)), (64, 64)),  # a sixteenth
    )
    assert (nodule.boxes, nodule.image_size) == (((10, 20, 40, 60.5),), SIDE)
    assert effusion.boxes == ((6.25, 6.25, 18.75, 25),)
    assert (data.problems, data.bad, data.name, data.notes()) == ([], {}, "chestxray14", {})
    np.testing.assert_allclose(data.image(mass), np.full((64, 64), 0.2), atol=1e-6)
    assert all(part in repr(data) for part in ("chestxray14 1-", "test: 3"))


def test_rsna_by_hand(tmp_path: Path) -> None:
    data = RsnaPneumoniaDataset(tree(tmp_path, RSNA))
    two, four = data.samples("test")
    assert (two.image_id, two.patient_id, two.phrase, two.category) == (TWO, TWO, "Pneumonia", "Pneumonia")
    assert two.boxes == ((66, 38, 119.25, 132.75), (140.5, 38, 204.5, 151.25))  # a quarter
    assert (two.image_size, four.boxes, four.image_size) == ((256, 256), ((613, 352, 719, 454),), SIDE)
    assert (data.problems, data.bad, data.negatives) == ([], {}, 2)


def test_siim_by_hand(tmp_path: Path) -> None:
    """Run lengths go down the columns; the rows of an image are united."""
    data = SiimPneumothoraxDataset(tree(tmp_path, SIIM))
    large, small = data.samples("test")
    assert (small.sample_id, small.boxes) == (sample_id(SMALL, "Pneumothorax", "Pneumothorax"), ())
    assert (small.patient_id, small.image_size, large.image_size) == (SMALL, (128, 128), SIDE)
    found = [np.argwhere(sample.mask.decode()).tolist() for sample in (small, large) if sample.mask]  # row, column
    assert found == [[[0, 0], [0, 1], [1, 1]], [[row, 0] for row in (3, 4, 7, 8, 9, 10, 11)]]
    assert (data.problems, data.bad, data.negatives) == ([], {}, 1)


@pytest.mark.parametrize(
    ("reader", "wanted", "negatives"),
    [
        ("union", [(HEART, "Cardiomegaly", 3), (OPACITY, "Lung Opacity", 2), (HEART, "Pleural effusion", 1)], 1),
        ("R9", [(HEART, "Pleural effusion", 1), (OPACITY, "Lung Opacity", 1), (HEART, "Cardiomegaly", 1)], 1),
        ("R10", [(HEART, "Cardiomegaly", 1), (OPACITY, "Lung Opacity", 1)], 0),
        ("R17", [], 0),
    ],
)
def test_vindrs_readers(reader: str, wanted: list[tuple[str, str, int]], negatives: int, tmp_path: Path) -> None:
    data = VinDrCxrDataset(tree(tmp_path, VINDR), {"readers": reader})
    assert [(s.image_id, s.category, len(s.boxes)) for s in data.samples("test")] == wanted
    assert (data.problems, data.bad, data.negatives) == ([], {}, negatives)
    if reader == "union":
        boxes = [sample.boxes for sample in data.samples("test")[:2]]
        assert boxes[0] == ((691, 1375, 1653, 1831), (692, 1375, 1657, 1799), (689, 1313, 1666, 1763))
        assert boxes[1] == ((900, 587, 1205, 888), (905, 583, 1203, 890))


@pytest.mark.parametrize(
    ("options", "wanted", "negatives"),
    [
        ({"reader": "1"}, {(HEART, "Cardiomegaly"): 689}, 2),
        (
            {"reader": "2"},
            {(HEART, "Pleural effusion"): 1789, (OPACITY, "Lung Opacity"): 905, (HEART, "Cardiomegaly"): 692},
            1,
        ),
        ({"reader": "3"}, {(HEART, "Cardiomegaly"): 691, (OPACITY, "Lung Opacity"): 900}, 0),
        ({"read-twice": "true"}, {(HEART, "Cardiomegaly"): 689}, 1),
        ({"read-twice": "true", "reader": "2"}, {(HEART, "Cardiomegaly"): 692}, 1),
    ],
)
def test_the_readers_of_each_vindr_image(
    options: dict[str, str], wanted: dict[tuple[str, str], int], negatives: int, tmp_path: Path
) -> None:
    """In the order of their numbers, R9 before R10; a row "No finding" is a reading too, R2's of the opacity."""
    root = tree(tmp_path, VINDR, *VINDR.lines[1:], f"{OPACITY},No finding,14,R2,,,,")
    data = VinDrCxrDataset(root, options)
    assert {(s.image_id, s.category): s.boxes[0][0] for s in data.samples("test")} == wanted
    assert all(len(s.boxes) == 1 for s in data.everything)
    assert (data.problems, data.negatives) == ([], negatives)
    assert {s.sample_id for s in data.everything} <= {s.sample_id for s in VinDrCxrDataset(root).everything}


def test_vindrs_second_reader_is_a_row_on_what_both_outlined(tmp_path: Path) -> None:
    root = tree(tmp_path, VINDR)
    options = {"dataset": "vindr-cxr", "data_root": root, "protocol": "boxes", "runs_dir": tmp_path / "runs"}
    with pytest.raises(UsageError, match=r"1 of 2 samples.*vindr-cxr.*read-twice"):
        prepare_reader(("reader", "3"), RunRequest.of("third", dataset_options={"reader": "1"}, **options))
    with pytest.raises(UsageError, match="among those"):  # of all readers
        prepare_reader(("reader", "2"), RunRequest.of("second", **options))
    request = RunRequest.of("second", dataset_options={"read-twice": "true"}, **options)
    records = run(prepare_reader(("reader", "2"), request), request).records
    both, heart, opacity = (1657 - 692) * (1763 - 1375), (1666 - 689) * (1763 - 1313), (1203 - 905) * (888 - 587)
    wanted = {
        "Cardiomegaly": both / (heart + (1657 - 692) * (1799 - 1375) - both),  # R8 and R9
        "Lung Opacity": opacity / ((1203 - 905) * (890 - 583) + (1205 - 900) * (888 - 587) - opacity),  # R9 and R10
    }
    assert {r.category: r.metrics["matched_iou"] for r in records} == pytest.approx(wanted)


def test_vindrs_reduced_images(tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    """Their sizes are in another table, without which PNGs are refused; of DICOM files only the rows can be wrong."""
    root, name, header = tree(tmp_path / "png", VINDR, divided=4), "train_meta.csv", "image_id,dim0,dim1"
    with pytest.raises(DataError, match=r"train\.csv: .*2 of 2 images .*520 x 584.*train_meta\.csv"):
        VinDrCxrDataset(root)
    rows = [f"{image},{height},{width}" for image, (width, height) in VINDR.sizes.items()]
    data = VinDrCxrDataset(table(root, name, header, *rows))
    heart, opacity, _ = data.samples("test")
    assert (heart.image_size, opacity.image_size, data.problems) == ((520, 584), (375, 300), [])
    assert heart.boxes[0] == (172.75, 343.75, 413.25, 457.75)
    assert opacity.boxes[1] == (226.25, 145.75, 300.75, 222.5)
    data = VinDrCxrDataset(table(root, name, header, rows[0], f"{OPACITY},1200,wide"))
    assert [sample.image_id for sample in data.samples("test") if sample.sample_id in data.bad] == [OPACITY]
    places = [(problem.file.name, problem.row) for problem in data.problems]
    assert places == [("train_meta.csv", 3), ("train.csv", 5), ("train.csv", 7)]
    assert "dim1 is 'wide'" in str(data.problems[0])
    assert f"size of image {OPACITY}" in str(data.problems[1])
    data = VinDrCxrDataset(tree(tmp_path / "dicom", VINDR, divided=4, suffix=".dicom", dicom=write_dicom))
    assert (len(data.bad), "520 x 584" in str(data.problems[0])) == (3, True)


def test_vindrs_other_tables(tmp_path: Path) -> None:
    """PhysioNet's, with its labels; consensus boxes of the test split, which have no readers and come last."""
    root, header = tree(tmp_path, VINDR), "image_id,class_name,x_min,y_min,x_max,y_max"
    (root / "train").rename(root / "test")
    rows = (f"{HEART},Cardiomegaly,1,2,3,4", f"{OPACITY},No finding,,,,")
    table(root, "annotations/annotations_test.csv", header, *rows)
    assert len(VinDrCxrDataset(root).samples("test")) == 3
    (root / "train.csv").unlink()
    data = VinDrCxrDataset(root)
    assert [(s.image_id, s.boxes) for s in data.samples("test")] == [(HEART, ((1, 2, 3, 4),))]
    assert (data.problems, data.negatives) == ([], 1)
    report = check("vindr-cxr", root, {})
    assert (report.published, report.notes[0].name) == (None, "negatives"), "the training table's counts do not apply"
    assert "consensus" in report.notes[1].text
    with pytest.raises(UsageError, match="rad_id"):
        VinDrCxrDataset(root, {"readers": "R9"})
    with pytest.raises(UsageError, match="rad_id"):
        VinDrCxrDataset(root, {"read-twice": "true"})
    header, row = header.replace("id,", "id,rad_id,", 1), f"{HEART},R9,Rib fracture,10.5,20.25,99.75,80"
    table(root, "annotations/annotations_train.csv", header, row)
    found = [(s.category, s.boxes) for s in VinDrCxrDataset(root).everything]
    assert found == [("Rib fracture", ((10.5, 20.25, 99.75, 80),))]
    assert len(LABELS) == len(set(LABELS)) == 22


# Layouts and options


@pytest.mark.parametrize(
    ("of", "images", "suffix"),
    [
        *((NIH, images, ".png") for images in (".", "images_001/images", "images_002")),
        *((RSNA, *place) for place in ((".", ".png"), ("images", ".jpg"), ("", ".jpeg"), ("", ".dcm"))),
        *((SIIM, images, ".png") for images in (".", "dicom-images-train")),
        *((VINDR, "", suffix) for suffix in (".dicom", ".dcm")),
    ],
)
def test_layouts(of: Files, images: str, suffix: str, tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    dicom = write_dicom if suffix.startswith(".d") else None
    data = of.kind(tree(tmp_path, of, images=images, suffix=suffix, dicom=dicom))
    assert (data.problems, len(data.samples("test")) > 1) == ([], True)
    for sample in data.samples("test"):
        assert data.image(sample).shape == sample.image_size[::-1]
        assert dicom is None or sample.image_size == of.sizes[sample.image_id]


@pytest.mark.parametrize("above", ["dicom-images-train", "."])
def test_siims_published_tree(above: str, tmp_path: Path) -> None:
    """Folders of studies and of series, which the table does not name."""
    parts = [[name.replace(".1.4.", f".1.{n}.") for n in (2, 3)] + [f"{name}.dcm"] for name in (LARGE, SMALL)]
    paths = [tmp_path.joinpath(above, *each) for each in parts]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    data = SiimPneumothoraxDataset(table(tmp_path, SIIM.table, *SIIM.lines))
    assert [sample.image_path for sample in data.everything] == paths


def test_options(tmp_path: Path) -> None:
    """Those of every data set are tested in `test_base`."""
    root = tree(tmp_path, RSNA)
    first = load_dataset("rsna-pneumonia", str(root), phrase="findings of {label}").samples("test")[0]
    assert first.phrase == "findings of Pneumonia"
    with zipfile.ZipFile(root / f"{RSNA.table}.zip", "w") as archive:
        archive.write(root / RSNA.table, RSNA.table)
    (root / RSNA.table).rename(root / "mine.csv")
    assert len(RsnaPneumoniaDataset(root, {"annotations": "mine.csv"}).everything) == 2
    assert len(RsnaPneumoniaDataset(root).everything) == 2  # the zipped one
    (root / RSNA.images / f"{TWO}.png").unlink()
    assert len(load_dataset("rsna-pneumonia", root, present_only=True).samples("test")) == 1
    versions = [{}, {"readers": "R9"}, {"readers": "R10"}, {"phrase": "there is {label}"}]
    tree(tmp_path / "vindr", VINDR)
    assert len({VinDrCxrDataset(tmp_path / "vindr", each).version for each in versions}) == 4


@pytest.mark.parametrize(
    ("of", "options", "said"),
    [
        (RSNA, {"phrase": "opacity"}, r"phrase.*\{label\}"),
        (RSNA, {"annotations": "his.csv"}, r"annotations=his\.csv"),
        (RSNA, {"present-only": "yes"}, "present-only"),
        (RSNA, {"readers": "R1"}, "no option 'readers'"),
        (VINDR, {"readers": "R18"}, "readers.*'R18'"),
        (VINDR, {"readers": "r9"}, "readers.*'r9'"),
        (VINDR, {"reader": "4"}, "reader must be 1, 2 or 3, not '4'"),
        (VINDR, {"read-twice": "yes"}, "read-twice.*'yes'"),
        (VINDR, {"reader": "1", "readers": "R9"}, "readers or reader, not both"),
        (VINDR, {"reader": "3", "read-twice": "true"}, "readers 1 and 2"),
    ],
)
def test_wrong_options(of: Files, options: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        of.kind(tree(tmp_path, of), options)


# Damage


@pytest.mark.parametrize(
    ("of", "row", "said"),
    [
        (NIH, f"{SECOND}.png,Mass,1000,0,100,10", "1024 x 1024"),
        (NIH, f"{SECOND}.png,Mass,10,nan,10,10", "y is 'nan'"),
        (NIH, f"{FIRST}.png,Mas,1,1,1,1", "'Mas'; use one of Atelectasis, "),
        (NIH, f"../{FIRST}.png,Mass,1,1,1,1", f"'../{FIRST}.png' is not a valid image name"),
        (RSNA, f"{TWO},10,10,10,10,0", "Target is '0'"),
        (RSNA, f"{TWO},10,10,10,10,1\n{TWO},,,,,0", "row 4 says that it has none"),
        (RSNA, "../secret,1,1,9,9,1", "'../secret' is not a valid image name"),
        (RSNA, ",1,1,9,9,1", "'' is not a valid image name"),
        *((SIIM, f"{SMALL},{code}", f"{count} numbers") for code, count in (("", 0), ("1 2 3", 3), ('"1,2"', 1))),
        *((SIIM, f"{SMALL},{code}", "numbers") for code in ("1 two", "1 2.5", "1 99999999999999999999")),
        (SIIM, f"{SMALL},1 -2", "negative number of pixels"),
        (SIIM, f"{SMALL},5 0", "pixel"),
        (SIIM, f"{SMALL},1048570 7", "covers 1048577 pixels, but 1024 x 1024 has 1048576"),
        (SIIM, f"{SMALL},0 9\n{SMALL},-1", "row 4 says that it has none"),
        (VINDR, f"{HEART},ILD,5,R9,2000,10,2090,90", "2080 x 2336"),
        (VINDR, f"{HEART},ILD,5,R9,20,10,15,90", "no area"),
        (VINDR, f"{HEART},ILD,5,R9,20,10,inf,90", "x_max is 'inf'"),
        (VINDR, f"{HEART},ILD,5,R18,20,10,30,90", "reader 'R18'"),
        (VINDR, f"{HEART},Ild,5,R9,20,10,30,90", "label 'Ild'; use one of Aortic"),
    ],
)
def test_a_bad_row_fails_its_own_sample_alone(
    of: Files, row: str, said: str, tmp_path: Path, only_bad: Callable
) -> None:
    first, last = (of.lines[1], of.lines[4]) if of is not NIH else (of.lines[2], of.lines[1])
    data = of.kind(tree(tmp_path, of, first, row, last))
    bad = only_bad(data, f"{tmp_path / of.table}, row 3", said)
    assert {(problem.file, problem.row) for problem in data.problems} == {(tmp_path / of.table, 3)}
    assert (list(data.bad), data.negatives) == ([bad.sample_id], of is not NIH)


def test_a_broken_row_without_a_finding_is_reported(tmp_path: Path) -> None:
    data = RsnaPneumoniaDataset(tree(tmp_path, RSNA, f"{NEGATIVE},,,,,0,,x", RSNA.lines[4]))
    assert [(problem.row, problem.what) for problem in data.problems] == [(2, "has 8 values for 6 columns")]
    assert (len(data.everything), data.bad, data.negatives) == (1, {}, 0)


def test_a_missing_or_damaged_image_fails_its_samples_alone(tmp_path: Path) -> None:
    root = tree(tmp_path, NIH)
    image = root / "images" / f"{FIRST}.png"
    whole = image.read_bytes()
    for content in (None, b"", b"<html>please log in</html>", b"\x89PNG\r\n\x1a\n\0\0"):
        image.unlink(missing_ok=True)
        if content is not None:
            image.write_bytes(content)
        data = ChestXray14Dataset(root)
        mass, nodule, effusion = data.samples("test")
        assert set(data.bad) == {mass.sample_id, effusion.sample_id}
        assert (mass.boxes, mass.image_size, nodule.boxes) == ((), SIDE, ((10, 20, 40, 60.5),))
        assert [(problem.row, problem.image) for problem in data.problems] == [(2, image)]
        assert "row 5: its image" in data.bad[effusion.sample_id]
    image.unlink()
    assert "present-only=true" in str(ChestXray14Dataset(root).problems[0])
    present = ChestXray14Dataset(root, {"present-only": "true"})
    assert (list(present.samples("test")), present.problems) == ([nodule], [])
    image.write_bytes(whole[:60])  # damage behind the header
    data = ChestXray14Dataset(root)
    assert not data.bad
    with pytest.raises(DataError, match=r"00000001_000\.png"):
        data.image(data.samples("test")[0])
    shutil.rmtree(root / "images")
    with pytest.raises(DataError, match="none of its 2 images"):
        ChestXray14Dataset(root, {"present-only": "true"})


# Packaged tables and real files


def test_chestxray14s_packaged_table(tmp_path: Path) -> None:
    """Counts of the release: 984 boxes on 880 images, all in the test list."""
    Image.new("L", SIDE).save(tmp_path / "00013118_008.png")
    data = ChestXray14Dataset(tmp_path)
    assert (len({sample.image_id for sample in data.everything}), len(data.problems)) == (880, 879)
    assert Counter(sample.category for sample in data.samples("test")) == ChestXray14Dataset.published.pairs
    (only,) = ChestXray14Dataset(tmp_path, {"present-only": "true"}).samples("test")
    assert only.boxes == ((225.084745762712, 547.019216763771, 311.8644067796611, 626.2056574417371),)


def test_rsnas_packaged_table(tmp_path: Path) -> None:
    """Counts of the challenge's stage 2: 6,012 of 26,684 images have 9,555 boxes."""
    Image.new("L", (512, 512)).save(tmp_path / f"{TWO}.png")
    report = check("rsna-pneumonia", tmp_path, {})
    said = {line.name: (line.state, line.text) for line in report.checks()}
    assert report.counts == {"pairs": 6012, "boxes": 2, "masks": 0, "images": 6012, "patients": 6012, "usable": 1}
    assert said["images"] == ("error", "6,011 problems")
    assert said["negatives"][1].startswith("20672 images")
    assert "2 boxes instead of 9555" in said["counts"][1]
    data = RsnaPneumoniaDataset(tmp_path, {"present-only": "true"})
    assert (sum(row.box is not None for row in data.annotations), data.annotations[0].row) == (2, 6)
    assert data.samples("test")[0].boxes == ((132, 76, 238.5, 265.5), (281, 76, 409, 302.5))


def test_vindrs_packaged_table(tmp_path: Path) -> None:
    """Counts of the challenge: 36,096 boxes of 14 findings on 4,394 of 15,000 images."""
    (tree(tmp_path, VINDR) / VINDR.table).unlink()
    data = VinDrCxrDataset(tmp_path)
    assert (len(data.annotations), len(data.everything), data.negatives) == (36096, 15365, 10606)
    assert Counter(s.category for s in data.everything) == PUBLISHED.pairs
    assert len({s.image_id for s in data.everything}) == 4394
    assert [problem.kind for problem in data.problems] == ["missing"] * 4392
    usable = [s for s in data.samples("test") if s.sample_id not in data.bad]
    assert Counter(s.image_id for s in usable) == {HEART: 4, OPACITY: 4}
    findings = {"Aortic enlargement": 1, "Cardiomegaly": 3, "Pleural effusion": 1, "Pleural thickening": 1}
    assert {s.category: len(s.boxes) for s in usable if s.image_id == HEART} == findings


def test_real_images(real_files: Path) -> None:
    data = ChestXray14Dataset(real_files / "nih64")
    samples = data.samples("test")
    assert (len(samples), data.problems) == (9, [])
    assert Counter(s.category for s in samples) == {"Atelectasis": 5, "Infiltrate": 2, "Pneumonia": 2}
    first = samples[0]
    assert (first.image_id, first.patient_id, first.image_size) == ("00000181_061", "00000181", (64, 64))
    wanted = np.array([209.898305084746, 568.714132018009, 423.593220338983, 823.629386255296]) / 16
    np.testing.assert_allclose(first.boxes, [wanted])
    assert all(data.image(sample).shape == (64, 64) for sample in samples)


def test_a_real_dicom_file(tmp_path: Path, real_files: Path) -> None:
    """One of SIIM-ACR's own images; it has no pneumothorax, so the code is made up."""
    table(tmp_path, SIIM.table, SIIM.lines[0], f"{CLEAR},102600 200 824 200")
    data = SiimPneumothoraxDataset(tmp_path, {"images": str(real_files / "cxr_samples")})
    (sample,) = data.samples("test")
    assert (data.problems, sample.image_size, data.image(sample).shape) == ([], SIDE, SIDE)
