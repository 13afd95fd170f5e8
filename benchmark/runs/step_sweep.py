"""Runs of one method over the number of denoising steps, or over how many of the last steps are averaged.

All are ordinary runs with ordinary keys: what is stored is found again, and `gtg-bench plot steps` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.settings import MethodSettings
from gtg_bench.benchmark.api.types import GroundingMap, Query
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, prepare, run

Execute = Callable[[PreparedRun, RunRequest], Any]
"""Executes a prepared run and returns its RunResult; by default `runner.run`."""


def over_steps(request: RunRequest, numbers: Sequence[int], execute: Execute = run) -> dict[int, FinishedRun]:
    """A run for each number of steps. No pass is shared: each number has its own timesteps and noise.

    Args:
        request: the run; its number of steps is ignored.
        numbers: numbers of steps.
        execute: executes each run.

    Raises:
        UsageError: a method without steps, or a number that it cannot have.
    """
    entry = _entry(request.settings.method)
    dataset = open_dataset(request.dataset, request.data_root, request.dataset_options)
    wanted = {n: replace(request, settings=replace(request.settings, steps=n, last_steps=None)) for n in numbers}
    prepared = {n: prepare(one, entry, dataset) for n, one in wanted.items()}
    return {n: _finished(execute(one, wanted[n])) for n, one in prepared.items()}


def over_last_steps(request: RunRequest, numbers: Sequence[int], execute: Execute = run) -> dict[int, FinishedRun]:
    """A run for each number of last steps; one pass of the model per sample makes all maps that are not stored.

    The noise of a step depends on neither how many steps are averaged, so the maps are those of single runs.

    Args:
        request: the run with all its steps.
        numbers: numbers of last steps that are averaged.
        execute: executes each run.

    Raises:
        UsageError: a method without steps, Bimodal Bias Merging, or a number that is larger than that of all steps.
    """
    entry = _entry(request.settings.method)
    dataset = open_dataset(request.dataset, request.data_root, request.dataset_options)
    entries = of_one_pass(entry, numbers)
    runs = {}
    for n in numbers:
        one = replace(request, settings=replace(request.settings, last_steps=n))
        runs[n] = one, prepare(one, entries[n], dataset)
        if runs[n][1].spec.settings.bbm not in (None, "none"):
            raise UsageError("the last steps cannot be varied in one pass with --bbm; leave it out")
    return {n: _finished(execute(prepared, one)) for n, (one, prepared) in runs.items()}


def of_one_pass(entry: MethodEntry, numbers: Sequence[int]) -> dict[int, MethodEntry]:
    """For each number of last steps an entry whose method averages that many of one pass, shared by all of them.

    Their settings must be alike otherwise, their samples under one control, and without BBM.
    """
    shared = _SharedPass(entry, numbers)
    return {n: replace(entry, build=partial(_Last, shared, n)) for n in numbers}


def _entry(method: str) -> MethodEntry:
    """The registry's entry. Raises UsageError for a method without denoising steps."""
    entry = METHODS.get(method)
    if not entry.samplings:
        raise UsageError(f"{method} has no denoising steps; name a latent diffusion model such as cxrbert-ldm")
    return entry


def _finished(result: Any) -> FinishedRun:
    return FinishedRun(result.spec, result.records)


class _SharedPass:
    """The maps of each query over the last n steps for all n, computed when the first of them is needed."""

    def __init__(self, entry: MethodEntry, numbers: Sequence[int]) -> None:
        self.entry, self.numbers = entry, numbers
        self.settings: MethodSettings | None = None
        self.maps: dict[int, dict[int, GroundingMap]] = {}

    @cached_property
    def method(self) -> Any:
        """The method with all its steps."""
        assert self.settings is not None
        return self.entry.built(replace(self.settings, last_steps=None))

    def found(self, queries: Sequence[Query], number: int) -> list[GroundingMap]:
        """The map of each query over the last `number` steps; queries are known by their seeds."""
        if missing := [query for query in queries if query.seed not in self.maps]:
            for query, maps in zip(missing, self.method.last_step_maps(missing, self.numbers), strict=True):
                self.maps[query.seed] = dict(zip(self.numbers, maps, strict=True))
        return [self.maps[query.seed][number] for query in queries]


class _Last:
    """A method that averages the last n steps of a shared pass."""

    def __init__(self, shared: _SharedPass, number: int, settings: MethodSettings) -> None:
        shared.settings = shared.settings or settings
        self.shared, self.number = shared, number

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The map of a phrase."""
        return self.ground_batch([Query(image, text)])[0]

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map per query."""
        return self.shared.found(queries, self.number)
