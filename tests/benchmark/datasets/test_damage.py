"""Every kind of damage to MS-CXR's files: reported with file and row, never a traceback, and never more than needed."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets.ms_cxr import MsCxrDataset

COLUMNS = (
    *("dicom_id", "subject_id", "study_id", "path", "category_name", "label_text", "image_width", "image_height"),
    *("x", "y", "w", "h", "split"),
)
TABLE = "MS_CXR_Local_Alignment_v1.1.0.csv"
SIZE = (32, 24)
Damage = Callable[[Path], object]


def values(n: int, **changes: object) -> dict[str, object]:
    """The row of image n, on line n + 1 of the table."""
    dicom, patient = f"{n:08x}-{n:08x}", f"{10_000_000 + n}"
    path = f"files/p10/p{patient}/s{n}/{dicom}.jpg"
    row = (dicom, patient, n, path, "Pneumonia", f'"phrase {n}, with a comma"', *SIZE, 2, 3, 10, 8, "test")
    return dict(zip(COLUMNS, row, strict=True)) | changes


def line(n: int, **changes: object) -> str:
    return ",".join(map(str, values(n, **changes).values()))


def image(root: Path, n: int = 2) -> Path:
    return root / str(values(n)["path"])


def lines(root: Path, *rows: str) -> None:
    (root / TABLE).write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images, four rows, on lines 2 to 5."""
    lines(tmp_path, *map(line, range(1, 5)))
    noise = np.random.default_rng(0)
    for n in range(1, 5):
        image(tmp_path, n).parent.mkdir(parents=True)
        Image.fromarray(noise.integers(0, 255, SIZE[::-1], np.uint8)).save(image(tmp_path, n))
    return tmp_path


def changed(**changes: object) -> Damage:
    """The second row (line 3) with other values."""
    return lambda root: lines(root, line(1), line(2, **changes), line(3), line(4))


def added(**changes: object) -> Damage:
    """A fifth row (line 6), of the second image."""
    return lambda root: lines(root, *map(line, range(1, 5)), line(2, **changes))


def text(edit: Callable[[str], str | bytes]) -> Damage:
    """The table with its text edited."""

    def write(root: Path) -> None:
        made = edit((root / TABLE).read_text())
        (root / TABLE).write_bytes(made if isinstance(made, bytes) else made.encode())

    return write


def content(make: Callable[[bytes], bytes]) -> Damage:
    """The second image with other bytes."""
    return lambda root: image(root).write_bytes(make(image(root).read_bytes()))


def instead(make: Callable[[Path], object]) -> Damage:
    """Something else in place of the second image."""
    return lambda root: (image(root).unlink(), make(image(root)))


ROWS: dict[str, tuple[Damage, str]] = {
    "NaN in a box": (changed(x="NaN"), "x is 'NaN'"),
    "zero area": (changed(h=0), "no area"),
    "box beyond the edge": (changed(x=30), "32 x 24"),
    "width of zero": (changed(image_width=0), "image_width is 0"),
    "half a pixel": (changed(image_height=24.5), "image_height is 24.5"),
    "height but no width": (changed(image_width=""), "image_width is ''"),
    "unknown category": (changed(category_name="Pneumonitis"), "'Pneumonitis' is not an MS-CXR category"),
    "blank phrase": (changed(label_text='"  "'), "phrase is empty"),
    "path that leaves the folder": (changed(path=f"files/../../{values(2)['dicom_id']}.jpg"), "valid image name"),
    "absolute path": (changed(path=f"/etc/{values(2)['dicom_id']}.jpg"), "valid image name"),
    "no path": (changed(path=""), "'' is not a valid image name"),
    "path of another image": (changed(path=values(1)["path"]), "does not match its image"),
    "path of another patient": (changed(subject_id="19999999"), "does not match its patient"),
    "unknown split": (changed(split="holdout"), "split 'holdout'"),
    "commas without quotes": (changed(label_text="left, small"), "14 values for 13 columns"),
    "a row cut off": (text(lambda s: s.replace(line(2), line(2)[:-16])), "x is ''"),
    "Latin-1": (text(lambda s: s.replace("phrase 2", "\xe9panchement").encode("latin-1")), "UTF-8"),
    "a replacement character": (changed(dicom_id="\ufffd"), "UTF-8"),
}
"""Damage to one row: only its sample fails."""

IMAGES: dict[str, tuple[Damage, str]] = {
    "missing image": (instead(lambda path: None), "not found"),
    "truncated": (content(lambda data: data[:-200]), "truncated"),
    "a folder": (instead(Path.mkdir), "not a file"),
    "symlink loop": (instead(lambda path: path.symlink_to(path.name)), "not found"),
    "dangling symlink": (instead(lambda path: path.symlink_to("nowhere")), "not found"),
    "a pipe": (instead(os.mkfifo), "not a file"),
    "another size": (instead(lambda path: Image.new("L", (16, 12)).save(path)), "16 x 12 pixels, not 32 x 24"),
    "rotated": (instead(lambda path: Image.new("L", SIZE[::-1]).save(path)), "24 x 32 pixels, not 32 x 24"),
}
"""Damage to the second image: only its sample fails, at the latest when it is read."""

