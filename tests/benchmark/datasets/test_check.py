"""`data check` and `data list`: counts, overlaps, damage behind the header, exit codes, and what machines get."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import sample_id
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.datasets.check import check
from gtg_bench.benchmark.datasets.images import looks_whole
from gtg_bench.benchmark.datasets.ms_cxr import MIMIC_SPLIT

TABLE = "MS_CXR_Local_Alignment_v1.1.0.csv"
COLUMNS = "dicom_id,path,category_name,label_text,image_width,image_height,x,y,w,h,split"
PAIRS = (
    ("a1", "p10000001", "Edema", "mild edema", "test"),
    ("a2", "p10000001", "Pneumonia", "left lower pneumonia", "test"),
    ("b1", "p10000002", "Edema", "edema", "train"),
    ("c1", "p10000003", "Edema", "edema", "validate"),
)
CHECKS = ["files", "rows", "images", "readable", "sizes", "ranges", "regions", "duplicates", "phrases", "splits"]


def tree(root: Path, pairs: Sequence[tuple[str, ...]] = PAIRS) -> Path:
    """MS-CXR 1.1.0 with a box a pair and images of 20 x 30 pixels."""
    noise = np.random.default_rng(0)
    rows = []
    for dicom, patient, category, phrase, split in pairs:
        path = f"files/{patient[:3]}/{patient}/s1/{dicom}.png"
        rows.append(f"{dicom},{path},{category},{phrase},20,30,1,2,10,8,{split}")
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (30, 20), np.uint8)).save(root / path)
    (root / TABLE).write_text("\n".join([COLUMNS, *rows]))
    return root


def called(*words: object) -> tuple[int, str]:
    """Exit code and output, on one line."""
    done = CliRunner().invoke(app, ["data", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, " ".join(done.output.split())


def as_json(*words: object) -> Any:
    done = CliRunner().invoke(app, ["data", *map(str, words), "--json"])
    return json.loads(done.output)


def test_counts_by_hand(tmp_path: Path) -> None:
    report = as_json("check", "ms-cxr", "--data-root", tree(tmp_path))
    assert (report["ok"], report["problems"], report["data_root"]) == (True, [], str(tmp_path))
    every = {"pairs": 4, "boxes": 4, "masks": 0, "images": 4, "patients": 3, "usable": 4}
    assert report["counts"] == every
    assert report["splits"]["test"] == {"pairs": 2, "boxes": 2, "masks": 0, "images": 2, "patients": 1}
    assert report["categories"] == {"Edema": 3, "Pneumonia": 1}
    assert report["by_category"]["test"] == {"Edema": 1, "Pneumonia": 1}
    assert [each["name"] for each in report["checks"]] == [*CHECKS, "counts", "overlap", "training"]
    assert [each["state"] for each in report["checks"][:11]] == ["ok"] * 10 + ["note"]
    for text in ("4 pairs instead of 1162", "3 patients instead of 851", "8 of 8 categories of test differ"):
        assert text in report["checks"][10]["text"]
    assert (report["overlap"]["table"], MIMIC_SPLIT in report["overlap"]["text"]) == (None, True)
    assert set(report["training"]) == {e.name for e in METHODS.entries() if "MIMIC-CXR" in e.card.training_data}
    assert all("MIMIC-CXR" in clause for clause in report["training"].values())
    code, said = called("check", "ms-cxr", "--data-root", tmp_path, "--strict")
    assert (code, "4 of 4 pairs can be used" in said) == (0, True)


def test_published_counts_add_up() -> None:
    """FACTS of the releases: 1,162 pairs of MS-CXR, 176 of them in the test split; 984 boxes of ChestX-ray14."""
    listed = {row["name"]: row["published"] for row in as_json("list")}
    ms_cxr, nih = listed["ms-cxr"], listed["chestxray14"]
    assert [ms_cxr[name] for name in ("pairs", "boxes", "images", "patients")] == [1162, 1448, 1047, 851]
    assert sum(ms_cxr["splits"]["test"].values()) == 176
    assert (nih["pairs"], nih["boxes"], nih["images"]) == (984, 984, 880)
    assert (listed["phantom"], listed["coco"]) == (None, None)


def test_list_shows_every_tree() -> None:
    code, said = called("list")
    assert code == 0
    for text in (*DATASETS, "DATA_ROOT/files/p10/p10000032/s50414267/*.jpg", "1,162 pairs", "BBox_List_2017.csv"):
        assert text in said
    for row in as_json("list"):
        assert row["tree"] or not row["needs_data_root"]


@pytest.mark.parametrize("place", ["", "mimic"])
@pytest.mark.parametrize("packed", [True, False])
def test_overlap_with_mimic_training(place: str, packed: bool, tmp_path: Path) -> None:
    """a1 and b1 are in MIMIC's training split, a2 is not; c1 is an image of no split, of a patient who is."""
    tree(tmp_path)
    table = "dicom_id,study_id,subject_id,split\na1,1,10000001,train\na2,1,10000001,test\nb1,1,10000002,train\n"
    table += "zz,1,10000003,train\n"
    (tmp_path / "mimic").mkdir()
    name = MIMIC_SPLIT if packed else MIMIC_SPLIT.removesuffix(".gz")
    (tmp_path / place / name).write_bytes(gzip.compress(table.encode()) if packed else table.encode())
    (tmp_path / "files").rename(tmp_path / "mimic" / "files")
    overlap = as_json("check", "ms-cxr", "--data-root", tmp_path, "--dataset-option", "images=mimic")["overlap"]
    assert overlap["table"] == str(tmp_path / place / name)
    assert overlap["splits"]["test"] == {"pairs": 2, "images": 1, "patients": 2}
    assert overlap["splits"]["all"] == {"pairs": 4, "images": 2, "patients": 4}
    assert "test 1 of 2, train 1 of 1, validate 0 of 1, all 2 of 4" in overlap["text"]


