"""Encoded items on disk: made once, in safetensors parts that appear whole, shared by processes and later runs.

    FOLDER/IDENTITY/about.json            what the items were made of
                    part-NAME.safetensors some items, stacked by name, with their numbers
                    skipped.jsonl         items that could not be made by the last call, and why

Not Hugging Face `datasets`: one `map` per part would do the same, but needs four more packages, and a row in torch
format takes many times as long to read as a row of a memory-mapped tensor.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import atomic, write_text

Item = Mapping[str, Tensor]
"""The tensors of one item by name; all items of a cache have the same names, shapes and types."""

Make = Callable[[Sequence[int]], Mapping[int, Item | Exception]]
"""Encodes items; one that cannot be made is an exception in its place."""

_NUMBERS = "__number__"
_CHUNK = 256
"""Items per part: at most this many are lost if the process is killed."""


class TensorCache:
    """Items that were encoded from one data set in one way: `cache[number] -> {name: Tensor}`.

    Args:
        folder: holds the caches of any number of identities.
        facts: JSON values that change with whatever changes an item; their digest names the sub-folder.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.path = folder / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        self._parts: dict[str, dict[str, Tensor]] = {}
        self._places: dict[int, tuple[str, int]] = {}
        if not (self.path / "about.json").exists():
            write_text(self.path / "about.json", json.dumps(facts, indent=1) + "\n")
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        """For data loading processes, which map the parts again."""
        return {"path": self.path, "_parts": {}, "_places": {}}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """An item's tensors. Raises KeyError if it was not encoded."""
        if number not in self._places:
            self.refresh()
        name, row = self._places[number]
        return {key: stacked[row].clone() for key, stacked in self._parts[name].items() if key != _NUMBERS}

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """Those that were not encoded at the last refresh, each once, in their order."""
        return [number for number in dict.fromkeys(numbers) if number not in self._places]

    def refresh(self) -> None:
        """Map the parts that have appeared since; a damaged one is removed, so that its items are encoded again."""
        for path in sorted(self.path.glob("part-*.safetensors")):
            if path.name in self._parts:
                continue
            try:
                part = load_file(path)
                numbers = part[_NUMBERS].tolist()
                whole = all(len(stacked) == len(numbers) for stacked in part.values())
            except (SafetensorError, ValueError, KeyError, TypeError):
                whole = False
            if not whole:
                path.unlink(missing_ok=True)
                continue
            self._parts[path.name] = part
            self._places |= {number: (path.name, row) for row, number in enumerate(numbers)}

    def add(self, items: Mapping[int, Item]) -> None:
        """Store items as one part, which others see once it is whole."""
        stacked = {name: torch.stack([item[name] for item in items.values()]) for name in next(iter(items.values()))}
        with atomic(self.path / f"part-{uuid.uuid4().hex}.safetensors") as part:
            save_file(stacked | {_NUMBERS: torch.tensor(list(items))}, part)
        self.refresh()


def fill(
    cache: TensorCache,
    numbers: Iterable[int],
    make: Make,
    name: Callable[[int], str] = str,
    accelerator: Accelerator | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> set[int]:
    """Encode what is missing; every process of the run encodes its share.

    Args:
        cache: where items are stored.
        numbers: the items that are needed.
        make: encodes items.
        name: what an item is called in its data set, for the log.
        accelerator: the run's processes; None: this one alone.
        progress: called before each part with the number of this process's items that are done.

    Returns:
        the items that could not be made; `skipped.jsonl` says why.

    Raises:
        DataError: none of the first items can be made.
    """
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    todo, failures = cache.missing(numbers)[rank::world], list[dict[str, Any]]()
    for start in range(0, len(todo), _CHUNK):
        progress(start)
        chunk = todo[start : start + _CHUNK]
        made = make(chunk)
        failed = {number: error for number, error in made.items() if isinstance(error, Exception)}
        reasons = {number: " ".join(str(error).split()) or type(error).__name__ for number, error in failed.items()}
        failures += [{"number": n, "id": name(n), "reason": reason} for n, reason in reasons.items()]
        items = {number: item for number in chunk if not isinstance(item := made[number], Exception)}
        if items:
            cache.add(items)
        elif not len(cache):
            raise DataError(f"none of the first {len(chunk)} items can be used. {name(chunk[0])}: {reasons[chunk[0]]}")
    progress(len(todo))
    if world > 1:
        failures = gather_object(failures)  # every process waits here for the others' parts
    cache.refresh()
    if rank == 0 and failures:
        write_text(cache.path / "skipped.jsonl", "".join(json.dumps(one) + "\n" for one in failures))
    return {one["number"] for one in failures}
