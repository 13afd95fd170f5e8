"""`gtg-bench run --all-controls`, and the ranks that `run` writes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.runs.lookup import specs_in
from gtg_bench.benchmark.scoring.controls import CONTROLS


def called(folder: Path, *words: str, code: int = 0) -> str:
    """`gtg-bench run` in a folder: what it prints, on one line."""
    where = ["--runs-dir", str(folder / "runs"), "--leaderboards-dir", str(folder / "boards")]
    done = CliRunner().invoke(app, ["run", *words, *where])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def ranks(folder: Path) -> dict[tuple[str, str], str]:
    """(method, control) -> rank of the phantom's leaderboard."""
    with (folder / "boards" / "phantom.csv").open(newline="") as file:
        return {(row["method"], row["control"]): row["rank_group"] for row in csv.DictReader(file)}


def test_every_control_is_run_and_told_of(tmp_path: Path) -> None:
    said = called(tmp_path, "--method", "phrase-prior", "--method", "class-prior", "--all-controls", "--limit", "25")
    made = {(spec.method, spec.control) for spec in specs_in(tmp_path / "runs")}
    assert made == {(method, control) for method in ("phrase-prior", "class-prior") for control in CONTROLS}
    assert re.search(r"phrase-prior listens to the side: cnr falls by \d", said)
    assert re.search(r"class-prior cannot be shown to listen to the side: cnr is the same everywhere", said)
    assert re.search(r"phrase-prior (cannot be shown to look|looks) at the image: cnr", said)
    assert said.count("plain and changed") == 2
    found = ranks(tmp_path)
    assert found["phrase-prior", "none"] == "1"
    assert {rank for (_, control), rank in found.items() if control != "none"} == {""}


def test_the_method_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = MethodEntry.built

    def counted(entry: MethodEntry, settings: object) -> object:
        built.append(entry.name)
        return build(entry, settings)

    monkeypatch.setattr(MethodEntry, "built", counted)
    called(tmp_path, "--method", "class-prior", "--method", "uniform", "--all-controls", "--limit", "5")
    assert built == ["class-prior", "uniform"]


def test_a_control_that_the_data_does_not_allow_is_passed_over(tmp_path: Path) -> None:
    said = called(tmp_path, "--method", "class-prior", "--all-controls", "--limit", "1", "--dataset-option", "seed=3")
    assert "side-swap was passed over: --control side-swap needs phrases that name one side" in said
    assert {spec.control for spec in specs_in(tmp_path / "runs")} == set(CONTROLS) - {"side-swap"}


def test_all_controls_and_one_of_them_exclude_each_other(tmp_path: Path) -> None:
    said = called(tmp_path, "--method", "uniform", "--all-controls", "--control", "image-swap", code=2)
    assert "leave out --control image-swap" in said


def test_ranks_are_left_alone_where_records_are_gone(tmp_path: Path) -> None:
    called(tmp_path, "--method", "phrase-prior", "--limit", "12")
    assert ranks(tmp_path) == {("phrase-prior", "none"): "1"}
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    said = called(tmp_path, "--method", "center-prior", "--limit", "12")
    assert "Ranks were left as they are: the records of 1 of 2 rows (phrase-prior" in said
    assert ranks(tmp_path) == {("phrase-prior", "none"): "1", ("center-prior", "none"): ""}
