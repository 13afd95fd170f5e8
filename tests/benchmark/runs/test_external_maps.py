"""`gtg-bench score --maps`: anybody's maps equal the run that they were exported from; bad input is named."""

from __future__ import annotations

import csv
import json
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
from gtg_bench.benchmark.runs.external_maps import MapsRequest, prepare_maps, read_map, span_frame, without_border
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.runner import RunRequest, RunResult, run
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS

N = 6
SIDES = {"left": "8", "top": "8", "right": "120", "bottom": "120"}
"""What a toy's map spans."""


def samples() -> list[PhraseSample]:
    return list(open_dataset("phantom", None, {}).samples("test")[:N])


def write_npy(path: Path, values: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), values)


def write_double(path: Path, values: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), values.astype(np.float64))


def write_npz(path: Path, values: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), anything=values)


def write_named(path: Path, values: np.ndarray) -> None:
    np.savez(path.with_suffix(".npz"), mask=values > 0, map=values)


def write_png8(path: Path, values: np.ndarray) -> None:
    Image.fromarray(np.round(values * 255).astype(np.uint8)).save(path.with_suffix(".png"))


def write_png16(path: Path, values: np.ndarray) -> None:
    Image.fromarray((np.round(values * 255) * 257).astype(np.uint16)).save(path.with_suffix(".png"))


FORMATS = (write_npy, write_double, write_npz, write_named, write_png8, write_png16)


@pytest.fixture
def exported(toy: Any) -> Callable[..., RunResult]:
    """Writes a toy run's maps into `toy.folder / "maps"`, its index as `change` makes it; returns the run."""

    def export(write: Any = write_npy, change: Callable[[list[dict[str, str]]], Any] | None = None) -> RunResult:
        result: RunResult = toy.run(limit=N)
        folder = toy.folder / "maps"
        folder.mkdir(exist_ok=True)
        rows = []
        for k, sample in enumerate(samples()):
            write(folder / f"m{k}", MapStore(result.folder).load(sample.sample_id).values)
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


def scored(toy: Any, protocol: str = "gtg", **options: Any) -> RunResult:
    asked = MapsRequest(toy.folder / "maps", **{"name": "mine", "dataset": "phantom", "limit": N, **options})
    prepared, _ = prepare_maps(asked, PROTOCOLS[protocol])
    return run(prepared, RunRequest.of("mine", runs_dir=toy.folder / "runs"))


def told(result: RunResult) -> list[dict[str, Any]]:
    """All of the records but the time that they took, and a method's notes, which a file does not have."""
    return [record.as_json() | {"seconds": 0, "note": ""} for record in result.records]


