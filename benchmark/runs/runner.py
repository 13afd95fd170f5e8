"""The evaluation loop: sample -> map -> scores -> record. Failures are recorded and counted; a rerun resumes."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.settings import BOXES
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, KnowsAbsence, MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.metrics.named_masks import BEST, best_name
from gtg_bench.benchmark.paths import PlaceError
from gtg_bench.benchmark.runs.identity import digest_of_images, digest_of_samples, options_in_key, seen
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import FINAL, RunFolder, maker_of, this_program
from gtg_bench.benchmark.runs.request import RunRequest, RunResult
from gtg_bench.benchmark.runs.sources import LesionSource, ModelSource, NoSource, Source
from gtg_bench.benchmark.runs.spec import VALIDATION, RunSpec
from gtg_bench.benchmark.runs.writers import Alone, writer_for
from gtg_bench.benchmark.scoring.controls import CONTROLS, plan
from gtg_bench.benchmark.scoring.probes import ABSENT
from gtg_bench.benchmark.scoring.protocols import RULES, Protocol
from gtg_bench.benchmark.scoring.score_map import check_map, check_trial
from gtg_bench.benchmark.scoring.smoothing import UNSMOOTHED
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.worker import Scored, failed, scored_batch

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""

MANY = 200
"""Number of samples above which starting more scoring processes pays off."""


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
    validation: PreparedRun | None = None
    """The same method on the validation split, where the smoothing is chosen; None if it is given."""

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
    if entry.card.kind != "ceiling":
        return planned(request, settings, dataset, ModelSource(entry, settings, dataset), entry.code)
    if request.control != CONTROLS[0]:
        raise UsageError(f"--control {request.control}: {entry.name} paints the true region; run it without a control")
    return planned(request, settings, dataset, LesionSource(dataset), entry.code)


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
    trials = trials_of(request, dataset)
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
    rules, validation = rules_for(settings, request.rules), None
    if rules.smooth == BEST:
        check_not_validation(request.split)
        validation = _for_validation(request, settings, dataset, source, code)
    return PreparedRun(with_rules(spec, rules), rules, trials, source, origin(dataset, request.data_root), validation)


def rules_for(settings: MethodSettings, rules: Protocol) -> Protocol:
    """The rules for the maps of a method. Box answers are never smoothed, so for them no smoothing has to be chosen."""
    chosen = rules.smooth == BEST and settings.weights == BOXES
    return replace(rules, smooth=best_name(0.0)) if chosen else rules


def check_not_validation(split: str) -> None:
    """Raise UsageError for the split on which smoothing is chosen."""
    if split == VALIDATION:
        raise UsageError(f"--smooth best is chosen on split {VALIDATION}, so it cannot be scored there")


def _for_validation(
    request: RunRequest, settings: MethodSettings, dataset: Dataset, source: Source, code: str | None
) -> PreparedRun:
    """The run whose maps decide the smoothing. Raises UsageError if there can be none."""
    if code is None:
        raise UsageError("--smooth best needs the method's maps of the validation split: name their run by --tune-on")
    wanted = replace(request, split=VALIDATION, control=CONTROLS[0], limit=None, smooth=UNSMOOTHED)
    try:
        return planned(wanted, settings, dataset, source, code)
    except UsageError as error:
        raise UsageError(f"--smooth best: {error}; with --smooth 0 maps are scored as they are") from error


def trials_of(request: RunRequest, dataset: Dataset) -> list[Trial]:
    """What a run grounds. Absent findings are those on the images of its first `limit` samples.

    Raises:
        UsageError: an unknown split, or a control that the data set does not support.
    """
    samples = dataset.samples(request.split)
    if request.control == ABSENT:
        if not isinstance(dataset, KnowsAbsence):
            return []
        images = {sample.image_id for sample in samples[: request.limit]}
        absent = dataset.absent_samples(request.split)
        return plan([s for s in absent if request.limit is None or s.image_id in images], ABSENT)
    return plan(samples, request.control, request.limit)


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

    Only one process, launch or job array works on a run: another one waits for it, and finds the work done. Every
    process of a launch returns all records; see `runs.writers`.

    Args:
        prepared: the run.
        request: its runs_dir, batch_size, workers, fail_fast, fresh and shard are used.
        progress: called after each batch, and after each smoothed map while smoothing is chosen.
        processes: number of scoring processes. 1 scores in this process while the method grounds. None chooses 2 if
            all maps are stored and there are many samples.
        busy: called once if another process is working on the run.

    Raises:
        UsageError: the method cannot be built, or its device cannot be used.
        DataError: a sample failed and `fail_fast` is set, the folder belongs to another run, or another process of
            the launch has ended before its samples were done.
    """
    if prepared.validation is not None:
        from gtg_bench.benchmark.runs.tuned import with_best_smoothing

        validation = replace(prepared.validation, source=prepared.source)  # one model for both
        if run(validation, request, progress, processes, busy).missing:
            raise UsageError("--smooth best: other shards still ground the validation split; repeat this command later")
        prepared = with_best_smoothing(prepared, validation, request.runs_dir, progress)
    folder = RunFolder(request.runs_dir, prepared.spec)
    order = [trial.sample.sample_id for trial in prepared.trials]
    writer = writer_for(folder, order, request.batch_size, request.part)
    with writer.claimed(busy):
        return _run(writer, prepared, request, progress, processes)


