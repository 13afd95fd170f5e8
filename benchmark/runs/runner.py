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
from dataclasses import dataclass, field, replace
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.types import (
    Box,
    Dataset,
    MethodSettings,
    PhraseSample,
    SampleRecord,
)
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.scoring.protocols import Protocol, find_protocol
from gtg_bench.benchmark.runs.records import FINAL, RunFolder
from gtg_bench.benchmark.scoring.worker import Found, Scored, scored_batch
from gtg_bench.benchmark.scoring.score_map import check_map, check_sample
from gtg_bench.benchmark.runs.sources import ModelSource, NoSource, Source
from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL
from gtg_bench.benchmark.runs.spec import RunSpec

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

MANY = 200
"""Samples from which on it pays to start further processes that score."""


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for; None leaves a setting to the weights, and frame, uncovered and mask to the protocol."""

    method: str
    dataset: str = "phantom"
    data_root: Path | None = None
    dataset_options: dict[str, str] = field(default_factory=dict)
    split: str = "test"
    limit: int | None = None
    control: str = "none"
    sampling: str | None = "gt-cfg"
    steps: int | None = None
    last_steps: int | None = None
    guidance: float | None = None
    layers: str | None = None
    latent: str | None = None
    tokens: str | None = None
    bbm: str | None = None
    profile: str | None = None
    precision: str | None = None
    weights: str | None = None
    protocol: str = PROTOCOL
    frame: str | None = None
    uncovered: str | None = None
    mask: str | None = None
    seed: int = 4200
    fail_fast: bool = False
    batch_size: int = 16
    device: str = "cpu"
    runs_dir: Path = Path("runs")


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

    @property
    def settings(self) -> MethodSettings:
        """Of the method. Raises UsageError where the maps are no method's."""
        return self._model.settings

    @property
    def entry(self) -> MethodEntry:
        """The method. Raises UsageError where the maps are no method's."""
        return self._model.entry

    @property
    def _model(self) -> ModelSource:
        if not isinstance(self.source, ModelSource):
            raise UsageError(f"{self.spec.method} is a set of maps, not a method")
        return self.source

    def on(self, device: str) -> PreparedRun:
        """The same run, its method on another device."""
        return replace(self, source=replace(self._model, settings=replace(self.settings, device=device)))


def prepare(request: RunRequest) -> PreparedRun:
    """Resolve every name and setting. Raises UsageError or DataError before torch is imported."""
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {request.limit}")
    if request.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {request.batch_size}")
    rules = find_protocol(request.protocol).changed(request.frame, request.uncovered, request.mask)
    entry = METHODS.get(request.method)
    settings = entry.completed(_wanted(request))
    dataset = open_dataset(request.dataset, request.data_root, request.dataset_options)
    samples = dataset.samples(request.split)
    trials = plan(samples, request.control, request.limit)
    if not trials:
        raise UsageError(f"split {request.split!r} of {request.dataset} has no sample")
    spec = with_rules(_spec(request, entry, settings, dataset, digest(trials)), rules)
    source = ModelSource(entry, settings, dataset)
    return PreparedRun(spec, rules, trials, map_key_of(spec, samples), source, origin(dataset, request.data_root))


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


def _wanted(request: RunRequest) -> MethodSettings:
    return MethodSettings(
        method=request.method,
        weights=request.weights,
        sampling=request.sampling,
        steps=request.steps,
        last_steps=request.last_steps,
        guidance=request.guidance,
        layers=request.layers,
        latent=request.latent,
        tokens=request.tokens,
        bbm=request.bbm,
        profile=request.profile,
        precision=request.precision,
        seed=request.seed,
        dataset=request.dataset,
        device=request.device,
    )


