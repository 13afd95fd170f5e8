"""The cache of training data on disk: what goes in comes out, in any process, and damage is noticed and set aside."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.training import bench_shards, shards
from gtg_bench.training.shards import ShardCache

IDENTITY = "0123456789abcdef" * 4


def item(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    mean = torch.randn(2, 3, 4, generator=generator).half()
    return {"mean": mean, "ids": torch.tensor([number, 7], dtype=torch.int32), "mask": torch.tensor([True, False])}


def opened(folder: Path, *groups: range) -> ShardCache:
    """A cache with one shard a group."""
    cache = ShardCache(folder, IDENTITY)
    for count, group in enumerate(groups):
        cache.add({number: item(number) for number in group}, "me", count, 0.5)
    return cache


def check(cache: ShardCache, number: int) -> None:
    for name, tensor in item(number).items():
        found = cache[number][name]
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    written = opened(tmp_path, range(3, 6), range(90, 80, -2))
    for cache in (written, ShardCache(tmp_path, IDENTITY), pickle.loads(pickle.dumps(written))):
        assert sorted(cache) == [3, 4, 5, 82, 84, 86, 88, 90]
        assert (len(cache), 5 in cache, 6 in cache) == (8, True, False)
        assert cache.missing([90, 1, 3, 2, 88]) == [1, 2]
        assert cache.layout == {"mean": ("F16", (2, 3, 4)), "ids": ("I32", (2,)), "mask": ("BOOL", (2,))}
        for number in cache:
            check(cache, number)
        with pytest.raises(KeyError, match="item 6 is not in the cache"):
            cache[6]


def test_files_on_disk(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, IDENTITY, about={"vae": "of a test"})
    cache.add({9: item(9), 4: item(4)}, "host-1", 0, 1.25)
    assert cache.path == tmp_path / IDENTITY[:16]
    facts = json.loads((cache.path / "cache.json").read_text())
    assert (facts["identity"], facts["about"]) == (IDENTITY, {"vae": "of a test"})
    file = cache.path / "shard-host-1-0.safetensors"
    index = json.loads((cache.path / "shard-host-1-0.json").read_text())
    assert (index["numbers"], index["writer"], index["seconds"]) == ([9, 4], "host-1", 1.25)
    assert index["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert torch.equal(load_file(file)["ids"], torch.tensor([[9, 7], [4, 7]], dtype=torch.int32))


def test_what_is_read_can_be_written_to(tmp_path: Path) -> None:
    cache = opened(tmp_path, range(2))
    cache[0]["mean"].zero_()
    check(cache, 0)


def test_another_identity_is_another_folder(tmp_path: Path) -> None:
    opened(tmp_path, range(2))
    other = ShardCache(tmp_path, "f" * 64)
    assert 0 not in other
    with pytest.raises(DataError, match=r"cache\.json is of a cache of something else"):
        ShardCache(tmp_path, IDENTITY[:16] + "f" * 48)
    (other.path / "cache.json").write_text("{")
    with pytest.raises(DataError, match=r"cache\.json is damaged; delete the folder"):
        ShardCache(tmp_path, "f" * 64)
    with pytest.raises(ValueError, match="16 or more hex digits"):
        ShardCache(tmp_path, "../up")


def test_shards_of_others_are_seen(tmp_path: Path) -> None:
    reader, writer = ShardCache(tmp_path, IDENTITY), ShardCache(tmp_path, IDENTITY)
    writer.add({1: item(1)}, "them", 0, 0)
    assert 1 not in reader
    reader.refresh()
    assert 1 in reader
    writer.add({2: item(2)}, "them", 1, 0)
    check(reader, 2)  # a miss looks again


def test_a_shard_without_index_is_not_there(tmp_path: Path) -> None:
    cache = opened(tmp_path, range(2))
    (cache.path / "shard-me-0.json").unlink()
    assert len(ShardCache(tmp_path, IDENTITY)) == 0
    cache.refresh()
    assert 0 not in cache


def test_items_of_another_layout_are_refused(tmp_path: Path) -> None:
    cache = opened(tmp_path, range(2))
    files = sorted(os.listdir(cache.path))
    for wrong in (item(2) | {"ids": torch.zeros(3, dtype=torch.int32)}, {"mean": item(2)["mean"]}):
        with pytest.raises(ValueError, match="item 2 is"):
            cache.add({2: wrong}, "me", 1, 0)
    with pytest.raises(ValueError, match="complex64"):
        cache.add({2: {"mean": torch.zeros(2, dtype=torch.complex64)}}, "me", 1, 0)
    assert sorted(os.listdir(cache.path)) == files


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: flip(file, -1), "is damaged: its sha256"),
        (lambda file: flip(file, 10), "holds {"),
        (cut, "is cut short or damaged: "),
        (lambda file: file.unlink(), "is gone"),
        (lambda file: file.with_suffix(".json").write_text('{"numbers": [0'), "has a damaged index"),
        (lambda file: file.with_suffix(".json").write_text("[]"), "has a damaged index"),
    ],
    ids=["a bit", "header", "cut", "gone", "torn index", "strange index"],
)
def test_damage_is_set_aside_and_named(
    damage: object, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = opened(tmp_path, range(3), range(3, 6)).path / "shard-me-0.safetensors"
    damage(file)  # type: ignore[operator]
    cache = ShardCache(tmp_path, IDENTITY)
    cache.verify(range(6))
    assert sorted(cache) == [3, 4, 5]
    check(cache, 4)
    assert f"{file} {why}" in caplog.text
    assert "set aside, its items count as missing" in caplog.text
    assert not file.exists()
    assert not file.with_suffix(".json").exists()
    assert file.with_suffix(".json.damaged").exists()
    assert why == "is gone" or file.with_suffix(".safetensors.damaged").exists()
    caplog.clear()
    assert sorted(ShardCache(tmp_path, IDENTITY)) == [3, 4, 5]
    assert not caplog.text


def test_a_flipped_bit_is_noticed_when_the_shard_is_first_read(tmp_path: Path) -> None:
    file = opened(tmp_path, range(3)).path / "shard-me-0.safetensors"
    flip(file, -1)
    blind = ShardCache(tmp_path, IDENTITY, verify=False)
    assert set(blind[0]) == {"mean", "ids", "mask"}
    cache = ShardCache(tmp_path, IDENTITY)
    assert len(cache) == 3
    with pytest.raises(DataError, match=r"shard-me-0\.safetensors was damaged and is set aside; start again"):
        cache[0]
    assert len(cache) == 0
    blind.refresh()
    assert len(blind) == 0


def test_of_two_shards_with_an_item_the_sound_one_is_read(tmp_path: Path) -> None:
    opened(tmp_path, range(3), range(2, 5))
    flip(tmp_path / IDENTITY[:16] / "shard-me-0.safetensors", -1)
    cache = ShardCache(tmp_path, IDENTITY)
    assert cache.verify([2]) == ["shard-me-0"]
    assert sorted(cache) == [2, 3, 4]
    check(cache, 2)


def test_each_shard_is_hashed_once_also_by_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path, range(3), range(3, 6))
    hashed: list[str] = []
    plain = shards.Shard.damage

    def damage(shard: shards.Shard, folder: Path) -> str:
        hashed.append(shard.stem)
        return plain(shard, folder)

    monkeypatch.setattr(shards.Shard, "damage", damage)
    cache = ShardCache(tmp_path, IDENTITY)
    assert hashed == []
    for number in (0, 1, 2, 0):
        check(cache, number)
    assert hashed == ["shard-me-0"]
    check(pickle.loads(pickle.dumps(cache)), 1)
    assert hashed == ["shard-me-0"]
    cache.verify(range(6))
    assert hashed == ["shard-me-0", "shard-me-1"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory and open files are counted in /proc")
def test_shards_are_mapped_not_read(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, IDENTITY, verify=False)
    size = 2**19
    for count in range(8):
        rows = {count * 8 + row: {"mean": torch.full((size,), count * 8 + row).float()} for row in range(8)}
        cache.add(rows, "me", count, 0)
    files = len(os.listdir("/proc/self/fd"))
    before = resident()
    assert [int(ShardCache(tmp_path, IDENTITY, verify=False)[number]["mean"][5]) for number in (3, 60)] == [3, 60]
    assert [int(cache[number]["mean"][5]) for number in range(0, 64, 8)] == list(range(0, 64, 8))
    assert resident() - before < 3 * size * 4, "a shard is 8 times that, all are 64 times that"
    assert len(os.listdir("/proc/self/fd")) == files


def resident() -> int:
    """Bytes of this process's memory that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_only_so_many_shards_stay_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_MOST_OPEN", 2)
    cache = opened(tmp_path, *(range(n, n + 1) for n in range(5)))
    for number in (0, 1, 2, 3, 4, 0, 4, 2):
        check(cache, number)
    assert list(cache._open) == ["shard-me-4", "shard-me-2"]


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_workers_read(start: str, tmp_path: Path) -> None:
    cache = opened(tmp_path, range(5), range(5, 10))
    check(cache, 0)
    workers = 1 if start == "spawn" else 2
    loader: Any = DataLoader(cache, 5, num_workers=workers, multiprocessing_context=start)  # type: ignore[arg-type]
    batches = list(loader)
    assert torch.equal(torch.cat([batch["ids"][:, 0] for batch in batches]), torch.arange(10).int())
    assert torch.equal(batches[1]["mean"][2], item(7)["mean"])


def test_leftovers_are_deleted_when_they_are_old(tmp_path: Path) -> None:
    path = opened(tmp_path, range(3)).path
    kept = set(os.listdir(path))
    alone = {"shard-dead-0.safetensors", ".shard-dead-1.77.safetensors", "shard-busy-0.safetensors"}
    for name in alone:
        (path / name).write_bytes(b"half")
    cache, now = ShardCache(tmp_path, IDENTITY), (path / "cache.json").stat().st_mtime
    cache.sweep({"busy"}, now)
    assert set(os.listdir(path)) == kept | alone
    cache.sweep({"busy"}, now + 4000)
    assert set(os.listdir(path)) == kept | {"shard-busy-0.safetensors"}


def test_the_benchmark_measures_every_way(tmp_path: Path) -> None:
    costs = bench_shards.measure(tmp_path, items=8, side=4, chunk=4)
    assert (costs.filled.made, costs.megabytes) == (8, 2 * 4 * 4 * 4 * 2 / 1e6)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    ways = (costs.memory, costs.cache, costs.first, costs.unverified, costs.files)
    assert min(ways) > 0
    assert bench_shards.show(costs).row_count == len(ways)
