"""Filling a cache: any number of processes share the work, and a kill at any moment costs at most one chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.training.claims import STALE, Claims
from gtg_bench.training.shards import Item, ShardCache
from gtg_bench.training.skips import Skip, SkipLog

Make = Callable[[Sequence[int]], Mapping[int, Item | Exception]]
"""(numbers of a chunk) -> the tensors of each, or why that one cannot be made. What it raises ends the filling."""

_POLL = 0.5


@dataclass(frozen=True)
class FillReport:
    """How far a filling is, and what it cost.

    Attributes:
        wanted: items that were asked for.
        found: of them, already there before.
        made: made by this process.
        others: made by others meanwhile.
        skipped: the numbers of those that cannot be made, in the order they were asked for; why stands in the log.
        bytes: of the shards that this process wrote.
        seconds: since the start, waiting for others included.
    """

    wanted: int
    found: int
    made: int
    others: int
    skipped: tuple[int, ...]
    bytes: int
    seconds: float

    @property
    def done(self) -> int:
        """Items that are there or skipped."""
        return self.found + self.made + self.others + len(self.skipped)

    @property
    def per_second(self) -> float:
        """Items that this process made in a second."""
        return self.made / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        parts = [f"{self.found} of {self.wanted} were there"]
        if self.made:
            cost = f"{self.bytes / 1e6:.1f} MB, {self.seconds:.1f} s, {self.per_second:.1f} a second"
            parts.append(f"{self.made} made ({cost})")
        parts += [f"{self.others} made by others"] * bool(self.others)
        parts += [f"{len(self.skipped)} skipped"] * bool(self.skipped)
        return ", ".join(parts)


def fill(
    cache: ShardCache,
    numbers: Iterable[int],
    make: Make,
    chunk: int = 256,
    progress: Callable[[FillReport], None] | None = None,
    *,
    name: Callable[[int], str] = str,
    retry_skipped: bool = False,
    stale: float = STALE,
) -> FillReport:
    """Make what is missing of `numbers`, in their order, and nothing else; return when all is there or skipped.

    What others are making already is waited for; what a dead process was making is made again.

    Args:
        cache: what is filled. Its shards that hold any of `numbers` are hashed first, unless it was opened not to.
        numbers: the items that are needed.
        make: makes the items of a chunk.
        chunk: items a shard; a kill loses at most so many.
        progress: called at the start, after every chunk, and while others are waited for.
        name: an item's name in its data set, for the log of skipped ones.
        retry_skipped: try those again that could not be made earlier.
        stale: seconds without a heartbeat after which another machine's process is taken for dead.

    Raises:
        DataError: nothing of an empty cache's first chunk can be made; nothing is skipped then.
        ValueError: `make` left an item out, or gave one of another layout.
    """
    return _Filling(cache, numbers, make, chunk, name, retry_skipped).run(progress or (lambda report: None), stale)


class _Filling:
    def __init__(
        self,
        cache: ShardCache,
        numbers: Iterable[int],
        make: Make,
        chunk: int,
        name: Callable[[int], str],
        retry_skipped: bool,
    ) -> None:
        self.cache, self.make, self.chunk, self.name = cache, make, chunk, name
        self.started = time.monotonic()
        self.numbers = list(dict.fromkeys(numbers))
        self.skips = SkipLog(cache.path)
        known = self.skips.read() if retry_skipped else {}
        self.forgiven = {number: len(attempts) for number, attempts in known.items()}
        cache.refresh()
        if cache.verifies:
            cache.verify(self.numbers)
        self.first_missing = cache.missing(self.numbers)
        self.made = self.shards = self.bytes = 0
        self.skipped: set[int] = set()
        self.swept = False

    def run(self, progress: Callable[[FillReport], None], stale: float) -> FillReport:
        pending = self._pending()
        progress(self._report())
        if not pending:
            return self._report()
        claims = Claims(self.cache.path / "claims", stale)
        while self._pending():
            chosen = claims.take(lambda taken: self._choose(taken, claims))
            if chosen:
                with claims.held():
                    self._make(chosen, claims.writer)
            else:
                time.sleep(_POLL * bool(self._pending()))
            progress(self._report())
        return self._report()

    def _pending(self) -> list[int]:
        """What is neither there nor skipped, as far as is known."""
        attempts = self.skips.read()
        self.skipped = {n for n, failed in attempts.items() if len(failed) > self.forgiven.get(n, 0)}
        return [n for n in self.cache.missing(self.first_missing) if n not in self.skipped]

    def _choose(self, taken: set[int], claims: Claims) -> list[int]:
        self.cache.refresh()  # after the claims were read: what is claimed no more is there
        if not self.swept:
            self.cache.sweep(claims.live(), claims.now())
            self.swept = True
        return [number for number in self._pending() if number not in taken][: self.chunk]

    def _make(self, chosen: list[int], writer: str) -> None:
        started = time.monotonic()
        results = self.make(chosen)
        if absent := [number for number in chosen if number not in results]:
            raise ValueError(f"item {absent[0]} was asked for, and neither made nor refused")
        failed = {n: result for n in chosen if isinstance(result := results[n], Exception)}
        items = {n: result for n in chosen if not isinstance(result := results[n], Exception)}
        if not items and not len(self.cache):
            first = failed[chosen[0]]
            raise DataError(
                f"none of the first {len(chosen)} items can be made. {self.name(chosen[0])}: {_text(first)}"
            )
        if items:
            shard = self.cache.add(items, writer, self.shards, time.monotonic() - started)
            self.made, self.shards, self.bytes = self.made + len(items), self.shards + 1, self.bytes + shard.bytes
        self.skips.append(Skip(number, self.name(number), _text(error)) for number, error in failed.items())

    def _report(self) -> FillReport:
        left = set(self.cache.missing(self.first_missing))
        skipped = tuple(number for number in self.first_missing if number in left and number in self.skipped)
        found = len(self.numbers) - len(self.first_missing)
        others = max(0, len(self.first_missing) - len(left) - self.made)
        seconds = time.monotonic() - self.started
        return FillReport(len(self.numbers), found, self.made, others, skipped, self.bytes, seconds)


def _text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