def _spec(
    request: RunRequest, entry: MethodEntry, settings: MethodSettings, dataset: Dataset, samples_sha256: str
) -> RunSpec:
    return RunSpec(
        dataset=request.dataset,
        dataset_version=dataset.version,
        dataset_options=options_text(dataset.options),
        samples_sha256=samples_sha256,
        split=request.split,
        limit=request.limit,
        method=request.method,
        code=entry.code,
        weights=settings.weights,
        weights_version=settings.weights_version,
        sampling=settings.sampling,
        latent=settings.latent,
        tokens=settings.tokens,
        lexicon=settings.lexicon,
        bbm=settings.bbm,
        profile=settings.profile,
        precision=settings.precision,
        steps=settings.steps,
        last_steps=settings.last_steps,
        guidance=settings.guidance,
        layers=settings.layers,
        seed=settings.seed,
        control=request.control,
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


def missing(prepared: PreparedRun, runs_dir: Path) -> int:
    """How many maps a run would have to compute: samples that are not done and of which no map is stored."""
    folder = RunFolder(runs_dir, prepared.spec)
    maps = MapStore(folder.path, prepared.map_key)
    return sum(not maps.holds(trial.sample.sample_id) for trial in _todo(prepared, folder.read()))


def processes_for(prepared: PreparedRun, runs_dir: Path) -> int:
    """How many processes should score: more than one for many samples of which no map is computed by a model."""
    modelled = isinstance(prepared.source, ModelSource) and missing(prepared, runs_dir)
    todo = len(_todo(prepared, RunFolder(runs_dir, prepared.spec).read()))
    return 2 if todo > MANY and not modelled and (os.cpu_count() or 1) > 1 else 1


def run(
    prepared: PreparedRun, request: RunRequest, progress: Progress = lambda done, total: None, processes: int = 1
) -> RunResult:
    """Score what is missing and return all records; a map is computed only where none is stored.

    Args:
        prepared: the run.
        request: its runs_dir, device, batch_size and fail_fast count here.
        progress: called after each batch.
        processes: that score. 1: this one, while the method grounds; more pay for many samples whose maps are stored.
    """
    started = time.monotonic()
    folder = RunFolder(request.runs_dir, prepared.spec)
    grounder = _Grounder(prepared, MapStore(folder.path, prepared.map_key))
    folder.open(request.device, **prepared.facts, map_key=prepared.map_key, maps_of=grounder.maps_of)
    records = folder.read()
    todo = _todo(prepared, records)
    done = len(prepared.trials) - len(todo)
    progress(done, len(prepared.trials))
    for made in _work(grounder, _batches(todo, request.batch_size), prepared.rules, processes) if todo else ():
        _keep(folder, made, request.fail_fast)
        records.update((one.record.sample_id, one.record) for one in made)
        done += len(made)
        progress(done, len(prepared.trials))
    ordered = [records[t.sample.sample_id] for t in prepared.trials]
    return RunResult(
        prepared.spec, folder.path, ordered, time.monotonic() - started, len(todo), grounder.reused, grounder.maps_of
    )


def _todo(prepared: PreparedRun, records: Mapping[str, SampleRecord]) -> list[Trial]:
    final = {name for name, record in records.items() if record.status in FINAL}
    return [trial for trial in prepared.trials if trial.sample.sample_id not in final]


def _keep(folder: RunFolder, made: Sequence[Scored], fail_fast: bool) -> None:
    """Write records down. Raises DataError at the first sample that failed, if the user wants that."""
    folder.append(one.record for one in made)
    for one in made:
        if one.trace:
            folder.log(f"{one.record.sample_id}\n{one.trace}")
    failed = [one.record for one in made if one.record.status == "failed"]
    if fail_fast and failed:
        raise DataError(f"--fail-fast: {failed[0].sample_id} failed: {failed[0].error}")


def _batches(trials: Sequence[Trial], size: int) -> Iterator[Sequence[Trial]]:
    return (trials[start : start + size] for start in range(0, len(trials), size))


def _work(
    grounder: _Grounder, batches: Iterator[Sequence[Trial]], rules: Protocol, processes: int
) -> Iterator[list[Scored]]:
    """The records of each batch, in order: batches are scored while the method works on the next."""
    with _scorers(processes) as scorers:
        waiting: deque[Future[list[Scored]]] = deque()
        for batch in batches:
            try:
                found, seconds = grounder.ground(batch)
            except BaseException:  # stopped: what the batches before have computed is not lost
                yield from (scoring.result() for scoring in waiting)
                raise
            waiting.append(scorers.submit(scored_batch, batch, found, seconds, rules))
            if len(waiting) > processes:
                yield waiting.popleft().result()
        yield from (scoring.result() for scoring in waiting)


def _scorers(processes: int) -> Executor:
    if processes == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


class _Grounder:
    """Finds the maps of trials: stored ones first, then those of the run's source, which are kept."""

    def __init__(self, prepared: PreparedRun, maps: MapStore) -> None:
        self.source = prepared.source
        self.maps = maps
        self.reused = 0
        beside = maps.source(trial.sample.sample_id for trial in prepared.trials)
        self.maps_of = beside.name if beside else None

    def ground(self, batch: Sequence[Trial]) -> tuple[list[Found], float]:
        """One map or exception a trial, in order, and the seconds that each took."""
        started = time.monotonic()
        stored = [self._stored(trial) for trial in batch]
        rest = [trial for trial, found in zip(batch, stored, strict=True) if found is None]
        made = iter(self.source(rest) if rest else ())
        found = [
            self._kept(trial, next(made)) if known is None else known
            for trial, known in zip(batch, stored, strict=True)
        ]
        return found, (time.monotonic() - started) / len(batch)

    def _stored(self, trial: Trial) -> Found | None:
        """A trial's stored map, or why it cannot be scored; None where it must be computed."""
        if not self.maps.holds(trial.sample.sample_id):
            return None
        try:
            check_sample(trial.sample)
            check_sample(trial.scored_on)
            found = self.maps.load(trial.sample.sample_id)
        except SampleError as error:
            return error
        except DataError as error:
            return error if isinstance(self.source, NoSource) else None
        self.reused += 1
        return found

    def _kept(self, trial: Trial, found: Found) -> Found:
        """A new map, stored, or why there is none."""
        try:
            if not isinstance(found, Exception):
                check_map(found, trial.sample)
                self.maps.save(trial.sample.sample_id, found)
        except Exception as error:
            return error
        return found
