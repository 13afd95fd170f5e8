"""The loop: sample -> map -> scores -> record. Failures are caught, recorded and counted; a rerun resumes."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import ThreadpoolController

from gtg_bench.benchmark.api.errors import DataError, GtgError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.types import (
    BatchMethod,
    Box,
    Dataset,
    GroundingMap,
    Method,
    MethodSettings,
    PhraseSample,
    Query,
    SampleRecord,
    Status,
    fingerprint,
    seed_for,
)
from gtg_bench.benchmark.controls import Trial, plan
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.mapstore import MapStore
from gtg_bench.benchmark.records import FINAL, RunFolder
from gtg_bench.benchmark.scoring import Scores, check_map, check_sample, score_map
from gtg_bench.benchmark.spec import FRAMES, UNCOVERED, RunSpec

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for; None leaves a setting to the method's weights."""

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
    frame: str = FRAMES[0]
    uncovered: str = UNCOVERED[0]
    seed: int = 4200
    strict: bool = False
    batch_size: int = 16
    device: str = "cpu"
    runs_dir: Path = Path("runs")


@dataclass(frozen=True)
class RunResult:
    """A finished run: its records in the order of the samples."""

    spec: RunSpec
    folder: Path
    records: list[SampleRecord]
    seconds: float
    computed: int


@dataclass(frozen=True)
class PreparedRun:
    """A run before its first sample: nothing heavy has been loaded yet."""

    spec: RunSpec
    entry: MethodEntry
    settings: MethodSettings
    dataset: Dataset
    trials: list[Trial]


def prepare(request: RunRequest) -> PreparedRun:
    """Resolve every name and setting. Raises UsageError or DataError before torch is imported."""
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {request.limit}")
    if request.batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {request.batch_size}")
    entry = METHODS.get(request.method)
    settings = entry.completed(_wanted(request))
    dataset = open_dataset(request.dataset, request.data_root, request.dataset_options)
    samples = dataset.samples(request.split)
    trials = plan(samples, request.control)[: request.limit]
    if not trials:
        raise UsageError(f"split {request.split!r} of {request.dataset} has no sample")
    return PreparedRun(_spec(request, entry, settings, dataset, trials), entry, settings, dataset, trials)


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
    request: RunRequest, entry: MethodEntry, settings: MethodSettings, dataset: Dataset, trials: Sequence[Trial]
) -> RunSpec:
    return RunSpec(
        dataset=request.dataset,
        dataset_version=dataset.version,
        dataset_options=" ".join(f"{key}={value}" for key, value in sorted(dataset.options.items())),
        samples_sha256=_digest(trials),
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
        frame=request.frame,
        uncovered=request.uncovered,
        control=request.control,
    )


def _digest(trials: Sequence[Trial]) -> str:
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


def run(prepared: PreparedRun, request: RunRequest, progress: Progress = lambda done, total: None) -> RunResult:
    """Compute what is missing and return all records."""
    started = time.monotonic()
    folder = RunFolder(request.runs_dir, prepared.spec)
    folder.open(request.device)
    records = folder.read()
    todo = [t for t in prepared.trials if not _is_final(records.get(t.sample.sample_id))]
    done = len(prepared.trials) - len(todo)
    progress(done, len(prepared.trials))
    for made in _work(_Worker(prepared, folder), _batches(todo, request.batch_size)) if todo else ():
        folder.append(made)
        _stop_if_strict(request, made)
        records.update((record.sample_id, record) for record in made)
        done += len(made)
        progress(done, len(prepared.trials))
    ordered = [records[t.sample.sample_id] for t in prepared.trials]
    return RunResult(prepared.spec, folder.path, ordered, time.monotonic() - started, len(todo))


def _stop_if_strict(request: RunRequest, records: Sequence[SampleRecord]) -> None:
    """Raise DataError at the first sample that failed, if the user wants that; all records are kept."""
    failed = [record for record in records if record.status == "failed"]
    if request.strict and failed:
        raise DataError(f"--strict: {failed[0].sample_id} failed: {failed[0].error}")


def _is_final(record: SampleRecord | None) -> bool:
    return record is not None and record.status in FINAL


def _batches(trials: Sequence[Trial], size: int) -> Iterator[Sequence[Trial]]:
    return (trials[start : start + size] for start in range(0, len(trials), size))


