"""Filling a cache: only what is asked for, once, by any number of processes, through kills at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.training.claims import Claims
from gtg_bench.training.filling import FillReport, fill
from gtg_bench.training.shards import Item, ShardCache
from gtg_bench.training.skips import SkipLog

IDENTITY = "ab" * 32
FILLER = """
import os, sys, time
import torch
from pathlib import Path
from gtg_bench.training.filling import fill
from gtg_bench.training.shards import ShardCache

folder, count, chunk, pause = Path(sys.argv[1]), *map(float, sys.argv[2:])

def make(numbers):
    with open(folder / "made.log", "a") as log:
        log.write("".join(f"{os.getpid()} {number}\\n" for number in numbers))
    time.sleep(pause)
    items = {n: {"x": torch.tensor([n])} for n in numbers}
    return items | {n: OSError(f"no image {n}") for n in numbers if n % 50 == 49}

def work():
    cache = ShardCache(folder, "ab" * 32)
    report = fill(cache, range(int(count)), make, int(chunk))
    print(report.made, len(report.skipped), report.done, flush=True)
"""
"""Items of any number; every fiftieth cannot be made. What a process begins to make is logged."""


class Maker:
    """Items of any number; remembers the chunks it was asked for."""

    def __init__(self, wrong: Sequence[int] = ()) -> None:
        self.chunks: list[list[int]] = []
        self.wrong: Sequence[int] = wrong

    def __call__(self, numbers: Sequence[int]) -> dict[int, Item | Exception]:
        self.chunks.append(list(numbers))
        return {n: OSError(f"no\nimage {n}") if n in self.wrong else {"x": torch.tensor([n])} for n in numbers}


def cache_in(folder: Path) -> ShardCache:
    return ShardCache(folder, IDENTITY)


def check(folder: Path, numbers: Sequence[int]) -> None:
    cache = cache_in(folder)
    assert sorted(cache) == sorted(numbers)
    assert [int(cache[number]["x"][0]) for number in numbers] == list(numbers)


def test_only_what_is_asked_for_is_made_in_its_order(tmp_path: Path) -> None:
    make, seen = Maker(), list[FillReport]()
    report = fill(cache_in(tmp_path), [70, 3, 150_000, 3, 12, 9], make, chunk=2, progress=seen.append)
    assert make.chunks == [[70, 3], [150_000, 12], [9]]
    assert (report.wanted, report.found, report.made, report.others, report.skipped) == (5, 0, 5, 0, ())
    assert [state.done for state in seen] == [0, 2, 4, 5]
    assert report.bytes == sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert report.per_second == pytest.approx(5 / report.seconds)
    check(tmp_path, [70, 3, 150_000, 12, 9])
    again = fill(cache_in(tmp_path), [12, 13, 9], make, chunk=2)
    assert make.chunks[3:] == [[13]]
    assert (again.wanted, again.found, again.made) == (3, 2, 1)
    assert str(again).startswith("2 of 3 were there, 1 made (0.0 MB, ")


def test_a_full_cache_is_not_written_to(tmp_path: Path) -> None:
    fill(cache_in(tmp_path), range(4), Maker())
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    report = fill(cache_in(tmp_path), range(4), Maker())
    assert (report.found, report.made, str(report)) == (4, 0, "4 of 4 were there")
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == files


def test_what_cannot_be_made_is_logged_and_left_out(tmp_path: Path) -> None:
    names = "abcdefgh"
    make = Maker(wrong=[2, 5])
    report = fill(cache_in(tmp_path), [5, 0, 1, 2, 3], make, 3, name=names.__getitem__)
    assert (report.made, report.skipped, report.done) == (3, (5, 2), 5)
    assert str(report).endswith("2 skipped")
    log = (tmp_path / IDENTITY[:16] / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in log] == [
        {"number": 5, "id": "f", "reason": "no image 5"},
        {"number": 2, "id": "c", "reason": "no image 2"},
    ]
    check(tmp_path, [0, 1, 3])
    later = fill(cache_in(tmp_path), range(8), make, 8)
    assert make.chunks[2:] == [[4, 6, 7]]
    assert (later.found, later.made, later.skipped) == (3, 3, (2, 5))
    make.wrong = [5]
    third = fill(cache_in(tmp_path), range(8), make, 8, retry_skipped=True)
    assert make.chunks[3:] == [[2, 5]]
    assert (third.made, third.skipped) == (1, (5,))
    check(tmp_path, [0, 1, 2, 3, 4, 6, 7])
    attempts = SkipLog(tmp_path / IDENTITY[:16]).read()
    assert {number: len(found) for number, found in attempts.items()} == {5: 2, 2: 1}
    assert fill(cache_in(tmp_path), range(8), make).skipped == (5,)


def test_a_torn_line_of_the_log_is_passed_over(tmp_path: Path) -> None:
    fill(cache_in(tmp_path), range(3), Maker(wrong=[1]))
    log = tmp_path / IDENTITY[:16] / "skipped.jsonl"
    log.write_text(log.read_text() + '{"number": 2, "id')
    report = fill(cache_in(tmp_path), range(5), Maker(wrong=[1, 4]))
    assert report.skipped == (1, 4)
    assert sorted(SkipLog(log.parent).read()) == [1, 4]


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    make = Maker(wrong=range(9))
    with pytest.raises(DataError, match=r"none of the first 4 items can be made\. 3: no image 3"):
        fill(cache_in(tmp_path), [3, 4, 5, 6, 7], make, 4)
    assert SkipLog(tmp_path / IDENTITY[:16]).read() == {}
    make.wrong = ()
    assert fill(cache_in(tmp_path), range(9), make).made == 9


def test_what_make_raises_ends_the_filling_and_frees_the_claim(tmp_path: Path) -> None:
    def broken(numbers: Sequence[int]) -> dict[int, Item | Exception]:
        raise MemoryError("too large")

    with pytest.raises(MemoryError):
        fill(cache_in(tmp_path), range(4), broken)
    assert list(tmp_path.rglob("claims/*.json")) == []
    with pytest.raises(ValueError, match="item 0 was asked for, and neither made nor refused"):
        fill(cache_in(tmp_path), range(4), lambda numbers: {})
    assert fill(cache_in(tmp_path), range(4), Maker()).made == 4


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    fill(cache_in(tmp_path), range(6), Maker(), 2)
    damaged = next(file for file in tmp_path.rglob("*-1.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    make = Maker()
    assert fill(cache_in(tmp_path), [0, 1], make).found == 2, "other shards are not looked at"
    report = fill(cache_in(tmp_path), range(6), make)
    assert make.chunks == [[2, 3]]
    assert (report.found, report.made) == (4, 2)
    check(tmp_path, range(6))


# several processes


def drive(code: str, folder: Path, count: int, chunk: int, pause: float) -> list[str]:
    """What a program prints that forks processes which `work`."""
    command = [sys.executable, "-c", FILLER + code, str(folder), str(count), str(chunk), str(pause)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def makings(folder: Path) -> Counter[int]:
    """How often each item was begun."""
    return Counter(int(line.split()[1]) for line in (folder / "made.log").read_text().splitlines())


TOGETHER = """
for _ in range(2):
    if os.fork() == 0:
        work()
        os._exit(0)
