"""Find finished runs by name: a run's key, or a method with settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, GtgError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, unknown
from gtg_bench.benchmark.api.settings import DEFAULTS, FROM_CARD, MethodSettings
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics.named_masks import rule_of
from gtg_bench.benchmark.runs.command_line import run_command
from gtg_bench.benchmark.runs.labels import label, not_default
from gtg_bench.benchmark.runs.records import MANIFEST, RunFolder, read_manifest
from gtg_bench.benchmark.runs.spec import FIELDS, SCHEMA, VALIDATION, RunSpec, differing
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, RULES, definition, protocol_of
from gtg_bench.benchmark.state import warn

_USUAL = {"control": CONTROLS[0], "dataset_options": "", **DEFAULTS}
"""What a run is assumed to have if its name does not say."""

_SAMPLES = ("dataset", "dataset_version", "dataset_options", "split")
_MEANING = (*RULES, "protocol", "protocol_version")


@dataclass(frozen=True)
class FinishedRun:
    """A run's description and records."""

    spec: RunSpec
    """Description; of a mean of several runs, the first one's."""
    records: Sequence[SampleRecord]
    """One record per sample."""
    parts: tuple[FinishedRun, ...] = ()
    """The runs that this is the mean of: seeds or checkpoints of one method. Empty for a single run."""

    @property
    def name(self) -> str:
        """Method, sampling mode, and every setting that is not the default."""
        values = self.spec.as_json()
        names = not_default(values) - set(differing([part.spec for part in self.parts]))
        unusual = [f"{n} {values[n]}" for n in ("control", "dataset_options") if values[n] != _USUAL[n]]
        several = f" (mean of {len(self.parts)} runs)" if self.parts else ""
        return ", ".join([*label(values, names), *unusual]) + several

    @property
    def keys(self) -> tuple[str, ...]:
        """Key of the run, or of every run that this is the mean of."""
        return tuple(part.spec.key for part in self.parts) or (self.spec.key,)


def conditions(spec: RunSpec) -> dict[str, Any]:
    """What runs must share to be compared: their data, and the meaning of their numbers.

    Values that were chosen on a validation split, one per method, count as one rule.
    """
    found = {name: getattr(spec, name) for name in (*_SAMPLES, *_MEANING)}
    return found | {"mask": rule_of(spec.mask), "smooth": rule_of(spec.smooth)}


def find_run(runs_dir: Path, name: str, dataset: str | None = None) -> FinishedRun:
    """The one run that a name refers to.

    Args:
        runs_dir: folder of the runs.
        name: a run's key, or a method with settings, "cxrbert-ldm:bbm=mixture:layers=all". Settings that are not named
            have their defaults: no control, the default sampling mode, tokens and so on, the paper's protocol, no
            limit.
        dataset: only runs on this data set.

    Raises:
        UsageError: no run matches, or several do; the message lists their keys and settings.
    """
    return read_run(runs_dir, only_one(matching(runs_dir, name, dataset), name, runs_dir))


def only_one(found: Sequence[RunSpec], name: str, runs_dir: Path) -> RunSpec:
    """The only description. Raises UsageError if there are several."""
    if len(found) > 1:
        raise UsageError(f"{name} has {len(found)} runs in {runs_dir}; name a setting or a key: {distinguished(found)}")
    return found[0]


def matching(runs_dir: Path, name: str, dataset: str | None = None, like: RunSpec | None = None) -> list[RunSpec]:
    """The descriptions of all runs that a name can refer to, at least one; see `find_run`.

    Args:
        runs_dir: folder of the runs.
        name: of a run.
        dataset: only runs on this data set.
        like: runs that can be compared with this one are preferred over those with default settings.

    Raises:
        UsageError: no run matches.
    """
    try:
        return select(list(specs_in(runs_dir, dataset)), name, runs_dir, like)
    except UsageError:
        begun = [spec for spec in specs_in(runs_dir, dataset, finished=False) if name in (spec.key, spec.method)]
        if not begun:
            raise
        keys = ", ".join(spec.key for spec in begun)
        raise UsageError(f"{name} is unfinished ({keys}); rerun the same `gtg-bench run` to finish it") from None


def select(specs: Sequence[RunSpec], name: str, runs_dir: Path, like: RunSpec | None = None) -> list[RunSpec]:
    """The descriptions that a name can refer to, at least one; see `matching`.

    Raises:
        UsageError: none matches; the message names `runs_dir`.
    """
    if keyed := [spec for spec in specs if spec.key == name]:
        return keyed
    method, *settings = name.split(":")
    found = [spec for spec in specs if spec.method == method]
    if not specs:
        raise UsageError(f"{runs_dir} has no finished run; make one with `gtg-bench run --method {method}`")
    if not found:
        raise UsageError(f"{runs_dir}: {unknown('run', method, dict.fromkeys(spec.method for spec in specs))}")
    named = dict(_setting(text) for text in settings)
    for key, value in named.items():
        kept = _having(found, key, value)
        if not kept:
            others = sorted({f"{key}={spec.as_json()[key]}" for spec in found})
            raise UsageError(f"no run of {method} in {runs_dir} has {key}={value}; choose from: {', '.join(others)}")
        found = kept
    if like is not None:
        found = _preferred(found, lambda spec: conditions(spec) == conditions(like))
        found = _preferred(found, lambda spec: spec.limit == like.limit)
    return _with_defaults(found, named)


