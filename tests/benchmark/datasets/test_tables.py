"""Annotation files as rows: CSV in every packing, values as they are checked, boxes, and every kind of damage."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.datasets.tables import Faults, Row, box_within, iter_rows, read_rows


def table(folder: Path, data: bytes | str) -> Path:
    path = folder / "t.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_texts_and_lines(tmp_path: Path) -> None:
    path = table(tmp_path, '\ufeffid, text,,n\r\n007,"a, ""b""\nc",,1\r\n\r\n,,,\r\n8,d\r\n')
    first, second = read_rows(path, ["text", "id"])
    assert (first.row, second.row) == (2, 6)
    assert [first.values[name] for name in ("text", "id", "n")] == ['a, "b"\nc', "007", "1"]
    assert [second.values[name] for name in ("text", "id", "n")] == ["d", "8", ""]


def test_packed_tables_and_long_cells(tmp_path: Path) -> None:
    assert len(read_rows(table(tmp_path, f"a,b\n1,{'x' * 200_000}\n"), ["a"])[0].text("b")) == 200_000
    path = table(tmp_path, gzip.compress(b"x,y,x2,y\n1,2,3,4\n"))
    assert read_rows(path, ["x"])[0].values == {"x": "1", "y": "2", "x2": "3"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.csv", "x,y\n1,2\n")
    assert read_rows(path, ["x"])[0].values == {"x": "1", "y": "2"}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other.csv", "x,y\n1,2\n")
    with pytest.raises(DataError, match="2 files"):
        read_rows(path, ["x"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,b\n", "no rows"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        (b"<!DOCTYPE html>", "web page"),
        (b"a,c\n1,2\n", "no column 'b'; it has 'a', 'c'"),
        (b"a;b\n1;2\n", "no column 'a'; it has 'a;b'; save it with commas"),
        (b"a,b,a\n1,2,3\n", "2 columns 'a'"),
        (b'a,b\n1,2\n3,"4\n', "row 3: is not a valid CSV"),
        (gzip.compress(b"a,b\n" * 999, mtime=0)[:-20], "cannot be read"),
        (b"PK\x03\x04 cut off", "cannot be read"),
    ],
)
def test_damaged_tables(data: bytes, said: str, tmp_path: Path) -> None:
    path = table(tmp_path, data)
    with pytest.raises(DataError) as caught:
        read_rows(path, ["a", "b"])
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_archives_of_every_kind(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w", method) as archive:
        archive.writestr("t.csv", "a,b\n" * 999)
    data = bytearray((tmp_path / "t.zip").read_bytes())
    data[45:60] = b"x" * 15
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(table(tmp_path, bytes(data)), ["a"])


def test_bombs_stop_at_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gtg_bench.benchmark.datasets.tables._MAX_BYTES", 1000)
    bomb = b"a,b\n" * 999
    (tmp_path / "t.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", bomb)
    for data in (bomb, gzip.compress(bomb), (tmp_path / "t.zip").read_bytes()):
        with pytest.raises(DataError, match="more than 1,000 bytes"):
            read_rows(table(tmp_path, data), ["a"])


@pytest.mark.parametrize(
    ("path", "said"),
    [("t.csv", r"t\.csv: .*not found"), (".", "cannot be read"), ("/dev/zero", "not a regular file")],
)
def test_missing_tables(path: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_rows(tmp_path / path, ["a"])


def test_a_damaged_row_is_broken_and_harms_no_other(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b\n1,2\n3,é\n3,4,5\n6,7,,\n8\n".encode("latin-1") + b"9,\0\n" + b"x,y\n" * 99)
    rows = read_rows(path, ["a", "b"])
    broken = {row.row: row.broken.what for row in rows if row.broken}
    assert broken == {3: "is not UTF-8 text", 4: "has 3 values for 2 columns", 7: "is not UTF-8 text"}
    strict = {row.row for row in iter_rows(path, ["a", "b"], complete=True) if row.broken}
    assert strict == {3, 4, 6, 7}


def test_numbers() -> None:
    def row(value: object, place: int | str = 7) -> Row:
        return Row(Path("t.csv"), place, {"x": value, "y": "1"})

    assert row(" 1.5e2 ").number("x") == 150
    assert row(2, "images[1]").number("x") == 2
    for text in ("", "nan", "inf", "12px", "1_000", "1,5"):
        with pytest.raises(DataError, match=r"t\.csv, row 7: x is '.*', not a number"):
            row(text).number("x")
    for value in ("3", True, None, float("nan"), 10**999, [1]):
        with pytest.raises(DataError, match=r"t\.csv, images\[1\]: x is .*, not a number"):
            row(value, "images[1]").number("x")
    faults = Faults()
    found = (faults.get(row("ten").size, "x", "y"), faults.text(row("a "), "x"), faults.text(row(["a"]), "x"))
    assert found == (None, "a", "")
    assert [problem.kind for problem in faults] == ["size", "row"]


def test_boxes() -> None:
    def box(x: float, y: float, w: float, h: float, slack: float = 0.01) -> tuple[float, ...]:
        return box_within((x, y, x + w, y + h), (10, 6), Path("t.csv"), 9, slack)

    assert box(1, 2, 3, 4) == (1, 2, 4, 6)
    assert box(-0.001, 2, 3, 4.001) == (0, 2, 2.999, 6)
    assert box(-1, 2, 3, 4, slack=1) == (0, 2, 2, 6)
    for xywh in (
        (0, 0, 0, 1),
        (0, 0, 1, -1),
        (-1, 0, 2, 2),
        (9, 0, 2, 2),
        (0, 5, 2, 2),
        (10, 0, 0.01, 2),
        (0, 0, 10.05, 2),
    ):
        with pytest.raises(DataError, match=r"t\.csv, row 9: the box"):
            box(*xywh)
