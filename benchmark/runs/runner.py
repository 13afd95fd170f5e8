"""The loop: sample -> map -> scores -> record. Failures are caught, recorded and counted; a rerun resumes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, unknown
from gtg_bench.benchmark.api.types import Box, Dataset, GroundingMap, MethodSettings, PhraseSample, SampleRecord
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import FINAL, RunFolder
from gtg_bench.benchmark.runs.sources import ModelSource, NoSource, Source
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS, plan
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, Protocol, find_protocol
from gtg_bench.benchmark.scoring.score_map import check_map, check_sample
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.worker import Scored, failed, scored_batch

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

MANY = 200
"""Samples from which on it pays to start further processes that score."""


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for; frame, uncovered and mask default to the protocol's."""

    settings: MethodSettings
    dataset: str = "phantom"
    data_root: Path | None = None
    dataset_options: dict[str, str] = field(default_factory=dict)
    split: str = "test"
    limit: int | None = None
    control: str = CONTROLS[0]
    protocol: str = PROTOCOL
    frame: str | None = None
    uncovered: str | None = None
    mask: str | None = None
    fail_fast: bool = False
    batch_size: int = 16
    runs_dir: Path = Path("runs")

    @classmethod
    def of(cls, method: str, **options: Any) -> RunRequest:
        """A request from a method's name and any mix of its settings and the fields of a request.

        Raises:
            UsageError: an unknown option.
        """
        known, settings = ([one.name for one in fields(kind)] for kind in (cls, MethodSettings))
        for name in options:
            if name not in known + settings:
                raise UsageError(unknown("option", name, known + settings))
        own = {name: value for name, value in options.items() if name in known}
        rest = {name: value for name, value in options.items() if name not in known}
        return cls(MethodSettings(method, **rest), **own)


@dataclass(frozen=True)
class RunResult:
    """A finished run: its records in the order of the samples.

    Attributes:
        computed: samples that were scored now; the others were there already.
        reused: of them, those whose map was stored already.
        maps_of: key of the run that holds most of the stored maps; None where it is this one.
    """

    spec: RunSpec
    folder: Path
    records: list[SampleRecord]
    seconds: float
    computed: int
    reused: int = 0
    maps_of: str | None = None


@dataclass(frozen=True)
class PreparedRun:
    """A run before its first sample: nothing heavy has been loaded yet.

    Attributes:
        map_key: what decides the maps, see `spec.RunSpec.map_key`; a control of the region has the plain run's.
        source: of maps that are not stored.
        facts: what the manifest says beyond the description.
    """

    spec: RunSpec
    rules: Protocol
    trials: list[Trial]
    map_key: str
    source: Source
    facts: dict[str, object] = field(default_factory=dict)


def prepare(request: RunRequest, entry: MethodEntry | None = None, dataset: Dataset | None = None) -> PreparedRun:
    """Resolve every name and setting before torch is imported.

    Args:
        request: what to run.
        entry: the method, if it is not the registered one.
        dataset: the data set, if it is open already.

    Raises:
        UsageError: an unknown name or option.
        DataError: files of the data set or weights cannot be used.
    """
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {request.limit}")
    if request.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {request.batch_size}")
    rules = find_protocol(request.protocol).changed(request.frame, request.uncovered, request.mask)
    entry = entry or METHODS.get(request.settings.method)
    settings = entry.completed(replace(request.settings, dataset=request.dataset))
    dataset = dataset or open_dataset(request.dataset, request.data_root, request.dataset_options)
    samples = dataset.samples(request.split)
    trials = plan(samples, request.control, request.limit)
    if not trials:
        raise UsageError(f"split {request.split!r} of {request.dataset} has no samples")
    spec = RunSpec(
        dataset=request.dataset,
        dataset_version=dataset.version,
        dataset_options=options_text(dataset.options),
        samples_sha256=digest(trials),
        split=request.split,
        limit=request.limit,
        settings=settings,
        code=entry.code,
        control=request.control,
    )
    spec = with_rules(spec, rules)
    facts = origin(dataset, request.data_root)
    return PreparedRun(spec, rules, trials, map_key_of(spec, samples), ModelSource(entry, settings, dataset), facts)