def test_overlap_with_a_broken_table(tmp_path: Path) -> None:
    (tree(tmp_path) / MIMIC_SPLIT).write_text("dicom_id,split\n")
    report = as_json("check", "ms-cxr", "--data-root", tmp_path)
    assert (report["ok"], report["problems"][0]["file"]) == (False, str(tmp_path / MIMIC_SPLIT))


def test_damage_behind_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_dicom: Callable) -> None:
    """Bytes after the end are harmless; between a whole header and a whole end, damage is seen by --deep only."""
    (path,) = tree(tmp_path).rglob("b1.png")
    whole, words = path.read_bytes(), ("check", "ms-cxr", "--data-root", tmp_path)
    path.write_bytes(whole[:-50])
    code, said = called(*words)
    assert (code, "readable │ error │ 1 problem" in said) == (1, True)
    assert f"error: {tmp_path / TABLE}, row 4: its image {path}: cannot be read as an image" in said
    path.write_bytes(whole + bytes(9000))
    assert (looks_whole(path), called(*words)[0]) == (False, 0)
    monkeypatch.setattr("gtg_bench.benchmark.datasets.check._LOOKED_AT", 1)
    path.write_bytes(whole[:120] + bytes(80) + whole[200:])
    assert called(*words)[0] == 0
    code, said = called(*words, "--deep")
    assert (code, f"row 4: its image {path}" in said) == (1, True)
    path.unlink()
    file = write_dicom(path.with_suffix(".dcm"), np.zeros((30, 20), np.uint8))
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    code, said = called(*words)
    assert (code, "transfer syntax" in said) == (1, True)


def test_a_phrase_that_negates_its_finding_is_listed_once_with_its_first_row(tmp_path: Path) -> None:
    phrases = ["small effusion", "no effusion", "no effusion", "No effusion."]
    tree(tmp_path, [(f"a{k}", "p10000001", "Pleural Effusion", text, "test") for k, text in enumerate(phrases)])
    report = as_json("check", "ms-cxr", "--data-root", tmp_path)
    found = [(problem["row"], problem["level"], problem["kind"]) for problem in report["problems"]]
    assert (report["ok"], found) == (True, [(3, "warning", "phrase"), (5, "warning", "phrase")])
    assert "'no effusion' negates pleural effusion (2 rows)" in report["problems"][0]["what"]
    assert called("check", "ms-cxr", "--data-root", tmp_path, "--strict")[0] == 1


@pytest.mark.parametrize("options", [[], ["--dataset-option", "range=bits"]])
def test_twelve_bits_in_sixteen_warn(options: list[str], tmp_path: Path) -> None:
    (path,) = tree(tmp_path).rglob("b1.png")
    Image.fromarray(np.full((30, 20), 4095, np.uint16)).save(path)
    report = as_json("check", "ms-cxr", "--data-root", tmp_path, *options)
    found = [(p["kind"], p["level"], p["row"]) for p in report["problems"]]
    assert found == ([] if options else [("range", "warning", 4)])
    assert called("check", "ms-cxr", "--data-root", tmp_path, "--strict", *options)[0] == (not options)


