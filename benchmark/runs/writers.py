"""The processes that compute one run: a single one, those of a launch, or the shards of a job array.

Each writes its own file of records. A single process claims the run, the first one of a launch claims it for all, and
shards share a claim. Nobody waits while maps are computed. A writer locks its file as long as it computes: so the
others see when it is done, or dead. Batches are the same whoever computes them, since the last bits of a model's output
depend on them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from gtg_bench.benchmark.api.errors import DataError, GtgError, UsageError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.paths import flocked, is_flocked
from gtg_bench.benchmark.runs.launch import ElsewhereError, Launch
from gtg_bench.benchmark.runs.records import RunFolder, file_of, records_in
from gtg_bench.benchmark.state import warn

T = TypeVar("T")
Progress = Callable[[int, int], None]

_PAUSE = 0.2
"""Seconds between two looks at whether another process is done."""


def shard_of(text: str) -> tuple[int, int]:
    """The number of a shard, from 0, and that of all shards, from text such as 3/8.

    Raises:
        UsageError: it is something else.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text!r} is not K/N with K from 1 to N, such as 3/8")
    return number - 1, count


def name_of(index: int, count: int) -> str:
    """The name of a writer, which is part of its file's name: 3-of-8 for the index 2."""
    return f"{index + 1}-of-{count}"


