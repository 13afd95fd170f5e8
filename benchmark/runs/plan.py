"""What a list of runs still has to do: which samples, what the runs share, and how long it takes, measured in brief."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import numpy as np

from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import PHANTOM, of_phantom
from gtg_bench.benchmark.api.sharing import sharing
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.api.types import NO_MODEL, GroundingMap
from gtg_bench.benchmark.runs.records import FINAL, RunFolder
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, run
from gtg_bench.benchmark.runs.tuned import primary_only, with_known_smoothing
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import Protocol
from gtg_bench.benchmark.scoring.smoothing import SIGMAS, UNSMOOTHED
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
    chosen_on: int = 0
    """Number of validation maps on which its smoothing is still to be chosen."""

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
    """How far each run is. Reads records and the names of maps; loads no model.

    Runs whose smoothing is chosen on the validation split come after the run on that split.
    """
    found: list[Step] = []
    coming: set[tuple[str, str]] = set()
    for name, request, prepared in runs:
        control = "" if request.control == CONTROLS[0] or request.control in name else f", control {request.control}"
        validation = prepared.validation
        if validation is None:
            found.append(_step(name + control, request, prepared, coming))
            continue
        first = next((one for one in found if one.prepared.spec == validation.spec), None)
        if first is None or request.fresh:  # then it is computed again
            plain = replace(request, control=CONTROLS[0])
            first = _step(f"{name}, split {validation.spec.split}", plain, validation, coming)
            found.append(first)
        known = with_known_smoothing(prepared, validation, request.runs_dir) if first.state == "done" else None
        found.append(_step(name + control, request, known or _unsmoothed(prepared), coming, known is not None))
        if known is None:
            found[-1] = replace(found[-1], chosen_on=first.total)
    return found


def _step(
    name: str, request: RunRequest, prepared: PreparedRun, coming: set[tuple[str, str]], known: bool = True
) -> Step:
    """How far one run is.

    Args:
        name: its name.
        request: what was asked for.
        prepared: the run.
        coming: maps that earlier runs of the plan make, as map key and name; its own are added.
        known: whether its description is complete. Without the choice of a smoothing, no record is its own.
    """
    records = RunFolder(request.runs_dir, prepared.spec).read() if known and not request.fresh else {}
    maps, key = prepared.maps(request.runs_dir), prepared.spec.map_key
    todo = [one for one in prepared.trials if _unscored(records.get(one.sample.sample_id))]
    new = [one for one in todo if request.fresh or not maps.holds(one.sample.sample_id)]
    missing = [one for one in new if request.fresh or (key, one.map_name) not in coming]
    rest = {one.sample.sample_id for one in missing}
    stored = [one for one in todo if one.sample.sample_id not in rest]
    coming |= {(key, one.map_name) for one in missing}
    return Step(name, request, prepared, len(prepared.trials) - len(todo), tuple(stored), tuple(missing))


def _unsmoothed(prepared: PreparedRun) -> PreparedRun:
    """A run that can be measured before its smoothing is chosen."""
    return replace(prepared, rules=replace(prepared.rules, smooth=UNSMOOTHED), validation=None)


def _unscored(record: object) -> bool:
    return getattr(record, "status", None) not in FINAL


def shared_notes(steps: Sequence[Step]) -> list[str]:
    """What the runs that are not done share, as sentences."""
    kinds = {one.model: METHODS.get(one.prepared.spec.method).card.kind for one in steps if one.missing}
    todo = [one for one in steps if one.missing and kinds[one.model] not in NO_MODEL]
    images = {trial.image_sha256 for one in todo for trial in one.missing if kinds[one.model] == "ldm"}
    merged = [one for one in todo if one.prepared.spec.settings.bbm not in (None, "none")]
    maps = sum(len(one.stored) for one in steps)
    notes = []
    if todo:
        models = len({one.model for one in todo})
        notes.append(f"{number_of(models, 'model')} built once for {number_of(len(todo), 'run')}")
    if images:
        notes.append(f"{number_of(len(images), 'image')} encoded at most once by each autoencoder")
    if len(merged) > 1:
        notes.append(f"text biases shared by {number_of(len(merged), 'run')} where model, seed, steps and layers agree")
    if maps:
        notes.append(f"{number_of(maps, 'map')} scored without running a model again")
    return notes


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
    rates: dict[Hashable, _Rate] = {}
    starts: dict[Hashable, float] = {}
    spent = 0.0
    with sharing(), TemporaryDirectory(prefix="gtg-bench-plan-") as folder:
        for one in todo:
            new = _kind(one) not in rates and (not rates or spent < ALL_SECONDS)
            if not new and (one.model in starts or len(starts) > 1):
                continue
            say(one.name)
            source, begun = copy(one.prepared.source), time.monotonic()  # released after it was measured
            _ = getattr(source, "method", None)
            starts.setdefault(one.model, time.monotonic() - begun)
            if new:
                begun = time.monotonic()
                rates[_kind(one)] = _rate(replace(one.prepared, source=source), one.request, Path(folder))
                spent += time.monotonic() - begun
    scoring: dict[Protocol, float] = {}
    seconds = 0.0
    for one in steps:
        rules = one.prepared.rules
        for by, number in ((rules, len(one.stored)), (primary_only(rules), one.chosen_on * len(SIGMAS))):
            if number:
                scoring[by] = scoring.get(by) or _scoring_seconds(one.prepared.trials[0], by)
                seconds += scoring[by] * number
    if not todo:
        return Estimate(seconds, 0.0, 0, 0)
    mean = _Rate(fmean(one.seconds for one in rates.values()), fmean(one.bytes for one in rates.values()))
    found = [(rates.get(_kind(one), mean), len(one.missing)) for one in todo]
    seconds += sum(rate.seconds * number for rate, number in found)
    seconds += sum(starts.values()) + (len({one.model for one in todo}) - len(starts)) * min(starts.values())
    size = sum(rate.bytes * number for rate, number in found)
    return Estimate(seconds, size, len(rates), len({_kind(one) for one in todo} - rates.keys()))


def _kind(one: Step) -> Hashable:
    """Runs of one kind take about the same time per sample."""
    settings, rules = one.prepared.spec.settings, replace(one.prepared.rules, smooth=UNSMOOTHED)
    model = settings.method
    if METHODS.get(model).samplings:
        model = PHANTOM if of_phantom(settings.weights) else settings.weights or ""
    same = ("method", "weights", "weights_version", "tokens", "lexicon", "seed", "guidance", "latent", "layers")
    return model, tuple(v for name, v in settings.as_json().items() if name not in same), rules


def _rate(prepared: PreparedRun, request: RunRequest, folder: Path) -> _Rate:
    """What a sample takes, from as many as a batch or `MOST_SECONDS` allow; the first one only warms up."""
    path = RunFolder(folder, prepared.spec).path

    def timed(number: int, fresh: bool) -> float:
        """Seconds until the first samples are done."""
        some = replace(prepared, trials=prepared.trials[:number])
        return run(some, replace(request, runs_dir=folder, fresh=fresh, shard=None), processes=1).seconds

    timed(1, fresh=True)
    seconds, done = timed(1, fresh=True), 1
    more = min(request.batch_size, len(prepared.trials) - 1, int(MOST_SECONDS / seconds))
    if more:
        seconds, done = timed(1 + more, fresh=False) / more, 1 + more
    return _Rate(seconds, _size(path) / done)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _scoring_seconds(trial: Trial, rules: Protocol) -> float:
    """Seconds to score a sample from a map of Stable Diffusion's size."""
    values = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    grounding = GroundingMap(values, Frame.center_crop(trial.sample.image_size, 512))
    started = time.monotonic()
    scored_batch([(trial, grounding)] * 3, 0.0, rules)
    return (time.monotonic() - started) / 3
