"""`data prepare mimic-cxr`: a tree as PhysioNet ships it, its images counted by hand, and every way to be damaged."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets.mimic_cxr import COLUMNS, MOST_PROBLEMS, prepare

SPLIT, METADATA = "mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-metadata.csv.gz"
IMAGES = (
    ("a-1", "10000032", "50414267", "train", "PA"),
    ("a-2", "10000032", "50414267", "train", "LATERAL"),
    ("a-3", "10000032", "53189527", "train", "AP"),
    ("b-1", "11000001", "51000001", "validate", "AP"),
    ("c-1", "12000001", "52000001", "test", "PA"),
    ("c-2", "12000001", "52000001", "test", "PA"),
    ("c-3", "12000001", "52000001", "test", ""),
    ("d-1", "13000001", "53000001", "train", "AP"),
)
"""DICOM id, subject, study, split, view; line 2 of the split table is the first."""

REPORTS = {
    "50414267": "FINAL REPORT\n FINDINGS: Wrong.\n IMPRESSION:\n\n Small left\n effusion.",
    "53189527": "IMPRESSION:\n FINDINGS: Large heart.",
    "51000001": "INDICATION: ___\n\nThe lungs are clear.",
    "52000001": "Impression: Edema.",
    "53000001": "IMPRESSION: ___",
}


def table(path: Path, header: str, rows: Sequence[Sequence[str]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        file.write("\n".join((header, *(",".join(row) for row in rows))) + "\n")


def folder_of(subject: str, study: str = "") -> Path:
    return Path("files", f"p{subject[:2]}", f"p{subject}", f"s{study}" if study else "")


def tables(root: Path) -> None:
    split = [(dicom, study, subject, part) for dicom, subject, study, part, _ in IMAGES]
    table(root / SPLIT, "dicom_id,study_id,subject_id,split", split)
    metadata = [(dicom, subject, study, '"CHEST (PA, LAT)"', view, "10") for dicom, subject, study, _, view in IMAGES]
    header = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows"
    table(root / METADATA, header, metadata)


def tree(root: Path, reports: Path | None = None) -> Path:
    """MIMIC-CXR-JPG, and MIMIC-CXR's reports in the same folders or elsewhere."""
    tables(root)
    for dicom, subject, study, _, _ in IMAGES:
        (root / folder_of(subject, study)).mkdir(parents=True, exist_ok=True)
        (root / folder_of(subject, study) / f"{dicom}.jpg").touch()
        report = (reports or root) / folder_of(subject) / f"s{study}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(REPORTS[study])
    return root


