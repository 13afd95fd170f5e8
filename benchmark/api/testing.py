"""Does a method keep the contract? What a plug-in author runs before trusting a number. Imports no torch.

Example:
    >>> check_method("bright-spot")  # a registered name, an entry, or what makes the method
    >>> check_method(BrightSpot)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.probes import (
    PHRASE,
    PHRASES,
    draw_globals,
    globals_restored,
    image_of,
    images,
    queries_of_all_kinds,
    seed_globals,
)
from gtg_bench.benchmark.api.registry import METHODS, Build, MethodEntry
from gtg_bench.benchmark.api.types import GroundingMap, MethodCard, MethodSettings, Query

Maps = list[GroundingMap | None]
_NO_CARD = MethodCard(summary="", kind="plug-in")
_STATE = "keep no state that changes a map, and let a cache's key hold all that its value depends on"
_SEED = "draw from np.random.default_rng(query.seed) or torch.Generator().manual_seed(query.seed)"


class MethodCheckError(AssertionError):
    """A method breaks its contract; the text lists every violation, where it was seen, and how to mend it."""


@dataclass(frozen=True)
class MethodCheckReport:
    """A method that keeps the contract: how many of its maps were examined, and the seconds that it took."""

    name: str
    maps: int
    seconds: float


def check_method(
    method: str | MethodEntry | Build, *, tolerance: float = 1e-5, leaves_global_rng: bool = False, **settings: Any
) -> MethodCheckReport:
    """Check that a method keeps the contract. It is built twice: two of them must agree whatever each did before.

    Args:
        method: a registered name, an entry, or what makes a method from `MethodSettings` (that has no card).
        tolerance: by how much maps that must agree may differ, in parts of their range; float32's own rounding,
            1e-6 of the largest magnitude, comes on top.
        leaves_global_rng: also refuse a method that draws from the global generators, or seeds them.
        **settings: fields of `MethodSettings`, as for `load_method`.

    Raises:
        MethodCheckError: lists all violations.
        GtgError: the method cannot be built from these settings.
    """
    started = time.monotonic()
    entry = METHODS.get(method) if isinstance(method, str) else method
    if not isinstance(entry, MethodEntry):
        entry = MethodEntry(getattr(method, "__name__", "method"), entry, _NO_CARD)
    complete = entry.completed(MethodSettings(entry.name, **settings))
    with globals_restored():
        check = _Check(partial(entry.built, complete), tolerance)
        check.card(entry.card)
        check.inputs()
        check.repeats()
        check.batches()
        check.randomness(leaves_global_rng)
    if check.violations:
        lines = [f"- {what} [{', '.join(cases)}]" for what, cases in check.violations.items()]
        raise MethodCheckError("\n".join([f"method {entry.name!r} breaks its contract:", *lines]))
    return MethodCheckReport(entry.name, check.maps, time.monotonic() - started)


class _Check:
    """One method under examination; `violations` holds each wrong thing once, with the cases that show it."""

    def __init__(self, build: Callable[[], Any], tolerance: float) -> None:
        self.build, self.method, self.tolerance = build, build(), tolerance
        self.violations: dict[str, list[str]] = {}
        self.maps = 0

    def card(self, card: MethodCard) -> None:
        """A summary and a kind; for what is no baseline also where its model comes from."""
        model = () if card.kind in ("baseline", "prior") else ("paper", "weights", "licence", "training_data")
        for name in ("summary", "kind", *model):
            if card is not _NO_CARD and not getattr(card, name).strip():
                self._note(f"the card is incomplete: fill MethodCard.{name} ('none', 'unknown' are answers)", name)

    def inputs(self) -> None:
        """Every image and phrase gives a map of that image; an empty phrase may be refused with SampleError."""
        for case, image in images().items():
            self._ground(self.method, [Query(image, PHRASE)], case)
        for case, text in PHRASES.items():
            self._ground(self.method, [Query(image_of(0), text)], case)
        for case, text in {"an empty phrase": "", "a blank phrase": " \n"}.items():
            self._ground(self.method, [Query(image_of(0), text)], case, may_refuse=True)

    def repeats(self) -> None:
        """A query gives the same map again, after other queries, and from another instance in another order."""
        queries = queries_of_all_kinds()
        first = self._singles(self.method, queries)
        self._same(first, self._singles(self.method, queries), f"a query asked again gives another map: {_STATE}")
        other = self._singles(self.build(), queries[::-1])[::-1]
        self._same(first, other, f"the map depends on the queries before, or on the instance: {_STATE}")

    def batches(self) -> None:
        """Several queries give the maps of each alone, in any order; `ground` and `ground_batch` agree."""
        queries = queries_of_all_kinds()
        alone, together = self._singles(self.method, queries), self._ground(self.method, queries, "a batch")
        turned = self._ground(self.method, queries[::-1], "a batch in reverse")[::-1]
        if not hasattr(self.method, "ground_batch"):
            self._same(alone, together, "a map changes after it was returned: give every map its own array")
            return
        self._same(alone, together, f"a batch gives other maps than its queries alone: mix no queries, {_SEED}")
        self._same(alone, turned, "the order of a batch changes its maps: return one map a query, in the same order")
        if hasattr(self.method, "ground"):
            query = [Query(image_of(0), PHRASE)]
            plain = self._ground(self.method, query, "ground", batch=False)
            disagree = "ground and ground_batch disagree: let ground call ground_batch with a plain Query (seed 0)"
            self._same(self._singles(self.method, query), plain, disagree)

    def randomness(self, leaves_global_rng: bool) -> None:
        """Nothing but a query's own seed decides what is drawn."""
        maps = []
        for seed in (2, 987654321):
            seed_globals(seed)
            untouched = draw_globals()
            seed_globals(seed)
            maps.append(self._singles(self.method, queries_of_all_kinds()[:2]))
            if leaves_global_rng and draw_globals() != untouched:
                self._note(f"the global random generators are drawn from or seeded: {_SEED}", "any query")
        self._same(maps[0], maps[1], f"the global random generators change the map: {_SEED}")

    def _singles(self, method: Any, queries: Sequence[Query]) -> Maps:
        return [self._ground(method, [query], f"query {number}")[0] for number, query in enumerate(queries, 1)]

    def _ground(
        self, method: Any, queries: Sequence[Query], case: str, batch: bool = True, may_refuse: bool = False
    ) -> Maps:
        """A copy of each query's map; None where there is no usable one, which is noted."""
        copies = [query.image.copy() for query in queries]
        try:
            if batch and hasattr(method, "ground_batch"):
                found = list(method.ground_batch(queries))
            else:
                found = [method.ground(query.image, query.text) for query in queries]
        except Exception as error:
            if not (may_refuse and isinstance(error, SampleError)):
                fix = "raise SampleError for it, or give a map" if may_refuse else "give a map"
                self._note(f"{type(error).__name__} ({' '.join(str(error).split())[:150]}): {fix}", case)
            return [None] * len(queries)
        if not all(np.array_equal(query.image, copy) for query, copy in zip(queries, copies, strict=True)):
            self._note("the image is changed in place: work on a copy", case)
        if len(found) != len(queries):
            self._note(f"{len(found)} maps for {len(queries)} queries: return one map a query, in order", case)
            return [None] * len(queries)
        return [self._examined(one, query, case) for one, query in zip(found, queries, strict=True)]

    def _examined(self, found: Any, query: Query, case: str) -> GroundingMap | None:
        self.maps += 1
        if not isinstance(found, GroundingMap):
            self._note(f"{type(found).__name__} is returned: return a GroundingMap", case)
            return None
        if found.values.dtype != np.float32:
            self._note(f"the values are {found.values.dtype}: return values.astype(np.float32)", case)
        if found.frame.image_size != query.image.shape[::-1]:
            self._note("the frame is of another image: its image_size is the image's (width, height)", case)
        if found.values.ndim != 2 or not np.isfinite(found.values).all():
            self._note("the values are no finite 2-D array: leave out of the frame what is not covered", case)
            return None
        return GroundingMap(found.values.copy(), found.frame)

    def _same(self, ones: Maps, others: Maps, violation: str) -> None:
        for number, (one, other) in enumerate(zip(ones, others, strict=True), 1):
            if one and other and not _agree(one, other, self.tolerance):
                self._note(violation, f"query {number}")

    def _note(self, violation: str, case: str) -> None:
        cases = self.violations.setdefault(violation, [])
        cases += [case] if case not in cases else []


def _agree(one: GroundingMap, other: GroundingMap, tolerance: float) -> bool:
    if one.frame != other.frame or one.values.shape != other.values.shape:
        return False
    allowed = tolerance * float(np.ptp(one.values)) + 1e-6 * float(np.abs(one.values).max())
    return float(np.abs(one.values - other.values).max()) <= allowed
