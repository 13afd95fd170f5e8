"""Sources of maps that are not stored yet: a method, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Protocol

import numpy as np

from gtg_bench.benchmark.api.errors import SampleError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import (
    NO_MODEL,
    BatchMethod,
    Dataset,
    GroundingMap,
    Method,
    MethodSettings,
    PhraseSample,
    Query,
    seed_for,
)
from gtg_bench.benchmark.runs.feeding import Images
from gtg_bench.benchmark.runs.launch import own_device
from gtg_bench.benchmark.scoring.score_map import check_trial
from gtg_bench.benchmark.scoring.trial import Trial

Fail = Callable[[Trial, Exception], None]
"""Records why a trial has no map."""

_ABSENT = "no map is stored"
CELLS = 32


class Source(Protocol):
    """Where new maps come from."""

    @property
    def device(self) -> str:
        """Where maps are computed. Raises UsageError if that device cannot be used here."""
        ...

    def maps(self, trials: Sequence[Trial], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """The map of each trial, in order; `fail` is called for a trial that has none."""
        ...


@dataclass(frozen=True)
class ModelSource:
    """A method, built when its first map is needed. A failure stays with the sample that caused it."""

    entry: MethodEntry
    settings: MethodSettings
    dataset: Dataset

    @cached_property
    def device(self) -> str:
        """The settings' device; "auto" is a GPU if one is available and the method has a model."""
        return resolve_device(self.settings.device, self.entry)

    @cached_property
    def images(self) -> Images:
        """The images of its data set."""
        return Images(self.dataset.image)

    @cached_property
    def method(self) -> Method:
        """The method. Raises UsageError if it cannot be built."""
        made = self.entry.built(replace(self.settings, device=self.device))
        self.images.prepare = getattr(made, "prepare_image", None)
        return made

    def maps(self, trials: Sequence[Trial], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """The method's maps."""
        queries = []
        for trial in trials:
            try:
                image = self.images(trial.sample)  # first: the data set gives the best reason for an invalid row
                check_trial(trial)
                image = trial.edited(image)
            except Exception as error:
                fail(trial, error)
                continue
            seed = seed_for(self.settings.seed, trial.sample.sample_id)
            queries.append((trial, Query(image, trial.phrase, seed, trial.category)))
        return self._grounded(queries, fail) if queries else iter(())

    def _grounded(self, queries: Sequence[tuple[Trial, Query]], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """The maps of a batch; if it fails, each query is grounded alone."""
        method = self.method  # an error in building it ends the run
        try:
            maps = ground_all(method, [query for _, query in queries])
        except Exception as error:
            if len(queries) == 1:
                fail(queries[0][0], error)
                return
        else:
            yield from zip((trial for trial, _ in queries), maps, strict=True)
            return
        for one in queries:
            yield from self._grounded([one], fail)


@dataclass(frozen=True)
class LesionSource:
    """The lesions that a generated data set drew: what a perfect localiser would paint (`oracle-lesion`).

    Each map is the lesion's opacity, averaged into 32 x 32 cells, the grid of the phantom's diffusion models.
    """

    dataset: Dataset
    device = "cpu"

    def __post_init__(self) -> None:
        if not callable(getattr(self.dataset, "lesion", None)):
            raise UsageError(f"oracle-lesion needs drawn lesions, which only phantom has, not {self.dataset.name}")

    def maps(self, trials: Sequence[Trial], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """The lesion of each trial's own phrase."""
        draw: Callable[[PhraseSample], FloatArray] = self.dataset.lesion  # type: ignore[attr-defined]
        for trial in trials:
            try:
                check_trial(trial)
                opacity = draw(trial.sample)
            except Exception as error:
                fail(trial, error)
                continue
            height, width = opacity.shape
            cells = opacity.reshape(CELLS, height // CELLS, CELLS, width // CELLS).mean((1, 3))
            yield trial, GroundingMap(cells, Frame.original((width, height)))


@dataclass(frozen=True)
class NoSource:
    """Stored maps only: every other sample fails, with the reason that its run recorded."""

    reasons: dict[str, str]
    """Sample id -> error in the record."""
    device = "cpu"

    def maps(self, trials: Sequence[Trial], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """Fails every trial."""
        for trial in trials:
            reason = self.reasons.get(trial.sample.sample_id, "").removeprefix(f"{_ABSENT}: ")
            fail(trial, SampleError(f"{_ABSENT}: {reason or 'compute it with `gtg-bench run`'}"))
        return iter(())


def ground_all(method: Method, queries: Sequence[Query]) -> list[GroundingMap]:
    """The maps of several queries, in one batch if the method can. A map is a copy: the method may reuse its arrays.

    Maps of a batch that share memory are computed again one at a time, since the last may have overwritten the others.
    """
    if not isinstance(method, BatchMethod):
        return [_owned(method.ground(query.image, query.text)) for query in queries]
    maps = list(method.ground_batch(queries))
    if len(maps) != len(queries):
        raise ValueError(f"ground_batch returned {len(maps)} maps for {len(queries)} queries")
    arrays = [one.values for one in maps if isinstance(one, GroundingMap)]
    if any(np.shares_memory(*pair) for pair in combinations(arrays, 2)):
        return [ground_all(method, [query])[0] for query in queries]
    return [_owned(one) for one in maps]


def _owned(found: GroundingMap) -> GroundingMap:
    """The map with an array of its own; anything that is not a map is returned unchanged, to be refused later."""
    return replace(found, values=found.values.copy()) if isinstance(found, GroundingMap) else found


DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Kinds of torch devices that methods can compute on."""


def check_device(wanted: str) -> None:
    """Raise UsageError for a device that no machine has."""
    kind, colon, number = wanted.partition(":")
    if wanted != "auto" and (kind not in DEVICES or (colon and not number.isdecimal())):
        raise UsageError(f"--device {wanted!r} is unknown; choose auto, {', '.join(DEVICES)}, or a number: cuda:1")
    if kind == "cpu" and int(number or 0) > 0:
        raise UsageError(f"--device {wanted}: the only CPU device is cpu")


def resolve_device(wanted: str, entry: MethodEntry) -> str:
    """The torch device. "auto" is a GPU if one is available; methods without a model run on the CPU.

    Of several processes on a node, each gets its own GPU from "auto" and "cuda".

    Raises:
        UsageError: the device is unknown, or cannot be used here.
    """
    check_device(wanted)
    if wanted.partition(":")[0] == "cpu" or entry.card.kind in NO_MODEL:
        return "cpu"
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = own_device(wanted)
    try:
        torch.ones(1, device=wanted).sum().item()
    except Exception as error:  # each backend raises its own kinds
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise UsageError(f"--device {wanted} cannot be used here ({reason}); try --device auto") from error
    return wanted