def read(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_the_index_by_hand(tmp_path: Path) -> None:
    to = tmp_path / "new" / "index.parquet"
    seen: list[tuple[int, int]] = []
    made = prepare(tree(tmp_path), {}, to, lambda done, total: seen.append((done, total)))
    rows = read(to)
    assert [row["dicom_id"] for row in rows] == ["a-1", "a-3", "b-1", "c-1", "c-2"]
    assert rows[0] == {
        "dicom_id": "a-1",
        "subject_id": "10000032",
        "study_id": "50414267",
        "split": "train",
        "view": "PA",
        "image": "files/p10/p10000032/s50414267/a-1.jpg",
        "text": "Small left effusion.",
        "section": "impression",
    }
    assert [row["text"] for row in rows[1:]] == ["Large heart.", "The lungs are clear.", "Edema.", "Edema."]
    assert [row["section"] for row in rows[1:]] == ["findings", "last-paragraph", "impression", "impression"]
    assert (tuple(rows[0]), made.problems, seen[-1]) == (COLUMNS, [], (6, 6))
    counts: dict[str, Any] = {
        "rows": 8,
        "kept": {"test": 2, "train": 2, "validate": 1},
        "sections": {"findings": 1, "impression": 3, "last-paragraph": 1},
        "views": {"AP": 2, "PA": 3},
        "other_views": {"LATERAL": 1, "not given": 1},
        "dropped": {"not a frontal view": 2, "report has no text": 1},
    }
    assert made.counts() == counts
    noted = json.loads(pq.read_metadata(to).metadata[b"gtg_bench"])
    assert noted == {"format": "1", **counts}
    assert sum(counts["kept"].values()) + sum(counts["dropped"].values()) == counts["rows"]


def test_reports_and_images_elsewhere(tmp_path: Path) -> None:
    jpg, text = tmp_path / "jpg", tmp_path / "text"
    jpg.mkdir()
    plain = prepare(tree(tmp_path / "jpg", text), {"reports": str(text)}, tmp_path / "a.parquet")
    shutil.move(jpg / "files", tmp_path / "small" / "files")
    with zipfile.ZipFile(jpg / "mimic-cxr-reports.zip", "w") as archive:
        for path in sorted(text.rglob("*.txt")):
            archive.write(path, path.relative_to(text))
    apart = prepare(jpg, {"images": str(tmp_path / "small")}, tmp_path / "b.parquet")
    assert read(tmp_path / "a.parquet") == read(tmp_path / "b.parquet")
    assert plain.counts() == apart.counts()
    folder = tmp_path / "small" / folder_of("12000001", "52000001")
    (folder / "c-1.jpg").rename(folder / "c-1.dcm")
    (folder / "c-2.jpg").rename(folder / "c-2.png")
    prepare(jpg, {"images": str(tmp_path / "small")}, tmp_path / "b.parquet")
    assert [Path(row["image"]).name for row in read(tmp_path / "b.parquet")][-2:] == ["c-1.dcm", "c-2.png"]


def test_damage_is_named_and_harms_no_other(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / folder_of("10000032") / "s50414267.txt").unlink()
    (root / folder_of("10000032") / "s53189527.txt").write_bytes(b"IMPRESSION: \xe9d\xe8me")
    (root / folder_of("12000001", "52000001") / "c-1.jpg").unlink()
    extra = [
        ("c-2", "52000001", "12000001", "test"),
        ("e-1", "52000001", "12000001", "test"),
        ("../x", "52000001", "12000001", "test"),
        ("f-1", "5200", "patient", "test"),
        ("f-2", "52000001", "12000001", "tset"),
        ("f-3", "52000001"),
        ("f-4", "52000001", "12000001", "te\x00st"),
    ]
    with gzip.open(root / SPLIT, "at") as file:
        file.write("\n".join(",".join(row) for row in extra) + "\n\n")
    made = prepare(root, {}, tmp_path / "i.parquet")
    assert [row["dicom_id"] for row in read(tmp_path / "i.parquet")] == ["b-1", "c-2"]
    assert made.counts()["dropped"] == {
        "row cannot be used": 5,
        "row repeats another": 1,
        "not in the metadata table": 1,
        "not a frontal view": 2,
        "report not found": 1,
        "report cannot be read": 1,
        "report has no text": 1,
        "image not found": 1,
    }
    folder, seen = root / folder_of("10000032"), root / folder_of("12000001", "52000001")
    named = {
        2: f"its report {folder}/s50414267.txt: file not found",
        4: f"its report {folder}/s53189527.txt: is not UTF-8 text",
        6: f"its image {seen / 'c-1.jpg'}: file not found",
        10: "image c-2 appears twice",
        11: "image e-1 is not in the metadata table",
        12: "'../x'",
        13: "'patient'",
        14: "'tset'",
        15: "2 values for 4 columns",
        16: "UTF-8",
    }
    assert {problem.row for problem in made.problems} == set(named)
    for problem in made.problems:
        assert str(problem).startswith(f"{root / SPLIT}, row {problem.row}: ")
        assert named[int(problem.row or 0)] in problem.what
    (image,) = (problem.image for problem in made.problems if "c-1" in problem.what)
    assert image == seen / "c-1.jpg"


def test_strict_stops_at_the_first_damage_and_writes_nothing(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / folder_of("10000032") / "s53189527.txt").unlink()
    with pytest.raises(DataError, match=r"split\.csv\.gz, row 4: its report .*s53189527\.txt"):
        prepare(root, {}, tmp_path / "i.parquet", fail_fast=True)
    assert not list(tmp_path.glob("*.parquet"))


def test_a_broken_row_of_the_metadata(tmp_path: Path) -> None:
    root = tree(tmp_path)
    with gzip.open(root / METADATA, "rb") as file:
        content = file.read()
    (root / METADATA).write_bytes(gzip.compress(content.replace(b"b-1,11000001", b"b-\xff,11000001")))
    made = prepare(root, {}, tmp_path / "i.parquet")
    assert made.dropped["not in the metadata table"] == 1
    assert [problem.row for problem in made.problems] == [5, 5]


@pytest.mark.parametrize("name", [SPLIT, METADATA])
def test_damaged_tables(name: str, tmp_path: Path) -> None:
    root, to = tree(tmp_path), tmp_path / "i.parquet"
    long = gzip.compress(gzip.decompress((root / name).read_bytes()) + b"x-1,1,1,1,1,1\n" * 20000, compresslevel=0)
    cut, other = long[: len(long) // 2], b"a,b\n1,2\n"
    for content, what in ((cut, "cannot be read"), (other, r"has no column '\w+'"), (None, "not found")):
        (root / name).unlink()
        if content:
            (root / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.*{what}"):
            prepare(root, {}, to)
        (root / name).touch()
    assert not to.exists()


def test_tables_that_were_unpacked(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for name in (SPLIT, METADATA):
        text = gzip.decompress((root / name).read_bytes()).replace(b"\n", b"\r\n")
        (root / name.removesuffix(".gz")).write_bytes(b"\xef\xbb\xbf" + text)
        (root / name).unlink()
    assert sum(prepare(root, {}, tmp_path / "i.parquet").kept.values()) == 5


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for path in root.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of its 8 images .*not a frontal view: 2, .*image not found: 5"):
        prepare(root, {}, tmp_path / "i.parquet")
    shutil.rmtree(root / "files")
    with pytest.raises(DataError, match=r"files: folder not found"):
        prepare(root, {}, tmp_path / "i.parquet")


def test_wrong_words(tmp_path: Path) -> None:
    root, to = tree(tmp_path), tmp_path / "i.parquet"
    (tmp_path / "file").touch()
    cases: list[tuple[dict[str, str], Path, type[Exception], str]] = [
        ({"report": "x"}, to, UsageError, "no option 'report'"),
        ({}, tmp_path, UsageError, "folder"),
        ({"reports": "nowhere"}, to, UsageError, "reports=nowhere"),
        ({}, tmp_path / "file" / "i.parquet", DataError, r"i\.parquet cannot be written"),
    ]
    for options, place, kind, said in cases:
        with pytest.raises(kind, match=said):
            prepare(root, options, place)


def test_many_problems_are_counted_and_some_kept(tmp_path: Path) -> None:
    root = tree(tmp_path)
    with gzip.open(root / SPLIT, "at") as file:
        file.writelines(f"x-{number},1,2,train\n" for number in range(MOST_PROBLEMS + 50))
    made = prepare(root, {}, tmp_path / "i.parquet")
    assert made.dropped["row cannot be used"] == MOST_PROBLEMS + 50
    assert len(made.problems) == MOST_PROBLEMS


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jpg").mkdir()
    tree(tmp_path / "jpg")

    def call(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["data", "prepare", *words])
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else " ".join(done.output.split())

    words = ("mimic-cxr", "--data-root", "jpg", "--out", "i.parquet")
    text = call(*words)
    assert "5 of 8 images" in text
    assert "frontal view" in text
    found = json.loads(call(*words, "--json"))
    assert (found["index"], found["kept"]) == ("i.parquet", {"test": 2, "train": 2, "validate": 1})
    assert "only mimic-cxr" in call("phantom", "--out", "i.parquet", code=2)
    assert "--data-root" in call("mimic-cxr", "--out", "i.parquet", code=2)
    (tmp_path / "jpg" / folder_of("10000032") / "s53189527.txt").unlink()
    assert "warning: " in call(*words)
    assert "row 4: its report" in call(*words, "--fail-fast", code=2)
