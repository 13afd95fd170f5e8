"""The runner: records, failures, resume, and what may not change a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api import METHODS, DataError, Frame, GroundingMap, MethodSettings, Query, UsageError
from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import MethodCard, PhraseSample, fingerprint, sample_id
from gtg_bench.benchmark.datasets import DATASETS, DatasetEntry
from gtg_bench.benchmark.paths import PlaceError
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.runner import RunRequest, RunResult

SIZE = (40, 30)


def make_sample(image: str, phrase: str, box: tuple[float, float, float, float], category: str = "A") -> PhraseSample:
    """A sample on an image of 40 x 30 pixels; the patient is the first letter of the image's name."""
    return PhraseSample(sample_id(image, category, phrase), image, image[0], None, phrase, category, (box,), SIZE)


class Pictures:
    """A data set of random pictures; those named bad* cannot be read."""

    name = "pictures"
    version = "1"
    rows: Sequence[PhraseSample] = [
        make_sample(f"{'abcd'[i % 4]}{i}", f"left thing {i}", (3, 4, 20, 21), "AB"[i % 2]) for i in range(8)
    ]

    def __init__(self, data_root: Path | None, options: dict[str, str]) -> None:
        self.options = options

    def samples(self, split: str) -> Sequence[PhraseSample]:
        return self.rows

    def image(self, sample: PhraseSample) -> np.ndarray:
        if sample.image_id.startswith("bad"):
            raise DataError(f"{sample.image_id}.png: cannot be read; download it again")
        seed = int.from_bytes(sample.image_id.encode(), "big") % 2**32
        return np.random.default_rng(seed).random((30, 40), dtype=np.float32)


class Noisy:
    """Image plus noise of the query's own seed, in batches; remembers its queries."""

    def __init__(self, settings: MethodSettings) -> None:
        self.seen: list[str] = []

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        self.seen += [query.text for query in queries]
        return [self._one(query) for query in queries]

    def _one(self, query: Query) -> GroundingMap:
        noise = np.random.default_rng(query.seed).random(query.image.shape, dtype=np.float32)
        return GroundingMap(query.image + noise, Frame.original(SIZE))


