"""quality.csv, and what reads it: Table 4 and the plot of grounding against image quality."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.quality.results import FLOOR, Copies, Quality, Row, Similarity, Value
from gtg_bench.benchmark.report import plots, quality_board
from gtg_bench.benchmark.report.leaderboard import REFERENCE
from gtg_bench.benchmark.report.plots.tradeoff import _tails
from gtg_bench.benchmark.report.quality_board import COLUMNS, NAME, comparable, read, rows_of, update
from gtg_bench.benchmark.report.tables.paper_tables import paper_table
from gtg_bench.benchmark.report.tables.quality_table import quality_cell, quality_document
from gtg_bench.benchmark.report.tables.selection import load, with_quality
from gtg_bench.benchmark.statistics import Estimate

ESTIMATE = Estimate(0.25, 0.2, 0.3, 6, 0, 6)
MADE = {"method": "cxrbert-ldm", "weights": "phantom", "weights_version": "abc", "key": "g1"}
ROWS = (
    Row(FLOOR, "", 50, {"fid": Value(0.34, 0.11, 0.57)}, digest="d0", key="k0"),
    Row(
        "=mine",
        "",
        50,
        {"fid": Value(3.8, 2.1, 5.5), "kid": Value(1.4, 0.7, 2.1, 0.2)},
        Similarity(ESTIMATE, 6, 2, 3),
        Copies(ESTIMATE, 1, ("a.png", "b.png")),
        "d1",
        "k1",
        MADE,
    ),
)
QUALITY = Quality(ROWS, "phantom test", "r", "phantom", "v", 64, "as it is", False, 128, None, "paired", ("a note",))


def test_rows_are_written_read_and_replaced_by_key(tmp_path: Path) -> None:
    path = update(tmp_path, rows_of(QUALITY))
    assert read(path) == sorted(rows_of(QUALITY), key=lambda row: row["images"] != "=mine")
    assert "'=mine" in path.read_text(), "a spreadsheet would run it"
    changed = replace(ROWS[1], values={"fid": Value(9.0)})
    update(tmp_path, rows_of(replace(QUALITY, rows=(changed, replace(changed, key="k2")))))
    assert {row["key"]: row["fid"] for row in read(path)} == {"k0": "0.34", "k1": "9", "k2": "9"}
    (mine,) = [row for row in rows_of(QUALITY) if row["images"] == "=mine"]
    assert (mine["ms_ssim_low"], mine["n_unlike"], mine["near"], mine["n_identical"], mine["kid_spread"]) == (
        *("0.2", "2", "0.25", "1"),
        "0.2",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "another version"),
        (",".join(COLUMNS) + "\n" + "x," * len(COLUMNS), "row 2: is damaged"),
        (",".join(COLUMNS) + "\nx", "row 2: is damaged"),
        ('"', "cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / NAME)
    with pytest.raises(UsageError, match="shipped"):
        update(REFERENCE, [])


def test_only_rows_of_the_same_images_and_number_are_compared() -> None:
    floor, mine = rows_of(QUALITY)
    other = mine | {"method": "clip-ldm", "key": "k3", "images": "other"}
    found = comparable([mine, other, mine | {"n": "900"}, mine | {"category": "Edema"}, floor], "phantom")
    assert [row["images"] for row in found] == [FLOOR, "=mine", "other"]
    assert comparable([mine], "inception") == []


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        ("109.417", "107.1", "111.7", "109.4±2.3"),
        ("0.3412", "0.11", "0.57", "0.34±.23"),
        ("0.00123", "-0.001", "0.0035", "0.0012±.0023"),
        ("61.94", "", "", "61.9"),
        ("0", "0", "0", "0.00±.00"),
        ("3.123e-9", "1e-9", "5.2e-9", "3.1e-09±2.1e-09"),
        ("282397", "-1e6", "2e6", "2.8e+05±1.5e+06"),
    ],
)
def test_a_value_has_as_many_digits_as_its_interval(value: str, low: str, high: str, shown: str) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"fid": value, "fid_low": low, "fid_high": high}
    assert quality_cell(row, "fid").figure == shown


def test_the_floor_is_above_and_notes_name_what_was_compared() -> None:
    found = quality_document(QUALITY)
    assert [line.label for line in found.blocks[0].rows] == [f"{FLOOR} (floor)", "=mine"]
    said = "\n".join(text for _, text in found.notes)
    for part in ("a note", "as it is", "never comparable with published FIDs", "a.png", "1 identical"):
        assert part in said


# beside grounding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped leaderboard, and FIDs of two of its models with the phantom's features."""
    with (REFERENCE / "phantom.csv").open(newline="", encoding="utf-8") as file:
        runs = [row for row in csv.DictReader(file) if row["control"] == "none"]
    (tmp_path / "phantom.csv").write_bytes((REFERENCE / "phantom.csv").read_bytes())
    rows = [rows_of(QUALITY)[0]]
    for number, method in enumerate(("cxrbert-ldm", "clip-ldm"), 1):
        run = next(run for run in runs if run["method"] == method)
        made = {"method": method, "weights": run["weights"], "weights_version": run["weights_version"]}
        values = {"fid": Value(10.0 * number, 9.0 * number, 11.0 * number)}
        rows += rows_of(replace(QUALITY, rows=[Row(method, "", 50, values, key=method, made=made)]))
    update(tmp_path, rows)
    return tmp_path


