"""Leaderboards: means, counts, one file per definition, and what a second run does to the file."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gtg_bench.benchmark.api import DataError, MethodSettings, SampleRecord, UsageError
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.leaderboard import REFERENCE, categories_of, columns, path_of
from gtg_bench.benchmark.runs.spec import COLUMNS, RunSpec
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS

SPEC = RunSpec("d", "1", "", "s", None, "test", None, MethodSettings("m", guidance=16.0))
RECORDS = [
    SampleRecord("1", "i", "p", "A", "ok", {"miou": 0.5, "iou": 0.25, "top1": 1.0, "auroc": 0.75}),
    SampleRecord("2", "i", "p", "A", "ok", {"miou": 0.25, "iou": 0.0, "top1": 0.0, "auroc": 0.5, "cnr": -1.5}),
    SampleRecord("3", "j", "q", "B", "failed", {}, "no image"),
    SampleRecord("4", "j", "q", "B", "unscorable", {}, "region fills the frame"),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def valued(metric: str, values: dict[str, list[float]], **others: float) -> list[SampleRecord]:
    """One sample per patient with these values by category."""
    return [
        SampleRecord(f"{name}{k}", f"i{name}{k}", f"p{name}{k}", name, "ok", {metric: value, **others})
        for name, group in values.items()
        for k, value in enumerate(group)
    ]


def test_means_are_over_ok_samples_where_the_metric_is_defined(tmp_path: Path) -> None:
    row = leaderboard.update(tmp_path, SPEC, RECORDS)
    assert (row["miou"], row["iou"], row["auroc"]) == ("0.37500", "0.12500", "0.62500")
    assert (row["cnr"], row["n_cnr"]) == ("-1.50000", "1")
    assert (row["phrase_discrimination"], row["n_phrase_discrimination"]) == ("", "0")
    assert [row[f"n_{name}"] for name in ("total", "ok", "unscorable", "failed")] == ["4", "2", "1", "1"]
    assert (row["guidance"], row["limit"], row["run_key"]) == ("16", "", SPEC.key)
    (found,) = rows(tmp_path / "d.csv")
    assert {*COLUMNS, *PROTOCOLS["gtg"].metrics, "n_total", "run_key"} <= set(found)
    parts = rows(tmp_path / "d.by_category.csv")
    assert [(part["category"], part["n_ok"], part["miou"]) for part in parts] == [("A", "2", "0.37500"), ("B", "0", "")]


def test_intervals_and_other_averages(tmp_path: Path) -> None:
    row = leaderboard.update(tmp_path, SPEC, valued("iou", {"A": [0.2, 0.2, 0.4, 0.6, 0.6], "B": [0.9]}))
    assert (row["iou"], row["iou_macro"], row["iou_freq2"]) == ("0.48333", "0.65000", "0.41923")
    assert 0.2 <= float(row["iou_low"]) < 0.4833 < float(row["iou_high"]) <= 0.9
    assert row["cnr_low"] == row["cnr_macro"] == ""
    one, other = rows(tmp_path / "d.by_category.csv")
    assert float(one["iou_low"]) < 0.4 < float(one["iou_high"])
    assert (other["iou"], other["iou_low"], other["iou_high"]) == ("0.90000", "", "")  # a single patient has no CI


def test_a_protocol_has_its_columns_and_the_interval_of_its_average(tmp_path: Path) -> None:
    strict = replace(SPEC, protocol="strict", protocol_version=3, frame="original")
    leaderboard.update(tmp_path, strict, valued("gcnr", {"A": [0.2, 0.4, 0.6], "B": [0.9, 0.7]}, cnr=1.0))
    (found,) = rows(tmp_path / "d.strict@3.csv")
    assert (found["gcnr"], found["gcnr_macro"], found["gcnr_freq2"]) == ("0.56000", "0.60000", "0.52308")
    assert float(found["gcnr_macro_low"]) < 0.6 < float(found["gcnr_macro_high"])
    assert (found["gcnr_macro_low"], found["gcnr_macro_high"]) != (found["gcnr_low"], found["gcnr_high"])
    assert (found["n_cnr"], found["n_phrase_discrimination"], found["cnr_macro_low"]) == ("5", "0", "1.00000")
    assert (found["ap"], found["phrase_discrimination_macro"]) == ("", "")
    assert not {"miou", "n_gcnr", "gcnr_freq2_low"} & set(found)
    parts = rows(tmp_path / "d.strict@3.by_category.csv")
    assert [(part["category"], part["gcnr"]) for part in parts] == [("A", "0.40000"), ("B", "0.80000")]


def test_a_repeated_run_rewrites_the_same_bytes_and_another_adds_a_row(tmp_path: Path) -> None:
    leaderboard.update(tmp_path, SPEC, RECORDS)
    before = (tmp_path / "d.csv").read_bytes()
    leaderboard.update(tmp_path, SPEC, RECORDS)
    assert (tmp_path / "d.csv").read_bytes() == before
    leaderboard.update(tmp_path, replace(SPEC, control="phrase-swap"), RECORDS)
    leaderboard.update(tmp_path, replace(SPEC, split="train"), RECORDS)
    found = rows(tmp_path / "d.csv")
    assert len(found) == 3
    near = leaderboard.comparable(tmp_path, found[0])
    assert [(row["control"], row["split"]) for row in near] == [("none", "test"), ("phrase-swap", "test")]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "d"),
        ({"protocol_version": 1}, "d.gtg"),
        ({"smooth": "0.06"}, "d.gtg@2+smooth0.06"),
        ({"frame": "original"}, "d.gtg@2+original"),
        ({"uncovered": "exclude", "mask": "0.5"}, "d.gtg@2+exclude+0.5"),
        ({"mask": "best:0.37"}, "d.gtg@2+best"),
        ({"protocol": "strict", "protocol_version": 3, "frame": "original"}, "d.strict@3"),
        ({"protocol": "chexlocalize", "frame": "original", "mask": "otsu"}, "d.chexlocalize@2"),
    ],
)
def test_every_definition_has_its_own_file(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    leaderboard.update(tmp_path, replace(SPEC, **changes), RECORDS)
    assert {path.name for path in tmp_path.glob("*.csv")} == {f"{name}.csv", f"{name}.by_category.csv"}


def test_tuned_thresholds_share_a_file(tmp_path: Path) -> None:
    for mask in ("best:0.3", "best:0.4"):
        spec = replace(SPEC, mask=mask, settings=MethodSettings(f"m{mask[-1]}"))
        row = leaderboard.update(tmp_path, spec, RECORDS)
    assert [other["mask"] for other in leaderboard.comparable(tmp_path, row)] == ["best:0.3", "best:0.4"]


def test_other_files_and_the_shipped_results_are_not_overwritten(tmp_path: Path) -> None:
    header = ",".join([*columns(PROTOCOLS["gtg"]), "rank_group"])
    for text in ("a,b\n1,2\n", f"{header}\n{'1,' * header.count(',')}1\n", "\0" * 99, header.replace(",", "\t")):
        (tmp_path / "d.csv").write_text(text)
        with pytest.raises(DataError, match=r"d\.csv .*column (dataset|rank_group)"):
            leaderboard.update(tmp_path, SPEC, RECORDS)
        assert (tmp_path / "d.csv").read_text() == text
    with pytest.raises(UsageError, match="shipped"):
        leaderboard.update(REFERENCE, SPEC, RECORDS)


def test_a_table_that_a_spreadsheet_program_saved_is_read(tmp_path: Path) -> None:
    spec = replace(SPEC, settings=MethodSettings("m", guidance=7.5, layers="3,4"))
    row = leaderboard.update(tmp_path, spec, RECORDS)
    path = path_of(tmp_path, row)
    (found,) = leaderboard.read(path)
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        texts = {*COLUMNS, "run_key"} - {"guidance"}
        writer.writerow(found)
        writer.writerow(value if name in texts else value.replace(".", ",") for name, value in found.items())
        writer.writerow([""] * len(found))
    assert leaderboard.read(path) == [found]
    leaderboard.update(tmp_path, SPEC, RECORDS)
    assert found in rows(path)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "../x"},
        {"dataset": "other"},
        {"protocol": "strict"},
        {"protocol": "../gtg"},
        {"protocol_version": "one"},
        {"n_ok": ""},
        {"n_total": "9" * 10},
        {"limit": "1.5"},
        {"guidance": "NaN"},
        {"miou": "0.5x"},
        {"cnr_low": "inf"},
        {"run_key": ""},
        {"split": "te\ufffdst"},
    ],
)
def test_a_damaged_row_is_left_out_alone(
    tmp_path: Path, change: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    leaderboard.update(tmp_path, SPEC, RECORDS)
    leaderboard.update(tmp_path, replace(SPEC, split="train"), RECORDS)
    path = tmp_path / "d.csv"
    good, bad = leaderboard.read(path)
    leaderboard.write_csv(path, list(good), [good, bad | change])
    damaged = path.read_bytes()
    assert leaderboard.read(path) == [good]
    assert f"{path}: line 3" in caplog.text
    leaderboard.update(tmp_path, replace(SPEC, limit=3), RECORDS)
    assert {row["limit"] for row in leaderboard.read(path)} == {"", "3"}
    assert (tmp_path / "d.csv.damaged").read_bytes() == damaged
    assert {file.name for file in tmp_path.parent.glob("*.csv")} == set()


@pytest.mark.parametrize("text", ["", "\n", "\ufeff"])
def test_an_empty_file_has_no_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.csv").write_text(text)
    assert leaderboard.read(tmp_path / "d.csv") == []
    leaderboard.update(tmp_path, SPEC, RECORDS)
    assert len(leaderboard.read(tmp_path / "d.csv")) == 1


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("phantom*.csv")), ids=lambda path: path.name)
def test_the_shipped_results_are_leaderboards_of_this_version(path: Path) -> None:
    found = leaderboard.read(path)
    by_category = path.stem.endswith("by_category")
    rules = PROTOCOLS[found[0]["protocol"]]
    assert set(found[0]) == set(columns(rules, by_category))
    for row in found:
        own = path_of(REFERENCE, row)
        assert path == (categories_of(own) if by_category else own)
        assert float(row[f"{rules.primary}_low"] or 0) <= float(row[f"{rules.primary}_high"] or 0)
