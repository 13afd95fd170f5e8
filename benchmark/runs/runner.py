"""The evaluation loop: sample -> map -> scores -> record. Failures are recorded and counted; a rerun resumes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, unknown
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, MethodSettings, PhraseSample, SampleRecord
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.paths import PlaceError
from gtg_bench.benchmark.runs.feeding import MOST_WORKERS, WORKERS
from gtg_bench.benchmark.runs.identity import digest_of_images, digest_of_samples, options_in_key, seen
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import FINAL, RunFolder, maker_of, this_program
from gtg_bench.benchmark.runs.sources import ModelSource, NoSource, Source, check_device
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS, plan
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, RULES, Protocol, find_protocol
from gtg_bench.benchmark.scoring.score_map import check_map, check_sample
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.worker import Scored, failed, scored_batch

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

MANY = 200
"""Number of samples above which starting more scoring processes pays off."""


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for. Invalid options raise UsageError before anything is loaded."""

    settings: MethodSettings
    """The method, and the settings that the user chose."""
    dataset: str = "phantom"
    """Name of the data set."""
    data_root: Path | None = None
    """Folder with the data set's annotations and images."""
    dataset_options: dict[str, str] = field(default_factory=dict)
    """Options of the data set."""
    split: str = "test"
    """Split to evaluate."""
    limit: int | None = None
    """Evaluate only the first N samples."""
    control: str = CONTROLS[0]
    """Sanity-check control, one of CONTROLS."""
    protocol: str = PROTOCOL
    """Metrics, frame, mask and averages, a name of `scoring.protocols.PROTOCOLS`."""
    frame: str | None = None
    """Overrides the protocol's frame."""
    uncovered: str | None = None
    """Overrides how the protocol scores pixels that the method does not cover."""
    mask: str | None = None
    """Overrides the protocol's mask."""
    smooth: str | None = None
    """Overrides the protocol's smoothing."""
    fail_fast: bool = False
    """Stop at the first sample that fails."""
    fresh: bool = False
    """Compute every map and score anew, even if they are stored."""
    batch_size: int = 16
    """Samples per batch; does not change results."""
    workers: int = WORKERS
    """Threads that read the next batch's images; does not change results. 0 reads them when they are needed."""
    runs_dir: Path = Path("runs")
    """Folder of the records and maps."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, not {self.limit}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {self.batch_size}")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise UsageError(f"--workers must be between 0 and {MOST_WORKERS}, not {self.workers}")
        check_device(self.settings.device)
        _ = self.rules

    @classmethod
    def of(cls, method: str, **options: Any) -> RunRequest:
        """A request from a method's name and any mix of method settings and fields of a request.

        Raises:
            UsageError: an unknown or invalid option.
        """
        known, settings = ([one.name for one in fields(kind)] for kind in (cls, MethodSettings))
        for name in options:
            if name not in known + settings:
                raise UsageError(unknown("option", name, known + settings))
        own = {name: value for name, value in options.items() if name in known}
        rest = {name: value for name, value in options.items() if name not in known}
        return cls(MethodSettings(method, **rest), **own)

    @property
    def rules(self) -> Protocol:
        """The protocol with its overrides."""
        return find_protocol(self.protocol).changed(*(getattr(self, part) for part in RULES))


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    spec: RunSpec
    """Its description."""
    folder: Path
    """Where its records and maps are stored."""
    records: list[SampleRecord]
    """One record per sample, in the order of the samples."""
    seconds: float
    """Wall time."""
    computed: int
    """Number of samples that were scored now; the others had been scored before."""
    reused: int = 0
    """How many of these were scored from a stored map."""
    maps_of: str | None = None
    """Key of another run that holds most of the stored maps."""
    made_by: str | None = None
    """Version of the program that made these maps, or the records that were there already, if it is not this one."""


@dataclass(frozen=True)
class PreparedRun:
    """A run before its first sample: nothing heavy has been loaded yet."""

    spec: RunSpec
    """Its description."""
    rules: Protocol
    """How its maps are scored."""
    trials: list[Trial]
    """What is grounded and scored, one per sample."""
    source: Source
    """Source of maps that are not stored."""
    facts: dict[str, object] = field(default_factory=dict)
    """Entries of the manifest beyond the description."""

    def maps(self, runs_dir: Path, fresh: bool = False) -> MapStore:
        """Its stored maps; those of other runs included, unless it is computed afresh."""
        names = {trial.sample.sample_id: trial.map_name for trial in self.trials}
        return MapStore(RunFolder(runs_dir, self.spec).path, None if fresh else self.spec.map_key, names)


def prepare(request: RunRequest, entry: MethodEntry | None = None, dataset: Dataset | None = None) -> PreparedRun:
    """Resolve every name and setting before torch is imported.

    Args:
        request: what to run.
        entry: the method, if it is not the registered one.
        dataset: the data set, if it is already open.

    Raises:
        UsageError: an unknown name or option.
        DataError: files of the data set or weights cannot be used.
    """
    entry = entry or METHODS.get(request.settings.method)
    settings = entry.completed(replace(request.settings, dataset=request.dataset))
    dataset = dataset or open_dataset(request.dataset, request.data_root, request.dataset_options)
    return planned(request, settings, dataset, ModelSource(entry, settings, dataset), entry.code)


def planned(
    request: RunRequest, settings: MethodSettings, dataset: Dataset, source: Source, code: str | None
) -> PreparedRun:
    """A run with complete settings on an open data set.

    Args:
        request: what to run; its settings are not used.
        settings: the complete settings.
        dataset: the data set.
        source: source of the maps.
        code: version of the method's code; None if the maps come from files, so that no image is read.

    Raises:
        UsageError: an unknown split, one without samples, or a control that the data set does not support.
        DataError: files of the data set cannot be used.
    """
    trials = plan(dataset.samples(request.split), request.control, request.limit)
    if not trials:
        raise UsageError(f"split {request.split!r} of {request.dataset} has no samples")
    if code is not None:
        trials = seen(trials, dataset)
    spec = RunSpec(
        dataset=request.dataset,
        dataset_version=dataset.version,
        dataset_options=options_in_key(dataset),
        samples_sha256=digest_of_samples(trials),
        images_sha256=None if code is None else digest_of_images(trials),
        split=request.split,
        limit=request.limit,
        settings=settings,
        code=code,
        control=request.control,
    )
    spec = with_rules(spec, request.rules)
    return PreparedRun(spec, request.rules, trials, source, origin(dataset, request.data_root))


def origin(dataset: Dataset, data_root: Path | None) -> dict[str, object]:
    """Entries of the manifest that say where the data are."""
    return {
        "data_root": None if data_root is None else str(data_root.resolve()),
        "dataset_options": dict(sorted(dataset.options.items())),
    }


def with_rules(spec: RunSpec, rules: Protocol) -> RunSpec:
    """The description of the same maps, scored by these rules."""
    parts = {part: getattr(rules, part) for part in RULES}
    return replace(spec, **parts, protocol=rules.name, protocol_version=rules.version)


def run(
    prepared: PreparedRun,
    request: RunRequest,
    progress: Progress = lambda done, total: None,
    processes: int | None = None,
    busy: Callable[[], None] = lambda: None,
) -> RunResult:
    """Score the samples without a final record and return all records; a map is computed only if none is stored.

    Only one process works on a run: another one waits for it, and finds the work done.

    Args:
        prepared: the run.
        request: its runs_dir, batch_size, fail_fast and fresh are used.
        progress: called after each batch.
        processes: number of scoring processes. 1 scores in this process while the method grounds. None chooses 2 if
            all maps are stored and there are many samples.
        busy: called once if another process is working on the run.

    Raises:
        UsageError: the method cannot be built, or its device cannot be used.
        DataError: a sample failed and `fail_fast` is set, or the folder belongs to another run.
    """
    folder = RunFolder(request.runs_dir, prepared.spec)
    with folder.claimed(busy):
        return _run(folder, prepared, request, progress, processes)


def _run(
    folder: RunFolder, prepared: PreparedRun, request: RunRequest, progress: Progress, processes: int | None
) -> RunResult:
    started = time.monotonic()
    if request.fresh:
        folder.set_aside()
    fresh = request.fresh or folder.is_fresh
    records = folder.read()
    final = {name for name, record in records.items() if record.status in FINAL}
    todo = [trial for trial in prepared.trials if trial.sample.sample_id not in final]
    grounder = _Grounder(prepared, prepared.maps(request.runs_dir, fresh))
    missing = [trial.sample for trial in todo if not grounder.maps.holds(trial.sample.sample_id)]
    computing = bool(missing)
    device = prepared.source.device if computing else "cpu"
    total = len(prepared.trials)
    facts = {**prepared.facts, "n_total": total, "map_key": prepared.spec.map_key, "maps_of": grounder.maps_of}
    folder.open(device, **facts, fresh=fresh or None)
    if processes is None:
        processes = 2 if len(todo) > MANY and not computing and (os.cpu_count() or 1) > 1 else 1
    done = total - len(todo)
    progress(done, total)
    batches = (todo[start : start + request.batch_size] for start in range(0, len(todo), request.batch_size))
    with _reading_ahead(prepared.source, missing, request):
        for scored in _scored(grounder, batches, prepared.rules, processes) if todo else ():
            _keep(folder, scored, request.fail_fast)
            records.update((one.record.sample_id, one.record) for one in scored)
            done += len(scored)
            progress(done, total)
    folder.finish()
    ordered = [records[trial.sample.sample_id] for trial in prepared.trials]
    seconds = time.monotonic() - started
    from_others = grounder.maps_of if grounder.reused else None
    older = [folder.path] if len(todo) < total else [folder.path.with_name(from_others)] if from_others else []
    made_by = next((maker for maker in map(maker_of, older) if maker != this_program()), None)
    return RunResult(prepared.spec, folder.path, ordered, seconds, len(todo), grounder.reused, from_others, made_by)


def _reading_ahead(
    source: Source, samples: Sequence[PhraseSample], request: RunRequest
) -> AbstractContextManager[None]:
    """Read the next batch's images while the method works on one."""
    if isinstance(source, ModelSource):
        return source.images.ahead(samples, request.workers, request.batch_size)
    return nullcontext()


