"""Leaderboards: means, counts, and what a second run does to the file."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from gtg_bench.benchmark.api import DataError, MethodSettings, SampleRecord
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.run_table import nearest
from gtg_bench.benchmark.runs.spec import RunSpec

SPEC = RunSpec("d", "1", "", "s", "test", None, MethodSettings("m", guidance=16.0))
RECORDS = [
    SampleRecord("1", "i", "p", "A", "ok", {"miou": 0.5, "iou": 0.25, "top1": 1.0, "auroc": 0.75}),
    SampleRecord("2", "i", "p", "A", "ok", {"miou": 0.25, "iou": 0.0, "top1": 0.0, "auroc": 0.5, "cnr": -1.5}),
    SampleRecord("3", "j", "q", "B", "failed", {}, "no image"),
    SampleRecord("4", "j", "q", "B", "unscorable", {}, "region fills the frame"),
]
NEEDED = (
    "dataset dataset_version dataset_options split limit method weights sampling tokens bbm steps last_steps guidance "
    "layers frame protocol control seed n_total n_ok n_unscorable n_failed miou iou cnr top1 auroc "
    "phrase_discrimination run_key"
).split()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_means_are_over_ok_samples_where_the_metric_is_defined(tmp_path: Path) -> None:
    row = leaderboard.update(tmp_path, SPEC, RECORDS)
    assert (row["miou"], row["iou"], row["auroc"]) == ("0.37500", "0.12500", "0.62500")
    assert (row["cnr"], row["n_cnr"], row["phrase_discrimination"], row["n_phrase_discrimination"]) == (
        "-1.50000",
        "1",
        "",
        "0",
    )
    assert [row[f"n_{name}"] for name in ("total", "ok", "unscorable", "failed")] == ["4", "2", "1", "1"]
    assert (row["guidance"], row["limit"], row["run_key"]) == ("16", "", SPEC.key)


def test_bounds_and_other_averages_stand_beside_the_mean(tmp_path: Path) -> None:
    values = {"A": [0.2, 0.4, 0.6], "B": [0.9]}
    records = [
        SampleRecord(f"{name}{k}", f"i{name}{k}", f"p{name}{k}", name, "ok", {"iou": value})
        for name, group in values.items()
        for k, value in enumerate(group)
    ]
    row = leaderboard.update(tmp_path, SPEC, records)
    assert (row["iou"], row["iou_macro"], row["iou_freq2"]) == ("0.52500", "0.65000", "0.45000")
    assert 0.2 <= float(row["iou_low"]) < 0.525 < float(row["iou_high"]) <= 0.9
    assert row["cnr_low"] == row["cnr_macro"] == ""
    one, other = rows(tmp_path / "d.by_category.csv")
    assert float(one["iou_low"]) < 0.4 < float(one["iou_high"])
    assert (other["iou"], other["iou_low"], other["iou_high"]) == ("0.90000", "", "")  # one patient bounds nothing


def test_the_files_have_every_column_and_categories(tmp_path: Path) -> None:
    leaderboard.update(tmp_path, SPEC, RECORDS)
    assert set(NEEDED) <= set(rows(tmp_path / "d.csv")[0])
    parts = rows(tmp_path / "d.by_category.csv")
    assert [(row["category"], row["n_ok"], row["miou"]) for row in parts] == [("A", "2", "0.37500"), ("B", "0", "")]


def test_a_repeated_run_rewrites_the_same_bytes_and_another_adds_a_row(tmp_path: Path) -> None:
    leaderboard.update(tmp_path, SPEC, RECORDS)
    before = (tmp_path / "d.csv").read_bytes()
    leaderboard.update(tmp_path, SPEC, RECORDS)
    assert (tmp_path / "d.csv").read_bytes() == before
    other = dataclasses.replace(SPEC, control="phrase-swap")
    leaderboard.update(tmp_path, other, RECORDS)
    leaderboard.update(tmp_path, dataclasses.replace(SPEC, split="train"), RECORDS)
    found = rows(tmp_path / "d.csv")
    assert len(found) == 3
    near = leaderboard.beside(tmp_path, found[0])
    assert {row["control"] for row in near} == {"none", "phrase-swap"}
    assert {row["split"] for row in near} == {"test"}


def test_a_file_that_is_no_leaderboard_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no leaderboard"):
        leaderboard.update(tmp_path, SPEC, RECORDS)
    assert (tmp_path / "d.csv").read_text() == "a,b\n1,2\n"


# one file a definition


STRICT = dataclasses.replace(SPEC, protocol="strict", frame="original")
VALUES = {"A": [0.2, 0.4, 0.6], "B": [0.9, 0.7]}


def valued(**others: float) -> list[SampleRecord]:
    """Five samples of five patients in two categories: gcnr by hand, and the same other values for each."""
    return [
        SampleRecord(f"{name}{k}", f"i{name}{k}", f"p{name}{k}", name, "ok", {"gcnr": value, **others})
        for name, group in VALUES.items()
        for k, value in enumerate(group)
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "d"),
        ({"frame": "original"}, "d.gtg+original"),
        ({"uncovered": "exclude", "mask": "0.5"}, "d.gtg+exclude+0.5"),
        ({"mask": "best:0.37"}, "d.gtg+best"),
        ({"protocol": "strict", "frame": "original"}, "d.strict"),
        ({"protocol": "chexlocalize", "frame": "original", "mask": "otsu"}, "d.chexlocalize"),
    ],
)
def test_every_definition_has_a_file_of_its_own(tmp_path: Path, changes: dict[str, str], name: str) -> None:
    leaderboard.update(tmp_path, dataclasses.replace(SPEC, **changes), RECORDS)
    assert {path.name for path in tmp_path.glob("*.csv")} == {f"{name}.csv", f"{name}.by_category.csv"}


def test_thresholds_that_were_chosen_for_each_method_stand_beside_each_other(tmp_path: Path) -> None:
    for mask in ("best:0.3", "best:0.4"):
        row = leaderboard.update(
            tmp_path, dataclasses.replace(SPEC, mask=mask, settings=MethodSettings(f"m{mask[-1]}")), RECORDS
        )
    assert [other["mask"] for other in leaderboard.beside(tmp_path, row)] == ["best:0.3", "best:0.4"]


def test_the_columns_and_the_headlines_bounds_are_the_protocols(tmp_path: Path) -> None:
    row = leaderboard.update(tmp_path, STRICT, valued(cnr=1.0))
    (found,) = rows(tmp_path / "d.strict.csv")
    assert "miou" not in found
    assert (found["gcnr"], found["gcnr_macro"], found["gcnr_freq2"]) == ("0.56000", "0.60000", "0.52308")
    assert float(found["gcnr_macro_low"]) < 0.6 < float(found["gcnr_macro_high"])
    assert (found["gcnr_macro_low"], found["gcnr_macro_high"]) != (found["gcnr_low"], found["gcnr_high"])
    assert (found["n_cnr"], found["n_phrase_discrimination"], found["cnr_macro_low"]) == ("5", "0", "1.00000")
    assert (found["ap"], found["phrase_discrimination_macro"]) == ("", "")
    assert "n_gcnr" not in found
    assert "gcnr_freq2_low" not in found
    assert {name: row[name] for name in found if name in row} == {n: v for n, v in found.items() if n in row}
    parts = rows(tmp_path / "d.strict.by_category.csv")
    assert [(part["category"], part["gcnr"]) for part in parts] == [("A", "0.40000"), ("B", "0.80000")]


def test_a_file_of_an_older_layout_is_upgraded(tmp_path: Path) -> None:
    """It had no mask, no version, no bounds; rows of another frame stood in the same file."""
    older = [
        {"dataset": "d", "dataset_version": "1", "split": "test", "method": method, "protocol": "gtg"}
        | {"frame": frame, "uncovered": "lowest", "n_ok": "3", "miou": "0.5", "run_key": key, "category": "A"}
        for method, frame, key in (("old", "crop512", "k1"), ("other", "original", "k2"))
    ]
    for name, dropped in (("d", {"category"}), ("d.by_category", set())):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [field for field in older[0] if field not in dropped], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(older)
    row = leaderboard.update(tmp_path, SPEC, RECORDS)
    assert {other["method"] for other in leaderboard.beside(tmp_path, row)} == {"m", "old"}
    for suffix in ("", ".by_category"):
        here = rows(tmp_path / f"d{suffix}.csv")
        assert {found["method"] for found in here} == {"m", "old"}
        old = next(found for found in here if found["method"] == "old")
        assert (old["mask"], old["protocol_version"], old["miou"], old["miou_low"]) == ("mixture", "1", "0.5", "")
        moved = rows(tmp_path / f"d.gtg+original{suffix}.csv")
        assert [(found["method"], found["miou"]) for found in moved] == [("other", "0.5")]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    leaderboard.update(tmp_path, SPEC, RECORDS)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")} == before


def test_beside_a_run_stand_its_own_settings_the_priors_and_one_row_of_every_other_method() -> None:
    def row(method: str, **fields: str) -> dict[str, str]:
        usual = {"sampling": "gt-cfg", "tokens": "lexical", "bbm": "none", "weights": "phantom", "layers": "3"}
        found = {"method": method, "control": "none", "weights_version": "1", "latent": "", **usual, **fields}
        return {**found, "run_key": "-".join(found.values())}

    ours, mode, control = row("ours"), row("ours", sampling="cfg"), row("ours", control="phrase-swap")
    prior, swapped = row("prior", sampling="", tokens="", bbm=""), row("prior", sampling="", control="phrase-swap")
    chosen = row("other")
    rest = [
        *(row("ours", weights="phantom-quick", weights_version="2"), row("other", layers="all")),
        *(row("other", weights="phantom-quick", weights_version="2"), row("other", sampling="cfg")),
        *(row("other", control="image-swap"), row("other", tokens="disease")),
    ]
    found = nearest([ours, *rest, mode, control, prior, swapped, chosen], [ours], ["prior"])
    assert {one["run_key"] for one in found} == {
        one["run_key"] for one in (ours, mode, control, prior, swapped, chosen)
    }
