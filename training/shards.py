"""A cache of named tensors per item number, in safetensors shards that appear one by one and are read by memory map.

    FOLDER/IDENTITY/cache.json                        what the items were made of
                    shard-WRITER-N.safetensors        some items, stacked per name
                    shard-WRITER-N.json               its index, written last: a shard without one is not there yet
                    shard-WRITER-N.*.damaged          set aside; the items count as missing
                    skipped.jsonl                     items that cannot be made, see training.skips
                    claims/                           who is making what, see training.claims

Any number of processes may read and write at once, also of several machines with a common disk.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import safe_open
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import atomic
from gtg_bench.training.shard_files import DAMAGED, TENSORS, Layout, Shard, layout_of, read_index, write_shard

Item = Mapping[str, Tensor]
"""The tensors of one item, by name; every item of a cache has the same names, shapes and kinds of numbers."""

_log = logging.getLogger(__name__)
_FORMAT = 1
_MOST_OPEN = 512
"""Shards that stay mapped; a mapping holds addresses and no open file."""

_OLD = 3600.0
"""Seconds after which a shard that nobody is writing and that has no index is what a kill left behind."""


class ShardCache:
    """What was made of the items of one data set in one way: `cache[number] -> {name: Tensor}`.

    It can be pickled for DataLoader workers: they map the shards anew, and do not hash again what was hashed already.

    Args:
        folder: holds the caches of any number of identities.
        identity: hex digits, 16 or more, that change with whatever changes a value. Another identity has a
            sub-folder of its own.
        verify: compare a shard's sha256 with its index when the shard is first read.
        about: what the identity is made of, for people: it stands in cache.json.

    Attributes:
        path: the sub-folder of this identity.
        verifies: as `verify`.

    Raises:
        DataError: the sub-folder is of something else.
    """

    def __init__(
        self, folder: Path, identity: str, verify: bool = True, about: Mapping[str, Any] | None = None
    ) -> None:
        if not re.fullmatch(r"[0-9a-f]{16,}", identity):
            raise ValueError(f"an identity has 16 or more hex digits, not {identity!r}")
        self.path = folder / identity[:16]
        self.identity = identity
        self.verifies = verify
        self._shards: dict[str, Shard] = {}
        self._places: dict[int, tuple[str, int]] = {}
        self._open: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._sound: set[str] = set()
        self._refused: set[str] = set()
        self._claim_folder(about or {})
        self.refresh()

    def _claim_folder(self, about: Mapping[str, Any]) -> None:
        note = self.path / "cache.json"
        if not note.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            facts = {"format": _FORMAT, "identity": self.identity, "about": dict(about)}
            with FileLock(self.path / ".lock"), atomic(note) as part:
                part.write_text(json.dumps(facts, indent=1) + "\n")
        try:
            found = json.loads(note.read_text())
            found = found["format"], found["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{note} is damaged; delete the folder {self.path}, it is made again") from error
        if found != (_FORMAT, self.identity):
            raise DataError(f"{note} is of a cache of something else; move the folder {self.path} away")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def __contains__(self, number: int) -> bool:
        """Whether an item was there at the last refresh."""
        return number in self._places

    def __len__(self) -> int:
        """How many items were there at the last refresh."""
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        """The numbers of the items that were there at the last refresh, in no order."""
        return iter(tuple(self._places))

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """An item's tensors, copied out of the mapped shard.

        Raises:
            KeyError: the item is not there, also not after a refresh.
            DataError: its shard turns out to be damaged now; it is set aside.
        """
        if number not in self._places:
            self.refresh()
        if number not in self._places:
            raise KeyError(f"item {number} is not in the cache {self.path}")
        stem, row = self._places[number]
        tensors = self._tensors(stem)
        if tensors is None:
            raise DataError(f"{self.path}/{stem}{TENSORS} was damaged and is set aside; start again: it is made anew")
        return {name: stacked[row].clone() for name, stacked in tensors.items()}

    def missing(self, numbers: Iterable[int]) -> list[int]:
        """Those of `numbers` that were not there at the last refresh, in their order."""
        return [number for number in numbers if number not in self._places]

    @property
    def layout(self) -> Layout | None:
        """Name -> (kind of numbers as safetensors names it, shape of one item); None as long as nothing is there."""
        return next((shard.layout for shard in self._shards.values()), None)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards that were there at the last refresh."""
        return tuple(self._shards.values())

    def refresh(self) -> None:
        """Look for shards that others have finished or set aside since; sizes and headers of new ones are checked."""
        there = {name.removesuffix(".json") for name in _names(self.path) if _is_index(name)}
        if gone := self._shards.keys() - there:
            self._forget(gone)
        for stem in sorted(there - self._shards.keys() - self._refused):
            try:
                shard = read_index(self.path, stem)
            except FileNotFoundError:
                continue  # set aside by another process since
            except ValueError as error:
                self._set_aside(stem, str(error))
            else:
                self._keep(shard)

    def verify(self, numbers: Iterable[int]) -> list[str]:
        """Hash the shards that hold `numbers`, unless they were hashed already; the names of those set aside."""
        stems = dict.fromkeys(self._places[number][0] for number in numbers if number in self._places)
        return [stem for stem in stems if not self._is_sound(stem)]

    def add(self, items: Mapping[int, Item], writer: str, count: int, seconds: float) -> Shard:
        """Write items as one shard, which others see once it is whole.

        Args:
            items: number -> tensors, at least one, all of the cache's layout.
            writer: a name that no other writer has.
            count: how many shards this writer has written before.
            seconds: what making the items took, for the record.

        Raises:
            ValueError: an item has another layout.
        """
        expected = self.layout or layout_of(next(iter(items.values())))
        for number, item in items.items():
            if layout_of(item) != expected:
                raise ValueError(f"item {number} is {layout_of(item)}, but the items of {self.path} are {expected}")
        shard = write_shard(self.path, f"shard-{writer}-{count}", items, writer, seconds)
        self._sound.add(shard.stem)
        self._keep(shard)
        return shard

    def sweep(self, writers: Collection[str], now: float) -> None:
        """Delete what killed writers left half-written: files without an index, an hour old, of none of `writers`.

        Args:
            writers: those at work now.
            now: the time on the clock of the disk, seconds since 1970.
        """
        names = set(_names(self.path))
        for name in names:
            stem = name.removesuffix(TENSORS).removeprefix(".")
            half = name.startswith(".shard-") or (_is_tensors(name) and f"{stem}.json" not in names)
            if half and not any(stem.startswith(f"shard-{writer}-") for writer in writers):
                _delete(self.path / name, now - _OLD)

    def _keep(self, shard: Shard) -> None:
        self._shards[shard.stem] = shard
        for row, number in enumerate(shard.numbers):
            self._places.setdefault(number, (shard.stem, row))

    def _forget(self, stems: Iterable[str]) -> None:
        for stem in stems:
            self._shards.pop(stem, None)
            self._open.pop(stem, None)
        kept, self._places = list(self._shards.values()), {}
        for shard in kept:
            self._keep(shard)

    def _tensors(self, stem: str) -> dict[str, Tensor] | None:
        """The stacked tensors of a shard, mapped, not read; None where it turned out to be damaged."""
        if stem not in self._open:
            if self.verifies and not self._is_sound(stem):
                return None
            with safe_open(self.path / f"{stem}{TENSORS}", framework="pt") as stored:
                self._open[stem] = {name: stored.get_tensor(name) for name in self._shards[stem].layout}
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(stem)
        return self._open[stem]

    def _is_sound(self, stem: str) -> bool:
        """Whether a shard's bytes are those that were written; set aside where they are not."""
        if stem not in self._sound:
            if why := self._shards[stem].damage(self.path):
                self._set_aside(stem, why)
                return False
            self._sound.add(stem)
        return True

    def _set_aside(self, stem: str, why: str) -> None:
        """Rename a shard and its index so that nobody reads them again, and say so."""
        self._refused.add(stem)
        self._forget([stem])
        for file in (self.path / f"{stem}.json", self.path / f"{stem}{TENSORS}"):
            try:
                os.replace(file, file.with_name(file.name + DAMAGED))
            except OSError:
                continue  # gone, or set aside by another process, or the disk is read-only
        _log.warning("%s/%s%s %s: set aside, its items count as missing", self.path, stem, TENSORS, why)


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _is_index(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".json")


def _is_tensors(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(TENSORS)


def _delete(file: Path, before: float) -> None:
    """Delete a file that was last written before a time."""
    try:
        if file.stat().st_mtime < before:
            file.unlink()
    except OSError:
        return
