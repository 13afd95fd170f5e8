"""Conformance check for methods: what plug-in authors run before they trust a number. Imports no torch.

Example:
    >>> check_method("bright-spot")  # a registered name, an entry, or a class
    >>> check_method(BrightSpot)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.probes import (
    PHRASE,
    PHRASES,
    draw_globals,
    globals_restored,
    make_image,
    make_images,
    make_queries,
    seed_globals,
)
from gtg_bench.benchmark.api.registry import METHODS, Build, MethodEntry, entry_of
from gtg_bench.benchmark.api.types import NO_MODEL, GroundingMap, MethodCard, MethodSettings, Query, is_transposed

Maps = list[GroundingMap | None]
_STATE = "keep no state that changes a map, and include in a cache's key everything that its values depend on"
_SEED = "draw from np.random.default_rng(query.seed) or torch.Generator().manual_seed(query.seed)"


class MethodCheckError(AssertionError):
    """A method violates the contract; the text lists every violation, the cases that show it, and the fix."""


@dataclass(frozen=True)
class MethodCheckReport:
    """A method that passed."""

    name: str
    """Name of the method."""
    maps: int
    """Number of maps that were examined."""
    seconds: float
    """Wall time of the check."""


def check_method(
    method: str | MethodEntry | Build, *, tolerance: float = 1e-5, leaves_global_rng: bool = False, **settings: Any
) -> MethodCheckReport:
    """Check that a method keeps the contract of `api.types.Method`.

    The method is built twice: both instances must agree, whatever each has grounded before.

    Args:
        method: a registered name, an entry, or a class or function that makes a method from `MethodSettings`.
        tolerance: largest difference between maps that must agree, as a fraction of their range. Float32 rounding,
            1e-6 of the largest magnitude, is allowed in addition.
        leaves_global_rng: also refuse a method that draws from the global random generators or seeds them.
        settings: fields of `MethodSettings`, as for `load_method`.

    Raises:
        MethodCheckError: the method violates the contract; lists all violations.
        GtgError: the method cannot be built with these settings.
    """
    started = time.monotonic()
    name = getattr(method, "__name__", "method")
    entry = METHODS.get(method) if isinstance(method, str) else entry_of(name, method)
    complete = entry.completed(MethodSettings(entry.name, **settings))
    with globals_restored():
        check = _Check(partial(entry.built, complete), tolerance)
        check.card(entry.card)
        check.inputs()
        check.repeats()
        check.batches()
        check.randomness(leaves_global_rng)
    if check.violations:
        lines = [f"- {violation} [{', '.join(cases)}]" for violation, cases in check.violations.items()]
        raise MethodCheckError("\n".join([f"method {entry.name!r} violates the contract:", *lines]))
    return MethodCheckReport(entry.name, check.maps, time.monotonic() - started)


class _Check:
    """One method under examination; `violations` maps each violation to the cases that show it."""

    def __init__(self, build: Callable[[], Any], tolerance: float) -> None:
        self.build, self.method, self.tolerance = build, build(), tolerance
        self.violations: dict[str, list[str]] = {}
        self.maps = 0

    def card(self, card: MethodCard) -> None:
        """The card has a summary and a kind; unless it is a baseline or prior, also the origin of its model."""
        model = () if card.kind in NO_MODEL else ("paper", "weights", "licence", "training_data")
        for name in ("summary", "kind", *model):
            if not getattr(card, name).strip():
                self._note(
                    f"the card is incomplete: fill in MethodCard.{name} ('none' and 'unknown' are allowed)", name
                )

    def inputs(self) -> None:
        """Every image and phrase gets a map of that image; an empty phrase may be refused with SampleError."""
        for case, image in make_images().items():
            self._ground(self.method, [Query(image, PHRASE)], case)
        for case, text in PHRASES.items():
            self._ground(self.method, [Query(make_image(0), text)], case)
        for case, text in {"an empty phrase": "", "a blank phrase": " \n"}.items():
            self._ground(self.method, [Query(make_image(0), text)], case, may_refuse=True)

    def repeats(self) -> None:
        """A query gets the same map when repeated, after other queries, and from another instance in another order."""
        queries = make_queries()
        first = self._singles(self.method, queries)
        self._same(first, self._singles(self.method, queries), f"a repeated query gets another map: {_STATE}")
        other = self._singles(self.build(), queries[::-1])[::-1]
        self._same(first, other, f"the map depends on earlier queries, or on the instance: {_STATE}")

    def batches(self) -> None:
        """A batch gets the maps of its single queries, in any order; `ground` and `ground_batch` agree."""
        queries = make_queries()
        alone, together = self._singles(self.method, queries), self._ground(self.method, queries, "a batch")
        reverse = self._ground(self.method, queries[::-1], "a batch in reverse")[::-1]
        if not hasattr(self.method, "ground_batch"):
            self._same(alone, together, "a map changes after it was returned: give every map its own array")
            return
        self._same(alone, together, f"a batch gets other maps than its single queries: do not mix queries, {_SEED}")
        self._same(alone, reverse, "the order of a batch changes its maps: return one map per query, in their order")
        if hasattr(self.method, "ground"):
            query = [Query(make_image(0), PHRASE)]
            plain = self._ground(self.method, query, "ground", batch=False)
            disagree = "ground and ground_batch disagree: let ground call ground_batch with a plain Query (seed 0)"
            self._same(self._singles(self.method, query), plain, disagree)

    def randomness(self, leaves_global_rng: bool) -> None:
        """Random draws depend on the query's own seed only."""
        maps = []
        for seed in (2, 987654321):
            seed_globals(seed)
            untouched = draw_globals()
            seed_globals(seed)
            maps.append(self._singles(self.method, make_queries()[:2]))
            if leaves_global_rng and draw_globals() != untouched:
                self._note(f"the method draws from the global random generators or seeds them: {_SEED}", "any query")
        self._same(maps[0], maps[1], f"the global random generators change the map: {_SEED}")

    def _singles(self, method: Any, queries: Sequence[Query]) -> Maps:
        return [self._ground(method, [query], f"query {number}")[0] for number, query in enumerate(queries, 1)]

    def _ground(
        self, method: Any, queries: Sequence[Query], case: str, batch: bool = True, may_refuse: bool = False
    ) -> Maps:
        """A copy of each query's map; None for one that is unusable, which is noted."""
        copies = [query.image.copy() for query in queries]
        try:
            if batch and hasattr(method, "ground_batch"):
                found = list(method.ground_batch(queries))
            else:
                found = [method.ground(query.image, query.text) for query in queries]
        except Exception as error:
            if not (may_refuse and isinstance(error, SampleError)):
                fix = "raise SampleError, or return a map" if may_refuse else "return a map"
                self._note(f"{type(error).__name__} ({' '.join(str(error).split())[:150]}): {fix}", case)
            return [None] * len(queries)
        if not all(np.array_equal(query.image, copy) for query, copy in zip(queries, copies, strict=True)):
            self._note("the method changes the image in place: work on a copy", case)
        if len(found) != len(queries):
            self._note(f"{len(found)} maps for {len(queries)} queries: return one map per query, in their order", case)
            return [None] * len(queries)
        return [self._examined(one, query, case) for one, query in zip(found, queries, strict=True)]

    def _examined(self, found: Any, query: Query, case: str) -> GroundingMap | None:
        self.maps += 1
        if not isinstance(found, GroundingMap):
            self._note(f"the method returns {type(found).__name__}: return a GroundingMap", case)
            return None
        if found.values.dtype != np.float32:
            self._note(f"the values are {found.values.dtype}: return values.astype(np.float32)", case)
        if found.frame.image_size != query.image.shape[::-1]:
            self._note("the frame belongs to another image: image_size must be the image's (width, height)", case)
        if is_transposed(found):
            self._note("the values are [width, height]: return values.T", case)
        if found.values.ndim != 2 or not np.isfinite(found.values).all():
            self._note("the values are not a finite 2-D array: exclude what is not covered from the frame", case)
            return None
        return replace(found, values=found.values.copy(), note="")

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
