"""`gtg-bench run --all-controls`."""

from __future__ import annotations

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


def test_every_control_is_run_and_explained(tmp_path: Path) -> None:
    said = called(tmp_path, "--method", "phrase-prior", "--method", "class-prior", "--all-controls", "--limit", "60")
    made = {(spec.method, spec.control) for spec in specs_in(tmp_path / "runs")}
    assert made == {(method, control) for method in ("phrase-prior", "class-prior") for control in CONTROLS}
    assert re.search(r"phrase-prior uses laterality: [^:]*, cnr A - B = \d", said)
    assert re.search(r"No evidence that class-prior uses laterality: [^:]*, cnr is unchanged in all 41 samples", said)
    assert said.count("B: its controls") == 2


def test_the_method_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = MethodEntry.built

    def counted(entry: MethodEntry, settings: object) -> object:
        built.append(entry.name)
        return build(entry, settings)

    monkeypatch.setattr(MethodEntry, "built", counted)
    called(tmp_path, "--method", "class-prior", "--method", "uniform", "--all-controls", "--limit", "5")
    assert built == ["class-prior", "uniform"]


def test_a_control_that_the_data_does_not_allow_is_skipped(tmp_path: Path) -> None:
    said = called(tmp_path, "--method", "class-prior", "--all-controls", "--limit", "1", "--dataset-option", "seed=3")
    assert "side-swap was skipped" in said
    assert {spec.control for spec in specs_in(tmp_path / "runs")} == set(CONTROLS) - {"side-swap"}
    said = called(tmp_path, "--method", "uniform", "--all-controls", "--control", "image-swap", code=2)
    assert "leave out --control image-swap" in said
