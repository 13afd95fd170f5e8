"""Training sets: pairs counted by hand, handed out lazily, with fingerprints that change when a pair does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.datasets.chestxray14 import sentence
from gtg_bench.benchmark.datasets.mimic_cxr import COLUMNS
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies
from gtg_bench.benchmark.datasets.training import TrainingSet, open_training_set

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,OriginalImage[Width,Height]"
LABELS = (
    "00000001_000.png,Cardiomegaly|Effusion,0,1,2682,2749",
    "00000001_001.png,No Finding,1,1,2682,2749",
    "00000002_000.png,Pleural_Thickening,0,2,2682,2749",
    "00000003_000.png,Hernia,0,3,2682,2749",
)


def pairs(data: TrainingSet) -> list[tuple[str, str, str]]:
    return [(pair.image_id, pair.patient_id, pair.text) for pair in data]


# MIMIC-CXR


def index(root: Path, *texts: str) -> Path:
    """An index of one image a text, patient by patient; every third one is of another split."""
    rows = []
    for number, text in enumerate(texts):
        image = f"files/p10/p1000000{number}/s5/{number}.png"
        split = "validate" if number % 3 == 2 else "train"
        rows.append((str(number), f"1000000{number}", "5", split, "PA", image, text, "impression"))
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 51 * number).save(root / image)
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    pq.write_table(pa.Table.from_pylist(table), root / "mimic-cxr.parquet")
    return root


def test_mimic_cxr_by_hand(tmp_path: Path) -> None:
    root = index(tmp_path, "Edema.", "No edema.", "Effusion.", "Clear.")
    (root / "files/p10/p10000000/s5/0.png").unlink()
    data = open_training_set("mimic-cxr", root)
    assert (data.name, data.split, len(data)) == ("mimic-cxr", "train", 3)
    wanted = [("0", "p10000000", "Edema."), ("1", "p10000001", "No edema."), ("3", "p10000003", "Clear.")]
    assert pairs(data) == wanted
    assert data[1].image == root / "files/p10/p10000001/s5/1.png"
    np.testing.assert_allclose(data[1].pixels(), np.full((3, 4), 0.2), atol=1e-6)
    with pytest.raises(DataError, match=r"s5/0\.png: file not found"):
        data[0].pixels()  # images are read when they are asked for
    assert [pair.text for pair in open_training_set("mimic-cxr", root, {}, "validate")] == ["Effusion."]
    with pytest.raises(IndexError):
        data[3]
    elsewhere = (root / "mimic-cxr.parquet").rename(tmp_path / "other.parquet")
    options = {"index": str(elsewhere), "images": str(root)}
    again = open_training_set("mimic-cxr", root / "files", options)
    assert (again[1].pixels().shape, again.fingerprint) == ((3, 4), data.fingerprint)
    assert len(open_training_set("mimic-cxr", root, {"index": "other.parquet"}, "all")) == 4


def test_invalid_indexes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mimic-cxr\.parquet: file not found; .*gtg-bench data prepare"):
        open_training_set("mimic-cxr", tmp_path)
    path = index(tmp_path, "Edema.") / "mimic-cxr.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"mimic-cxr\.parquet: cannot be read as Parquet"):
        open_training_set("mimic-cxr", tmp_path)
    pq.write_table(pa.table({"text": ["Edema."]}), path)
    with pytest.raises(DataError, match="no column 'dicom_id'"):
        open_training_set("mimic-cxr", tmp_path)
    with pytest.raises(DataError, match="split 'test'"):
        open_training_set("mimic-cxr", index(tmp_path, "Edema."), {}, "test")


# ChestX-ray14


def folder(root: Path, *rows: str) -> Path:
    """A data root with images of the first three rows; patient 3 is in the test list, as is an unknown image."""
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join((HEADER, *(rows or LABELS))) + "\n")
    (root / "images").mkdir(exist_ok=True)
    for row in LABELS[:3]:
        Image.new("L", (4, 3), 51).save(root / "images" / row.partition(",")[0])
    (root / "train_val_list.txt").write_text("00000001_000.png\r\n00000001_001.png\r\n00000002_000.png")
    (root / "test_list.txt").write_text("00000003_000.png\n00000009_000.png\n")
    return root


def test_labels_become_sentences(tmp_path: Path) -> None:
    data = open_training_set("chestxray14", folder(tmp_path))
    assert pairs(data) == [
        ("00000001_000", "00000001", "Cardiomegaly. Effusion."),
        ("00000001_001", "00000001", "No finding."),
        ("00000002_000", "00000002", "Pleural thickening."),
    ]
    assert data[2].image == tmp_path / "images" / "00000002_000.png"
    np.testing.assert_allclose(data[2].pixels(), np.full((3, 4), 0.2), atol=1e-6)
    assert (dict(data.dropped), data.problems) == ({}, [])
    assert sentence("No Finding") == "No finding."


def test_without_images_lists_or_a_table(tmp_path: Path) -> None:
    """Missing images are left out, there is no split without its list, and the official table is packaged."""
    root = folder(tmp_path)
    data = open_training_set("chestxray14", root, {}, "all")
    assert (len(data), dict(data.dropped)) == (3, {"image not found": 1})
    assert "csv, row 5: its image 00000003_000.png" in str(data.problems[0])
    with pytest.raises(DataError, match=r"split 'test' \(image not found: 1\)"):
        open_training_set("chestxray14", root, {}, "test")
    for name in ("train_val_list.txt", "test_list.txt"):
        (root / name).unlink()
    with pytest.raises(UsageError, match=r"no split 'train'.*train_val_list\.txt"):
        open_training_set("chestxray14", root)
    (root / "Data_Entry_2017_v2020.csv").unlink()
    data = open_training_set("chestxray14", root, {}, "all")
    assert (len(data), data.dropped["image not found"], data[0].text) == (3, 112117, "Cardiomegaly.")


def test_bad_rows_are_named_and_harm_no_other(tmp_path: Path) -> None:
    rows = (
        *LABELS[:2],
        "00000002_000.png,Pleural Thickening,0,2,1,1",
        "00000001_000.png,Mass,0,1,1,1",
        "../00000002_000.png,Mass,0,1,1,1",
        "00000002_000.png,Mass|No Finding,0,2,1,1",
        "00000002_000.png,Mass,0,2,1,1,9,9",
        "00000002_000.png,Mass,0,2,1,1",
    )
    data = open_training_set("chestxray14", folder(tmp_path, *rows), {}, "all")
    assert [text for _, _, text in pairs(data)] == ["Cardiomegaly. Effusion.", "No finding.", "Mass."]
    assert dict(data.dropped) == {"row cannot be used": 4, "row repeats another": 1}
    said = [str(problem).partition(", ")[2] for problem in data.problems]
    named = ("Pleural Thickening", "00000001_000.png", "../00000002_000.png", "No Finding", "8 values for 6 columns")
    for row, (text, name) in enumerate(zip(said, named, strict=True), start=4):
        assert text.startswith(f"row {row}: ")
        assert name in text


def test_real_files(real_files: Path) -> None:
    data = open_training_set("chestxray14", real_files / "nih64", {}, "all")
    assert (len(data), data.problems) == (1000, [])
    assert data[0].text == "Cardiomegaly."
    assert data[999].pixels().shape == (64, 64)


# Phantom


def test_the_phantom() -> None:
    data, dataset = open_training_set("phantom", None, {}, "validate"), PhantomDataset()
    studies = load_studies(0, "validate")
    assert len(data) == len(studies) == 202
    first = dataset.samples("validate")[0]
    pair = next(pair for pair in data if pair.image_id == first.image_id)
    np.testing.assert_array_equal(pair.pixels(), dataset.image(first))
    assert pair.pixels().dtype == np.float32
    assert pair.text == next(study.report for study in studies if study.image_id == first.image_id)
    assert any(not study.statements for study in studies), "images without a finding belong to it, too"


def test_the_phantoms_findings_one_by_one() -> None:
    data, studies = (
        open_training_set("phantom", None, {"captions": "findings"}, "validate"),
        load_studies(0, "validate"),
    )
    assert len(data) == sum(max(1, len(study.statements)) for study in studies)
    for study in studies:
        pairs = [pair for pair in data if pair.image_id == study.image_id]
        if not study.statements:
            assert [pair.text for pair in pairs] == [study.report]
            continue
        left = study.report
        for pair, statement in zip(pairs, study.statements, strict=True):
            assert pair.text.removesuffix(".") == statement.phrase.removesuffix(".")
            assert pair.text in left
            left = left.replace(pair.text, "", 1)
        assert not left.strip(), "a report has nothing but these sentences"


# All of them


def test_fingerprints(tmp_path: Path) -> None:
    def of(name: str, root: Path | None = None, split: str = "all", **options: str) -> str:
        return open_training_set(name, root, options, split).fingerprint

    first = of("mimic-cxr", index(tmp_path, "Edema.", "Clear.", "Mass."))
    assert len(first) == 64
    assert of("mimic-cxr", index(tmp_path, "Edema.", "Clear.", "Mass.")) == first
    assert of("mimic-cxr", index(tmp_path, "Edema.", "Mass.", "Clear.")) != first
    assert of("mimic-cxr", index(tmp_path, "Edema.Clear.", "", "Mass.")) != first
    assert of("mimic-cxr", tmp_path, "train") != first
    labels = of("chestxray14", folder(tmp_path))
    assert of("chestxray14", folder(tmp_path), "train") == labels
    assert of("chestxray14", folder(tmp_path, *LABELS[:2])) != labels
    assert of("phantom", split="validate") != of("phantom", split="test")
    assert of("phantom", split="test", seed="1") != of("phantom", split="test")
    assert of("phantom", split="test") == "636d5ec9c0c57a45162a80f60cbeff7da6342c476ad022c486793dfca16253b5"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fantom", None, {}, "train"), "did you mean phantom"),
        (("mimic-cxr", None, {}, "train"), "--data-root"),
        (("mimic-cxr", Path("nowhere"), {}, "train"), "nowhere"),
        (("phantom", None, {"sede": "1"}, "train"), "no option 'sede'"),
        (("phantom", None, {"seed": "x"}, "train"), "seed"),
        (("phantom", None, {"captions": "words"}, "train"), "reports, findings"),
        (("phantom", None, {}, "tset"), "no split 'tset'"),
    ],
)
def test_wrong_words(words: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_training_set(*words)