def _run(
    writer: Alone, prepared: PreparedRun, request: RunRequest, progress: Progress, processes: int | None
) -> RunResult:
    started = time.monotonic()
    folder = writer.folder
    todo, (maps, maps_of, computing) = writer.begun(partial(_open, writer, prepared, request))
    trials = {trial.sample.sample_id: trial for trial in prepared.trials}
    batches = [[trials[name] for name in names] for names in writer.batches(todo)]
    grounder = _Grounder(prepared, maps)
    left = sum(map(len, batches))
    if processes is None:
        processes = 2 if left > MANY and not computing and (os.cpu_count() or 1) > 1 else 1
    progress(writer.done(left), writer.total)
    mine = [trial for batch in batches for trial in batch]
    missing = [trial.sample for trial in mine if not maps.holds(trial.sample.sample_id)] if computing else []
    with writer.computing(progress), _reading_ahead(prepared.source, missing, request):
        for scored in _scored(grounder, iter(batches), prepared.rules, processes) if batches else ():
            _keep(folder, scored, request.fail_fast)
            left -= len(scored)
            progress(writer.done(left), writer.total)
    records = writer.finish()
    seconds, total = time.monotonic() - started, len(prepared.trials)
    from_others = maps_of if grounder.reused else None
    older = [folder.path] if len(todo) < total else [folder.path.with_name(from_others)] if from_others else []
    made_by = next((maker for maker in map(maker_of, older) if maker != this_program()), None)
    return RunResult(
        prepared.spec,
        folder.path,
        list(records.values()),
        seconds,
        len(todo),
        grounder.reused,
        from_others,
        made_by,
        total - len(records),
    )


def _open(
    writer: Alone, prepared: PreparedRun, request: RunRequest
) -> tuple[list[str], tuple[MapStore, str | None, bool]]:
    """Open a run's folder.

    Returns:
        Ids of the samples without a final record; stored maps, key of another run that holds most of them, and whether
        any have to be computed.
    """
    folder = writer.folder
    if request.fresh:
        folder.set_aside()
    fresh = request.fresh or folder.is_fresh
    final = {name for name, record in folder.read().items() if record.status in FINAL}
    todo = [name for name in writer.order if name not in final]
    maps = prepared.maps(request.runs_dir, fresh)
    other = maps.source(writer.order)
    maps_of = other.name if other else None
    computing = not all(map(maps.holds, chain(*writer.batches(todo))))
    facts = {**prepared.facts, "n_total": len(writer.order), "map_key": prepared.spec.map_key, "maps_of": maps_of}
    device = prepared.source.device if computing else "cpu"
    folder.open(device, writer.all_batches, **facts, fresh=fresh or None)
    return todo, (maps, maps_of, computing)


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
        from loky import ProcessPoolExecutor  # multiprocessing's would run a script that imports this package again

        executor = ProcessPoolExecutor(processes, initializer=_end_with_parent, initargs=(os.getpid(),))
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
        check_trial(trial)
        try:
            grounding = self.maps.load(trial.sample.sample_id)
            check_map(grounding, trial.sample)
        except (SampleError, DataError):
            if isinstance(self.source, NoSource):
                raise
            return None
        return grounding