def _having(specs: Sequence[RunSpec], key: str, value: str) -> list[RunSpec]:
    """The runs with this value of a setting; if none has it, those that do not have the setting."""
    values = [str(spec.as_json()[key]) for spec in specs]
    exact = [spec for spec, own in zip(specs, values, strict=True) if value in (own, rule_of(own))]
    return exact or [spec for spec, own in zip(specs, values, strict=True) if own == "None"]


def _with_defaults(specs: list[RunSpec], named: Mapping[str, str]) -> list[RunSpec]:
    """The runs with the default of each setting that was not named, unless no run has it."""
    for key, value in _USUAL.items():
        if key not in named:
            specs = [spec for spec in specs if str(spec.as_json()[key]) in (value, "None")] or specs
    if "split" not in named:
        specs = _preferred(specs, lambda spec: spec.split != VALIDATION)
    if "protocol" not in named:
        specs = _preferred(specs, lambda spec: spec.protocol == PROTOCOL)
    if "protocol_version" not in named:
        specs = _preferred(specs, lambda spec: spec.protocol_version == protocol_of(spec.protocol).version)
    if not {*RULES} & set(named):
        specs = _preferred(specs, lambda spec: "+" not in definition(spec.as_json()))
    if "limit" not in named:
        specs = _preferred(specs, lambda spec: spec.limit is None)
    for name in ("weights", "weights_version", *FROM_CARD):
        if name not in named and len({getattr(spec.settings, name) for spec in specs}) > 1:
            specs = _preferred(specs, partial(_agrees, name=name))
    return specs


def _agrees(spec: RunSpec, name: str) -> bool:
    """Whether a run has the setting that a new run with its weights (for `weights`: by default) would have."""
    weights = None if name == "weights" else spec.settings.weights
    wanted = MethodSettings(spec.method, weights, sampling=spec.settings.sampling, dataset=spec.dataset)
    try:
        usual = METHODS.get(spec.method).completed(wanted)
    except GtgError:
        return False  # the method or its weights are no longer available
    return bool(getattr(spec.settings, name) == getattr(usual, name))


def _preferred(specs: list[RunSpec], wanted: Callable[[RunSpec], bool]) -> list[RunSpec]:
    """The runs that are wanted; all if none is."""
    return [spec for spec in specs if wanted(spec)] or specs


def specs_in(runs_dir: Path, dataset: str | None = None, finished: bool = True) -> Iterator[RunSpec]:
    """The descriptions of all finished runs, or of all unfinished ones, that this version of the program made.

    A run with a damaged manifest is skipped with a warning.
    """
    for path in sorted(runs_dir.glob(f"{escape(dataset) if dataset else '*'}/*/*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
            if manifest["spec"].get("schema") != SCHEMA:
                continue
            spec = RunSpec.from_json(manifest["spec"])
            if RunFolder(runs_dir, spec).path != path.parent:
                raise DataError(f"it describes run {spec.dataset}/{spec.method}/{spec.key}")
        except DataError as error:
            named = str(error) if str(path) in str(error) else f"{path} is damaged ({error}); remove {path.parent}"
            warn(f"{named}. This run is left out.")
            continue
        if bool(manifest.get("finished")) == finished:
            yield spec


def read_run(runs_dir: Path, spec: RunSpec) -> FinishedRun:
    """A run with its records. Raises DataError if the manifest is damaged, or samples have no record."""
    folder = RunFolder(runs_dir, spec)
    records, total = list(folder.read().values()), folder.manifest().get("n_total") or 0
    if len(records) < total:
        known = spec.code or spec.method in METHODS.names()
        command = run_command(spec, runs_dir, "--control", spec.control) if known else "the command that made it"
        raise DataError(f"{folder.path} has records of {len(records)} of its {total} samples; rerun {command}")
    return FinishedRun(spec, records)


def distinguished(specs: Sequence[RunSpec]) -> str:
    """The key of each run, with the settings in which the runs differ."""
    names = differing(specs)
    rows = [(spec.key, spec.as_json()) for spec in specs]
    return "; ".join(f"{key} ({', '.join(f'{name} {row[name]}' for name in names)})" for key, row in rows)


def _setting(text: str) -> tuple[str, str]:
    """The key and value of KEY=VALUE. Raises UsageError for anything else."""
    key, equals, value = text.partition("=")
    if not equals or key not in FIELDS:
        raise UsageError(f"{text!r} is not KEY=VALUE; keys are {', '.join(FIELDS)}")
    return key, value