def _work(worker: _Worker, batches: Iterator[Sequence[Trial]]) -> Iterator[list[SampleRecord]]:
    """The records of each batch, in order: one batch is scored while the method works on the next."""
    with ThreadPoolExecutor(1) as scorer:
        scoring: Future[list[SampleRecord]] | None = None
        for batch in batches:
            try:
                found, seconds = worker.ground(batch)
            except BaseException:  # stopped: what the batch before has computed is not lost
                if scoring is not None:
                    yield scoring.result()
                raise
            if scoring is not None:
                yield scoring.result()
            scoring = scorer.submit(worker.score, batch, found, seconds)
        if scoring is not None:
            yield scoring.result()


class _Worker:
    """Turns trials into records; what goes wrong with one sample stays with that sample."""

    def __init__(self, prepared: PreparedRun, folder: RunFolder) -> None:
        self.method = prepared.entry.built(prepared.settings)
        self.dataset = prepared.dataset
        self.spec = prepared.spec
        self.folder = folder
        self.maps = MapStore(folder.path)
        self.threads = ThreadpoolController()

    def ground(self, batch: Sequence[Trial]) -> tuple[list[GroundingMap | Exception], float]:
        """One map or exception a trial, in order, and the seconds that each took."""
        started = time.monotonic()
        inputs = [self._query(trial) for trial in batch]
        maps = iter(self._ground([query for query in inputs if isinstance(query, Query)]))
        found = [next(maps) if isinstance(query, Query) else query for query in inputs]
        return found, (time.monotonic() - started) / len(batch)

    def score(
        self, batch: Sequence[Trial], found: Sequence[GroundingMap | Exception], seconds: float
    ) -> list[SampleRecord]:
        """One record a trial, in order."""
        with self.threads.limit(limits=1):  # a mixture of a few thousand values only loses time with more
            return [self._record(trial, result, seconds) for trial, result in zip(batch, found, strict=True)]

    def _query(self, trial: Trial) -> Query | Exception:
        """The method's input, or why there is none."""
        try:
            image = self.dataset.image(trial.sample)  # first: a data set knows best what is wrong with its row
            check_sample(trial.sample)
            check_sample(trial.scored_on)
        except Exception as error:
            return error
        return Query(image, trial.phrase, seed_for(self.spec.seed, trial.sample.sample_id), trial.category)

    def _ground(self, queries: list[Query]) -> list[GroundingMap | Exception]:
        """One map or exception a query: a batch that fails is done again one by one."""
        try:
            return list(ground_all(self.method, queries)) if queries else []
        except Exception as error:
            if len(queries) == 1:
                return [error]
        return [result for query in queries for result in self._ground([query])]

    def _record(self, trial: Trial, found: GroundingMap | Exception, seconds: float) -> SampleRecord:
        sample, started = trial.sample, time.monotonic()
        scores, error, digest, note = Scores({}), "", "", ""
        status: Status = "ok"
        try:
            if isinstance(found, Exception):
                raise found
            check_map(found, sample)
            scores = score_map(found, trial, self.spec.frame, self.spec.uncovered)
            self.maps.save(sample.sample_id, found)
            digest, note = fingerprint(found.values), found.note
            status = "unscorable" if scores.unscorable else "ok"
        except Exception as reason:
            status, error = "failed", self._reason(sample, reason)
        return SampleRecord(
            sample_id=sample.sample_id,
            image_id=sample.image_id,
            patient_id=sample.patient_id,
            category=sample.category,
            status=status,
            metrics={name: round(value, 8) for name, value in scores.metrics.items()},
            error=error or scores.unscorable,
            note=note,
            seconds=round(seconds + time.monotonic() - started, 4),
            map_sha256=digest,
        )

    def _reason(self, sample: PhraseSample, error: Exception) -> str:
        """One line for the record; for an error that nobody foresaw also the traceback in errors.log."""
        text = " ".join(str(error).split())
        if isinstance(error, GtgError):
            return text
        self.folder.log(f"{sample.sample_id}\n{''.join(traceback.format_exception(error))}")
        return f"{type(error).__name__}: {text}" if text else type(error).__name__


def ground_all(method: Method, queries: Sequence[Query]) -> list[GroundingMap]:
    """The maps of several queries, in one go where the method can."""
    if isinstance(method, BatchMethod):
        maps = method.ground_batch(queries)
        if len(maps) != len(queries):
            raise ValueError(f"ground_batch returned {len(maps)} maps for {len(queries)} queries")
        return maps
    return [method.ground(query.image, query.text) for query in queries]