def block(items: Sequence[T], index: int, count: int) -> Sequence[T]:
    """One of `count` consecutive parts of nearly equal length: so the phrases of an image stay together."""
    return items[len(items) * index // count : len(items) * (index + 1) // count]


class Alone:
    """The only process that works on a run.

    Args:
        folder: the run's folder.
        order: ids of all its samples, in the data set's order.
        size: samples per batch.
    """

    def __init__(self, folder: RunFolder, order: Sequence[str], size: int) -> None:
        self.folder, self.order = folder, order
        self.total = len(order)
        self.all_batches = [list(order[start : start + size]) for start in range(0, self.total, size)]

    @contextmanager
    def claimed(self, busy: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from working on the run; `busy` is called once if one already does."""
        with self.folder.claimed(busy):
            yield

    def begun(self, begin: Callable[[], tuple[Sequence[str], T]]) -> tuple[Sequence[str], T]:
        """What `begin` returns: the ids of the samples without a final record, and anything else about the run."""
        return begin()

    def batches(self, todo: Sequence[str]) -> list[list[str]]:
        """What this process computes of the samples without a final record."""
        return _left(self.all_batches, todo)

    def done(self, left: int) -> int:
        """Number of samples that are done if this process has some left."""
        return self.total - left

    @contextmanager
    def computing(self, progress: Progress) -> Iterator[None]:
        """Compute maps inside this block."""
        yield

    def finish(self) -> dict[str, SampleRecord]:
        """Finish the run; the records by sample id, in the data set's order."""
        records = self.folder.join(self.order)
        self.folder.finish()
        return records


class Shard(Alone):
    """One process of a job array, which knows nothing of the others. Whichever ends last finishes the run."""

    def __init__(self, folder: RunFolder, order: Sequence[str], size: int, index: int, count: int) -> None:
        super().__init__(folder, order, size)
        self._own = block(self.all_batches, index, count)
        _warn_of_idle(self.all_batches, count, "shards")
        self.total = sum(map(len, self._own))
        self._claim = ExitStack()
        folder.writer = name_of(index, count)

    @contextmanager
    def claimed(self, busy: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from working on the run, except other shards."""
        with self._claim:
            self._claim.enter_context(self.folder.claimed(busy, shared=True))
            self._claim.enter_context(flocked(self.folder.file, busy))
            yield

    def batches(self, todo: Sequence[str]) -> list[list[str]]:
        """Those of the shard's samples without a final record."""
        return _left(self._own, todo)

    def finish(self) -> dict[str, SampleRecord]:
        """Finish the run if every sample has a record and no shard is running; the records so far."""
        self._claim.close()
        with self.folder.unclaimed() as free:
            records = self.folder.read()
            if free and not set(self.order) - set(records):
                return super().finish()
        return {name: records[name] for name in self.order if name in records}


class Member(Alone):
    """One process of a launch. The first one claims the run for all, opens and finishes it."""

    def __init__(self, folder: RunFolder, order: Sequence[str], size: int, launch: Launch) -> None:
        super().__init__(folder, order, size)
        self.launch = launch
        names = [name_of(index, launch.count) for index in range(launch.count)]
        self._files = [file_of(folder.path, name) for name in names]
        self._counted: dict[Path, tuple[int, int]] = {}  # bytes and lines
        self._todo: Sequence[str] = ()
        self._records: dict[str, SampleRecord] = {}
        folder.writer = names[launch.index]

    @contextmanager
    def claimed(self, busy: Callable[[], None]) -> Iterator[None]:
        """The first process keeps others from working on the run; the rest of the launch waits for it in `begun`.

        Raises:
            DataError: the processes are about to compute different runs.
        """
        keys = self.launch.exchange(self.folder.spec.key)
        if other := next((n for n, key in enumerate(keys, 1) if key != keys[0]), 0):
            raise (DataError if self.launch.leads else ElsewhereError)(
                f"process {other} of {len(keys)} would compute run {keys[other - 1]}, but process 1 run {keys[0]}: "
                "all nodes need the same program, weights and images"
            )
        with ExitStack() as stack:
            if self.launch.leads:
                stack.enter_context(self.folder.claimed(busy))
            yield

    def begun(self, begin: Callable[[], tuple[Sequence[str], T]]) -> tuple[Sequence[str], T]:
        """What `begin` returns in the first process. Raises its GtgError in all."""
        found: Any = None
        error: GtgError | None = None
        if self.launch.leads:
            try:
                found = begin()
                self.folder.join(self.order)  # of earlier processes: from here on a file shows what its writer has done
            except GtgError as raised:
                error = raised
        found, failure = self.launch.exchange((found, None if error is None else str(error)))[0]
        if error is not None:
            raise error
        if failure is not None:
            raise ElsewhereError(failure)
        self._todo = found[0]
        if self.launch.leads:
            _warn_of_idle(self.all_batches, self.launch.count, "processes")
        return found

    def batches(self, todo: Sequence[str]) -> list[list[str]]:
        """An equal part of the batches with samples without a final record."""
        return self._share(todo, self.launch.index)

    def done(self, left: int) -> int:
        """Number of samples of the whole run that are done, as far as this process can tell without effort."""
        if not self.launch.leads:
            return self.total - left
        for path in self._files:
            if path.exists():
                with path.open("rb") as file:
                    size, lines = self._counted.get(path, (0, 0))
                    file.seek(size)
                    new = file.read()
                self._counted[path] = size + len(new), lines + new.count(b"\n")
        return min(self.total, self.total - len(self._todo) + sum(lines for _, lines in self._counted.values()))

    @contextmanager
    def computing(self, progress: Progress) -> Iterator[None]:
        """Compute maps inside this block, and wait for the others at its end, whatever error ends it.

        Raises:
            DataError: another process has ended before its samples were done.
        """
        error: Exception | None = None
        with flocked(self.folder.file) as release:
            self.launch.exchange(None)  # from here on every process holds its file
            try:
                yield
            except Exception as raised:  # a launcher ends all processes as soon as one has failed
                error = raised
            if not self.launch.leads:
                release()
            for path in self._files[1:] if self.launch.leads else self._files[:1]:
                while is_flocked(path):
                    progress(self.done(0), self.total)
                    time.sleep(_PAUSE)
            if error is not None:
                raise error
            if self.launch.leads:
                self._check()
                self._records = super().finish()
            elif self.folder.file.exists():  # the first process has not finished the run
                self._check()
                raise ElsewhereError("process 1 has not finished the run")

    def finish(self) -> dict[str, SampleRecord]:
        """The records by sample id, in the data set's order."""
        found = self._records or self.folder.read()
        return {name: found[name] for name in self.order}

    def _share(self, todo: Sequence[str], index: int) -> list[list[str]]:
        return list(block(_left(self.all_batches, todo), index, self.launch.count))

    def _check(self) -> None:
        """Raise DataError if another process has ended without computing all its samples."""
        for index, path in enumerate(self._files):
            missing = set(chain(*self._share(self._todo, index))) - set(records_in(path))
            if missing and index != self.launch.index and not is_flocked(path):
                kind = DataError if self.launch.leads or index == 0 else ElsewhereError
                raise kind(
                    f"process {index + 1} of {self.launch.count} ended before its samples were done "
                    f"({len(missing)} missing); rerun the same command to resume"
                )


def _warn_of_idle(batches: Sequence[object], count: int, what: str) -> None:
    """Say so if there are fewer batches than processes or shards."""
    if len(batches) < count:
        has = "batch" if len(batches) == 1 else "batches"
        warn(f"{count} {what} share {len(batches)} {has}; a smaller --batch-size, the same for all, uses all of them")


def _left(batches: Sequence[Sequence[str]], todo: Sequence[str]) -> list[list[str]]:
    """The batches with samples to do, without the others."""
    wanted = set(todo)
    found = ([name for name in batch if name in wanted] for batch in batches)
    return [batch for batch in found if batch]


def writer_for(folder: RunFolder, order: Sequence[str], size: int, shard: tuple[int, int] | None) -> Alone:
    """What this process does of a run.

    Args:
        folder: the run's folder.
        order: ids of all its samples, in the data set's order.
        size: samples per batch.
        shard: number of the shard, from 0, and that of all shards; None without a job array.

    Raises:
        UsageError: a shard in a launch of several processes.
    """
    launch = Launch.current()
    if shard is None:
        return Member(folder, order, size, launch) if launch.count > 1 else Alone(folder, order, size)
    if launch.count > 1:
        raise UsageError("--shard is for jobs without a launcher: the processes of this launch already share the work")
    return Shard(folder, order, size, *shard)
