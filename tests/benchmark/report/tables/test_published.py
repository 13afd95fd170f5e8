"""The published figures: cell by cell as the paper prints them, and which average they are."""

from __future__ import annotations

import hashlib
import unicodedata
from itertools import groupby
from pathlib import Path

import pytest

from gtg_bench.benchmark.api import DataError
from gtg_bench.benchmark.report.tables import published
from gtg_bench.benchmark.report.tables.published import AVERAGE, Figure, figures, pairs, recomputed

PAPER = Path(__file__).parents[5] / "shared" / "paper.txt"
HEADS = {1: "Table 1: Comparison", 2: "Table 2: Comparison", 3: "Table 3: Comparison", 4: "Table 4: Comparison"}
COMPARED = {1: "6290ac02b902", 2: "b9e434758686", 3: "a7811f765997", 4: "45ce42b181b2"}
"""The start of each file's sha256 as it was compared with the paper, cell by cell."""

METRICS = {1: ["mIoU", "CNR"], 2: ["mIoU", "Top-1", "AUC-ROC", "CNR"], 3: ["mIoU", "CNR"], 4: ["FID", "FIDXRV", "CNR"]}
COLUMNS = {
    1: ["BioVil", "BioVil-L", "CLIPLDM", "CXR-BERTLDM", "+BBM"],
    2: [""],
    3: ["Disease Filtering", "Lexical Filtering", "Linear Bézier", "Quadratic Bézier", "Mixture Bézier"],
    4: [""],
}


def printed(figure: Figure) -> str:
    """A cell as in the paper's text: a spread has no leading zero."""
    return figure.value + (f"±{figure.spread.removeprefix('0')}" if figure.spread else "")


def table_text(number: int) -> list[str]:
    """The lines from a table's caption to far behind its last row."""
    if not PAPER.exists():
        pytest.skip("the paper's text is not available")
    lines = unicodedata.normalize("NFC", PAPER.read_text(encoding="utf-8")).splitlines()
    start = next(i for i, line in enumerate(lines) if HEADS[number] in line)
    return lines[start : start + 70]


@pytest.mark.parametrize("number", published.TABLES)
def test_every_row_and_heading_is_a_line_of_the_paper_in_its_place(number: int) -> None:
    text = table_text(number)
    place = 0
    for (section, row), cells in groupby(figures(number), key=lambda figure: (figure.section, figure.row)):
        wanted = " ".join(map(printed, cells))
        start = text.index(section) if section else place
        found = [i for i, line in enumerate(text[start:], start) if line.startswith(f"{row} ")]
        place = next(i for i in found if i > place)
        assert text[place].removeprefix(f"{row} ").rpartition(") ")[2] == wanted
    assert not any(character.isdigit() for character in text[place + 1].replace("Table", "")), "a row is missing"
    if number in (1, 3):
        assert " ".join(COLUMNS[number]) in text
        assert " ".join(METRICS[number] * 5) in text
    else:
        assert any(found.endswith(f"Model {' '.join(METRICS[number])}") for found in text)


@pytest.mark.parametrize("number", published.TABLES)
def test_the_tables_are_complete(number: int) -> None:
    digest = hashlib.sha256((published.FOLDER / f"table{number}.csv").read_bytes()).hexdigest()
    assert digest[:12] == COMPARED[number]
    cells = figures(number)
    rows = list(dict.fromkeys((figure.section, figure.row) for figure in cells))
    places = [(figure.section, figure.row, figure.column, figure.metric) for figure in cells]
    expected = [(*row, column, metric) for row in rows for column in COLUMNS[number] for metric in METRICS[number]]
    assert places == expected
    assert len(rows) == {1: 9, 2: 24, 3: 9, 4: 3}[number]
    for figure in cells:
        assert figure.table == number
        assert float(figure.value) >= 0
        assert figure.unit == {"CNR": "ratio", "FID": "distance", "FIDXRV": "distance"}.get(figure.metric, "fraction")
        assert bool(figure.spread) == bool(figure.spread_of)
        assert figure.source


def test_sources_spreads_and_pairs_are_those_of_the_captions() -> None:
    sources = {figure.column: figure.source for figure in figures(1)}
    assert sources["BioVil"] == sources["BioVil-L"] == "adopted from Boecking et al. (2022)"
    assert sources["CLIPLDM"] == "reproduced from Dombrowski et al. (2024)"
    assert sources["+BBM"] == "this paper"
    spreads = {figure.column: figure.spread_of for figure in figures(1) if figure.spread}
    assert spreads["BioVil"] == "not stated"
    assert spreads["CXR-BERTLDM"] == "standard deviation of three training runs"
    assert (sum(pairs().values()), len(pairs()), pairs()["Pneumothorax"]) == (1162, 8, 245)


@pytest.mark.parametrize(
    ("table", "column", "metric", "weighting", "value"),
    [
        (1, "CXR-BERTLDM", "mIoU", "frequency2", 0.537),
        (1, "CXR-BERTLDM", "CNR", "frequency2", 1.207),
        (1, "CXR-BERTLDM", "mIoU", "overall", 0.5235),
        (1, "CXR-BERTLDM", "CNR", "overall", 1.290),
        (1, "CLIPLDM", "mIoU", "frequency2", 0.409),
        (1, "BioVil-L", "mIoU", "macro", 0.284),
        (3, "Linear Bézier", "mIoU", "frequency2", 0.5295),
    ],
)
def test_averages_of_the_published_categories(
    table: int, column: str, metric: str, weighting: str, value: float
) -> None:
    found = next(row for row in recomputed(table) if (row.figure.column, row.figure.metric) == (column, metric))
    assert found.values[weighting] == pytest.approx(value, abs=0.0005)


