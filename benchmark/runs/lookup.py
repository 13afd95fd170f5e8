"""Finished runs, found again by name: a run's key, or a method with settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.choices import DEFAULTS
from gtg_bench.benchmark.api.errors import GtgError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, unknown
from gtg_bench.benchmark.api.types import MethodSettings, SampleRecord
from gtg_bench.benchmark.metrics.named_masks import rule_of
from gtg_bench.benchmark.scoring.protocols import definition
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL
from gtg_bench.benchmark.runs.spec import RunSpec

_USUAL = {"control": CONTROLS[0], "dataset_options": "", **DEFAULTS}
"""What a run is taken to have where its name says nothing else."""

_OF_THE_WEIGHTS = ("weights_version", "steps", "guidance", "layers")
"""What the weights decide where nobody names it."""

_SAMPLES = ("dataset", "dataset_version", "dataset_options", "split")
_MEANING = ("frame", "uncovered", "mask", "protocol", "protocol_version")

_DERIVED = ("samples_sha256", "lexicon", "weights_version", "dataset_version")
"""Parts of a description that follow from others, or that nobody types."""


@dataclass(frozen=True)
class FinishedRun:
    """A run's description and records.

    Attributes:
        spec: of the run; of several, of the first.
        records: one a sample.
        parts: the runs whose mean this is, seeds or checkpoints of one method; none for a single run.
    """

    spec: RunSpec
    records: Sequence[SampleRecord]
    parts: tuple[FinishedRun, ...] = ()

    @property
    def name(self) -> str:
        """Method, sampling mode, and what is not as usual."""
        values = {name: getattr(self.spec, name) for name in _USUAL if name != "sampling"}
        unusual = [f"{name} {value}" for name, value in values.items() if value not in (None, _USUAL[name])]
        several = [f"(mean of {len(self.parts)} runs)"] if self.parts else []
        return " ".join(filter(None, [self.spec.method, self.spec.sampling, *unusual, *several]))

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the run, or of every run whose mean this is."""
        return tuple(part.spec.key for part in self.parts) or (self.spec.key,)


def conditions(spec: RunSpec) -> dict[str, Any]:
    """What runs must share to be compared: their data, and what a number means.

    Thresholds chosen on a validation split, each method its own, are one rule for making a mask.
    """
    found = {name: getattr(spec, name) for name in (*_SAMPLES, *_MEANING)}
    return found | {"mask": rule_of(spec.mask)}


def find_run(runs_dir: Path, name: str, dataset: str | None = None) -> FinishedRun:
    """The one run that a name stands for.

    Args:
        runs_dir: where runs are kept.
        name: a run's key, or a method with settings, "cxrbert-ldm:bbm=mixture:layers=all". Settings that are not named
            are as usual: no control, the default sampling mode, tokens and so on, the paper's protocol, no limit.
        dataset: only runs on this data set.

    Raises:
        UsageError: there is none, or there are several; their keys and settings are listed.
    """
    found = fitting(runs_dir, name, dataset)
    if len(found) > 1:
        raise UsageError(f"{name} has {len(found)} runs in {runs_dir}; name a setting or a key: {told_apart(found)}")
    return read_run(runs_dir, found[0])


def fitting(runs_dir: Path, name: str, dataset: str | None = None, like: RunSpec | None = None) -> list[RunSpec]:
    """The descriptions of all runs that a name can stand for, at least one; see `find_run`.

    Args:
        runs_dir: where runs are kept.
        name: of a run.
        dataset: only runs on this data set.
        like: runs that can be compared with this one are preferred, whatever is usual.

    Raises:
        UsageError: there is none.
    """
    return chosen(list(specs_in(runs_dir, dataset)), name, runs_dir, like)


