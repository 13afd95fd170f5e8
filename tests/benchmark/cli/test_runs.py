"""`gtg-bench runs`: every run is listed, whatever its state, and deleting one leaves no number of it behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.lookup import find_run
from gtg_bench.benchmark.runs.records import RunFolder


@pytest.fixture
def call(tmp_path: Path) -> Any:
    def run(*words: str, code: int = 0, answer: str = "") -> str:
        places = ["--runs-dir", str(tmp_path / "runs")]
        places += ["--leaderboards-dir", str(tmp_path / "boards")] if words[0] in ("rm", "merge") else []
        done = CliRunner().invoke(app, ["runs", *words, *places], input=answer, env={"COLUMNS": "160"})
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_finished_unfinished_failed_and_unreadable_runs_are_listed(toy: Any, call: Any, tmp_path: Path) -> None:
    whole = toy.run()
    prepared = runner.prepare(toy.request(seed=7))
    folder = RunFolder(tmp_path / "runs", prepared.spec)
    folder.open("cpu", n_total=12)
    folder.append([SampleRecord("s", "i", "p", "A", "failed", error="no such image")])
    (whole.folder.parent / "odd").mkdir()
    other = json.loads((whole.folder / "manifest.json").read_text())
    (whole.folder.parent / "old").mkdir()
    (whole.folder.parent / "old" / "manifest.json").write_text(json.dumps(other | {"spec": {"schema": 1}}))
    found = {row["key"]: row for row in json.loads(call("list", "--json"))}
    facts = {key: (row["state"], row["done"], row["failed"], row["total"]) for key, row in found.items()}
    assert facts == {
        whole.spec.key: ("finished", 12, 0, 12),
        prepared.spec.key: ("unfinished", 1, 1, 12),
        "odd": ("unreadable", 0, 0, None),
        "old": ("unreadable", 0, 0, 12),
    }
    assert found[whole.spec.key]["bytes"] == sum(p.stat().st_size for p in whole.folder.rglob("*") if p.is_file())
    assert found[whole.spec.key]["name"] == "toy, seed 4200", "the default protocol is not named"
    text = call("list")
    assert all(key in text for key in found)
    shown = call("show", prepared.spec.key)
    assert "no such image" in shown
    assert "--seed 7" in shown


def test_deleting_a_run_deletes_its_rows_and_nothing_else(toy: Any, call: Any, tmp_path: Path) -> None:
    boards, runs = tmp_path / "boards", [toy.run(), toy.run(protocol="chexlocalize"), toy.run(seed=3)]
    for one in runs:
        leaderboard.update(boards, one.spec, one.records)
    assert runs[1].spec.key in call("rm", runs[0].spec.key, code=1, answer="n\n"), "it reads maps of the other"
    assert runs[0].folder.exists()
    call("rm", runs[0].spec.key, "--yes")
    assert [one.folder.exists() for one in runs] == [False, True, True]
    rows = {path.name: list(csv.DictReader(path.open())) for path in boards.glob("*.csv")}
    keys = {name: {row["run_key"] for row in found} for name, found in rows.items()}
    assert keys == {
        "phantom.csv": {runs[2].spec.key},
        "phantom.by_category.csv": {runs[2].spec.key},
        "phantom.chexlocalize@2.csv": {runs[1].spec.key},
        "phantom.chexlocalize@2.by_category.csv": {runs[1].spec.key},
    }
    assert "'toy'" in call("rm", "toy", "--yes", code=2), "only keys"
    assert find_run(tmp_path / "runs", runs[2].spec.key).spec == runs[2].spec


def test_shards_of_two_folders_are_merged_into_what_one_process_makes(toy: Any, call: Any, tmp_path: Path) -> None:
    whole, boards = toy.run("whole"), tmp_path / "boards"
    leaderboard.update(tmp_path / "expected", whole.spec, whole.records)
    parts = [toy.run(runs, shard=f"{k}/3", batch_size=2) for k, runs in ((3, "runs"), (1, "runs"), (2, "elsewhere"))]
    assert [(len(part.records), part.missing) for part in parts] == [(4, 8), (8, 4), (4, 8)]
    said = call("merge", code=1)
    assert "4 of 12 samples have no record (shard 2/3)" in said
    assert "gtg-bench run --method toy" in said
    assert not boards.exists()
    assert "12 samples merged" in call("merge", "toy", "--from", str(tmp_path / "elsewhere"))
    for name in ("phantom.csv", "phantom.by_category.csv"):
        assert (boards / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    made, expected = ((one.folder / "samples.jsonl").read_text().splitlines() for one in (parts[0], whole))
    assert [json.loads(line) | {"seconds": 0} for line in made] == [json.loads(x) | {"seconds": 0} for x in expected]
    assert len(list(parts[0].folder.glob("maps/*.npz"))) == 12
    assert "no shards" in call("merge")


def test_records_that_contradict_each_other_are_not_merged(toy: Any, call: Any, tmp_path: Path) -> None:
    one, other = toy.run(shard="1/2", batch_size=6), toy.run("elsewhere")
    path = other.folder / "samples.jsonl"
    before, lines = one.folder / "samples-1-of-2.jsonl", path.read_text().splitlines()
    content = before.read_bytes()
    changed = json.loads(lines[0]) | {"map_sha256": "f" * 64}
    path.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    said = call("merge", "--from", str(tmp_path / "elsewhere"), code=2)
    assert f"sample {one.records[0].sample_id} has other map_sha256" in said
    assert before.read_bytes() == content
    assert "itself" in call("merge", "toy", "--from", str(tmp_path / "runs"), code=2)
    assert "not a folder" in call("merge", "--from", "nowhere", code=2)