def test_which_weighting_explains_which_average() -> None:
    fits = {(row.figure.table, row.figure.column, row.figure.metric): row.fits for t in (1, 3) for row in recomputed(t)}
    assert len(fits) == 20
    assert recomputed(2) == recomputed(4) == []
    assert {fits[1, column, metric] for column in ("BioVil", "BioVil-L") for metric in ("mIoU", "CNR")} == {("macro",)}
    assert fits.pop((1, "CLIPLDM", "mIoU")) == ("overall", "frequency2"), "it cannot tell the two apart"
    assert fits.pop((3, "Linear Bézier", "mIoU")) == (), "no weighting explains it"
    others = {found for (_, column, _), found in fits.items() if not column.startswith("BioVil")}
    assert others == {("frequency2",)}


@pytest.mark.parametrize(
    ("table", "column", "metric", "tolerance"),
    [(1, "CXR-BERTLDM", "mIoU", 0.01), (1, "+BBM", "CNR", 0.01), (3, "Linear Bézier", "mIoU", 0.001)],
)
def test_rounding_is_allowed_for_and_nothing_more(table: int, column: str, metric: str, tolerance: float) -> None:
    found = next(row for row in recomputed(table) if (row.figure.column, row.figure.metric) == (column, metric))
    assert (found.tolerance, found.figure.row) == (pytest.approx(tolerance), AVERAGE)


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    figures.cache_clear()
    with pytest.raises(DataError, match=r"table4\.csv"):
        figures(4)


def test_leaderboards_are_data_not_code() -> None:
    room = Path(__file__).parents[4] / "leaderboards"
    files = [path for path in room.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert {path.suffix for path in files} == {".csv", ".md"}
    assert published.FOLDER.resolve() == (room / "published").resolve()


# the notes below the tables agree with the published values


def figure_of(table: int, label: str, column: str, metric: str, section: str = "") -> float:
    places = {(f.section, f.row, f.column, f.metric): float(f.value) for f in figures(table)}
    return places[section, label, column, metric]


def test_the_notes_of_table_1() -> None:
    rows = [f.row for f in figures(1) if f.column == "BioVil" and f.metric == "CNR"]

    def lower(one: str, other: str, metric: str) -> list[str]:
        return [name for name in rows if figure_of(1, name, one, metric) < figure_of(1, name, other, metric)]

    assert lower("CXR-BERTLDM", "BioVil", "CNR") == ["Pneumothorax"]
    assert lower("CXR-BERTLDM", "BioVil", "mIoU") == []
    falls = lower("+BBM", "CXR-BERTLDM", "mIoU")
    assert (len(falls), len(rows), falls[-1]) == (8, 9, AVERAGE)
    assert figure_of(3, AVERAGE, "Mixture Bézier", "mIoU") > figure_of(3, AVERAGE, "Lexical Filtering", "mIoU")


def test_the_notes_of_table_2() -> None:
    metrics = ("mIoU", "Top-1", "AUC-ROC", "CNR")
    models = list(dict.fromkeys(f.row for f in figures(2)))
    for metric, digits in (("mIoU", 3), ("CNR", 2)):
        assert round(figure_of(2, "CLIP", "", metric, "GT + CFG"), digits) == figure_of(1, AVERAGE, "CLIPLDM", metric)
        found = round(figure_of(2, "CXR-BERT", "", metric, "GT + CFG"), digits)
        disease, lexical = (figure_of(3, AVERAGE, f"{name} Filtering", metric) for name in ("Disease", "Lexical"))
        assert found == disease != lexical
    for metric in metrics:
        assert figure_of(2, "CXR-CLIP", "", metric, "CFG") == figure_of(2, "CXR-CLIP", "", metric, "Text-Conditioning")
    for mode in ("CFG", "GT-1 + CFG", "GT + CFG"):
        assert all(max(models, key=lambda name: figure_of(2, name, "", m, mode)) == "CXR-BERT" for m in metrics)
    lowest = {m: min(models, key=lambda name: figure_of(2, name, "", m, "Text-Conditioning")) for m in metrics}
    assert [m for m in metrics if lowest[m] == "CXR-BERT"] == ["mIoU", "Top-1"]


def test_the_notes_of_table_4() -> None:
    models = [(float(f.value), figure_of(4, f.row, "", "CNR")) for f in figures(4) if f.metric == "FID"]
    assert sorted(models) == sorted(models, key=lambda pair: pair[1])
    assert round(figure_of(2, "RadBERT", "", "CNR", "GT + CFG"), 2) == 0.84
    assert figure_of(4, "Frozen CXR-BERT", "", "CNR") == 0.84
    assert figure_of(1, AVERAGE, "CXR-BERTLDM", "CNR") == 1.21
    assert figure_of(3, AVERAGE, "Lexical Filtering", "CNR") == 1.24