def test_samples_are_listed(tmp_path: Path) -> None:
    tree(tmp_path, [*PAIRS, ("d1", "p10000004", "Edema", "=1+1", "test")])
    words = ("samples", "ms-cxr", "--data-root", tmp_path)
    rows = as_json(*words)
    assert [(row["split"], row["image_id"], row["phrase"]) for row in rows if row["split"] != "test"] == [
        ("train", "b1", "edema"),
        ("validate", "c1", "edema"),
    ]
    assert rows[0]["sample_id"] == sample_id("a1", "Edema", "mild edema")
    listed = list(csv.DictReader(CliRunner().invoke(app, ["data", *map(str, words), "--csv"]).output.splitlines()))
    assert [row["sample_id"] for row in listed] == [row["sample_id"] for row in rows]
    assert [row["phrase"] for row in listed if row["image_id"] == "d1"] == ["'=1+1"]
    assert rows[0]["sample_id"] in called(*words, "--split", "test")[1]


@pytest.mark.parametrize("place", ["file/x.png", "folder.png", "pipe.png", "full/x.png"])
def test_bad_places_are_named_before_any_work(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for a folder, a folder for a file, a pipe, a full disk."""
    monkeypatch.chdir(tree(tmp_path))
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    if place.startswith("full"):
        monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    monkeypatch.setattr("gtg_bench.benchmark.datasets.open_dataset", lambda *_: pytest.fail("work was done"))
    monkeypatch.setattr("gtg_bench.benchmark.datasets.mimic_cxr._table", lambda *_: pytest.fail("work was done"))
    for words in (["show", "ms-cxr", "--out", place], ["prepare", "mimic-cxr", "--out", place]):
        code, said = called(*words, "--data-root", ".")
        assert (code, place in said, "error" in said) == (2, True, True), said


def test_image_of_another_shape_than_its_boxes_warns(tmp_path: Path) -> None:
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    (tmp_path / "BBox_List_2017.csv").write_text(f"{header}\n00000001_000.png,Mass,0,0,512,256\n")
    Image.new("L", (64, 48)).save(tmp_path / "00000001_000.png")
    report = check("chestxray14", tmp_path, {})
    assert [(p.kind, p.row, p.warning) for p in report.problems] == [("size", 2, True)]
    assert "64 x 48" in report.problems[0].what


def test_real_files(real_files: Path) -> None:
    report = as_json("check", "chestxray14", "--data-root", real_files / "nih64", "--deep")
    assert (report["ok"], report["problems"], report["counts"]["usable"]) == (True, [], 9)
    assert "ChestX-ray14" in report["training"]["cxrclip-ldm"]

    report = as_json("check", "coco", "--data-root", real_files / "cxr_samples", "--deep")
    assert (report["ok"], report["counts"]["pairs"], report["counts"]["boxes"]) == (True, 2, 3)


def test_many_problems_are_cut_short_but_not_for_machines(tmp_path: Path) -> None:
    tree(tmp_path, [(f"a{n}", f"p1000{n:04}", "Edema", "edema", "tset") for n in range(30)])
    code, said = called("check", "ms-cxr", "--data-root", tmp_path)
    assert code == 1
    assert "10 more" in said
    assert "0 of 30 pairs" in said
    assert len(as_json("check", "ms-cxr", "--data-root", tmp_path)["problems"]) == 30


@pytest.mark.parametrize(
    ("words", "said"),
    [("fantom", "did you mean phantom"), ("ms-cxr", "--data-root"), ("ms-cxr --data-root nowhere", "nowhere")],
)
def test_usage_errors(words: str, said: str) -> None:
    code, output = called("check", *words.split())
    assert (code, said in output) == (2, True)


def test_listing_and_loading_import_nothing_heavy(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "00013118_008.png")
    code = f"""
import sys
from typer.testing import CliRunner
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.datasets.training import open_training_set
assert CliRunner().invoke(app, ["data", "list", "--json"]).exit_code == 0
load_dataset("chestxray14", {str(tmp_path)!r}).samples("test")
open_training_set("phantom", None, {{}}, "test")[0].pixels()
assert not {{"torch", "pandas", "matplotlib", "pydicom", "torchxrayvision"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
