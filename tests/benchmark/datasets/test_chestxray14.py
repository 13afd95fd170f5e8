"""ChestX-ray14's boxes: samples counted by hand, incomplete folders, damaged rows."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import sample_id
from gtg_bench.benchmark.datasets.chestxray14 import ChestXray14Dataset

TABLE = "BBox_List_2017.csv"
HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
ROWS = (
    "00000001_000.png,Mass,0,0,512,256",
    "00000002_001.png,Nodule,10,20,30,40.5",
    "00000001_000.png,Mass,512,512,512,512",
    "00000001_000.png,Effusion,100,100,200,300",
)


def folder(root: Path, *rows: str, images: str = "images") -> Path:
    """A data root with a file of boxes and two images: one of 64x64, one of 1024x1024."""
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / TABLE).write_text("\n".join((HEADER, *(rows or ROWS))) + "\n")
    for name, side in (("00000001_000.png", 64), ("00000002_001.png", 1024)):
        Image.new("L", (side, side), 51).save(root / images / name)
    return root


def test_samples_by_hand(tmp_path: Path) -> None:
    data = ChestXray14Dataset(folder(tmp_path))
    mass, nodule, effusion = data.samples("test")
    assert mass.sample_id == sample_id("00000001_000", "Mass", "Mass")
    assert (mass.image_id, mass.patient_id, mass.phrase, mass.category) == ("00000001_000", "00000001", "Mass", "Mass")
    assert (mass.boxes, mass.image_size) == (((0, 0, 32, 16), (32, 32, 64, 64)), (64, 64))
    assert (nodule.boxes, nodule.image_size) == (((10, 20, 40, 60.5),), (1024, 1024))
    assert effusion.boxes == ((6.25, 6.25, 18.75, 25),)
    assert (data.problems, data.bad, data.name, data.notes()) == ([], {}, "chestxray14", {})
    np.testing.assert_allclose(data.image(mass), np.full((64, 64), 0.2), atol=1e-6)
    assert "chestxray14 1-" in repr(data)
    assert "test: 3" in repr(data)


@pytest.mark.parametrize("images", [".", "images", "images_001/images", "images_002"])
def test_layouts(images: str, tmp_path: Path) -> None:
    data = ChestXray14Dataset(folder(tmp_path, images=images))
    assert all(data.image(sample).ndim == 2 for sample in data.samples("test"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("00000002_001.png,Mass,1000,0,100,10", "1024 x 1024"),
        ("00000002_001.png,Mass,10,nan,10,10", "y is 'nan'"),
        ("00000002_001.png,Mass,10,10,4,4,,,,4", "10 values for 9 columns"),
        ("00000001_000.png,Mas,1,1,1,1", "unknown finding 'Mas'; use one of Atelectasis, "),
        ("../00000001_000.png,Mass,1,1,1,1", "'../00000001_000.png' is not a valid image name"),
        (",Mass,1,1,1,1", "'' is not a valid image name"),
    ],
)
def test_a_bad_row_fails_its_own_sample_alone(row: str, said: str, tmp_path: Path, only_bad: Callable) -> None:
    root = folder(tmp_path, "00000002_001.png,Nodule,1,2,3,4", row, "00000001_000.png,Mass,0,0,16,16")
    data = ChestXray14Dataset(root)
    bad = only_bad(data, f"{root / TABLE}, row 3", said)
    assert [problem.row for problem in data.problems] == [3]
    assert list(data.bad) == [bad.sample_id]


def test_a_missing_or_damaged_image_fails_its_samples_alone(tmp_path: Path) -> None:
    root = folder(tmp_path)
    image = root / "images" / "00000001_000.png"
    whole = image.read_bytes()
    for content in (None, b"", b"<html>please log in</html>", b"\x89PNG\r\n\x1a\n\0\0"):
        image.unlink(missing_ok=True)
        if content is not None:
            image.write_bytes(content)
        data = ChestXray14Dataset(root)
        mass, nodule, effusion = data.samples("test")
        assert set(data.bad) == {mass.sample_id, effusion.sample_id}
        assert (mass.boxes, mass.image_size, nodule.boxes) == ((), (1024, 1024), ((10, 20, 40, 60.5),))
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


def test_packaged_table_is_the_official_one(tmp_path: Path) -> None:
    """Counts of the release: 984 boxes on 880 images, all in the test list."""
    Image.new("L", (1024, 1024)).save(tmp_path / "00013118_008.png")
    data = ChestXray14Dataset(tmp_path)
    samples = data.samples("test")
    assert len({sample.image_id for sample in samples}) == 880
    assert len(data.problems) == 879
    assert len({sample.sample_id for sample in samples}) == len(samples)
    assert Counter(sample.category for sample in samples) == ChestXray14Dataset.published.pairs
    (only,) = ChestXray14Dataset(tmp_path, {"present-only": "true"}).samples("test")
    assert only.boxes == ((225.084745762712, 547.019216763771, 311.8644067796611, 626.2056574417371),)


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
