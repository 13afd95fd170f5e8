"""What reading through the cache costs, beside tensors in memory and a file an item.

python -m gtg_bench.training.bench_shards [--items N] [--side S] [--folder DIR]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gtg_bench.training.filling import FillReport, fill
from gtg_bench.training.shards import ShardCache

_IDENTITY = "be" * 32


@dataclass(frozen=True)
class ReadingCosts:
    """Seconds an item, every item read once in random order.

    Attributes:
        filled: what writing took, made of noise.
        memory: rows of tensors in memory, copied.
        first: the cache just opened: every shard is hashed and mapped on the way.
        unverified: the same without hashes.
        cache: once every shard is mapped.
        files: one file an item, with torch.load.
        megabytes: an item.
    """

    filled: FillReport
    memory: float
    first: float
    unverified: float
    cache: float
    files: float
    megabytes: float


def measure(folder: Path, items: int = 4096, side: int = 32, chunk: int = 256) -> ReadingCosts:
    """Measure with latents: `mean` and `std`, float16 [4, side, side].

    Args:
        folder: an empty one, on the disk in question. What was just written is still in the machine's memory: the
            disk itself is not measured.
        items: how many.
        side: of the latents.
        chunk: items a shard.
    """
    torch.manual_seed(0)
    rows = {name: torch.randn(items, 4, side, side).half() for name in ("mean", "std")}

    def row(number: int) -> dict[str, Tensor]:
        return {name: tensor[number].clone() for name, tensor in rows.items()}

    (folder / "files").mkdir()
    for number in range(items):
        torch.save(row(number), folder / "files" / f"{number}.pt")
    cache = ShardCache(folder, _IDENTITY)
    filled = fill(cache, range(items), lambda numbers: {number: row(number) for number in numbers}, chunk)
    order = torch.randperm(items).tolist()
    fresh, blind = ShardCache(folder, _IDENTITY), ShardCache(folder, _IDENTITY, verify=False)
    return ReadingCosts(
        filled=filled,
        memory=_seconds(row, order),
        first=_seconds(fresh.__getitem__, order),
        unverified=_seconds(blind.__getitem__, order),
        cache=_seconds(fresh.__getitem__, order),
        files=_seconds(lambda number: torch.load(folder / "files" / f"{number}.pt", weights_only=True), order),
        megabytes=sum(tensor[0].nbytes for tensor in rows.values()) / 1e6,
    )


def _seconds(read: Callable[[int], Mapping[str, Tensor]], order: list[int]) -> float:
    started = time.perf_counter()
    for number in order:
        read(number)
    return (time.perf_counter() - started) / len(order)


def show(costs: ReadingCosts) -> Table:
    """A row a way of reading, with its time beside that of tensors in memory."""
    table = Table(title=f"{costs.filled.wanted} items of {costs.megabytes * 1000:.1f} kB, random order")
    for column in ("read from", "µs an item", "items a second", "of memory's time"):
        table.add_column(column, justify="left" if column == "read from" else "right")
    ways = {
        "tensors in memory": costs.memory,
        "cache, mapped": costs.cache,
        "cache, first pass": costs.unverified,
        "cache, first pass, verified": costs.first,
        "a file an item, torch.load": costs.files,
    }
    for name, seconds in ways.items():
        table.add_row(name, f"{seconds * 1e6:.1f}", f"{1 / seconds:,.0f}", f"{seconds / costs.memory:.1f}")
    return table


def main() -> None:
    """Measure in a temporary folder and print."""
    parser = argparse.ArgumentParser(description="what reading through the cache of training data costs")
    parser.add_argument("--items", type=int, default=4096)
    parser.add_argument("--side", type=int, default=32, help="of the latents: the phantom's 32, Stable Diffusion's 64")
    parser.add_argument("--folder", type=Path, help="on the disk in question; default: where temporary files lie")
    asked = parser.parse_args()
    with TemporaryDirectory(dir=asked.folder) as folder:
        costs = measure(Path(folder), asked.items, asked.side)
    console = Console()
    console.print(f"written: {costs.filled}", highlight=False)
    console.print(show(costs))


if __name__ == "__main__":
    main()