FILES: dict[str, tuple[Damage, str]] = {
    "missing column": (text(lambda s: s.replace("label_text", "text")), "no column 'label_text'"),
    "broken gzip": (text(lambda s: gzip.compress(s.encode())[:-20]), "cannot be read"),
    "a folder as table": (lambda root: [(root / TABLE).unlink(), (root / TABLE).mkdir()], "cannot be read"),
    "no table": (lambda root: (root / TABLE).unlink(), "not found"),
}
"""Damage that makes the whole table useless."""

HARMLESS: dict[str, Damage] = {
    "columns in another order": text(
        lambda s: "\n".join(",".join([r[-1], *r[:-1]]) for r in (x.rsplit(",", 1) for x in s.splitlines()))
    ),
    "one column more": text(lambda s: "\n".join(f"{row},{k}" for k, row in enumerate(s.splitlines()))),
    "gzip": text(lambda s: gzip.compress(s.encode())),
}


def checked(root: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of `data check`, which must not end in a traceback."""
    done = CliRunner().invoke(app, ["data", "check", "ms-cxr", "--data-root", str(root), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, json.loads(done.output)


def test_the_undamaged_tree(root: Path) -> None:
    assert checked(root)[0] == 0
    data = MsCxrDataset(root)
    assert [data.image(sample).shape for sample in data.samples("all")] == [SIZE[::-1]] * 4


@pytest.mark.parametrize("kind", [*ROWS, *IMAGES])
def test_damage_stays_with_its_sample(kind: str, root: Path, only_bad: Callable) -> None:
    damage, said = (ROWS | IMAGES)[kind]
    damage(root)
    only_bad(MsCxrDataset(root), f"{root / TABLE}, row 3", said)
    code, report = checked(root)
    assert (code, report["ok"]) == (1, False)
    problems = [p for p in report["problems"] if said in p["what"]]
    assert [(p["file"], p["row"], bool(p["fix"])) for p in problems] == [(str(root / TABLE), 3, True)]
    if kind in IMAGES:
        assert str(image(root).parent) in problems[0]["image"]


@pytest.mark.parametrize("kind", FILES)
def test_damaged_table_is_named(kind: str, root: Path) -> None:
    damage, said = FILES[kind]
    damage(root)
    with pytest.raises(DataError) as caught:
        MsCxrDataset(root)
    assert str(root / TABLE) in str(caught.value)
    assert said in str(caught.value)
    code, report = checked(root)
    assert (code, [p["file"] for p in report["problems"]]) == (1, [str(root / TABLE)])
    run = CliRunner().invoke(app, ["run", "-m", "uniform", "--dataset", "ms-cxr", "--data-root", str(root)])
    assert run.exit_code == 2
    assert run.output.count("\n") == 1


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless(kind: str, root: Path) -> None:
    before = MsCxrDataset(root)
    HARMLESS[kind](root)
    data = MsCxrDataset(root)
    assert (data.version, data.everything) == (before.version, before.everything)
    assert checked(root)[0] == 0


@pytest.mark.parametrize(
    ("damage", "kind", "said", "lost"),
    [
        (added(), "duplicate", "repeats row 3", 0),
        (added(label_text="other", split="train"), "split", "in split train here, but in test in row 3", 0),
        (added(label_text="other", image_width=64), "size", "(64, 24) here, but (32, 24) in row 3", 1),
    ],
    ids=["a row twice", "a patient in two splits", "two sizes of an image"],
)
def test_rows_that_contradict_each_other(damage: Damage, kind: str, said: str, lost: int, root: Path) -> None:
    damage(root)
    code, report = checked(root)
    assert code == 1
    (problem,) = (p for p in report["problems"] if said in p["what"])
    assert (problem["kind"], problem["row"], report["counts"]["usable"]) == (kind, 6, report["counts"]["pairs"] - lost)


def test_folder_without_permission(root: Path, monkeypatch: pytest.MonkeyPatch, only_bad: Callable) -> None:
    """As chmod would do; the tests may run as root, whom no permission stops."""
    real = os.stat

    def refuse(path: Any, **more: Any) -> os.stat_result:
        if str(path).startswith(str(image(root).parent) + os.sep):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr("os.stat", refuse)
    only_bad(MsCxrDataset(root), f"{root / TABLE}, row 3", "Permission denied")
    assert checked(root)[1]["problems"][0]["kind"] == "missing"


def test_a_run_continues_with_the_other_samples(root: Path) -> None:
    lines(root, line(1), line(2, x="NaN"), line(3), line(4))
    image(root, 3).write_bytes(image(root, 3).read_bytes()[:-200])
    words = ["run", "-m", "uniform", "--dataset", "ms-cxr", "--data-root", str(root), "--split", "all"]
    words += ["--runs-dir", str(root / "runs"), "--leaderboards-dir", str(root / "boards")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (file,) = (root / "runs").rglob("samples.jsonl")
    records = [json.loads(record) for record in file.read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "failed", "failed", "ok"]
    assert [f"{root / TABLE}, row {n}: " in records[n - 2]["error"] for n in (3, 4)] == [True, True]
    assert not list(file.parent.glob("errors.log"))
    words = ["data", "show", "ms-cxr", "--data-root", str(root), "--split", "all", "--out", str(root / "sheet.png")]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "2 samples drawn" in done.output, done.output.count("left out")) == (0, True, 2)
