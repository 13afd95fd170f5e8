"""`gtg-bench score --maps`: external maps equal the run that they were exported from; invalid input is named."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.external_index import Index
from gtg_bench.benchmark.runs.external_maps import prepare_maps, read_map, span_frame, without_border
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, RunResult, run
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS

N = 6
SIDES = {"left": "8", "top": "8", "right": "120", "bottom": "120"}
"""The part of the image that a toy map covers."""


def samples() -> list[PhraseSample]:
    return list(open_dataset("phantom", None, {}).samples("test")[:N])


FORMATS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "npy": lambda path, values: np.save(path.with_suffix(".npy"), values),
    "float64": lambda path, values: np.save(path.with_suffix(".npy"), values.astype(np.float64)),
    "npz": lambda path, values: np.savez(path.with_suffix(".npz"), anything=values),
    "npz with a map": lambda path, values: np.savez(path.with_suffix(".npz"), mask=values > 0, map=values),
    "png 8": lambda path, values: picture(path, np.round(values * 255).astype(np.uint8)),
    "png 16": lambda path, values: picture(path, (np.round(values * 255) * 257).astype(np.uint16)),
}


def picture(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path.with_suffix(".png"))


@pytest.fixture
def exported(toy: Any) -> Callable[..., RunResult]:
    """Exports a toy run's maps to `toy.folder / "maps"`, with rows of the index as `change` makes them."""

    def export(write: Any = FORMATS["npy"], change: Callable[[list[dict[str, str]]], Any] | None = None) -> RunResult:
        result: RunResult = toy.run(limit=N)
        folder = toy.folder / "maps"
        folder.mkdir(exist_ok=True)
        rows = []
        for k, sample in enumerate(samples()):
            write(folder / f"m{k}", MapStore.of_run(result.folder).load(sample.sample_id).values)
            (file,) = folder.glob(f"m{k}.*")
            rows.append({"sample_id": sample.sample_id, "file": file.name, **SIDES})
        write_index(folder, (change and change(rows)) or rows)
        return result

    return export


def write_index(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)


def prepared(toy: Any, name: str = "mine", **options: Any) -> tuple[PreparedRun, Index]:
    return prepare_maps(toy.folder / "maps", RunRequest.of(name, **{"limit": N, **options}))


def scored(toy: Any, **options: Any) -> RunResult:
    return run(prepared(toy, **options)[0], RunRequest.of("mine", runs_dir=toy.folder / "runs"))


def results(result: RunResult) -> list[dict[str, Any]]:
    """The records without their seconds, and without a method's notes, which files do not have."""
    unlike = {"seconds": 0, "note": "", "image_sha256": "", "map_name": ""}
    return [record.as_json() | unlike for record in result.records]


# Formats and frames


@pytest.mark.parametrize("name", FORMATS)
def test_maps_of_each_format_equal_their_run(toy: Any, exported: Any, name: str) -> None:
    result = exported(FORMATS[name])
    found = scored(toy)
    assert results(found) == results(result)
    assert (found.spec.settings.weights, found.spec.method, found.reused) == ("maps", "mine", 0)


def test_every_protocol_and_image_swap_score_the_same_files(toy: Any, exported: Any) -> None:
    exported()
    scored(toy, protocol="biovil", smooth="0")
    for options in [{"protocol": name, "smooth": "0"} for name in PROTOCOLS] + [{"control": "image-swap"}]:
        found = scored(toy, **options)
        assert results(found) == results(toy.run(limit=N, **options)), options
        assert found.reused == (0 if options.get("protocol") == "biovil" else N)


def with_border(path: Path, values: np.ndarray) -> None:
    """The image's 128 x 128 pixels: a cell of a toy map is 7 x 7, NaN around it is not covered."""
    whole = np.full((128, 128), np.nan, np.float32)
    whole[8:120, 8:120] = np.repeat(np.repeat(values, 7, 0), 7, 1)
    np.save(path.with_suffix(".npy"), whole)


def test_nan_at_the_edges_is_not_covered(toy: Any, exported: Any) -> None:
    def no_sides(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{name: row[name] for name in ("sample_id", "file")} for row in rows]

    exported(with_border, no_sides)
    found = scored(toy, protocol="chexlocalize")
    assert {record.status for record in found.records} == {"ok"}
    for record in found.records:
        kept = MapStore.of_run(found.folder).load(record.sample_id)
        assert kept.values.shape == (112, 112)
        np.testing.assert_allclose(kept.frame.boxes_to_image([[0, 0, *kept.frame.size]]), [[8, 8, 120, 120]])


def test_a_rectangle_in_fractions_of_a_pixel() -> None:
    frame = span_frame((256, 300), (7.5, 10.25, 200.125, 280))
    corners = frame.boxes_to_image([[0, 0, *frame.size]])
    np.testing.assert_allclose(corners, [[7.5, 10.25, 200.125, 280]], atol=1e-9)
    assert span_frame((256, 300), (0, 0, 256, 300)) == span_frame((256, 300), None) == Frame.original((256, 300))
    with pytest.raises(SampleError, match="256 x 300"):
        span_frame((256, 300), (256, 0, 300, 20))


