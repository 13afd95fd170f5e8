"""`gtg-bench score --boxes`: files of boxes as runs; a sample without a box is a miss; invalid files name the row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.analysis import comparison
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import GroundingMap, PhraseSample
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.html import write_report
from gtg_bench.benchmark.report.tables.selection import of_boxes
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.external_boxes import prepare_boxes, read_boxes
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.rescore import Place, Rules, prepare_stored
from gtg_bench.benchmark.runs.runner import RunRequest, RunResult
from gtg_bench.benchmark.scoring.protocols import definition

N = 7
COLUMNS = ("image", "phrase", "category", "x1", "y1", "x2", "y2", "score")


def samples() -> list[PhraseSample]:
    return list(open_dataset("phantom", None, {}).samples("test")[:N])


def perfect() -> list[dict[str, Any]]:
    """An entry for each sample, with its true boxes in pixels of the 128 x 128 image."""
    return [
        {"image": s.image_id, "phrase": s.phrase, "category": s.category, "boxes": [list(box) for box in s.boxes]}
        for s in samples()
    ]


def write_json(path: Path, entries: Any) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def write_csv(path: Path, entries: list[dict[str, Any]], scale: float = 1) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in entries:
            named = [one["image"], one["phrase"], one["category"]]
            for k, box in enumerate(one["boxes"] or [[""] * 4]):
                scored = one["scores"][k] if one.get("scores") else ""
                writer.writerow([*named, *(side if side == "" else side * scale for side in box), scored])
    return path


def scored(path: Path, tmp_path: Path, **options: Any) -> RunResult:
    request = RunRequest.of("mine", **{"limit": N, "protocol": "boxes", "runs_dir": tmp_path / "runs", **options})
    return runner.run(prepare_boxes(path, request)[0], request)


def test_perfect_boxes_are_perfect_in_either_format_and_unit_and_have_one_key(tmp_path: Path) -> None:
    entries = perfect()
    assert max(len(one["boxes"]) for one in entries) > 1
    moved = [one | {"image": f"files/p1/{one['image']}.jpg"} for one in reversed(entries)]
    named = [{"sample_id": s.sample_id, "boxes": one["boxes"]} for s, one in zip(samples(), entries, strict=True)]
    paths = [write_json(tmp_path / "a.json", entries), write_json(tmp_path / "b.json", moved)]
    paths += [write_json(tmp_path / "c.JSON", named)]
    paths += [write_csv(tmp_path / "a.csv", entries), write_csv(tmp_path / "b.csv", moved, 1 / 128)]
    results = [scored(path, tmp_path) for path in paths]
    for record in results[0].records:
        assert record.metrics == pytest.approx(dict.fromkeys(record.metrics, 1), abs=1e-6), record
        assert list(record.metrics) == ["matched_iou", "iou", "box_ap10", "box_ap30", "box_ap50", "box_top1"]
    assert len({result.spec.key for result in results}) == 1
    assert [result.computed for result in results] == [N, 0, 0, 0, 0]
    assert (results[0].spec.settings.weights, results[0].spec.images_sha256) == ("boxes", None)


def test_the_key_covers_boxes_scores_and_which_samples_are_answered(tmp_path: Path) -> None:
    entries = perfect()
    changed = [entries, [one | {"scores": [0.5] * len(one["boxes"])} for one in entries], entries[:-1]]
    changed.append([*entries[:-1], entries[-1] | {"boxes": []}])
    changed.append([entries[0] | {"boxes": [[1, 1, 9, 9]]}, *entries[1:]])
    request = RunRequest.of("mine", limit=N)
    keys = [prepare_boxes(write_json(tmp_path / "a.json", one), request)[0].spec.key for one in changed]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("protocol", ["boxes", "gtg", "strict"])
def test_a_sample_without_a_box_is_a_miss_and_never_gets_another_ones_boxes(tmp_path: Path, protocol: str) -> None:
    entries = perfect()
    entries[2]["boxes"] = []
    del entries[4]
    records = scored(write_json(tmp_path / "a.json", entries), tmp_path, protocol=protocol).records
    assert {record.status for record in records} == {"ok"}
    assert [record.metrics["iou"] > 0.9 for record in records] == [True, True, False, True, False, True, True]
    for k, note in ((2, "no box"), (4, "no row")):
        values = {name: value for name, value in records[k].metrics.items() if name not in ("miou", "coverage")}
        assert values == dict.fromkeys(values, 0)
        assert note in records[k].note


def test_the_maps_metrics_are_left_out_and_stored_boxes_can_be_rescored(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", perfect())
    first = scored(path, tmp_path)
    prepared = prepare_stored(tmp_path / "runs", first.spec, Rules("gtg"), Place())
    again = runner.run(prepared, RunRequest.of("mine", runs_dir=tmp_path / "runs"))
    assert again.reused == N
    assert all(list(record.metrics) == ["miou", "iou", "top1"] for record in again.records)
    direct = scored(path, tmp_path, protocol="gtg", runs_dir=tmp_path / "other")
    assert [record.metrics for record in direct.records] == [record.metrics for record in again.records]
    strict = prepare_stored(tmp_path / "runs", first.spec, Rules("strict"), Place())
    assert definition(strict.spec.as_json()) == "strict@4", "in one table with maps that are smoothed by their best"
    kept = MapStore.of_run(first.folder).load(samples()[0].sample_id)
    np.testing.assert_array_equal(kept.answer and kept.answer.boxes, samples()[0].boxes)
    for option in (["--smooth", "0.1"], ["--mask", "otsu"]):
        refused = CliRunner().invoke(app, ["score", first.spec.key, *option, "--runs-dir", str(tmp_path / "runs")])
        assert (refused.exit_code, "answers with boxes" in refused.output) == (2, True)


def test_image_swap_scores_the_same_boxes_on_another_region(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", perfect())
    found = scored(path, tmp_path, control="image-swap").records
    assert all(record.metrics["matched_iou"] < 1 for record in found)


def test_a_stored_answer_that_was_altered_is_noticed(tmp_path: Path) -> None:
    result = scored(write_json(tmp_path / "a.json", perfect()), tmp_path)
    name = samples()[0].sample_id
    path = MapStore.of_run(result.folder).path(name)
    assert path is not None
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"boxes": arrays["boxes"] + 1}))
    with pytest.raises(DataError, match="fingerprint"):
        MapStore.of_run(result.folder).load(name)


def test_a_method_may_answer_with_boxes(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Corner:
        def ground(self, image: Any, text: str) -> GroundingMap:
            return GroundingMap.of_boxes([[-3, 0, 40, 30], [64, 64, 128, 140]], image.shape[::-1], [0.2, 0.8])

    monkeypatch.setattr(type(runner.METHODS.get("toy")), "built", lambda *_: Corner())
    marked = toy.run(limit=2)
    row = leaderboard.update(toy.folder / "boards", marked.spec, marked.records)
    assert (of_boxes(row), row["auroc"], row["iou"] != "") == (True, "", True)
    result = toy.run(protocol="boxes", limit=2)
    assert [record.status for record in result.records] == ["ok", "ok"]
    answer = MapStore.of_run(result.folder).load(result.records[0].sample_id).answer
    np.testing.assert_array_equal(answer.boxes, [[0, 0, 40, 30], [64, 64, 128, 128]])


def test_answers_to_absent_findings_are_counted_and_never_scored(tmp_path: Path) -> None:
    (denied,) = open_dataset("phantom", None, {}).absent_samples("test")[:1]  # type: ignore[attr-defined]
    entries = [*perfect(), {"sample_id": denied.sample_id, "boxes": [[1, 2, 30, 40]]}]
    prepared, answers = prepare_boxes(write_json(tmp_path / "a.json", entries), RunRequest.of("mine", limit=N))
    assert (answers.elsewhere, len(answers.boxes), len(prepared.trials)) == (1, N, N)


def test_the_audit_takes_box_answers_under_a_protocol_that_is_defined_for_them(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", perfect())
    words = ["audit", "--runs-dir", str(tmp_path / "runs"), "--question", "3", "--json"]
    done = CliRunner().invoke(app, [*words, scored(path, tmp_path).spec.key])
    assert done.exit_code == 0, done.output
    page = json.loads(done.stdout)
    assert (page["metric"], page["score"], page["n_scored"]) == ("matched_iou", pytest.approx(1), N)
    refused = CliRunner().invoke(app, [*words, scored(path, tmp_path, protocol="gtg").spec.key])
    assert (refused.exit_code, "cnr is undefined" in refused.output) == (2, True)


def entry(**changes: Any) -> list[dict[str, Any]]:
    """The second entry changed."""
    entries = perfect()
    return [entries[0], entries[1] | changes, *entries[2:]]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (entry(image="nowhere"), r"\[1\]: matches no sample"),
        (entry(phrase="edema of the moon"), r"\[1\]: .*(did you mean|remove)"),
        (entry(boxes=[[5, 5, 200, 20]]), r"\[1\]: .*extends beyond its image of 128 x 128"),
        (entry(boxes=[[200, 5, 210, 20]]), r"\[1\]: .*extends beyond"),
        (entry(boxes=[[50, 5, 40, 20]]), r"\[1\]: .*no area"),
        (entry(boxes=[[5, 5, 5, 20]]), r"\[1\]: .*no area"),
        (entry(boxes=[[5, 5, float("nan"), 20]]), r"\[1\]: x2 is nan"),
        (entry(boxes=[[5, 5, "9", 20]]), r"\[1\]: x2 is '9'"),
        (entry(boxes=[[5, 5, 20]]), r"\[1\]: .*\[x1, y1, x2, y2\]"),
        (entry(boxes=None), r"\[1\]: boxes is None"),
        (entry(boxes=[[5, 5, 9, 9], [5, 5, 9, 9]]), r"\[1\]: .*twice"),
        (entry(boxes=[[0.1, 0.1, 0.4, 0.4]]), r"\[1\]: .*in fractions, but row \[0\]"),
        (entry(scores=[1, 2, 3]), r"\[1\]: scores is"),
        (entry(boxes=[[5, 5, 9, 9]], scores=[0.5]), "has a box without a score"),
        ([*perfect(), perfect()[0]], r"\[7\]: answers the same sample as row \[0\]"),
        ([{"boxes": []}], r"\[0\]: does not name its sample"),
        ([7], r"\[0\]: is 7"),
        ([], "not a list of answers"),
        ({"boxes": []}, "not a list of answers"),
    ],
)
def test_an_invalid_json_file_names_the_row(tmp_path: Path, entries: Any, said: str) -> None:
    path = write_json(tmp_path / "a.json", entries)
    with pytest.raises(DataError, match=rf"a\.json,? ?.*{said}") as caught:
        read_boxes(path, samples(), list)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1,2,,4,"], "row 2: has x1 but no x2"),
        (["1,2,x,4,"], "row 2: x2 is 'x'"),
        (["1,2,inf,4,"], "row 2: x2 is 'inf'"),
        ([",,,,0.5"], "row 2: has a score but no box"),
        (["1,2,30,40,", ",,,,"], "row 3: answers the same sample as row 2"),
        (["1,2,30,40,", "1,2,30,40,"], "row 2.*twice|row 3.*as row 2 twice"),
        (["1,2,30,40,", "0.1,0.2,0.3,0.4,"], "row 3: .*fractions"),
        (["0.1,0.2,0.3,1.4,"], "row 2: .*beyond 1"),
        (["1,2,30,40,0.5", "1,2,30,50,"], "row 3: .*score"),
        ([], "no rows"),
    ],
)
def test_an_invalid_csv_file_names_the_row(tmp_path: Path, lines: list[str], said: str) -> None:
    path, first = tmp_path / "a.csv", samples()[0]
    rows = [f'{first.image_id},"{first.phrase}",{line}' for line in lines]
    path.write_text("\n".join(["image,phrase,x1,y1,x2,y2,score", *rows]))
    with pytest.raises(DataError, match=said):
        read_boxes(path, samples(), list)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe[]", b"<html>", b"[" * 100000, b""])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read_boxes(path, samples(), list)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask": "otsu"}, "--mask"),
        ({"smooth": "0.1"}, "--smooth"),
        ({"control": "phrase-swap"}, "--control"),
        ({"method": "cxrbert-ldm"}, "--name"),
    ],
)
def test_options_for_maps_are_refused(tmp_path: Path, options: dict[str, str], said: str) -> None:
    path = write_json(tmp_path / "a.json", perfect())
    with pytest.raises(UsageError, match=said):
        prepare_boxes(path, RunRequest.of(options.pop("method", "mine"), **options))


def test_the_command_says_what_it_read_and_stands_beside_maps(toy: Any, tmp_path: Path) -> None:
    toy.run(protocol="boxes", limit=N)
    entries = perfect()
    entries[2]["boxes"] = []
    path = write_csv(tmp_path / "a.csv", entries[:-1], 1 / 128)
    places = ["--runs-dir", str(toy.folder / "runs"), "--leaderboards-dir", str(tmp_path / "boards")]
    words = ["score", "--boxes", str(path), "--name", "mine", "--dataset", "phantom", "--limit", str(N), *places]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for said in ("fractions", f"1 of {N} samples are answered without a box", samples()[-1].sample_id, "mine‡"):
        assert said in done.output
    compared = CliRunner().invoke(app, ["compare", "mine", "toy", *places[:2]], env={"COLUMNS": "200"})
    assert compared.exit_code == 0, compared.output
    assert "matched_iou" in compared.output


def test_a_comparison_with_a_map_is_about_a_metric_that_both_have(toy: Any, tmp_path: Path) -> None:
    toy.run(limit=N)
    path, runs = write_json(tmp_path / "a.json", perfect()), toy.folder / "runs"
    scored(path, tmp_path, protocol="gtg", runs_dir=runs)
    found = comparison.make(runs, ["mine", "toy"])
    assert {subject.primary for subject in found.subjects} == {"miou"}
    text = write_report(["mine", "toy"], tmp_path / "report.html", runs).read_text(encoding="utf-8")
    assert "answers with boxes" in text
    assert '"primary":"miou"' in text.replace(" ", "")
