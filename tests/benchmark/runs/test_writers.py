"""Several processes on one run: who computes what, who waits for whom, and what one that dies leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.runs.launch import Launch
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.runs.writers import Member, Shard, block, shard_of
from gtg_bench.benchmark.state import warn

ORDER = [f"s{k}" for k in range(30)]


BATCHES: list[list[str]] = []
"""What has been computed."""


class Dead(BaseException):
    """A process ends at once."""


@pytest.fixture
def spec(finished: Callable[..., RunSpec]) -> RunSpec:
    """Describes a run that nobody has begun."""
    return finished(n=1, method="begun-elsewhere")


def launch(
    runs: Path, spec: RunSpec, count: int, fail: dict[int, BaseException] | None = None, size: int = 1
) -> list[Any]:
    """What each of some processes, here threads, returns or raises; those of `fail` raise it at their third batch."""
    barrier, said = Barrier(count, timeout=20), [None] * count

    class Told(Launch):
        def exchange(self, value: Any) -> list[Any]:
            said[self.index] = value
            barrier.wait()
            found = list(said)
            barrier.wait()
            return found

    def work(index: int) -> Any:
        folder = RunFolder(runs, spec)
        member = Member(folder, ORDER, size, Told(index, count, index))
        try:
            with member.claimed(lambda: None):
                todo, _ = member.begun(lambda: (begun(folder), None))
                with member.computing(lambda done, total: None):
                    for number, batch in enumerate(member.batches(todo)):
                        if fail and index in fail and number == 2:
                            raise fail[index]
                        BATCHES.append(batch)
                        folder.append(map(record, batch))
                return list(member.finish().values())
        except BaseException as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def begun(folder: RunFolder) -> list[str]:
    folder.open("cpu", [ORDER], n_total=len(ORDER))
    known = folder.read()
    return [name for name in ORDER if name not in known]


def record(name: str) -> SampleRecord:
    return SampleRecord(name, f"image of {name}", "p", "A", "ok", {"iou": 0.5})


EXPECTED = [record(name) for name in ORDER]


@pytest.mark.parametrize(("text", "found"), [("1/1", (0, 1)), ("3/8", (2, 8)), ("8/8", (7, 8))])
def test_a_shard_is_counted_from_one(text: str, found: tuple[int, int]) -> None:
    assert shard_of(text) == found


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "-1/8", "1.0/8", "1/8/1", ""])
def test_anything_else_is_not_a_shard(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        shard_of(text)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30, 31])
def test_blocks_are_equal_parts(count: int) -> None:
    parts = [block(ORDER, index, count) for index in range(count)]
    assert [name for part in parts for name in part] == ORDER
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("count", [2, 3, 8])
def test_every_process_gets_all_records_in_order(tmp_path: Path, spec: RunSpec, count: int) -> None:
    assert launch(tmp_path, spec, count) == [EXPECTED] * count
    folder = RunFolder(tmp_path, spec)
    assert folder.manifest()["finished"]
    assert sorted(path.name for path in folder.path.iterdir()) == ["manifest.json", "samples.jsonl"]
    assert list(folder.read()) == ORDER


@pytest.mark.parametrize("victim", [0, 1])
def test_the_others_finish_when_one_dies_and_another_number_resumes(tmp_path: Path, spec: RunSpec, victim: int) -> None:
    results = launch(tmp_path, spec, 3, {victim: Dead()})
    assert isinstance(results.pop(victim), Dead)
    assert all(isinstance(error, DataError) for error in results)
    assert f"process {victim + 1} of 3 ended" in str(results[0])
    assert "(8 missing)" in str(results[0])
    folder = RunFolder(tmp_path, spec)
    assert len(folder.read()) == 22
    assert not folder.manifest()["finished"]
    assert launch(tmp_path, spec, 2) == [EXPECTED] * 2


@pytest.mark.parametrize("size", [4, 7, 16])
def test_batches_are_those_of_one_process(tmp_path: Path, spec: RunSpec, size: int) -> None:
    BATCHES.clear()
    launch(tmp_path, spec, 2, {1: Dead()}, size)
    assert launch(tmp_path, spec, 3, size=size) == [EXPECTED] * 3
    assert sorted(BATCHES) == sorted(ORDER[start : start + size] for start in range(0, 30, size))


def test_an_error_is_raised_when_the_others_are_done(tmp_path: Path, spec: RunSpec) -> None:
    results = launch(tmp_path, spec, 3, {2: ValueError("out of memory")})
    assert str(results[2]) == "out of memory"
    assert "process 3 of 3" in str(results[0])
    assert len(RunFolder(tmp_path, spec).read()) == 22


def test_an_error_of_the_first_process_ends_all(tmp_path: Path, spec: RunSpec) -> None:
    RunFolder(tmp_path, spec).path.mkdir(parents=True)
    (RunFolder(tmp_path, spec).path / "manifest.json").write_text('{"spec": {}, "key": ""}')
    results = launch(tmp_path, spec, 2)
    assert ["another run" in str(error) for error in results] == [True, True]


def test_the_last_shard_finishes_the_run(tmp_path: Path, spec: RunSpec) -> None:
    folders = [RunFolder(tmp_path, spec) for _ in range(3)]
    shards = [Shard(folder, ORDER, 5, index, 3) for index, folder in enumerate(folders)]
    found = []
    for index in (2, 0, 1):
        shard = shards[index]
        with shard.claimed(lambda: pytest.fail("shards do not wait for each other")):
            begun(folders[index])
            with shards[(index + 1) % 3].claimed(lambda: pytest.fail("shards do not wait for each other")):
                folders[index].append(map(record, chain(*shard.batches(ORDER))))
            found.append(list(shard.finish()))
    assert found == [ORDER[20:], ORDER[:10] + ORDER[20:], ORDER]
    assert list(folders[0].read()) == ORDER
    assert folders[0].manifest()["finished"]


@pytest.mark.parametrize(("size", "idle"), [(10, False), (11, False), (15, True), (30, True)])
def test_shards_without_a_batch_are_said(
    tmp_path: Path, spec: RunSpec, caplog: pytest.LogCaptureFixture, size: int, idle: bool
) -> None:
    warn.cache_clear()
    for index in range(3):
        Shard(RunFolder(tmp_path, spec), ORDER, size, index, 3)
    assert [("--batch-size" in text) for text in caplog.messages] == [True] * idle


def test_a_run_waits_for_shards(tmp_path: Path, spec: RunSpec) -> None:
    class Busy(Exception):
        pass

    def busy() -> None:
        raise Busy

    shard = Shard(RunFolder(tmp_path, spec), ORDER, 1, 0, 2)
    same = Shard(RunFolder(tmp_path, spec), ORDER, 1, 0, 2)
    with shard.claimed(lambda: None):
        for other in (RunFolder(tmp_path, spec), same):
            with pytest.raises(Busy), other.claimed(busy):
                pass


def start(folder: Path, count: int, words: Sequence[str]) -> list[subprocess.Popen[str]]:
    """The processes of a launch as `torchrun` or `accelerate launch` start them."""
    port = 20000 + os.getpid() % 20000
    common = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "gtg_bench", "run", *words, "--runs-dir", "runs", "--leaderboards-dir", "found"]
    return [
        subprocess.Popen(
            command, cwd=folder, env={**common, "RANK": str(k), "LOCAL_RANK": str(k)}, stderr=subprocess.PIPE, text=True
        )
        for k in range(count)
    ]


@pytest.mark.slow
def test_real_processes_one_of_which_is_killed(tmp_path: Path) -> None:
    words = ["--method", "center-prior", "--limit", "24", "--batch-size", "1"]
    first, victim = start(tmp_path, 2, words)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(path.read_text().count("\n") >= 2 for path in tmp_path.glob("runs/*/*/*/samples-2-of-2.jsonl")):
            break
        time.sleep(0.01)
    victim.kill()
    assert victim.communicate(timeout=120)[1] == ""  # only the first process talks
    assert "process 2 of 2 ended" in first.communicate(timeout=120)[1]
    assert first.returncode == 2
    alone = [sys.executable, "-m", "gtg_bench", "run", *words]
    for runs, found in (("runs", "found"), ("one", "expected")):
        places = ["--runs-dir", runs, "--leaderboards-dir", found]
        subprocess.run([*alone, *places], cwd=tmp_path, check=True, capture_output=True)
    for name in ("phantom.csv", "phantom.by_category.csv"):
        assert (tmp_path / "found" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
