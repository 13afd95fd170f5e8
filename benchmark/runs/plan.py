"""What a list of runs still has to do: which samples, what the runs share, and how long it takes, measured in brief."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np

from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import PHANTOM, of_phantom
from gtg_bench.benchmark.api.sharing import sharing
from gtg_bench.benchmark.api.types import NO_MODEL, GroundingMap
from gtg_bench.benchmark.runs.records import FINAL, RunFolder
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, run
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.scoring.worker import scored_batch

MOST_SECONDS = 5.0
"""A measurement stops before a batch that would take longer."""

ALL_SECONDS = 60.0
"""No further measurement starts after this time; what was measured then stands for the rest."""


@dataclass(frozen=True)
class Step:
    """One run of a plan."""

    name: str
    """The method, and what distinguishes it from the other runs."""
    request: RunRequest
    prepared: PreparedRun
    scored: int
    """Samples with a final record."""
    stored: tuple[Trial, ...]
    """Samples to score from a map that is stored, or that an earlier run of the plan makes."""
    missing: tuple[Trial, ...]
    """Samples whose map the model has to make."""

    @property
    def total(self) -> int:
        """Number of samples."""
        return len(self.prepared.trials)

    @property
    def state(self) -> str:
        """How far the run is."""
        if self.scored == self.total:
            return "done"
        return f"{self.scored} of {self.total} done" if self.scored else "to do"

    @property
    def model(self) -> tuple[str, str | None, str | None]:
        """What is built once: the method's weights in one precision."""
        settings = self.prepared.spec.settings
        return settings.weights_version or settings.method, settings.weights, settings.precision


def steps_of(runs: Iterable[tuple[str, RunRequest, PreparedRun]]) -> list[Step]:
    """How far each run is. Reads records and the names of maps; loads no model."""
    found, coming = [], set()
    for name, request, prepared in runs:
        records = {} if request.fresh else RunFolder(request.runs_dir, prepared.spec).read()
        maps = prepared.maps(request.runs_dir, request.fresh)
        todo = [one for one in prepared.trials if _unscored(records.get(one.sample.sample_id))]
        key = prepared.spec.map_key
        missing = [one for one in todo if not maps.holds(one.sample.sample_id) and (key, one.map_name) not in coming]
        rest = {one.sample.sample_id for one in missing}
        stored = [one for one in todo if one.sample.sample_id not in rest]
        coming |= {(key, one.map_name) for one in missing}
        scored = len(prepared.trials) - len(todo)
        control = "" if request.control == CONTROLS[0] or request.control in name else f", control {request.control}"
        found.append(Step(name + control, request, prepared, scored, tuple(stored), tuple(missing)))
    return found


def _unscored(record: object) -> bool:
    return getattr(record, "status", None) not in FINAL


def shared_notes(steps: Sequence[Step]) -> list[str]:
    """What the runs that are not done share, as sentences."""
    todo = [one for one in steps if one.missing]
    models = {one.model for one in todo if METHODS.get(one.prepared.spec.method).card.kind not in NO_MODEL}
    images = {trial.image_sha256 for one in todo for trial in one.missing}
    merged = [one for one in todo if one.prepared.spec.settings.bbm not in (None, "none")]
    maps = sum(len(one.stored) for one in steps)
    notes = []
    if todo:
        notes.append(f"{_count(len(models), 'model')} built once for {_count(len(todo), 'run')}")
        notes.append(f"{_count(len(images), 'image')} encoded once by each autoencoder")
    if len(merged) > 1:
        notes.append(f"text biases shared by {_count(len(merged), 'run')} where model, seed, steps and layers agree")
    if maps:
        notes.append(f"{_count(maps, 'map')} scored without running a model again")
    return notes


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Estimate:
    """How long a plan takes on this machine, and how much it writes."""

    seconds: float
    bytes: float
    measured: int
    """Number of kinds of runs that were measured."""
    unmeasured: int
    """Number of kinds that were not, because measuring had taken long enough. They count as the mean of the others."""


@dataclass(frozen=True)
class _Rate:
    """What one sample takes."""

    seconds: float
    bytes: float