def test_table_4_takes_the_runs_whose_images_were_measured(folder: Path) -> None:
    board = with_quality(load(folder, "phantom", {}), folder)
    document = paper_table(4, board)
    published, measured = document.blocks
    assert [column.metric for column in measured.columns] == ["fid", "fid_xrv", "fid_phantom", "cnr"]
    assert "fid_phantom" not in [column.metric for column in published.columns]
    cells = {row.label.split(",")[0]: [cell.figure for cell in row.cells] for row in measured.rows}
    assert [cells[name][2] for name in ("Frozen CXR-BERT", "Frozen CLIP", "Learnable CLIP")] == [
        "10.0±1.0",
        "20.0±2.0",
        "-",
    ]
    assert measured.rows[0].cells[3].weights == "phantom"
    assert any("n = 50 on each side; floor 0.34±.23" in text for _, text in document.notes)
    plain = paper_table(4, replace(board, quality=()))
    assert [column.metric for column in plain.blocks[1].columns] == ["fid", "fid_xrv", "cnr"]


def test_the_tradeoff_has_a_point_for_each_model_with_both_numbers(folder: Path) -> None:
    board = with_quality(load(folder, "phantom", {}), folder)
    figure = plots.tradeoff(board, "phantom")
    (axes,) = figure.axes
    points = {bars.get_label(): bars[0].get_xydata()[0] for bars in axes.containers}
    assert {name: x for name, (x, _) in points.items()} == {"cxrbert-ldm": 10, "clip-ldm": 20}
    cell = board.cell(board.runs({"method": "clip-ldm", "weights": "phantom", "layers": "2,3,4,5,7"}), "cnr", "overall")
    assert points["clip-ldm"][1] == pytest.approx(float(cell.exact))
    (floor,) = [line for line in axes.lines if line.get_gid() == "floor"]
    assert floor.get_xdata()[0] == pytest.approx(0.34)
    with pytest.raises(UsageError, match="gtg-bench generate"):
        plots.tradeoff(board, "xrv")
    with pytest.raises(UsageError, match="no run of clip-ldm, cxrbert-ldm"):
        plots.tradeoff(replace(board, rows=()), "phantom")


@pytest.mark.parametrize(
    ("places", "tails"),
    [
        (["a/run/step-1", "a/run/step-2"], ["step-1", "step-2"]),
        (["one/best", "two/best"], ["one/best", "two/best"]),
        (["phantom", "phantom"], ["phantom", "phantom"]),
        (["/a/b/c/d/e", "/z/b/c/d/e"], ["/a/b/c/d/e", "/z/b/c/d/e"]),
    ],
)
def test_points_are_named_by_the_ends_of_their_paths(places: list[str], tails: list[str]) -> None:
    assert _tails(places) == tails


def test_a_floor_alone_is_not_a_model() -> None:
    assert quality_board.of_weights(rows_of(QUALITY)[:1], {"method": "", "weights_version": ""}) is None


def test_the_shipped_rows_fill_in_for_missing_ones(folder: Path, tmp_path: Path) -> None:
    own, shipped = (with_quality(load(place, "phantom", {}), place) for place in (folder, tmp_path / "empty"))
    assert [board.notes[-1].startswith("FIDs measured here: results shipped") for board in (own, shipped)] == [
        False,
        True,
    ]
    assert {row["method"] for row in shipped.quality} == {"", "cxrbert-ldm", "clip-ldm"}
    assert with_quality(own, folder, reference=True).quality == shipped.quality
    assert any(cell.exact for row in paper_table(4, shipped).blocks[1].rows for cell in row.cells[:3])
