"""MS-CXR as PhysioNet ships it: both releases, CSV and JSON, samples counted by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import PhraseSample, sample_id
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.datasets.ms_cxr import MsCxrDataset

A, B, C = "aaaa1111-aaaa2222", "bbbb1111-bbbb2222", "cccc1111-cccc2222"
IMAGES = {
    A: ("p10000032", "s50414267", 40, 30),
    B: ("p10000032", "s50414268", 20, 50),
    C: ("p11000001", "s51000001", 30, 30),
}
SPLITS = {A: "test", B: "test", C: "train"}
ROWS = (
    (A, "Pneumonia", "left lower opacity", (1, 2, 10, 8)),
    (B, "Pneumothorax", 'small, "apical" cap', (0, 0, 20, 4.5)),
    (A, "Consolidation", "left lower opacity", (1, 2, 10, 8)),
    (A, "Pneumonia", "left lower opacity", (20, 5, 6, 7)),
    (C, "Cardiomegaly", "enlarged heart", (3, 10, 24, 15)),
)
"""One phrase with two boxes, the same phrase with a second category: four samples."""

STEMS = {"0.1": "MS_CXR_Local_Alignment_v1.0.0", "1.1.0": "MS_CXR_Local_Alignment_v1.1.0"}


def path_of(dicom: str, suffix: str) -> str:
    patient, study, *_ = IMAGES[dicom]
    return f"files/{patient[:3]}/{patient}/{study}/{dicom}{suffix}"


def write_csv(root: Path, release: str, suffix: str = ".jpg", leave_out: Sequence[str] = ()) -> Path:
    """The release's CSV: a row a box; 1.1.0 has subject, study and split, too."""
    rows: list[dict[str, Any]] = []
    for dicom, category, phrase, (x, y, w, h) in ROWS:
        patient, study, width, height = IMAGES[dicom]
        row = {"dicom_id": dicom, "path": path_of(dicom, suffix), "category_name": category, "label_text": phrase}
        row |= {"image_width": width, "image_height": height, "x": x, "y": y, "w": w, "h": h}
        if release == "1.1.0":
            row |= {"subject_id": patient[1:], "study_id": study[1:], "split": SPLITS[dicom]}
        rows.append({name: value for name, value in row.items() if name not in leave_out})
    file = root / f"{STEMS[release]}.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_json(root: Path, release: str, suffix: str = ".jpg") -> Path:
    """The release's JSON, of COCO's shape; the split is not in it."""
    names = sorted({row[1] for row in ROWS})
    images = [
        {"id": n, "file_name": f"{dicom}{suffix}", "path": path_of(dicom, suffix), "width": width, "height": height}
        for n, (dicom, (_, _, width, height)) in enumerate(IMAGES.items())
    ]
    numbers = {dicom: n for n, dicom in enumerate(IMAGES)}
    annotations = [
        {"id": n, "image_id": numbers[dicom], "category_id": names.index(category), "bbox": box, "label_text": phrase}
        for n, (dicom, category, phrase, box) in enumerate(ROWS)
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    file = root / f"{STEMS[release]}.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def write_images(
    root: Path, suffix: str = ".jpg", place: Callable[[str, str], str] = path_of, dicom: Any = None
) -> Path:
    for name, (_, _, width, height) in IMAGES.items():
        path = root / place(name, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((height, width), 51, np.uint8)
        pixels[0, 0] = 255
        dicom(path, pixels) if suffix == ".dcm" else Image.fromarray(pixels).save(path)
    return root


def facts(samples: Sequence[PhraseSample]) -> list[tuple[object, ...]]:
    return [(s.image_id, s.patient_id, s.category, s.phrase, s.boxes, s.image_size, s.mask) for s in samples]


FIRST = (A, "p10000032", "Pneumonia", "left lower opacity", ((1, 2, 11, 10), (20, 5, 26, 12)), (40, 30), None)
SECOND = (B, "p10000032", "Pneumothorax", 'small, "apical" cap', ((0, 0, 20, 4.5),), (20, 50), None)
THIRD = (A, "p10000032", "Consolidation", "left lower opacity", ((1, 2, 11, 10),), (40, 30), None)
FOURTH = (C, "p11000001", "Cardiomegaly", "enlarged heart", ((3, 10, 27, 25),), (30, 30), None)
ALL = [FIRST, SECOND, THIRD, FOURTH]


@pytest.mark.parametrize("suffix", [".jpg", ".dcm"])
@pytest.mark.parametrize("kind", ["csv", "json", "both"])
@pytest.mark.parametrize("release", ["0.1", "1.1.0"])
def test_samples_by_hand(release: str, kind: str, suffix: str, tmp_path: Path, write_dicom: Any) -> None:
    if kind != "json":
        write_csv(tmp_path, release, suffix)
    if kind != "csv":
        write_json(tmp_path, release, suffix)
    data = load_dataset("ms-cxr", write_images(tmp_path, suffix, dicom=write_dicom))
    assert isinstance(data, MsCxrDataset)
    samples = data.samples("all")
    assert facts(samples) == ALL
    assert [s.sample_id for s in samples] == [sample_id(*(row[0], row[2], row[3])) for row in ALL]
    assert (data.problems, data.bad, data.release) == ([], {}, release)
    assert data.version.startswith(f"{release}-")
    assert all(data.image(sample).shape == sample.image_size[::-1] for sample in samples)


def test_official_splits(tmp_path: Path) -> None:
    file = write_csv(write_images(tmp_path), "1.1.0")
    data = MsCxrDataset(tmp_path)
    assert facts(data.samples("test")) == [FIRST, SECOND, THIRD]
    assert facts(data.samples("train")) == [FOURTH]
    for name in ("val", "valid", "validation", "validate"):
        file.write_text(file.read_text().replace(",train", f",{name}"))
        again = MsCxrDataset(tmp_path)
        assert again.splits == ("test", "validate", "all")
        assert facts(again.samples("validate")) == facts(again.samples("val")) == [FOURTH]
        write_csv(tmp_path, "1.1.0")
    with pytest.raises(UsageError, match=r"no split 'tests'.*test, train, all"):
        data.samples("tests")


@pytest.mark.parametrize("write", [write_csv, write_json])
def test_a_release_without_splits_names_the_way_out(write: Callable[[Path, str], Path], tmp_path: Path) -> None:
    write(write_images(tmp_path), "0.1")
    data = MsCxrDataset(tmp_path)
    with pytest.raises(UsageError, match=r"0\.1.*--split all"):
        data.samples("test")
    assert len(data.samples("all")) == 4


@pytest.mark.parametrize("on_disk", [".jpg", ".dcm", ".png"])
@pytest.mark.parametrize("in_file", [".jpg", ".dcm", ".png"])
def test_suffix_of_the_file_on_disk(in_file: str, on_disk: str, tmp_path: Path, write_dicom: Any) -> None:
    write_csv(write_images(tmp_path, on_disk, dicom=write_dicom), "1.1.0", in_file)
    data = MsCxrDataset(tmp_path)
    first = data.samples("all")[0]
    assert first.image_path == tmp_path / path_of(A, on_disk)
    assert facts(data.samples("all")) == ALL
    assert 0 <= data.image(first).min() < data.image(first).max() <= 1
    for suffix in (".dcm", ".jpg"):  # JPEG goes before DICOM, and that before PNG
        write_images(tmp_path, suffix, dicom=write_dicom)
        wanted = ".jpg" if on_disk == ".jpg" else suffix
        assert MsCxrDataset(tmp_path).samples("all")[0].image_path == tmp_path / path_of(A, wanted)


def test_where_images_may_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, jpg, flat = tmp_path / "ms-cxr", tmp_path / "mimic", tmp_path / "flat"
    root.mkdir()
    write_csv(root, "1.1.0", ".dcm")
    write_images(jpg)
    write_images(flat, ".jpg", lambda dicom, suffix: f"{dicom}{suffix}")
    for chosen in (jpg, jpg / "files", flat, "../mimic"):
        data = MsCxrDataset(root, {"images": str(chosen)})
        assert (facts(data.samples("all")), data.problems) == (ALL, [])
    monkeypatch.chdir(tmp_path)
    assert not MsCxrDataset(root, {"images": "flat"}).problems
    (jpg / path_of(A, ".jpg")).unlink()
    (flat / f"{B}.jpg").unlink()
    assert not MsCxrDataset(root, {"images": f"{jpg}:{flat}"}).problems
    with pytest.raises(UsageError, match="images=nowhere"):
        MsCxrDataset(root, {"images": "nowhere"})
    with pytest.raises(DataError, match=r"none of its 3 images.*files/p10/p10000032/"):
        MsCxrDataset(root)


@pytest.mark.parametrize("leave_out", [("subject_id", "study_id"), ("subject_id",), ()])
def test_patient_without_a_column_comes_from_the_path(leave_out: tuple[str, ...], tmp_path: Path) -> None:
    write_csv(write_images(tmp_path), "1.1.0", leave_out=leave_out)
    assert [s.patient_id for s in MsCxrDataset(tmp_path).samples("all")] == [row[1] for row in ALL]


def test_sizes_come_from_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(write_images(tmp_path), "1.1.0")
    with monkeypatch.context() as patch:
        patch.setattr("gtg_bench.benchmark.datasets.base.image_size", None)
        assert facts(MsCxrDataset(tmp_path).samples("all")) == ALL
    write_csv(tmp_path, "1.1.0", leave_out=("image_width", "image_height"))
    assert facts(MsCxrDataset(tmp_path).samples("all")) == ALL


def test_newest_release_unless_a_file_is_named(tmp_path: Path) -> None:
    old = write_csv(write_images(tmp_path), "0.1")
    (tmp_path / "mine.csv").write_text(write_csv(tmp_path, "1.1.0").read_text())
    for options, release in (({}, "1.1.0"), (old.name, "0.1"), (str(old), "0.1"), ("mine.csv", "1.1.0")):
        assert MsCxrDataset(tmp_path, {"annotations": options} if options else {}).release == release
    with pytest.raises(UsageError, match=r"annotations=none\.csv"):
        MsCxrDataset(tmp_path, {"annotations": "none.csv"})


def test_files_that_disagree(tmp_path: Path) -> None:
    """Another box in the JSON, and a phrase that only one of them has."""
    file = write_json(write_images(tmp_path), "1.1.0")
    table = write_csv(tmp_path, "1.1.0")
    assert len({MsCxrDataset(tmp_path, {"annotations": each.name}).version for each in (file, table)}) == 1
    text = file.read_text().replace("[3, 10, 24, 15]", "[3, 14, 24, 11]")
    file.write_text(text.replace('small, \\"apical\\" cap', "small cap"))
    data = MsCxrDataset(tmp_path)
    first, second, third, fourth = data.samples("all")
    assert set(data.bad) == {second.sample_id, fourth.sample_id}
    assert data.bad[second.sample_id].startswith(f"{table}, row 3: {file.name}")
    assert str(data.problems[0]).startswith(f"{file}, annotations[1]: ")
    assert {problem.kind for problem in data.problems} == {"disagreement"}
    assert (first.boxes, third.boxes) == (FIRST[4], THIRD[4])
    assert not MsCxrDataset(tmp_path, {"annotations": table.name}).bad
    file.write_text("{")
    data = MsCxrDataset(tmp_path)  # the CSV counts; the problem with the other file is reported
    assert (facts(data.samples("all")), [str(p.file) for p in data.problems]) == (ALL, [str(file)])
