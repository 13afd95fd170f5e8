"""ChestX-ray14's boxes: samples counted by hand, and every way in which the folder can be incomplete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import sample_id
from gtg_bench.benchmark.datasets.chestxray14 import ChestXray14Dataset

NIH64 = Path(__file__).parents[4] / "shared" / "data" / "nih64"
HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
ROWS = (
    "00000001_000.png,Mass,0,0,512,256",
    "00000002_001.png,Nodule,10,20,30,40.5",
    "00000001_000.png,Mass,512,512,512,512",
    "00000001_000.png,Effusion,100,100,200,300",
)


def folder(root: Path, *rows: str, images: str = "images", header: str = HEADER) -> Path:
    """A data root with a file of boxes and two images: one of 64x64, one of 1024x1024."""
    (root / "BBox_List_2017.csv").write_text("\n".join((header, *(rows or ROWS))) + "\n")
    (root / images).mkdir(parents=True, exist_ok=True)
    for name, side in (("00000001_000.png", 64), ("00000002_001.png", 1024)):
        Image.new("L", (side, side), 51).save(root / images / name)
    return root


def test_samples_by_hand(tmp_path: Path) -> None:
    data = ChestXray14Dataset(folder(tmp_path), {})
    mass, nodule, effusion = data.samples("test")
    assert mass.sample_id == sample_id("00000001_000", "Mass", "Mass")
    assert (mass.image_id, mass.patient_id, mass.phrase, mass.category) == ("00000001_000", "00000001", "Mass", "Mass")
    assert mass.boxes == ((0, 0, 32, 16), (32, 32, 64, 64))
    assert mass.image_size == (64, 64)
    assert nodule.boxes == ((10, 20, 40, 60.5),)
    assert nodule.image_size == (1024, 1024)
    assert effusion.boxes == ((6.25, 6.25, 18.75, 25),)
    assert (data.problems, data.bad, data.name) == ([], {}, "chestxray14")
    np.testing.assert_allclose(data.image(mass), np.full((64, 64), 0.2), atol=1e-6)


@pytest.mark.parametrize("images", [".", "images", "images_003/images", "images_012"])
def test_layouts(images: str, tmp_path: Path) -> None:
    data = ChestXray14Dataset(folder(tmp_path, images=images), {})
    assert not data.problems
    assert all(data.image(sample).ndim == 2 for sample in data.samples("test"))


def test_images_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path, images="small")
    for chosen in ("small", str(tmp_path / "small")):
        assert not ChestXray14Dataset(root, {"images": chosen}).problems
    monkeypatch.chdir(tmp_path)
    shutil.copytree(root / "small", tmp_path / "elsewhere" / "pngs")
    assert not ChestXray14Dataset(root, {"images": "elsewhere/pngs"}).problems
    with pytest.raises(UsageError, match="images=nowhere: no such folder"):
        ChestXray14Dataset(root, {"images": "nowhere"})


def test_phrase_option(tmp_path: Path) -> None:
    first = ChestXray14Dataset(folder(tmp_path), {"phrase": "Findings of {label}."}).samples("test")[0]
    assert first.phrase == "Findings of Mass."
    assert first.sample_id == sample_id("00000001_000", "Mass", "Findings of Mass.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sead": "1"}, "no option 'sead'; it has: images, phrase, present-only"),
        ({"present-only": "yes"}, "true or false, not 'yes'"),
        ({"phrase": "mass"}, "must have {label} in it"),
    ],
)
def test_wrong_options(options: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        ChestXray14Dataset(folder(tmp_path), options)
    assert said in str(caught.value)


def test_wrong_split_and_root(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'train'; it has: test"):
        ChestXray14Dataset(folder(tmp_path), {}).samples("train")
    with pytest.raises(UsageError, match=r"needs --data-root DIR: the folder with BBox_List_2017\.csv and images/$"):
        ChestXray14Dataset(None, {})
    with pytest.raises(UsageError, match="there is no folder"):
        ChestXray14Dataset(tmp_path / "nowhere", {})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("00000002_001.png,Mass,1000,0,100,10", "sticks out of its 1024 x 1024 image"),
        ("00000002_001.png,Mass,10,10,0,10", "no area"),
        ("00000002_001.png,Mass,10,10,ten,10", "w is 'ten', not a number"),
        ("00000002_001.png,Mass,10,nan,10,10", "y is 'nan', not a number"),
        ("00000002_001.png,Mass,10,10", "w is '', not a number"),
        ("00000002_001.png,Mass,10,10,4,4,,,,4", "has 10 values for 9 columns"),
    ],
)
def test_bad_row_fails_its_own_sample_alone(row: str, said: str, tmp_path: Path) -> None:
    root = folder(tmp_path, "00000002_001.png,Mass,1,2,3,4", row, "00000001_000.png,Mass,0,0,16,16")
    data = ChestXray14Dataset(root, {})
    bad, good = data.samples("test")
    assert (bad.boxes, good.boxes) == ((), ((0, 0, 1, 1),))
    assert list(data.bad) == [bad.sample_id]
    assert len(data.problems) == 1
    assert (data.problems[0].file, data.problems[0].row) == (root / "BBox_List_2017.csv", 3)
    for text in (str(data.problems[0]), data.bad[bad.sample_id]):
        assert text.startswith(f"{root / 'BBox_List_2017.csv'}, row 3: ")
        assert said in text
        assert text.endswith(("; correct the row", "; put text that holds commas in double quotes"))
    with pytest.raises(DataError, match="row 3"):
        data.image(bad)
    assert data.image(good).shape == (64, 64)


def test_absent_image_fails_its_samples_alone(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "images" / "00000001_000.png").unlink()
    data = ChestXray14Dataset(root, {})
    mass, nodule, effusion = data.samples("test")
    assert set(data.bad) == {mass.sample_id, effusion.sample_id}
    assert (mass.boxes, mass.image_size, nodule.boxes) == ((), (1024, 1024), ((10, 20, 40, 60.5),))
    assert len(data.problems) == 1
    assert "row 2: its image 00000001_000.png is not there" in str(data.problems[0])
    assert "present-only=true" in str(data.problems[0])
    assert data.problems[0].image == root / "images" / "00000001_000.png"
    assert "row 5: its image" in data.bad[effusion.sample_id]
    present = ChestXray14Dataset(root, {"present-only": "true"})
    assert (list(present.samples("test")), present.problems) == ([nodule], [])


@pytest.mark.parametrize("content", [b"", b"<html>please log in</html>", b"\x89PNG\r\n\x1a\n\0\0"])
def test_unreadable_image_fails_its_samples_alone(content: bytes, tmp_path: Path) -> None:
    root = folder(tmp_path)
    broken = root / "images" / "00000002_001.png"
    broken.write_bytes(content)
    data = ChestXray14Dataset(root, {"present-only": "true"})
    nodule = data.samples("test")[1]
    assert list(data.bad) == [nodule.sample_id]
    assert str(broken) in data.bad[nodule.sample_id]
    with pytest.raises(DataError, match="00000002_001"):
        data.image(nodule)


def test_image_truncated_behind_its_header_fails_when_read(tmp_path: Path) -> None:
    root = folder(tmp_path)
    broken = root / "images" / "00000002_001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    data = ChestXray14Dataset(root, {})
    assert not data.bad
    with pytest.raises(DataError, match=r"00000002_001\.png.*truncated"):
        data.image(data.samples("test")[1])


def test_no_image_at_all(tmp_path: Path) -> None:
    root = folder(tmp_path)
    shutil.rmtree(root / "images")
    (root / "images").mkdir()
    with pytest.raises(DataError) as caught:
        ChestXray14Dataset(root, {"present-only": "true"})
    assert f"none of its 2 images is in {root / 'images'}, {root};" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        ("00000001_000.png,Mas,1,1,1,1", "category", "row 2: there is no finding 'Mas'; use one of Atelectasis, "),
        ("../00000001_000.png,Mass,1,1,1,1", "row", "row 2: '../00000001_000.png' is not the name of an image"),
        (",Mass,1,1,1,1", "row", "row 2: '' is not the name of an image"),
    ],
)
def test_row_without_a_finding_or_image_fails_alone(row: str, kind: str, said: str, tmp_path: Path) -> None:
    data = ChestXray14Dataset(folder(tmp_path, row, *ROWS), {})
    bad, *good = data.samples("test")
    assert len(good) == 3
    assert list(data.bad) == [bad.sample_id]
    assert [problem.kind for problem in data.problems] == [kind]
    assert said in data.bad[bad.sample_id]


def test_table_without_its_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv: has no column 'Bbox \[x'"):
        ChestXray14Dataset(folder(tmp_path, header="Image Index,Finding Label,x,y,w,h"), {})


def test_utf16_table(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "BBox_List_2017.csv").write_text("\n".join((HEADER, *ROWS)), encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        ChestXray14Dataset(root, {})


def test_version_tells_other_data(tmp_path: Path) -> None:
    root = folder(tmp_path)
    first = ChestXray14Dataset(root, {}).version
    assert first.startswith("1-")
    text = (root / "BBox_List_2017.csv").read_text()
    (root / "BBox_List_2017.csv").write_text("\ufeff" + text.replace("\n", "\r\n"))
    assert ChestXray14Dataset(root, {}).version == first  # the same rows
    (root / "BBox_List_2017.csv").write_text(text.replace("40.5", "41.5"))
    assert ChestXray14Dataset(root, {}).version != first  # another box
    (root / "BBox_List_2017.csv").write_text(text)
    Image.new("L", (512, 512)).save(root / "images" / "00000001_000.png")
    assert ChestXray14Dataset(root, {}).version != first  # another size


def test_packaged_table_is_the_official_one(tmp_path: Path) -> None:
    """Counts of the release: 984 boxes on 880 images, all in the test list."""
    Image.new("L", (1024, 1024)).save(tmp_path / "00013118_008.png")
    data = ChestXray14Dataset(tmp_path, {})
    samples = data.samples("test")
    assert len({sample.image_id for sample in samples}) == 880
    assert len(data.problems) == 879
    assert len({sample.sample_id for sample in samples}) == len(samples)
    counts = Counter(sample.category for sample in samples)
    assert (counts["Atelectasis"], counts["Nodule"], sum(counts.values())) == (180, 79, 984)
    (only,) = ChestXray14Dataset(tmp_path, {"present-only": "true"}).samples("test")
    assert only.boxes == ((225.084745762712, 547.019216763771, 311.8644067796611, 626.2056574417371),)


@pytest.mark.skipif(not NIH64.is_dir(), reason=f"the reduced ChestX-ray14 images are not at {NIH64}")
def test_real_images() -> None:
    data = ChestXray14Dataset(NIH64, {})
    samples = data.samples("test")
    assert (len(samples), data.problems) == (9, [])
    assert Counter(s.category for s in samples) == {"Atelectasis": 5, "Infiltrate": 2, "Pneumonia": 2}
    first = samples[0]
    assert (first.image_id, first.patient_id, first.image_size) == ("00000181_061", "00000181", (64, 64))
    wanted = np.array([209.898305084746, 568.714132018009, 423.593220338983, 823.629386255296]) / 16
    np.testing.assert_allclose(first.boxes, [wanted])
    assert all(data.image(sample).shape == (64, 64) for sample in samples)


def test_loading_imports_no_torch(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "BBox_List_2017.csv").unlink()
    Image.new("L", (8, 8)).save(tmp_path / "00013118_008.png")
    code = f"""
import sys
from pathlib import Path
from gtg_bench.benchmark.datasets.chestxray14 import ChestXray14Dataset
ChestXray14Dataset(Path({str(tmp_path)!r}), {{}})
assert not {{"torch", "torchxrayvision", "pydicom"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