# formats and frames


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_maps_of_each_format_equal_their_run(toy: Any, exported: Any, write: Any) -> None:
    result = exported(write)
    found = scored(toy)
    assert told(found) == told(result)
    assert (found.spec.settings.weights, found.spec.method, found.reused) == ("maps", "mine", 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_by_every_protocol_and_without_reading_a_file_twice(toy: Any, exported: Any, protocol: str) -> None:
    exported()
    scored(toy, "biovil")
    found = scored(toy, protocol)
    assert told(found) == told(toy.run(protocol=protocol, limit=N))
    assert found.reused == (0 if protocol == "biovil" else N)


def test_image_swap_needs_no_other_maps(toy: Any, exported: Any) -> None:
    exported()
    assert told(scored(toy, control="image-swap")) == told(toy.run(control="image-swap", limit=N))


def with_border(path: Path, values: np.ndarray) -> None:
    """The image's 128 x 128 pixels, of which a toy's cell is 7 x 7; NaN where the method did not see."""
    whole = np.full((128, 128), np.nan, np.float32)
    whole[8:120, 8:120] = np.repeat(np.repeat(values, 7, 0), 7, 1)
    np.save(path.with_suffix(".npy"), whole)


def test_nan_at_the_edges_is_what_was_not_seen(toy: Any, exported: Any) -> None:
    def no_sides(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{name: row[name] for name in ("sample_id", "file")} for row in rows]

    exported(with_border, no_sides)
    found = scored(toy, "strict")
    assert {record.status for record in found.records} == {"ok"}
    for record in found.records:
        kept = MapStore(found.folder).load(record.sample_id)
        assert kept.values.shape == (112, 112)
        np.testing.assert_allclose(kept.frame.boxes_to_image([[0, 0, *kept.frame.size]]), [[8, 8, 120, 120]])


def test_a_rectangle_in_fractions_of_a_pixel() -> None:
    frame = span_frame((256, 300), (7.5, 10.25, 200.125, 280))
    corners = frame.boxes_to_image([[0, 0, *frame.size]])
    np.testing.assert_allclose(corners, [[7.5, 10.25, 200.125, 280]], atol=1e-9)
    assert span_frame((256, 300), (0, 0, 256, 300)) == span_frame((256, 300), None) == Frame.original((256, 300))
    with pytest.raises(SampleError, match="lies outside of the image of 256 x 300 pixels"):
        span_frame((256, 300), (256, 0, 300, 20))


@pytest.mark.parametrize("where", [(slice(2, 3), slice(2, 3)), (slice(None), slice(None)), (slice(0, 1), slice(0, 2))])
def test_nan_elsewhere_is_no_border(where: Any) -> None:
    values = np.ones((5, 6), np.float32)
    values[where] = np.nan
    with pytest.raises(SampleError, match=r"holds no number|NaN or infinity among its numbers"):
        without_border(values, Frame.original((60, 50)))


# whose map it is


def test_maps_are_found_by_image_and_phrase(toy: Any, exported: Any) -> None:
    def by_phrase(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        named = zip(rows, samples(), strict=True)
        return [{"image_id": s.image_id, "phrase": s.phrase, "file": row["file"], **SIDES} for row, s in named]

    result = exported(write_npy, by_phrase)
    assert told(scored(toy)) == told(result)


def test_rows_of_another_split_are_counted(toy: Any, exported: Any) -> None:
    other = open_dataset("phantom", None, {}).samples("validate")[0].sample_id
    exported(write_npy, lambda rows: [*rows, rows[0] | {"sample_id": other}])
    asked = MapsRequest(toy.folder / "maps", "mine", "phantom", limit=N)
    assert prepare_maps(asked, PROTOCOLS["gtg"])[1].elsewhere == 1


def test_a_sample_without_a_map_has_failed(toy: Any, exported: Any) -> None:
    def lacking(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        (toy.folder / "maps" / rows[3]["file"]).unlink()
        (toy.folder / "maps" / rows[5]["file"]).write_bytes(b"<html>")
        return rows[1:]

    exported(write_npy, lacking)
    found = scored(toy).records
    assert [k for k, record in enumerate(found) if record.status == "failed"] == [0, 3, 5]
    assert found[0].error.endswith("index.csv has no row for this sample; add one")
    assert "index.csv, row 4: there is no file" in found[3].error
    assert "m3.npy; write it, or correct the row" in found[3].error
    assert "index.csv, row 6" in found[5].error
    assert "write it again" in found[5].error


def test_the_key_has_every_byte_of_the_maps_and_what_they_span(toy: Any, exported: Any) -> None:
    exported()
    keys = [scored(toy).spec.key, scored(toy).spec.key]
    values = np.load(toy.folder / "maps" / "m4.npy")
    values[3, 3] += 0.5
    np.save(toy.folder / "maps" / "m4.npy", values)
    keys.append(scored(toy).spec.key)
    write_index(
        toy.folder / "maps",
        [row | {"left": "9"} for row in csv.DictReader((toy.folder / "maps" / "index.csv").open())],
    )
    keys.append(scored(toy).spec.key)
    assert len(set(keys)) == 3
    assert keys[0] == keys[1]


# damaged input


def broken(**changes: str) -> Callable[[list[dict[str, str]]], list[dict[str, str]]]:
    """Changes the second row, which is line 3 of the file."""
    return lambda rows: [rows[0], rows[1] | changes, *rows[2:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken(sample_id="nobody"), r"index\.csv, row 3: is of no sample of the data set; correct sample_id"),
        (broken(file=""), r"index\.csv, row 3: names no file"),
        (broken(left=""), r"index\.csv, row 3: has top but no left; give all four sides"),
        (broken(left="x"), r"index\.csv, row 3.*left"),
        (broken(right="8"), r"index\.csv, row 3: left is not below right"),
        (lambda rows: [*rows, rows[0]], r"index\.csv, row 8: is of the sample of row 2 as well; leave one"),
        (lambda rows: [{"file": row["file"]} for row in rows], "does not say whose maps they are"),
        (lambda rows: [{"sample_id": row["sample_id"]} for row in rows], r"index\.csv.*file"),
        (lambda rows: [{**row, "sample_id": "", "image_id": "i", "phrase": ""} for row in rows], "does not name its"),
    ],
)
def test_a_broken_index_names_row_and_fix(exported: Any, toy: Any, change: Any, message: str) -> None:
    exported(write_npy, change)
    with pytest.raises(DataError, match=message):
        scored(toy)


def test_a_folder_without_an_index(toy: Any) -> None:
    (toy.folder / "maps").mkdir()
    with pytest.raises(DataError, match=r"index\.csv"):
        scored(toy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cxrbert-ldm"}, "is a method that gtg-bench runs itself; give your maps another name"),
        ({"name": "toy"}, "is a method that gtg-bench runs itself"),
        ({"name": "a/b"}, "letters, digits, dots, dashes and underscores"),
        ({"name": ".."}, "letters, digits, dots, dashes and underscores"),
        ({"control": "phrase-swap"}, "--control phrase-swap changes what a method is told"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"dataset": "fantom"}, "unknown data set 'fantom'"),
    ],
)
def test_what_cannot_be_asked_for(toy: Any, exported: Any, options: dict[str, Any], message: str) -> None:
    exported()
    with pytest.raises(UsageError, match=message):
        scored(toy, **options)