def chosen(specs: Sequence[RunSpec], name: str, runs_dir: Path, like: RunSpec | None = None) -> list[RunSpec]:
    """Those of some descriptions that a name can stand for, at least one; see `fitting`.

    Raises:
        UsageError: there is none; `runs_dir` is said then.
    """
    if keyed := [spec for spec in specs if spec.key == name]:
        return keyed
    method, *settings = name.split(":")
    found = [spec for spec in specs if spec.method == method]
    if not found:
        if not specs:
            raise UsageError(f"{runs_dir} holds no finished run; make one with `gtg-bench run --method {method}`")
        raise UsageError(f"{runs_dir}: {unknown('run', method, dict.fromkeys(spec.method for spec in specs))}")
    named = dict(_setting(text) for text in settings)
    for key, value in named.items():
        kept = [spec for spec in found if str(getattr(spec, key)) in (value, "None")]
        if not kept:
            raise UsageError(f"no run of {method} in {runs_dir} has {key}={value}; there are {told_apart(found)}")
        found = [spec for spec in kept if str(getattr(spec, key)) == value] or kept
    if like is not None:
        found = _preferred(found, lambda spec: conditions(spec) == conditions(like))
        found = _preferred(found, lambda spec: spec.limit == like.limit)
    return _usual(found, named)


def _usual(specs: list[RunSpec], named: Mapping[str, str]) -> list[RunSpec]:
    """Those descriptions that are as usual in what nobody named, one thing after the other, as far as there are any."""
    for key, value in _USUAL.items():
        if key not in named:
            specs = [spec for spec in specs if str(getattr(spec, key)) in (value, "None")] or specs
    if "protocol" not in named:
        specs = _preferred(specs, lambda spec: spec.protocol == PROTOCOL)
    if not {"frame", "uncovered", "mask"} & set(named):
        specs = _preferred(specs, lambda spec: "+" not in definition(spec.as_json()))
    if "limit" not in named:
        specs = _preferred(specs, lambda spec: spec.limit is None)
    if "weights" not in named and len({spec.weights for spec in specs}) > 1:
        specs = _preferred(specs, lambda spec: _agrees(spec, None, ["weights"]))
    free = [name for name in _OF_THE_WEIGHTS if name not in named]
    return _preferred(specs, lambda spec: _agrees(spec, spec.weights, free)) if len(specs) > 1 else specs


def _agrees(spec: RunSpec, weights: str | None, names: Sequence[str]) -> bool:
    """Whether a run has in these what a run with these weights, None for those of the method, would have now."""
    try:
        wanted = MethodSettings(spec.method, weights=weights, sampling=spec.sampling, dataset=spec.dataset)
        usual = METHODS.get(spec.method).completed(wanted)
    except GtgError:
        return False  # the method or its weights are gone: nothing can be said
    return all(getattr(spec, name) == getattr(usual, name) for name in names)


def _preferred(specs: list[RunSpec], wanted: Callable[[RunSpec], bool]) -> list[RunSpec]:
    """Those that are wanted; all where none is."""
    return [spec for spec in specs if wanted(spec)] or specs


def specs_in(runs_dir: Path, dataset: str | None = None) -> Iterator[RunSpec]:
    """The descriptions of all runs of this version of the program."""
    for path in sorted(runs_dir.glob(f"{dataset or '*'}/*/*/manifest.json")):
        try:
            spec = RunSpec(**json.loads(path.read_text())["spec"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if spec.key == path.parent.name:
            yield spec


def read_run(runs_dir: Path, spec: RunSpec) -> FinishedRun:
    """A run with its records."""
    return FinishedRun(spec, list(RunFolder(runs_dir, spec).read().values()))


def told_apart(specs: Sequence[RunSpec]) -> str:
    """Each key with the settings in which the runs differ."""
    rows = [spec.as_json() for spec in specs]
    unlike = [n for n in rows[0] if len({json.dumps(row[n]) for row in rows}) > 1]
    differing = [name for name in unlike if name not in _DERIVED] or unlike
    told = (f"{s.key} ({', '.join(f'{n} {r[n]}' for n in differing)})" for s, r in zip(specs, rows, strict=True))
    return "; ".join(told)


def _setting(text: str) -> tuple[str, str]:
    """KEY=VALUE of a run's description."""
    key, equals, value = text.partition("=")
    if not equals or key not in RunSpec.__dataclass_fields__:
        raise UsageError(f"{text!r} is no KEY=VALUE of a run; keys are {', '.join(RunSpec.__dataclass_fields__)}")
    return key, value