def origin(dataset: Dataset, data_root: Path | None) -> dict[str, object]:
    """What a manifest says so that the data can be found again."""
    return {
        "data_root": None if data_root is None else str(data_root.resolve()),
        "dataset_options": dict(sorted(dataset.options.items())),
    }


def map_key_of(spec: RunSpec, samples: Sequence[PhraseSample]) -> str:
    """What decides a run's maps, see `spec.RunSpec.map_key`; `samples` are those of its split."""
    if spec.control not in REGION_CONTROLS:
        return spec.map_key
    return replace(spec, samples_sha256=digest(plan(samples, CONTROLS[0], spec.limit))).map_key


def with_rules(spec: RunSpec, rules: Protocol) -> RunSpec:
    """A description of the same maps scored by a protocol."""
    return replace(
        spec,
        frame=rules.frame,
        uncovered=rules.uncovered,
        mask=rules.mask,
        protocol=rules.name,
        protocol_version=rules.version,
    )


def options_text(options: Mapping[str, str]) -> str:
    """`KEY=VALUE` pairs, sorted, joined by a space."""
    return " ".join(f"{key}={value}" for key, value in sorted(options.items()))


def digest(trials: Sequence[Trial]) -> str:
    """sha256 of what is scored: phrases, ids, sizes, regions and other regions, in order."""
    parts = [
        [
            t.phrase,
            t.category,
            t.sample.sample_id,
            t.sample.image_id,
            t.sample.patient_id,
            t.sample.image_size,
            _region(t.scored_on),
            [_region(s) for s in t.others],
        ]
        for t in trials
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _region(sample: PhraseSample) -> Sequence[Box] | str:
    """The sample's boxes, or the fingerprint of the mask that stands in their place."""
    return sample.boxes if sample.mask is None else sample.mask.digest


def run(
    prepared: PreparedRun,
    request: RunRequest,
    progress: Progress = lambda done, total: None,
    processes: int | None = None,
) -> RunResult:
    """Score what is missing and return all records; a map is computed only if none is stored.

    Args:
        prepared: the run.
        request: its runs_dir, batch_size and fail_fast are used.
        progress: called after each batch.
        processes: number of scoring processes. 1 scores in this process while the method grounds; None starts more for
            many samples whose maps are all stored.

    Raises:
        UsageError: the method cannot be built, or its device cannot be used.
        DataError: a sample failed and `fail_fast` is set, or the folder belongs to another run.
    """
    started = time.monotonic()
    folder = RunFolder(request.runs_dir, prepared.spec)
    records = folder.read()
    final = {name for name, record in records.items() if record.status in FINAL}
    todo = [trial for trial in prepared.trials if trial.sample.sample_id not in final]
    grounder = _Grounder(prepared, MapStore(folder.path, prepared.map_key))
    computing = any(not grounder.maps.holds(trial.sample.sample_id) for trial in todo)
    device = prepared.source.device if computing else "cpu"
    folder.open(device, **prepared.facts, map_key=prepared.map_key, maps_of=grounder.maps_of)
    if processes is None:
        processes = 2 if len(todo) > MANY and not computing and (os.cpu_count() or 1) > 1 else 1
    done = len(prepared.trials) - len(todo)
    progress(done, len(prepared.trials))
    for made in _work(grounder, batched(todo, request.batch_size), prepared.rules, processes) if todo else ():
        _keep(folder, made, request.fail_fast)
        records.update((one.record.sample_id, one.record) for one in made)
        done += len(made)
        progress(done, len(prepared.trials))
    ordered = [records[trial.sample.sample_id] for trial in prepared.trials]
    seconds = time.monotonic() - started
    return RunResult(prepared.spec, folder.path, ordered, seconds, len(todo), grounder.reused, grounder.maps_of)


def _keep(folder: RunFolder, made: Sequence[Scored], fail_fast: bool) -> None:
    """Write records. Raises DataError at the first sample that failed if the user wants that."""
    folder.append(one.record for one in made)
    for one in made:
        if one.trace:
            folder.log(f"{one.record.sample_id}\n{one.trace}")
    failures = [one.record for one in made if one.record.status == "failed"]
    if fail_fast and failures:
        raise DataError(f"--fail-fast: {failures[0].sample_id} failed: {failures[0].error}")


def batched(trials: Sequence[Trial], size: int) -> Iterator[Sequence[Trial]]:
    """The trials in batches of at most `size`."""
    return (trials[start : start + size] for start in range(0, len(trials), size))


def _work(
    grounder: _Grounder, batches: Iterator[Sequence[Trial]], rules: Protocol, processes: int
) -> Iterator[list[Scored]]:
    """The records of each batch, in order: a batch is scored while the method works on the next."""
    with _scorers(processes) as scorers:
        waiting: deque[tuple[Sequence[Trial], list[Scored], Future[list[Scored]]]] = deque()
        for batch in batches:
            try:
                pairs, failures, seconds = grounder.ground(batch)
            except BaseException:  # stopped: keep what the batches before have computed
                yield from (_in_order(*one) for one in waiting)
                raise
            waiting.append((batch, failures, scorers.submit(scored_batch, pairs, seconds, rules)))
            if len(waiting) > processes:
                yield _in_order(*waiting.popleft())
        yield from (_in_order(*one) for one in waiting)


def _in_order(batch: Sequence[Trial], failures: list[Scored], scoring: Future[list[Scored]]) -> list[Scored]:
    made = {one.record.sample_id: one for one in (*failures, *scoring.result())}
    return [made[trial.sample.sample_id] for trial in batch]


def _scorers(processes: int) -> Executor:
    if processes == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


class _Grounder:
    """Finds the maps of trials: stored ones first, then those of the run's source, which are stored."""

    def __init__(self, prepared: PreparedRun, maps: MapStore) -> None:
        self.source = prepared.source
        self.rules = prepared.rules
        self.maps = maps
        self.reused = 0
        beside = maps.source(trial.sample.sample_id for trial in prepared.trials)
        self.maps_of = beside.name if beside else None

    def ground(self, batch: Sequence[Trial]) -> tuple[list[tuple[Trial, GroundingMap]], list[Scored], float]:
        """The trials that have a map, the records of those that failed, and the seconds per trial."""
        started = time.monotonic()
        pairs: list[tuple[Trial, GroundingMap]] = []
        failures: list[Scored] = []

        def fail(trial: Trial, error: Exception) -> None:
            failures.append(failed(trial, error, (time.monotonic() - started) / len(batch), self.rules))

        missing = []
        for trial in batch:
            try:
                stored = self._stored(trial)
            except (SampleError, DataError) as error:
                fail(trial, error)
                continue
            if stored is None:
                missing.append(trial)
            else:
                self.reused += 1
                pairs.append((trial, stored))
        for trial, grounding in self.source.maps(missing, fail) if missing else ():
            try:
                check_map(grounding, trial.sample)
                self.maps.save(trial.sample.sample_id, grounding)
                pairs.append((trial, grounding))
            except Exception as error:
                fail(trial, error)
        return pairs, failures, (time.monotonic() - started) / len(batch)

    def _stored(self, trial: Trial) -> GroundingMap | None:
        """A trial's stored map; None if it has to be computed.

        Raises:
            SampleError: the sample cannot be scored.
            DataError: the stored map is damaged and nothing can compute it again.
        """
        if not self.maps.holds(trial.sample.sample_id):
            return None
        check_sample(trial.sample)
        check_sample(trial.scored_on)
        try:
            grounding = self.maps.load(trial.sample.sample_id)
            check_map(grounding, trial.sample)
        except (SampleError, DataError):
            if isinstance(self.source, NoSource):
                raise
            return None
        return grounding
