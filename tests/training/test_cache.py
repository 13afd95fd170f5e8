"""Encoded items: parts appear whole, nothing is encoded twice, failures are skipped and counted."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.training import cache as caching
from gtg_bench.training.cache import TensorCache, fill

FACTS = {"kind": "test"}


def item(number: int) -> dict[str, torch.Tensor]:
    return {"values": torch.full((2, 3), number, dtype=torch.float16), "flag": torch.tensor(number % 2 == 0)}


class Maker:
    """Counts what it makes; the items of `broken` cannot be made."""

    def __init__(self, *broken: int) -> None:
        self.made: list[int] = []
        self.broken = set(broken)

    def __call__(self, numbers: Sequence[int]) -> dict[int, Any]:
        self.made += numbers
        return {n: ValueError(f"bad\n{n}") if n in self.broken else item(n) for n in numbers}


def check(cache: TensorCache, numbers: Sequence[int]) -> None:
    for number in numbers:
        found = cache[number]
        assert found.keys() == item(number).keys()
        assert all(torch.equal(found[name], value) for name, value in item(number).items())


def test_only_what_is_missing_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "_CHUNK", 3)
    cache, maker, done = TensorCache(tmp_path, FACTS), Maker(), list[int]()
    assert fill(cache, [4, 2, 4, 9, 7], maker, progress=done.append) == set()
    assert (maker.made, done) == ([4, 2, 9, 7], [0, 3, 4])
    assert fill(cache, [7, 1, 2], maker) == set()
    assert maker.made == [4, 2, 9, 7, 1]
    for again in (cache, TensorCache(tmp_path, FACTS), pickle.loads(pickle.dumps(cache))):
        check(again, [1, 2, 4, 7, 9])
    with pytest.raises(KeyError):
        cache[3]
    assert len(cache) == 5
    assert cache.missing([3, 4, 3]) == [3]
    cache[1]["values"].zero_()  # a copy
    check(cache, [1])
    other = TensorCache(tmp_path, {"kind": "other"})
    assert len(other) == 0
    assert json.loads((other.path / "about.json").read_text()) == {"kind": "other"}


def test_what_cannot_be_made_is_skipped_logged_and_tried_again(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path, FACTS)
    assert fill(cache, range(5), Maker(1, 3), name=lambda n: f"image{n}") == {1, 3}
    lines = [json.loads(line) for line in (cache.path / "skipped.jsonl").read_text().splitlines()]
    assert lines == [{"number": n, "id": f"image{n}", "reason": f"bad {n}"} for n in (1, 3)]
    mended = Maker(3)
    assert fill(cache, range(5), mended) == {3}
    assert mended.made == [1, 3]
    check(cache, [0, 1, 2, 4])


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="image0: bad 0"):
        fill(TensorCache(tmp_path, FACTS), [0, 1], Maker(0, 1), name=lambda n: f"image{n}")


def test_a_damaged_part_is_encoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "_CHUNK", 2)
    cache = TensorCache(tmp_path, FACTS)
    fill(cache, range(6), Maker())
    parts = sorted(cache.path.glob("part-*"))
    parts[0].write_bytes(parts[0].read_bytes()[:-5])
    parts[1].write_bytes(b"")
    again, maker = TensorCache(tmp_path, FACTS), Maker()
    fill(again, range(6), maker)
    assert len(maker.made) == 4
    check(again, range(6))


SLOW_FILL = """
import sys, time
from pathlib import Path
import torch
from gtg_bench.training import cache
cache._CHUNK = 4
def make(numbers):
    time.sleep(0.05)
    values = {n: torch.full((2, 3), n, dtype=torch.float16) for n in numbers}
    return {n: {"values": value, "flag": torch.tensor(n % 2 == 0)} for n, value in values.items()}
cache.fill(cache.TensorCache(Path(sys.argv[1]), {"kind": "test"}), range(200), make)
"""


@pytest.mark.slow
def test_a_kill_loses_one_part(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW_FILL, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("part-*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    cache = TensorCache(tmp_path, FACTS)
    there, maker = len(cache), Maker()
    assert 20 <= there < 200
    fill(cache, range(200), maker)
    assert len(maker.made) == 200 - there
    check(cache, range(200))
    assert not list(cache.path.glob(".*part*")) or there


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    """Two processes that know of each other encode half each; a third that does not finds everything done."""
    code = SLOW_FILL.replace("range(200), make)", "range(40), make, accelerator=processes)")
    code = f"from accelerate import Accelerator\nprocesses = Accelerator(cpu=True)\n{code}processes.end_training()\n"
    (tmp_path / "work.py").write_text(code)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launch, str(tmp_path / "work.py"), str(tmp_path / "cache")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cache = TensorCache(tmp_path / "cache", FACTS)
    sizes = [len(caching.load_file(path)["flag"]) for path in cache.path.glob("part-*")]
    assert sorted(sizes) == [4] * 10
    check(cache, range(40))