def estimate(steps: Sequence[Step], say: Callable[[str], None] = lambda name: None) -> Estimate:
    """Measure a few samples of each kind of run in a temporary folder, and extrapolate.

    Runs of diffusion models with the same sampling, steps, merging and precision are of one kind.

    Args:
        steps: the plan.
        say: called with the name of each run before it is measured.
    """
    todo = [one for one in steps if one.missing]
    rates: dict[object, _Rate] = {}
    starts: dict[object, float] = {}
    begun = time.monotonic()
    with sharing(), TemporaryDirectory(prefix="gtg-bench-plan-") as folder:
        for one in _examples(todo):
            if not rates or time.monotonic() - begun < ALL_SECONDS:
                say(one.name)
                start, rates[_kind(one)] = _measured(one, Path(folder))
                starts.setdefault(one.model, start)
    scoring = {one.request.rules: _scoring_seconds(one) for one in steps if one.stored}
    seconds = sum(scoring[one.request.rules] * len(one.stored) for one in steps if one.stored)
    if not todo:
        return Estimate(seconds, 0.0, 0, 0)
    mean = _Rate(fmean(one.seconds for one in rates.values()), fmean(one.bytes for one in rates.values()))
    found = [(rates.get(_kind(one), mean), len(one.missing)) for one in todo]
    first, *others = starts.values()  # the first one includes the import of the libraries
    models = {one.model for one in todo}
    seconds += sum(starts.values()) + (len(models) - len(starts)) * min([first, *others])
    seconds += sum(rate.seconds * number for rate, number in found)
    size = sum(rate.bytes * number for rate, number in found)
    return Estimate(seconds, size, len(rates), len({_kind(one) for one in todo} - rates.keys()))


def _kind(one: Step) -> Hashable:
    """Runs of one kind take about the same time per sample."""
    settings = one.prepared.spec.settings
    model = settings.method
    if METHODS.get(model).samplings:
        model = PHANTOM if of_phantom(settings.weights) else settings.weights or ""
    same = ("method", "weights", "weights_version", "tokens", "lexicon", "seed", "guidance", "latent", "layers")
    return model, tuple(v for name, v in settings.as_json().items() if name not in same), one.request.rules


def _examples(steps: Sequence[Step]) -> list[Step]:
    """A run of each kind, in order; of a model that has not been chosen yet, if there is one."""
    kinds: dict[Hashable, list[Step]] = {}
    for one in steps:
        kinds.setdefault(_kind(one), []).append(one)
    chosen: list[Step] = []
    for alike in kinds.values():
        models = {one.model for one in chosen}
        chosen.append(next((one for one in alike if one.model not in models), alike[0]))
    return chosen


def _measured(one: Step, folder: Path) -> tuple[float, _Rate]:
    """Seconds to build the method, and the rate of its next samples: as many as a batch, or `MOST_SECONDS` allow."""
    trials = one.missing
    source = replace(one.prepared.source)
    request = replace(one.request, runs_dir=folder, fresh=False)

    def timed(number: int) -> float:
        prepared = replace(one.prepared, trials=list(trials[:number]), source=source)
        return run(prepared, request, processes=1).seconds

    started, done = timed(1), 1
    if len(trials) == 1:
        return 0.0, _Rate(started, _size(folder))
    seconds, done = timed(2), 2
    more = min(request.batch_size, len(trials) - done, int(MOST_SECONDS / seconds))
    if more > 1:
        seconds, done = timed(done + more) / more, done + more
    path = RunFolder(folder, one.prepared.spec).path
    return max(0.0, started - seconds), _Rate(seconds, _size(path) / done)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _scoring_seconds(one: Step) -> float:
    """Seconds to score a sample from a map of Stable Diffusion's size."""
    trial = one.stored[0]
    values = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    grounding = GroundingMap(values, Frame.center_crop(trial.sample.image_size, 512))
    started = time.monotonic()
    scored_batch([(trial, grounding)] * 3, 0.0, one.request.rules)
    return (time.monotonic() - started) / 3