work()
assert [os.wait()[1] for _ in range(2)] == [0, 0]
"""
"""Three processes at once."""


def test_several_processes_share_the_work(tmp_path: Path) -> None:
    reports = [tuple(map(int, line.split())) for line in drive(TOGETHER, tmp_path, 200, 10, 0.1)]
    assert sum(made for made, _, _ in reports) == 196
    assert [report[1:] for report in reports] == [(4, 200)] * 3, "each returns when all is there"
    assert makings(tmp_path) == Counter(range(200)), "nothing is made twice"
    assert sum(made > 0 for made, _, _ in reports) > 1, "nobody shared"
    check_values(tmp_path, 200)
    assert len((tmp_path / IDENTITY[:16] / "skipped.jsonl").read_text().splitlines()) == 4


KILLS = """
import random
chance = random.Random(1)
for _ in range(20):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    time.sleep(chance.uniform(0.005, 0.1))
    os.kill(child, 9)
    assert os.waitpid(child, 0)[1] == 9
"""
"""Twenty processes that are killed at random moments, one after another."""


def test_kills_at_random_moments(tmp_path: Path) -> None:
    drive(KILLS, tmp_path, 1000, 10, 0.02)
    finish(tmp_path, 1000, 20)


STEPS = """
real, left = os.replace, 0