@pytest.fixture(autouse=True)
def _pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set `pictures` and the method `noisy`."""
    entry = DatasetEntry("random", "unused", ("test",), "", False, "none")
    monkeypatch.setitem(DATASETS, "pictures", replace(entry, target=Pictures))  # type: ignore[arg-type]
    monkeypatch.setattr(METHODS, "_registered", {})
    register(Noisy)


def register(build: Callable[[MethodSettings], Any]) -> None:
    METHODS._registered["noisy"] = MethodEntry("noisy", build, MethodCard("a test", "plug-in"))


def execute(tmp_path: Path, **options: Any) -> RunResult:
    request = RunRequest.of("noisy", dataset="pictures", runs_dir=tmp_path / "runs", **options)
    return runner.run(runner.prepare(request), request)


def test_one_record_per_sample_with_all_metrics_and_its_map(tmp_path: Path) -> None:
    result = execute(tmp_path)
    assert [r.status for r in result.records] == ["ok"] * 8
    assert set(result.records[0].metrics) == {"miou", "iou", "cnr", "top1", "auroc"}
    lines = (result.folder / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["sample_id"] for line in lines] == [r.sample_id for r in result.records]
    assert json.loads((result.folder / "manifest.json").read_text())["key"] == result.spec.key
    for record in result.records:
        kept = MapStore.of_run(result.folder).load(record.sample_id)
        assert fingerprint(kept.values) == record.map_sha256
        assert kept.frame == Frame.original(SIZE)


def test_batch_size_and_order_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = execute(tmp_path / "usual")
    for batch_size in (1, 3, 100):
        other = execute(tmp_path / str(batch_size), batch_size=batch_size)
        assert usual.spec.key == other.spec.key
        assert [r.metrics for r in usual.records] == [r.metrics for r in other.records]
        assert [r.map_sha256 for r in usual.records] == [r.map_sha256 for r in other.records]
    monkeypatch.setattr(Pictures, "rows", Pictures.rows[::-1])
    reverse = execute(tmp_path / "reverse").records
    assert [r.metrics for r in usual.records] == [r.metrics for r in reversed(reverse)]


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    whole = execute(tmp_path / "whole")
    made: list[Noisy] = []

    class Stopped(Noisy):
        def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
            if len(self.seen) >= 4:
                raise KeyboardInterrupt
            return super().ground_batch(queries)

    register(Stopped)
    with pytest.raises(KeyboardInterrupt):
        execute(tmp_path / "parts", batch_size=2)
    register(lambda settings: made.append(Noisy(settings)) or made[-1])  # type: ignore[func-returns-value]
    result = execute(tmp_path / "parts", batch_size=2)
    assert made[0].seen == [f"left thing {i}" for i in range(4, 8)]
    assert result.computed == 4
    assert leaderboard.update(tmp_path / "a", whole.spec, whole.records) == leaderboard.update(
        tmp_path / "b", result.spec, result.records
    )
    assert (tmp_path / "a" / "pictures.csv").read_bytes() == (tmp_path / "b" / "pictures.csv").read_bytes()
    assert execute(tmp_path / "parts").computed == 0


def test_torn_lines_are_scored_again_and_writers_are_merged(tmp_path: Path) -> None:
    before = execute(tmp_path)
    path = before.folder / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    after = execute(tmp_path)
    assert after.computed == 1
    assert [r.metrics for r in after.records] == [r.metrics for r in before.records]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    (before.folder / "samples-node2.jsonl").write_text("".join(lines[2:]))
    assert execute(tmp_path).computed == 0


def test_failures_stay_with_their_sample_and_are_tried_again(tmp_path: Path) -> None:
    class Moody(Noisy):
        def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
            if any(query.text.endswith("3") for query in queries):
                raise RuntimeError("out of\nmemory")
            return super().ground_batch(queries)

    register(Moody)
    result = execute(tmp_path)
    assert [r.status for r in result.records] == ["ok"] * 3 + ["failed"] + ["ok"] * 4
    assert result.records[3].error.startswith("RuntimeError: out of memory (")
    assert "test_runner.py, line " in result.records[3].error
    assert "Traceback" in (result.folder / "errors.log").read_text()
    row = leaderboard.update(tmp_path, result.spec, result.records)
    assert (row["n_total"], row["n_ok"], row["n_failed"]) == ("8", "7", "1")
    register(Noisy)
    again = execute(tmp_path)
    assert again.computed == 1
    assert [r.status for r in again.records] == ["ok"] * 8


def test_fail_fast_stops_at_the_first_failure_and_keeps_earlier_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_sample(name, f"left {name}", (1, 1, 9, 9)) for name in ("a1", "bad1", "b1", "c1")]
    monkeypatch.setattr(Pictures, "rows", rows)
    with pytest.raises(DataError, match=r"--fail-fast: bad1.*bad1\.png"):
        execute(tmp_path, batch_size=1, fail_fast=True)
    again = execute(tmp_path, batch_size=1)
    assert [record.status for record in again.records] == ["ok", "failed", "ok", "ok"]
    assert again.computed < 4


@pytest.mark.parametrize(
    ("sample", "status", "reason"),
    [
        (make_sample("bad1", "x", (0, 0, 4, 4)), "failed", "bad1.png"),
        (make_sample("a1", "  ", (0, 0, 4, 4)), "failed", "phrase"),
        (make_sample("a1", "x", (30, 0, 44, 4)), "failed", "40 x 30"),
        (make_sample("a1", "x", (9, 0, 9, 4)), "failed", "40 x 30"),
        (replace(make_sample("a1", "x", (0, 0, 1, 1)), boxes=()), "failed", "box"),
        # the evaluation frame is the central 30 x 30 of 40 x 30 pixels, columns 5 to 35
        (make_sample("a1", "x", (0, 0, 40, 30)), "unscorable", "frame"),
        (make_sample("a1", "x", (0, 0, 2, 2)), "unscorable", "frame"),
    ],
)
def test_an_invalid_sample_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: PhraseSample, status: str, reason: str
) -> None:
    monkeypatch.setattr(Pictures, "rows", [sample, make_sample("b1", "y", (1, 1, 9, 9))])
    first, second = execute(tmp_path).records
    assert (first.status, first.metrics, second.status) == (status, {}, "ok")
    assert reason in first.error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda query: query.image, "GroundingMap"),
        (lambda query: GroundingMap(query.image, Frame.original((3, 3))), "(3, 3)"),
        (lambda query: GroundingMap(query.image.T, Frame.original(SIZE)), "values.T"),
        (lambda query: GroundingMap(query.image.astype(float), Frame.original(SIZE)), "float64: return values.astype"),
        (lambda query: GroundingMap(query.image * np.float32("nan"), Frame.original(SIZE)), "finite"),
    ],
)
def test_an_invalid_map_fails(tmp_path: Path, answer: Callable[[Query], Any], reason: str) -> None:
    class Odd:
        def ground_batch(self, queries: Sequence[Query]) -> list[Any]:
            return [answer(query) for query in queries]

    register(lambda settings: Odd())
    record = execute(tmp_path, limit=1).records[0]
    assert record.status == "failed"
    assert reason in record.error


@pytest.mark.parametrize("batch", [False, True])
def test_a_method_may_reuse_its_array(tmp_path: Path, batch: bool) -> None:
    """Within a batch, and while the batch before is still being scored."""

    class Reuses(Noisy):
        buffer = np.zeros((30, 40), dtype=np.float32)

        def ground(self, image: np.ndarray, text: str) -> GroundingMap:
            self.buffer[:] = image
            return GroundingMap(self.buffer, Frame.original(SIZE))

        def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
            return [self.ground(query.image, query.text) for query in queries]

    register(Reuses if batch else lambda settings: SimpleNamespace(ground=Reuses(settings).ground))
    result = execute(tmp_path, batch_size=3)
    images = [Pictures(None, {}).image(sample) for sample in Pictures.rows]
    assert [record.map_sha256 for record in result.records] == [fingerprint(image) for image in images]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    path = execute(tmp_path).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spec"]["seed"] = 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="another run"):
        execute(tmp_path)


def test_options_are_checked_before_anything_is_built(tmp_path: Path) -> None:
    register(lambda settings: pytest.fail("built too early"))
    for name, value in (("limit", 0), ("batch_size", 0), ("mask", "x"), ("protocol", "x"), ("unheard", 1)):
        with pytest.raises(UsageError, match=name.replace("_", "-")):
            execute(tmp_path, **{name: value})


def test_a_full_disk_ends_the_run_and_fails_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise PlaceError("maps/a.npz cannot be written (No space left on device)")

    register(Noisy)
    with monkeypatch.context() as patched:
        patched.setattr(runner.MapStore, "save", full)
        with pytest.raises(PlaceError, match="No space left"):
            execute(tmp_path)
    assert {record.status for record in execute(tmp_path).records} == {"ok"}
