"""`gtg-bench score RUN`: stored maps scored again equal a run from scratch, and no model is ever looked up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.metrics.arrays import minmax
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.rescore import Place, Rules, find_stored, prepare_stored, tuned
from gtg_bench.benchmark.runs.runner import PreparedRun, RunResult, run
from gtg_bench.benchmark.runs.tuned_mask import with_best_mask
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS
from gtg_bench.benchmark.scoring.score_map import region_of


def told(result: RunResult) -> list[dict[str, Any]]:
    """All of the records but the time that they took."""
    return [record.as_json() | {"seconds": 0} for record in result.records]


def again(toy: Any, name: str, rules: Rules, place: Place = Place(), processes: int = 1) -> RunResult:  # noqa: B008
    return run(stored(toy, name, rules, place), toy.request(), processes=processes)


def stored(toy: Any, name: str, rules: Rules, place: Place) -> PreparedRun:
    runs = toy.folder / "runs"
    return prepare_stored(runs, find_stored(runs, name), rules, place)


def without_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method's name is not even known any more."""
    monkeypatch.setattr(METHODS, "_registered", {})


@pytest.mark.parametrize("control", ["none", "phrase-swap", "image-swap"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_scored_again_equals_a_run_from_scratch(
    toy: Any, monkeypatch: pytest.MonkeyPatch, name: str, control: str
) -> None:
    first = toy.run(protocol="strict" if name == "gtg" else "gtg", control=control)
    scratch = toy.run("scratch", protocol=name, control=control)
    without_method(monkeypatch)
    found = again(toy, first.spec.key, Rules(name))
    assert told(found) == told(scratch)
    assert (found.spec, found.reused, found.maps_of) == (scratch.spec, 12, first.spec.key)


def test_two_processes_give_the_same_records(toy: Any) -> None:
    first = toy.run()
    one = again(toy, first.spec.key, Rules("strict"))
    two = again(toy, first.spec.key, Rules("strict", mask="otsu"), processes=2)
    scratch = toy.run("scratch", protocol="strict", mask="otsu")
    assert told(two) == told(scratch) != told(one)


def test_a_runs_own_choices_stay_unless_a_protocol_is_named(toy: Any) -> None:
    key = toy.run(frame="original", mask="otsu").spec.key
    kept = stored(toy, key, Rules(uncovered="exclude"), Place()).spec
    assert (kept.protocol, kept.frame, kept.mask, kept.uncovered) == ("gtg", "original", "otsu", "exclude")
    named = stored(toy, key, Rules("gtg"), Place()).spec
    assert (named.frame, named.mask, named.uncovered) == ("crop512", "mixture", "lowest")


def test_a_sample_without_a_map_fails_with_its_reason(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = type(toy).ground_batch

    def moody(self: Any, queries: Any) -> Any:
        if any("effusion" in query.text for query in queries):
            raise RuntimeError("out of memory")
        return ground(self, queries)

    monkeypatch.setattr(type(toy), "ground_batch", moody)
    first = toy.run()
    lost = next(record for record in first.records if record.status == "ok")
    before = set((first.folder / "maps").iterdir())
    for path in before:
        with np.load(path) as archive:
            if MapStore(first.folder).load(lost.sample_id).values.tobytes() == archive["values"].tobytes():
                gone = path
    gone.unlink()
    found = {record.sample_id: record for record in again(toy, first.spec.key, Rules("strict")).records}
    assert found[lost.sample_id].status == "failed"
    assert found[lost.sample_id].error == "no map is stored: `gtg-bench run` computes it"
    assert found[lost.sample_id].facts
    errors = [found[record.sample_id].error for record in first.records if record.status == "failed"]
    assert errors
    assert set(errors) == {"no map is stored: RuntimeError: out of memory"}
    assert sum(record.status == "ok" for record in found.values()) == len(before) - 1


def test_a_damaged_map_fails_with_its_reason(toy: Any) -> None:
    first = toy.run()
    path = sorted((first.folder / "maps").iterdir())[0]
    path.write_bytes(b"torn")
    failed = [record for record in again(toy, first.spec.key, Rules("strict")).records if record.status == "failed"]
    assert len(failed) == 1
    assert f"{path} is damaged" in failed[0].error


def test_other_data_than_the_runs_are_refused(toy: Any) -> None:
    key = toy.run(dataset_options={"seed": "1"}).spec.key
    assert again(toy, key, Rules("strict")).reused == 12, "the manifest says which world"
    with pytest.raises(UsageError, match=f"run {key} was made on other samples than phantom v1 has here"):
        again(toy, key, Rules("strict"), Place(dataset_options={"seed": "2"}))


# which run a name stands for


def test_a_method_with_one_set_of_maps_is_found_by_name(toy: Any) -> None:
    plain, strict = toy.run(), toy.run(protocol="strict")
    runs = toy.folder / "runs"
    assert find_stored(runs, "toy") == plain.spec
    assert find_stored(runs, strict.spec.key) == strict.spec
    other = toy.run(seed=1)
    assert find_stored(runs, "toy:seed=1") == other.spec
    with pytest.raises(UsageError, match=r"toy has 2 runs .*name a setting or a key: .*seed 1"):
        find_stored(runs, "toy")
    with pytest.raises(UsageError, match="unknown run 'toi'; did you mean toy"):
        find_stored(runs, "toi")


# the best threshold of another split


def test_the_best_threshold_is_that_of_the_validation_maps(toy: Any) -> None:
    ours, theirs = toy.run(limit=20), toy.run(limit=15, split="validate")
    runs = toy.folder / "runs"
    prepared = stored(toy, ours.spec.key, Rules("chexlocalize"), Place())
    (best,) = tuned([prepared], [theirs.spec.key], None, runs, Place())
    samples = runner.prepare(toy.request(limit=15, split="validate")).trials
    means = []
    for percent in range(1, 100):
        found = []
        for trial in samples:
            kept = MapStore(theirs.folder).load(trial.sample.sample_id)
            frame = type(kept.frame).original((128, 128))
            values, covered = kept.frame.carry(kept.values, frame)
            values[~covered] = kept.values.min()
            mask, region = minmax(values) > percent / 100, region_of(trial.sample, "original", (128, 128))
            found.append((mask & region).sum() / (mask | region).sum())
        means.append(np.mean(found))
    assert best.spec.mask == f"best:{(int(np.argmax(means)) + 1) / 100:g}"
    fixed = toy.run(limit=20, protocol="chexlocalize", mask=best.spec.mask.removeprefix("best:"))
    result = run(best, toy.request(limit=20))
    assert [record.metrics for record in result.records] == [record.metrics for record in fixed.records]
    assert result.spec.key != fixed.spec.key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test", "limit": 5}, "split that is scored"),
        ({"split": "validate", "seed": 1}, "other settings.*seed 4200 and 1"),
        ({"split": "validate", "control": "phrase-swap"}, "control phrase-swap"),
    ],
)
def test_a_run_that_may_not_choose_the_threshold(toy: Any, options: dict[str, Any], message: str) -> None:
    ours, theirs = toy.run(), toy.run(**options)
    runs = toy.folder / "runs"
    prepared = [stored(toy, one.spec.key, Rules("gtg"), Place()) for one in (ours, theirs)]
    with pytest.raises(UsageError, match=message):
        with_best_mask(prepared[0], prepared[1], runs)


def test_patients_of_the_scored_split_may_not_choose_either(toy: Any) -> None:
    runs = toy.folder / "runs"
    ours, theirs = (runner.prepare(toy.request(split=split)) for split in ("test", "validate"))
    mixed = type(theirs)(theirs.spec, theirs.rules, [*theirs.trials, ours.trials[0]], theirs.map_key, theirs.source)
    with pytest.raises(UsageError, match="1 patients of split validate are in test too"):
        with_best_mask(ours, mixed, runs)
    biovil = runner.prepare(toy.request(protocol="biovil"))
    with pytest.raises(UsageError, match="no metric of protocol biovil asks for a mask"):
        with_best_mask(biovil, theirs, runs)
    with pytest.raises(DataError, match="cannot be chosen without a sample that has a region"):
        with_best_mask(ours, theirs, runs)


# the command


def call(toy: Any, *words: str, code: int = 0) -> str:
    places = ["--runs-dir", str(toy.folder / "runs"), "--leaderboards-dir", str(toy.folder / "boards")]
    done = CliRunner().invoke(app, ["score", *words, *places], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    toy.run(split="validate")
    without_method(monkeypatch)
    text = call(toy, "toy:split=test", "--protocol", "strict")
    assert "protocol strict" in text
    assert "Macro averages over categories" in text
    assert "12 stored maps of run" in text
    assert "12 of 12 were there already" in call(toy, "toy:split=test", "--protocol", "strict")
    call(toy, "toy:split=test", "--mask", "best", "--tune-on", "toy:split=validate")
    assert {path.name for path in (toy.folder / "boards").glob("*.csv")} == {
        f"phantom.{name}{suffix}.csv" for name in ("strict", "gtg+best") for suffix in ("", ".by_category")
    }
    (row,) = rows(toy.folder / "boards" / "phantom.gtg+best.csv")
    assert row["mask"].startswith("best:0.")
    assert (row["n_ok"], row["method"], row["split"]) == ("12", "toy", "test")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name runs, or a folder of maps with --maps DIR"),
        (["toy", "--maps", "."], "name runs, or a folder of maps"),
        (["toy", "--split", "test"], "--maps"),
        (["toy", "--mask", "best"], "--mask best and --tune-on VALIDATION_RUN belong together"),
        (["toy", "--tune-on", "toy"], "--mask best and --tune-on VALIDATION_RUN belong together"),
        (["toy", "--mask", "2"], "threshold from 0 to below 1"),
        (["toy", "--protocol", "biovil", "--mask", "otsu"], "no metric of protocol biovil asks for a mask"),
        (["toy", "--mask", "best", "--tune-on", "toy"], "split that is scored"),
        (["toy", "toy:seed=4200", "--mask", "best", "--tune-on", "toy"], "one --tune-on for each run: 1 for 2 runs"),
        (["nobody"], "unknown run 'nobody'"),
    ],
)
def test_a_wrong_word_is_one_line(toy: Any, words: list[str], message: str) -> None:
    toy.run()
    toy.run(control="phrase-swap")
    assert message in call(toy, *words, code=2)


def test_no_image_of_the_data_is_read(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset

    toy.run()
    monkeypatch.setattr(PhantomDataset, "image", lambda self, sample: pytest.fail("an image was read"))
    assert again(toy, "toy", Rules("strict")).reused == 12


def test_data_that_have_moved_are_asked_for(toy: Any, tmp_path: Path) -> None:
    path = toy.run().folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_root": str(tmp_path / "gone")}))
    with pytest.raises(UsageError, match=r"gone.* --data-root"):
        stored(toy, "toy", Rules(), Place())
    assert stored(toy, "toy", Rules(), Place(tmp_path)).spec == find_stored(tmp_path / "runs", "toy")
