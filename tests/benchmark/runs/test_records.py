"""A run's files after damage: others are unaffected, what is lost is named, and the next run mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.runs.lookup import find_run, specs_in
from gtg_bench.benchmark.runs.records import RunFolder, read_records
from gtg_bench.benchmark.runs.spec import RunSpec

Make = Callable[..., RunSpec]


@pytest.fixture
def run(tmp_path: Path, finished: Make) -> RunFolder:
    """A finished run of three samples beside another one."""
    finished(method="other")
    run = RunFolder(tmp_path / "runs", finished(n=3))
    run.write_manifest(run.manifest() | {"n_total": 3})
    return run


@pytest.mark.parametrize("damage", [b"", b"\0" * 99, b"{", b"[]", b'{"spec": 1, "key": ""}', b"\xff\xfe"])
def test_a_damaged_manifest_is_skipped_and_written_again(
    run: RunFolder, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path, runs = run.path / "manifest.json", run.path.parents[2]
    path.write_bytes(damage)
    assert [spec.method for spec in specs_in(runs)] == ["other"]
    assert find_run(runs, "other").spec.method == "other"
    assert caplog.text.count("WARNING") == 1
    assert str(path) in caplog.text
    with pytest.raises(UsageError):
        find_run(runs, "ours")
    run.read()
    run.open("cpu", n_total=3)
    run.finish()
    assert len(find_run(runs, "ours").records) == 3


def test_damaged_lines_are_named_and_removed_by_the_next_run(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    path, runs = run.path / "samples.jsonl", run.path.parents[2]
    whole = run.read()
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + lines[1].replace(b'"ok"', b"1") + lines[2][:-9]
    path.write_bytes(damaged)
    assert list(read_records(run.path)) == ["s0"]
    assert f"{path}: line 2" in caplog.text
    assert "line 3" not in caplog.text  # only torn
    with pytest.raises(DataError, match=r"1 of its 3 samples; rerun"):
        find_run(runs, "ours")
    assert list(run.read()) == ["s0"]
    run.open("cpu")
    assert path.read_bytes() == lines[0]
    assert (run.path / "samples.jsonl.damaged").read_bytes() == damaged
    run.append([whole["s1"], whole["s2"]])
    assert run.read() == whole


def test_a_line_without_an_end_is_kept_if_it_is_whole(run: RunFolder) -> None:
    path, whole = run.path / "samples.jsonl", run.read()
    path.write_bytes(path.read_bytes()[:-1])
    assert run.read() == whole
    run.open("cpu")
    run.append([replace(whole["s0"], sample_id="s3")])
    assert list(run.read()) == ["s0", "s1", "s2", "s3"]
    assert not list(run.path.glob("*.damaged"))


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "1"},
        {"metrics": {"iou": None}},
        {"metrics": {"iou": float("nan")}},
        {"status": "done"},
        {"boxes": [[0, 0, 1]]},
        {"facts": []},
        {"sample_id": 5},
        {"unheard": 1},
    ],
)
def test_a_record_has_its_types(run: RunFolder, change: dict[str, object]) -> None:
    path = run.path / "samples.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]) + "\n")
    assert list(run.read()) == ["s1", "s2"]


def test_names_of_a_manifest_cannot_leave_the_folder(run: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    runs, manifest = run.path.parents[2], run.manifest()
    for name in ("../x", "/x", "..", "a/b"):
        spec = replace(run.spec, dataset=name)
        with pytest.raises(DataError, match="data set"):
            RunFolder(runs, spec)
        place = runs / "evil" / "ours" / spec.key
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps(manifest | {"spec": spec.as_json(), "key": spec.key}))
    (runs / "evil" / "ours" / "moved").mkdir()
    (runs / "evil" / "ours" / "moved" / "manifest.json").write_text(json.dumps(manifest))
    assert {spec.dataset for spec in specs_in(runs)} == {"d"}
    assert caplog.text.count("WARNING") == 5
