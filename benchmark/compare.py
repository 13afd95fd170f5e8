"""Two finished runs compared, metric by metric, from the records that they left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.choices import DEFAULTS
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.records import RunFolder
from gtg_bench.benchmark.spec import RunSpec
from gtg_bench.benchmark.statistics import Comparison, compare, holm, paired

LEVEL = 0.05
"""A corrected p-value below it counts as a difference."""

ALL = "all"
_SAME = ("dataset", "dataset_version", "dataset_options", "split", "frame", "uncovered", "protocol")
"""What two runs must share to be compared."""


_USUAL = {"control": "none", "dataset_options": "", **DEFAULTS}
"""What a run is taken to have where its name says nothing else."""

_DERIVED = ("samples_sha256", "lexicon", "weights_version", "dataset_version")
"""Parts of a description that follow from others, or that nobody types."""


@dataclass(frozen=True)
class FinishedRun:
    """A run's description and records."""

    spec: RunSpec
    records: Sequence[SampleRecord]

    @property
    def name(self) -> str:
        """Method, sampling mode, and what is not as usual."""
        values = {name: getattr(self.spec, name) for name in _USUAL if name != "sampling"}
        unusual = [f"{name} {value}" for name, value in values.items() if value not in (None, _USUAL[name])]
        return " ".join(filter(None, [self.spec.method, self.spec.sampling, *unusual]))


@dataclass(frozen=True)
class Line:
    """One metric over all samples or one category; `p_value` is corrected over all lines of the metric (Holm)."""

    metric: str
    category: str
    found: Comparison
    p_value: float | None

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        facts = {name: getattr(self.found, name) for name in Comparison.__dataclass_fields__}
        return {"metric": self.metric, "category": self.category} | facts | {"p_value_holm": self.p_value}


def find_run(runs_dir: Path, name: str, dataset: str | None = None) -> FinishedRun:
    """The run that a name stands for.

    Args:
        runs_dir: where runs are kept.
        name: a run's key, or a method with settings, "cxrbert-ldm:bbm=mixture:layers=all". Settings that are not named
            are as usual: no control, the default sampling mode, tokens and so on.
        dataset: only runs on this data set.

    Raises:
        UsageError: there is none, or there are several; their keys and settings are listed.
    """
    specs = list(_specs(runs_dir, dataset))
    if keyed := [spec for spec in specs if spec.key == name]:
        return _finished(runs_dir, keyed[0])
    method, *settings = name.split(":")
    found = [spec for spec in specs if spec.method == method]
    if not found:
        raise UsageError(f"{runs_dir}: {unknown('run', method, dict.fromkeys(spec.method for spec in specs))}")
    named = dict(_setting(text) for text in settings)
    for key, value in (named | {key: usual for key, usual in _USUAL.items() if key not in named}).items():
        kept = [spec for spec in found if str(getattr(spec, key)) in (value, "None")]
        if key in named and not kept:
            raise UsageError(f"no run of {method} in {runs_dir} has {key}={value}; there are {_told_apart(found)}")
        found = kept or found
    if len(found) > 1:
        raise UsageError(f"{name} has {len(found)} runs in {runs_dir}; name a setting or a key: {_told_apart(found)}")
    return _finished(runs_dir, found[0])


def _setting(text: str) -> tuple[str, str]:
    """KEY=VALUE of a run's description."""
    key, equals, value = text.partition("=")
    if not equals or key not in RunSpec.__dataclass_fields__:
        raise UsageError(f"{text!r} is no KEY=VALUE of a run; keys are {', '.join(RunSpec.__dataclass_fields__)}")
    return key, value


def _specs(runs_dir: Path, dataset: str | None) -> Iterator[RunSpec]:
    """The descriptions of all runs of this version of the program."""
    for path in sorted(runs_dir.glob(f"{dataset or '*'}/*/*/manifest.json")):
        try:
            spec = RunSpec(**json.loads(path.read_text())["spec"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if spec.key == path.parent.name:
            yield spec


def _finished(runs_dir: Path, spec: RunSpec) -> FinishedRun:
    return FinishedRun(spec, list(RunFolder(runs_dir, spec).read().values()))


def _told_apart(specs: Sequence[RunSpec]) -> str:
    """Each key with the settings in which the runs differ."""
    rows = [spec.as_json() for spec in specs]
    differing = [n for n in rows[0] if n not in _DERIVED and len({json.dumps(row[n]) for row in rows}) > 1]
    told = (f"{s.key} ({', '.join(f'{n} {r[n]}' for n in differing)})" for s, r in zip(specs, rows, strict=True))
    return "; ".join(told)


def compare_runs(ours: FinishedRun, theirs: FinishedRun, metrics: Sequence[str], average: str) -> list[Line]:
    """Compare two runs: each metric over all samples, then by category.

    Args:
        ours: the run whose gain is positive.
        theirs: the other.
        metrics: names of METRICS.
        average: over all samples: "overall", "macro" or "frequency2".

    Raises:
        UsageError: an unknown metric, or runs that were not made under the same conditions.
        DataError: they share no sample.
    """
    if wrong := [name for name in metrics if name not in METRICS]:
        raise UsageError(unknown("metric", wrong[0], METRICS))
    if differ := [name for name in _SAME if getattr(ours.spec, name) != getattr(theirs.spec, name)]:
        told = f"{differ[0]} {getattr(ours.spec, differ[0])!r} and {getattr(theirs.spec, differ[0])!r}"
        raise UsageError(f"{ours.name} and {theirs.name} cannot be compared: their runs differ in {told}")
    lines = [line for metric in metrics for line in _lines(ours, theirs, metric, average)]
    if not any(line.found.n for line in lines):
        raise DataError(f"{ours.spec.key} and {theirs.spec.key} share no scored sample")
    return lines


def _lines(ours: FinishedRun, theirs: FinishedRun, metric: str, average: str) -> list[Line]:
    pairs = paired(ours.records, theirs.records, metric)
    higher = METRICS[metric].higher_is_better
    found = {ALL: compare(pairs, average, higher)}
    for category in sorted(set(pairs.categories.tolist())):
        found[category] = compare(pairs.of_category(category), "overall", higher)
    corrected = holm([one.p_value for one in found.values()])
    return [Line(metric, name, one, p) for (name, one), p in zip(found.items(), corrected, strict=True)]


def in_words(line: Line, ours: str, theirs: str) -> str:
    """What a line says, as a sentence."""
    found, scope = line.found, "" if line.category == ALL else f" on {line.category}"
    if found.difference is None or found.low is None or found.high is None or line.p_value is None:
        return f"Nothing can be said of {line.metric}{scope}: {found.n} samples."
    basis = f"{abs(found.difference):.3f} {line.metric}"
    bounds = f"95 % {found.low:.3f} to {found.high:.3f}, p = {line.p_value:.2g}"
    many = f"{found.n} samples of {found.n_patients} patients"
    if line.p_value >= LEVEL:
        return f"{ours} and {theirs} cannot be told apart by {line.metric}{scope} ({bounds}; {many})."
    gain = found.difference if METRICS[line.metric].higher_is_better else -found.difference
    better, worse = (ours, theirs) if gain > 0 else (theirs, ours)
    return f"{better} is better than {worse} by {basis}{scope} ({bounds}; {many})."
