"""`gtg-bench suite`, and `gtg-bench run` with several values of a setting."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gtg_bench.benchmark.cli import app


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def call(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == code, done.output
    return done


def rows(here: Path) -> list[dict[str, str]]:
    with (here / "leaderboards" / "phantom.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_takes_all_combinations_once(here: Path) -> None:
    done = call(
        "run", "-m", "center-prior", "--seed", 1, "--seed", 2, "--seed", 1, "--steps", 3, "--steps", 4, "--limit", 5
    )
    assert sorted(row["seed"] for row in rows(here)) == ["1", "2"]  # a prior has no steps
    assert done.stderr.count("records in") == 2
    assert "center-prior, seed 2:" in done.stderr


def test_a_suite_goes_on_without_what_cannot_run_and_resumes(here: Path) -> None:
    (here / "mine.yaml").write_text(
        "runs:\n- {method: [nosuch, center-prior], seed: [1, 2]}\n- {method: class-prior, control: [none, phrase-swap]}"
    )
    words = ("suite", "mine.yaml", "--limit", 12)
    plan = call(*words, "--plan", code=1).stdout
    assert "nosuch, seed 1 and 1 other run cannot run: unknown method 'nosuch'" in plan
    assert plan.count("to do") == 4
    assert "0 of 4 runs done. The rest takes about" in plan
    assert not (here / "runs").exists()
    done = call(*words, "--report", "report.html", code=1)
    assert done.stderr.count("unknown method") == 1
    assert "nosuch, seed 1 (left out), nosuch, seed 2 (left out)" in done.stderr
    assert "A: class-prior" in done.stdout
    assert (here / "report.html").stat().st_size > 10_000
    assert [(row["method"], row["control"]) for row in rows(here)] == [
        ("center-prior", "none"),
        ("center-prior", "none"),
        ("class-prior", "none"),
        ("class-prior", "phrase-swap"),
    ]
    assert call(*words, code=1).stderr.count("12 of 12 samples were already scored") == 4
    assert "4 of 4 runs done." in call(*words, "--plan", code=1).stdout


def test_a_suite_ends_with_the_papers_table_of_its_own_samples(here: Path) -> None:
    (here / "mine.yaml").write_text("table: 1\nruns: [{method: biovil}]")
    words = ("suite", "mine.yaml", "--out", "made")
    call(*words, "--limit", 3)
    done = call(*words, "--limit", 2)
    assert "first 2 samples" in done.stdout
    with (here / "made" / "table1.csv").open(newline="") as file:
        found = [line for line in csv.DictReader(file) if line["origin"] == "measured" and line["value"]]
    assert {line["n"] for line in found} <= {"1", "2"}
    assert found
    assert {row["limit"] for row in rows(here)} == {"2", "3"}


def test_run_takes_scoring_more_than_once(here: Path) -> None:
    words = ("run", "-m", "class-prior", "--limit", 6, "--smooth", 0, "--smooth", 0.1)
    done = call(*words, "--control", "none", "--control", "phrase-swap")
    assert [row["control"] for row in rows(here)] == ["none", "phrase-swap"]
    assert (here / "leaderboards" / "phantom.gtg@2+smooth0.1.csv").exists()
    assert "class-prior, smooth 0.1, control phrase-swap:" in done.stderr
    assert "leave out --control none" in call(*words, "--control", "none", "--all-controls", code=2).stderr


def test_a_suites_table_is_that_of_its_scoring(here: Path) -> None:
    (here / "mine.yaml").write_text("table: 1\nruns: [{method: biovil}]")
    found = []
    for smooth in ((0,), (0.1,), (0, 0.1)):
        options = [word for sigma in smooth for word in ("--smooth", sigma)]
        done = call("suite", "mine.yaml", "--limit", 2, *options, "--out", "made.csv")
        assert ("smooth 0.1" in done.stdout) == (0.1 in smooth)
        with (here / "made.csv").open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["origin"] == "measured"]
        found.append([(line["data"], line["value"]) for line in lines if line["value"]])
    plain, smoothed, both = found
    assert plain
    assert smoothed
    assert {value for _, value in plain} != {value for _, value in smoothed}
    assert both == plain + smoothed


def test_a_mask_is_for_protocols_that_use_one(here: Path) -> None:
    (here / "mine.yaml").write_text("table: 1\nruns: [{method: biovil, protocol: [gtg, biovil]}]")
    words, found = ("suite", "mine.yaml", "--limit", 2, "--out", "made.csv"), []
    for mask in ((), ("--mask", "otsu")):
        call(*words, *mask)
        with (here / "made.csv").open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["origin"] == "measured" and line["value"]]
        found.append({name: [line["value"] for line in lines if line["metric"] == name] for name in ("mIoU", "CNR")})
    assert found[0]["mIoU"] != found[1]["mIoU"]
    assert found[0]["CNR"] == found[1]["CNR"] != []
    assert "protocol biovil" in call(*words, "--mask", "otsu", "--protocol", "biovil", code=2).stderr


def test_suites_are_listed_and_unknown_ones_refused(here: Path) -> None:
    assert "table2       24" in call("suite").stdout
    assert "did you mean table2" in call("suite", "tabel2", code=2).stderr
    (here / "mine.yaml").write_text("runs: [{method: uniform, sampel: 1}]")
    assert "did you mean sampling" in call("suite", "mine.yaml", code=2).stderr