def _keep(folder: RunFolder, scored: Sequence[Scored], fail_fast: bool) -> None:
    """Write records. With `fail_fast`, raises DataError for the first sample that failed."""
    folder.append(one.record for one in scored)
    for one in scored:
        if one.trace:
            folder.log(f"{one.record.sample_id}\n{one.trace}")
    failures = [one.record for one in scored if one.record.status == "failed"]
    if fail_fast and failures:
        raise DataError(f"--fail-fast: {failures[0].sample_id} failed: {failures[0].error}")


def _end_with_parent(parent: int) -> None:
    """Let a scoring process end when the run is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _scored(
    grounder: _Grounder, batches: Iterator[Sequence[Trial]], rules: Protocol, processes: int
) -> Iterator[list[Scored]]:
    """The records of each batch, in order: a batch is scored while the method grounds the next."""
    executor: Executor = ThreadPoolExecutor(1)
    if processes > 1:
        spawn = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(processes, spawn, initializer=_end_with_parent, initargs=(os.getpid(),))
    with executor as scorers:
        waiting: deque[tuple[Sequence[Trial], list[Scored], Future[list[Scored]]]] = deque()
        for batch in batches:
            try:
                pairs, failures, seconds = grounder.ground(batch)
            except BaseException:  # interrupted: keep the batches that have been grounded
                yield from (_in_order(*one) for one in waiting)
                raise
            waiting.append((batch, failures, scorers.submit(scored_batch, pairs, seconds, rules)))
            if len(waiting) > processes:
                yield _in_order(*waiting.popleft())
        yield from (_in_order(*one) for one in waiting)


def _in_order(batch: Sequence[Trial], failures: list[Scored], scoring: Future[list[Scored]]) -> list[Scored]:
    """A batch's records in the order of its trials."""
    found = {one.record.sample_id: one for one in (*failures, *scoring.result())}
    return [found[trial.sample.sample_id] for trial in batch]


class _Grounder:
    """Gets the maps of trials: stored ones first, then those of the run's source, which it stores."""

    def __init__(self, prepared: PreparedRun, maps: MapStore) -> None:
        self.source = prepared.source
        self.rules = prepared.rules
        self.maps = maps
        self.reused = 0
        other = maps.source(trial.sample.sample_id for trial in prepared.trials)
        self.maps_of = other.name if other else None

    def ground(self, batch: Sequence[Trial]) -> tuple[list[tuple[Trial, GroundingMap]], list[Scored], float]:
        """The trials with their maps, the records of those that failed, and the seconds per trial."""
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
            except PlaceError:
                raise  # a full disk is not the sample's fault
            except Exception as error:
                fail(trial, error)
        return pairs, failures, (time.monotonic() - started) / len(batch)

    def _stored(self, trial: Trial) -> GroundingMap | None:
        """A trial's stored map; None if it has to be computed.

        Raises:
            SampleError: the sample cannot be scored.
            DataError: the stored map is damaged, and the run has no source to compute it again.
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