def count_down():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)

def replace(source, target):
    count_down()
    real(source, target)
    count_down()

os.replace = replace
for steps in range(1, 17):
    child = os.fork()
    if child == 0:
        left = steps
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9, steps
"""
"""Processes that are killed before and after each of the first eight files takes its place, one after another."""


def test_kills_at_every_step(tmp_path: Path) -> None:
    drive(STEPS, tmp_path, 300, 10, 0)
    finish(tmp_path, 300, 16)


def finish(folder: Path, count: int, kills: int) -> None:
    """The next process takes over, and no kill has cost more than a chunk of ten."""
    report = fill(cache_in(folder), range(count), Maker(wrong=range(49, count, 50)), 50)
    assert report.done == count
    assert report.skipped == tuple(range(49, count, 50))
    check_values(folder, count)
    assert list(folder.rglob("*.damaged")) == []
    assert report.found > 0
    begun = sum(times for number, times in makings(folder).items() if number % 50 != 49)
    assert begun + report.made <= count - count // 50 + 10 * kills


def check_values(folder: Path, count: int) -> None:
    check(folder, [number for number in range(count) if number % 50 != 49])


# claims


def test_what_others_are_making_is_left_to_them(tmp_path: Path) -> None:
    folder = cache_in(tmp_path).path / "claims"
    other = Claims(folder)
    assert other.take(lambda taken: [0, 1]) == [0, 1]
    states: list[int] = []

    def progress(report: FillReport) -> None:
        states.append(report.done)
        if len(states) == 3:
            with other.held():
                cache_in(tmp_path).add({n: {"x": torch.tensor([n])} for n in (0, 1)}, other.writer, 0, 0)

    make = Maker()
    report = fill(cache_in(tmp_path), range(4), make, progress=progress)
    assert make.chunks == [[2, 3]]
    assert (report.made, report.others, report.done) == (2, 2, 4)
    assert str(report).endswith("2 made by others")
    assert states[:3] == [0, 2, 2]


def claim(folder: Path, age: float, **changes: object) -> Callable[[set[int]], list[int]]:
    """A claim on 0 and 1 whose last heartbeat was `age` seconds ago; returns a chooser that shows what is taken."""
    first = Claims(folder)
    first.take(lambda taken: [0, 1])
    file = folder / f"{first.writer}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    os.utime(file, (time.time() - age,) * 2)
    return lambda taken: sorted(taken)


def test_a_claim_without_heartbeat_is_taken_over(tmp_path: Path) -> None:
    assert Claims(tmp_path).take(claim(tmp_path, age=60, host="elsewhere")) == [0, 1]
    assert Claims(tmp_path).take(claim(tmp_path, age=400, host="elsewhere")) == [0, 1], "the first one is alive"
    assert len(list(tmp_path.glob("*.json"))) == 3, "the dead claim is gone, each take made one"


def test_a_claim_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert Claims(tmp_path).take(claim(tmp_path, age=0, pid=gone.pid)) == []
    assert Claims(tmp_path).take(claim(tmp_path, age=0, pid=gone.pid, host="elsewhere")) == [0, 1]


def test_a_claim_that_lost_its_text_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "them.json").write_text("")
    assert Claims(tmp_path).take(lambda taken: [7]) == [7]
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_the_heart_beats_while_items_are_made(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale=0.2)
    claims.take(lambda taken: [1])
    (file,) = tmp_path.glob("*.json")
    os.utime(file, (0, 0))
    with claims.held():
        deadline = time.monotonic() + 30
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0
    assert not file.exists()