def test_nan_elsewhere_is_refused() -> None:
    for where in [(slice(2, 3), slice(2, 3)), (slice(None), slice(None)), (slice(0, 1), slice(0, 2))]:
        values = np.ones((5, 6), np.float32)
        values[where] = np.nan
        with pytest.raises(SampleError, match="NaN"):
            without_border(values, Frame.original((60, 50)))


# The index


def test_maps_are_found_by_image_and_phrase_and_rows_of_other_splits_are_counted(toy: Any, exported: Any) -> None:
    def by_phrase(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        named = zip(rows, samples(), strict=True)
        return [{"image_id": s.image_id, "phrase": s.phrase, "file": row["file"], **SIDES} for row, s in named]

    result = exported(change=by_phrase)
    assert results(scored(toy)) == results(result)
    other = open_dataset("phantom", None, {}).samples("validate")[0].sample_id
    exported(change=lambda rows: [*rows, rows[0] | {"sample_id": other}])
    assert prepared(toy)[1].elsewhere == 1


def test_a_sample_without_a_map_fails(toy: Any, exported: Any) -> None:
    def lacking(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        (toy.folder / "maps" / rows[3]["file"]).unlink()
        (toy.folder / "maps" / rows[5]["file"]).write_bytes(b"<html>")
        return rows[1:]

    exported(change=lacking)
    found = scored(toy).records
    assert [k for k, record in enumerate(found) if record.status == "failed"] == [0, 3, 5]
    for k, named in (
        (0, ("index.csv", "row")),
        (3, ("index.csv, row 4", "m3.npy")),
        (5, ("index.csv, row 6", "m5.npy")),
    ):
        assert all(part in found[k].error for part in named), found[k].error


def test_the_key_covers_every_byte_of_the_maps_and_their_rectangles(toy: Any, exported: Any) -> None:
    exported()
    keys = [scored(toy).spec.key, scored(toy).spec.key]
    values = np.load(toy.folder / "maps" / "m4.npy")
    values[3, 3] += 0.5
    np.save(toy.folder / "maps" / "m4.npy", values)
    keys.append(scored(toy).spec.key)
    exported(change=lambda rows: [row | {"left": "9"} for row in rows])
    keys.append(scored(toy).spec.key)
    assert len(set(keys)) == 3
    assert keys[0] == keys[1]


# Invalid input


def second(**changes: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    """Changes the second row, which is line 3 of the file."""
    return lambda rows: [rows[0], rows[1] | changes, *rows[2:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (second(sample_id="unheard-of"), "row 3: .*sample_id"),
        (second(file=""), "row 3: .*file"),
        (second(left=""), "row 3: has top but no left"),
        (second(left="x"), "row 3.*left"),
        (second(right="8"), "row 3: .*left < right"),
        (lambda rows: [*rows, rows[0]], "row 8: .*row 2"),
        (lambda rows: [{"file": row["file"]} for row in rows], "columns sample_id"),
        (lambda rows: [{"sample_id": row["sample_id"]} for row in rows], "file"),
        (lambda rows: [{**row, "sample_id": "", "image_id": "i", "phrase": ""} for row in rows], "row 2: .*phrase"),
    ],
)
def test_an_invalid_index_names_the_row(exported: Any, toy: Any, change: Any, message: str) -> None:
    exported(change=change)
    with pytest.raises(DataError, match=rf"index\.csv.*{message}"):
        prepared(toy)


def test_invalid_options_are_named(toy: Any) -> None:
    with pytest.raises(UsageError, match="--maps"):
        prepared(toy)
    (toy.folder / "maps").mkdir()
    with pytest.raises(DataError, match=r"index\.csv"):
        prepared(toy)
    wrong = [("name", "cxrbert-ldm"), ("name", "toy"), ("name", "a/b"), ("name", ".."), ("control", "phrase-swap")]
    for name, value in [*wrong, ("limit", 0), ("dataset", "fantom")]:
        with pytest.raises(UsageError, match=rf"(--{name}|data set).*{value}"):
            prepared(toy, **{name: value})


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.npy", lambda path: np.save(path, np.zeros((2, 3, 4))), r"\[2, 3, 4\]"),
        ("a.npy", lambda path: np.save(path, np.zeros((0, 4))), r"\[0, 4\]"),
        ("a.npy", lambda path: np.save(path, np.array([["x"]])), "float32"),
        ("a.npy", lambda path: np.save(path, np.array([[{}]], dtype=object)), "cannot be read"),
        ("a.npy", lambda path: np.save(path, np.zeros((2, 2), complex)), "complex128"),
        ("a.npy", lambda path: path.write_bytes(b""), "cannot be read"),
        ("a.npz", lambda path: np.savez(path, a=np.zeros((2, 2)), b=np.zeros((2, 2))), "arrays a, b"),
        ("a.npz", lambda path: path.write_bytes(b"PK"), "cannot be read"),
        ("a.png", lambda path: Image.new("RGB", (4, 4)).save(path), "RGB"),
        ("a.png", lambda path: Image.new("L", (4, 4)).save(path, "JPEG"), "cannot be read"),
        ("a.png", lambda path: Image.new("1", (12000, 12000)).save(path), "12000 x 12000"),
        ("a.npy", lambda path: path.write_bytes(header((2**20, 2**20))), "cannot be read"),
        ("a.npy", lambda path: path.write_bytes(header((2**62, 2**62))), "cannot be read"),
        ("a.npy", lambda path: path.write_bytes(header((1, 1), "|V1000000000")), "cannot be read"),
        ("a.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x28\x23" + b"[" * 9000), "cannot be read"),
        ("a.npz", lambda path: archive(path, header((2**20, 2**20))), "cannot be read"),
        (
            "a.npz",
            lambda path: archive(path, header((2**28,)) + bytes(2**20), 2**30),
            "1,073,741,824 bytes when unpacked",
        ),
        ("a.npz", lambda path: archive(path, header((2, 2)) + bytes(16), flags=1), "encrypted"),
        ("a.npz", lambda path: archive(path, b"text"), "not an array"),
        ("a.npy", os.mkfifo, "not a regular file"),
        ("a.npy", lambda path: path.symlink_to("/dev/zero"), "not inside the folder"),
        ("a.npy", lambda path: path.symlink_to(path), "cannot be read"),
        ("a.png", lambda path: path.write_text("<html>"), "cannot be read"),
        ("a.tif", lambda path: path.write_text("x"), r"\.npy, \.npz or \.png"),
        ("a.npy", lambda path: None, "does not exist"),
        ("a.npy", lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_an_invalid_map_is_named(tmp_path: Path, name: str, make: Any, message: str) -> None:
    make(tmp_path / name)
    with pytest.raises(SampleError, match=rf"{name}.*{message}"):
        read_map(tmp_path / name)


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The header of an npy file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path: Path, content: bytes, claimed: int | None = None, flags: int = 0) -> None:
    """An npz file of one array, whose directory may claim another size or encryption."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("map.npy", content)
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02")
    data[start + 8] |= flags
    if claimed:
        data[start + 24 : start + 28] = claimed.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["../m.npy", "{elsewhere}/m.npy", "link.npy", "/dev/zero"])
def test_a_file_elsewhere_is_not_read_and_only_its_sample_fails(toy: Any, exported: Any, file: str) -> None:
    values = np.ones((4, 4), np.float32)
    exported(change=second(file=file.format(elsewhere=toy.folder)))
    np.save(toy.folder / "m.npy", values)
    (toy.folder / "maps" / "link.npy").symlink_to(toy.folder / "m.npy")
    keys, found = [prepared(toy)[0].spec.key], scored(toy).records
    np.save(toy.folder / "m.npy", values * 2)
    assert [record.status for record in found] == ["ok", "failed", *["ok"] * (N - 2)]
    assert "index.csv, row 3: " in found[1].error
    assert "not inside the folder" in found[1].error
    assert prepared(toy)[0].spec.key == keys[0]


def test_an_unknown_sample_is_answered_with_the_nearest(toy: Any, exported: Any) -> None:
    first = samples()[1]
    exported(change=second(sample_id=first.sample_id[:-2]))
    with pytest.raises(DataError, match=rf"row 3: .*did you mean sample_id '{first.sample_id}'"):
        prepared(toy)
    names = {"sample_id": "", "image_id": first.image_id, "phrase": first.phrase + "s"}
    exported(change=second(**names))
    with pytest.raises(DataError, match=rf"did you mean phrase '{first.phrase}'"):
        prepared(toy)


# The command


def test_the_command(toy: Any, exported: Any) -> None:
    exported()
    places = ["--runs-dir", str(toy.folder / "runs"), "--leaderboards-dir", str(toy.folder / "boards")]
    words = ["score", "--maps", str(toy.folder / "maps"), "--name", "mine", "--dataset", "phantom", "--limit", str(N)]
    done = CliRunner().invoke(app, [*words, *places], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    with (toy.folder / "boards" / "phantom.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["method"], row["weights"], row["n_ok"], row["sampling"]) == ("mine", "maps", str(N), "")
    assert len(row["weights_version"]) == 12
    folder = toy.folder / "runs" / "phantom" / "mine" / row["run_key"]
    assert json.loads((folder / "manifest.json").read_text())["maps_from"] == str(toy.folder / "maps")
    again = CliRunner().invoke(app, ["score", "mine", "--protocol", "strict", "--smooth", "0", *places])
    assert again.exit_code == 0, again.output
    lacking = CliRunner().invoke(app, [*words[:3], *places])
    assert lacking.exit_code == 2
    assert "--name" in lacking.output
