"""`gtg-bench score RUN`: rescored maps equal a run from scratch, and no model is ever looked up."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.rescore import Place, Rules, find_stored, prepare_stored, tuned
from gtg_bench.benchmark.runs.runner import PreparedRun, RunResult, run
from gtg_bench.benchmark.runs.tuned import with_best_mask
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS
from gtg_bench.benchmark.scoring.score_map import region_of


def results(result: RunResult) -> list[dict[str, Any]]:
    """The records without their seconds."""
    return [record.as_json() | {"seconds": 0} for record in result.records]


def stored(toy: Any, name: str, rules: Rules = Rules(), place: Place = Place()) -> PreparedRun:  # noqa: B008
    runs = toy.folder / "runs"
    return prepare_stored(runs, find_stored(runs, name), rules, place)


def rescored(toy: Any, name: str, rules: Rules, place: Place = Place(), processes: int = 1) -> RunResult:  # noqa: B008
    return run(stored(toy, name, rules, place), toy.request(), processes=processes)


@pytest.mark.parametrize("control", ["none", "phrase-swap", "image-swap"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_rescored_maps_equal_a_run_from_scratch(
    toy: Any, monkeypatch: pytest.MonkeyPatch, name: str, control: str
) -> None:
    first = toy.run(protocol="biovil" if name == "gtg" else "gtg", control=control)
    scratch = toy.run("scratch", protocol=name, control=control, smooth="0")
    monkeypatch.setattr(METHODS, "_registered", {})  # not even the method's name is known
    monkeypatch.setattr(PhantomDataset, "image", lambda self, sample: pytest.fail("an image was read"))
    found = rescored(toy, first.spec.key, Rules(name, smooth="0"))
    assert results(found) == results(scratch)
    assert (found.spec, found.reused, found.maps_of) == (scratch.spec, 12, first.spec.key)


def test_two_processes_give_the_same_records(toy: Any) -> None:
    first = toy.run()
    one = rescored(toy, first.spec.key, Rules("chexlocalize"))
    two = rescored(toy, first.spec.key, Rules("chexlocalize", mask="0.4"), processes=2)
    scratch = toy.run("scratch", protocol="chexlocalize", mask="0.4")
    assert results(two) == results(scratch) != results(one)


def test_a_runs_own_choices_stay_unless_a_protocol_is_named(toy: Any) -> None:
    key = toy.run(frame="original", mask="otsu").spec.key
    kept = stored(toy, key, Rules(uncovered="exclude")).spec
    assert (kept.protocol, kept.frame, kept.mask, kept.uncovered) == ("gtg", "original", "otsu", "exclude")
    named = stored(toy, key, Rules("gtg")).spec
    assert (named.frame, named.mask, named.uncovered) == ("crop512", "mixture", "lowest")


def test_a_sample_without_an_intact_map_fails_with_its_reason(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = type(toy).ground_batch

    def moody(self: Any, queries: Any) -> Any:
        if any("pneumonia" in query.text for query in queries):
            raise RuntimeError("out of memory")
        return ground(self, queries)

    monkeypatch.setattr(type(toy), "ground_batch", moody)
    first = toy.run()
    lost, torn, *kept = [record.sample_id for record in first.records if record.status == "ok"]
    maps = MapStore.of_run(first.folder)
    for sample, change in ((lost, Path.unlink), (torn, lambda path: path.write_bytes(b"torn"))):
        change(maps.path(sample))
    found = {record.sample_id: record for record in rescored(toy, first.spec.key, Rules("biovil")).records}
    assert found[lost].error.startswith("no map is stored: ")
    assert found[lost].facts
    assert f"{maps.path(torn)} is damaged" in found[torn].error
    errors = {found[record.sample_id].error for record in first.records if record.status == "failed"}
    assert all(error.startswith("no map is stored: RuntimeError: out of memory") for error in errors)
    assert errors
    assert [name for name, record in found.items() if record.status == "ok"] == kept


def test_other_or_moved_data_are_refused(toy: Any, tmp_path: Path) -> None:
    result = toy.run(dataset_options={"seed": "1"})
    key = result.spec.key
    assert rescored(toy, key, Rules("biovil")).reused == 12, "the manifest has the option"
    with pytest.raises(UsageError, match=f"{key}.*other samples.*--dataset-option"):
        stored(toy, key, place=Place(dataset_options={"seed": "2"}))
    path = result.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_root": str(tmp_path / "gone")}))
    with pytest.raises(UsageError, match=r"gone.* --data-root"):
        stored(toy, key)
    assert stored(toy, key, place=Place(tmp_path)).spec == result.spec


def test_a_method_with_one_set_of_maps_is_found_by_name(toy: Any) -> None:
    plain, scored = toy.run(), toy.run(protocol="biovil")
    runs = toy.folder / "runs"
    assert find_stored(runs, "toy") == plain.spec
    assert find_stored(runs, scored.spec.key) == scored.spec
    other = toy.run(seed=1)
    assert find_stored(runs, "toy:seed=1") == other.spec
    with pytest.raises(UsageError, match=r"toy has 2 runs .*seed 1"):
        find_stored(runs, "toy")
    with pytest.raises(UsageError, match="'toi'; did you mean toy"):
        find_stored(runs, "toi")


# The mask "best"


def test_the_best_threshold_maximises_iou_on_the_validation_split(toy: Any) -> None:
    ours, theirs = toy.run(limit=20), toy.run(limit=15, split="validate")
    prepared = stored(toy, ours.spec.key, Rules("chexlocalize"))
    (best,) = tuned([prepared], ["mask"], [theirs.spec.key], None, toy.folder / "runs", Place())
    pairs = []
    for trial in runner.prepare(toy.request(limit=15, split="validate")).trials:
        kept = MapStore.of_run(theirs.folder).load(trial.sample.sample_id)
        values, covered = kept.frame.carry(kept.values, Frame.original((128, 128)))
        values[~covered] = kept.values.min()
        pairs.append((minmax(values), region_of(trial.sample, "original", (128, 128))))
    means = [
        np.mean([((v > k / 100) & region).sum() / ((v > k / 100) | region).sum() for v, region in pairs])
        for k in range(1, 100)
    ]
    assert best.spec.mask == f"best:{(int(np.argmax(means)) + 1) / 100:g}"
    fixed = toy.run(limit=20, protocol="chexlocalize", mask=best.spec.mask.removeprefix("best:"))
    result = run(best, toy.request(limit=20))
    assert [record.metrics for record in result.records] == [record.metrics for record in fixed.records]
    assert result.spec.key != fixed.spec.key


def test_runs_that_must_not_choose_the_threshold(toy: Any) -> None:
    plain = toy.run()
    for options, message in (
        ({"split": "test", "limit": 5}, "split that is scored"),
        ({"split": "validate", "seed": 1}, "settings.*seed 4200 and 1"),
        ({"split": "validate", "control": "phrase-swap"}, "control phrase-swap"),
    ):
        ours, theirs = stored(toy, plain.spec.key), stored(toy, toy.run(**options).spec.key)
        with pytest.raises(UsageError, match=message):
            with_best_mask(ours, theirs, toy.folder / "runs")
    runs = toy.folder / "scratch"
    ours, theirs = (runner.prepare(toy.request(split=split)) for split in ("test", "validate"))
    with pytest.raises(UsageError, match="validate and test share 1 patients"):
        with_best_mask(ours, replace(theirs, trials=[*theirs.trials, ours.trials[0]]), runs)
    with pytest.raises(UsageError, match="biovil"):
        with_best_mask(runner.prepare(toy.request(protocol="biovil")), theirs, runs)
    with pytest.raises(DataError, match="region"):
        with_best_mask(ours, theirs, runs)


# The command


def call(toy: Any, *words: str, code: int = 0) -> str:
    places = ["--runs-dir", str(toy.folder / "runs"), "--leaderboards-dir", str(toy.folder / "boards")]
    done = CliRunner().invoke(app, ["score", *words, *places], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def test_the_command(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    toy.run(split="validate")
    monkeypatch.setattr(METHODS, "_registered", {})
    text = call(toy, "toy:split=test", "--protocol", "chexlocalize")
    assert "protocol chexlocalize" in text
    assert "12 stored maps of run" in text
    assert "12 of 12" in call(toy, "toy:split=test", "--protocol", "chexlocalize")
    call(toy, "toy:split=test", "--mask", "best", "--tune-on", "toy:split=validate")
    assert {path.name for path in (toy.folder / "boards").glob("*.csv")} == {
        f"phantom.{name}{suffix}.csv" for name in ("chexlocalize@2", "gtg@2+best") for suffix in ("", ".by_category")
    }
    with (toy.folder / "boards" / "phantom.gtg@2+best.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["mask"].startswith("best:0.")
    assert (row["n_ok"], row["method"], row["split"]) == ("12", "toy", "test")


def test_invalid_words_are_named_and_exit_with_2(toy: Any) -> None:
    toy.run()
    toy.run(control="phrase-swap")
    for words, message in (
        ([], "--maps DIR"),
        (["toy", "--maps", "."], "--maps DIR"),
        (["toy", "--split", "test"], "--maps"),
        (["toy", "--limit", "0"], "--maps"),
        (["toy", "--mask", "best"], "--tune-on"),
        (["toy", "--tune-on", "toy"], "--tune-on"),
        (["toy", "--mask", "2"], "threshold"),
        (["toy", "--protocol", "biovil", "--mask", "otsu"], "biovil"),
        (["toy", "--mask", "best", "--tune-on", "toy"], "split that is scored"),
        (["toy", "toy:seed=4200", "--mask", "best", "--tune-on", "toy"], "--tune-on per run, not 1 for 2"),
        (["unheard-of"], "'unheard-of'"),
    ):
        text = call(toy, *words, code=2)
        assert text.startswith("error: "), words
        assert message in text, words