def picture(mode: str, kind: str = "PNG") -> Callable[[Path], None]:
    return lambda path: Image.new(mode, (4, 4)).save(path, format=kind)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.npy", lambda path: np.save(path, np.zeros((2, 3, 4))), r"has the shape \[2, 3, 4\]; a map is \[height"),
        ("a.npy", lambda path: np.save(path, np.zeros((0, 4))), r"has the shape \[0, 4\]"),
        ("a.npy", lambda path: np.save(path, np.array([["x"]])), "not numbers; save it as float32"),
        ("a.npy", lambda path: np.save(path, np.array([[{}]], dtype=object)), "cannot be read"),
        ("a.npy", lambda path: np.save(path, np.zeros((2, 2), complex)), "holds complex128, not numbers"),
        ("a.npy", lambda path: path.write_bytes(b""), "cannot be read"),
        ("a.npz", lambda path: np.savez(path, a=np.zeros((2, 2)), b=np.zeros((2, 2))), "arrays a, b; name one of them"),
        ("a.npz", lambda path: path.write_bytes(b"PK"), "cannot be read"),
        ("a.png", picture("RGB"), "of mode RGB, not a grey PNG of 8 or 16 bit"),
        ("a.png", picture("L", "JPEG"), "a JPEG of mode L, not a grey PNG"),
        ("a.png", lambda path: path.write_text("<html>"), "cannot be read"),
        ("a.tif", lambda path: path.write_text("x"), r"a map is \.npy, \.npz or \.png"),
        ("a.npy", lambda path: None, "there is no file"),
        ("a.npy", lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_what_is_no_map(tmp_path: Path, name: str, make: Any, message: str) -> None:
    make(tmp_path / name)
    with pytest.raises(SampleError, match=message):
        read_map(tmp_path / name)


# the command


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
    again = CliRunner().invoke(app, ["score", "mine", "--protocol", "strict", *places])
    assert again.exit_code == 0, again.output
    lacking = CliRunner().invoke(app, [*words[:3], *places])
    assert lacking.exit_code == 2
    assert "--maps DIR needs --name METHOD and --dataset NAME" in " ".join(lacking.output.split())
