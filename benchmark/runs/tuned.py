"""The mask or smoothing "best": a value that is chosen on the maps of another split, then applied unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count, tee
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.api.settings import BOXES
from gtg_bench.benchmark.metrics.masks import best_threshold
from gtg_bench.benchmark.metrics.named_masks import BEST, NONE, best_name
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.runner import PreparedRun, Progress, with_rules
from gtg_bench.benchmark.runs.spec import MAP_FIELDS
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import Protocol, definition
from gtg_bench.benchmark.scoring.score_map import score_map, view
from gtg_bench.benchmark.scoring.smoothing import SIGMAS
from gtg_bench.benchmark.scoring.trial import Trial
from gtg_bench.benchmark.state import Strict, read_state
from gtg_bench.benchmark.statistics import average

_OF_DATA = ("dataset", "dataset_options")
_OF_MASK = ("iou", "miou")
_TRIED = "smoothing.json"


def with_best_mask(prepared: PreparedRun, tuned_on: PreparedRun, runs_dir: Path) -> PreparedRun:
    """The same run, with the threshold that maximises the mean foreground IoU of another split's maps.

    IoU is computed in the frame of `prepared`'s rules, see `metrics.masks.best_threshold`.

    Args:
        prepared: the run to score.
        tuned_on: a run with the same method and settings, on other patients, without a control.
        runs_dir: folder of the runs.

    Raises:
        UsageError: the protocol uses no mask, or `tuned_on` is not such a run.
        DataError: `tuned_on` has no map of a sample with a region.
    """
    if prepared.rules.mask == NONE:
        raise UsageError(f"--mask {BEST}: no metric of protocol {prepared.rules.name} uses a mask")
    _check(prepared, tuned_on)
    maps = tuned_on.maps(runs_dir)
    pairs, again = tee(_scenes(maps, tuned_on.trials, replace(prepared.rules, mask=NONE)))
    try:
        threshold = best_threshold((values for values, _ in pairs), (region for _, region in again))
    except ValueError as error:
        raise DataError(f"run {tuned_on.spec.key}: {error}") from error
    rules = replace(prepared.rules, mask=best_name(threshold))
    return replace(prepared, rules=rules, spec=with_rules(prepared.spec, rules))


def with_best_smoothing(
    prepared: PreparedRun,
    tuned_on: PreparedRun,
    runs_dir: Path,
    progress: Progress = lambda done, total: None,
) -> PreparedRun:
    """The same run, with the smoothing of SIGMAS that maximises the mean of its primary metric on another split's maps.

    The mean is the protocol's average. Of several equally good ones the smallest is chosen.

    Args:
        prepared: the run to score.
        tuned_on: a run with the same method and settings, on other patients, without a control.
        runs_dir: folder of the runs.
        progress: called after each smoothed map.

    Raises:
        UsageError: `tuned_on` is not such a run.
        DataError: `tuned_on` has no map that can be scored.
    """
    _check(prepared, tuned_on)
    maps, rules = tuned_on.maps(runs_dir), prepared.rules
    trials, name = _candidates(prepared, tuned_on, maps)
    path = RunFolder(runs_dir, tuned_on.spec).path / _TRIED
    tried = _read(path)
    if name not in tried:
        tried[name] = _means(maps, trials, rules, progress)
        with suppress(OSError), atomic(path) as part:  # another user's runs may not be writable
            part.write_text(json.dumps({"tried": tried}, indent=1), encoding="utf-8")
    if not tried[name]:
        raise DataError(f"run {tuned_on.spec.key} has no map whose {rules.primary} is defined")
    return _smoothed(prepared, tried[name])


def with_known_smoothing(prepared: PreparedRun, tuned_on: PreparedRun, runs_dir: Path) -> PreparedRun | None:
    """As `with_best_smoothing` if the choice is stored, else None. Reads no map and writes nothing."""
    _, name = _candidates(prepared, tuned_on, tuned_on.maps(runs_dir))
    means = _read(RunFolder(runs_dir, tuned_on.spec).path / _TRIED).get(name)
    return _smoothed(prepared, means) if means else None


def _candidates(prepared: PreparedRun, tuned_on: PreparedRun, maps: MapStore) -> tuple[list[Trial], str]:
    """Trials with a stored map on which smoothing is chosen, and the name of the choice."""
    trials = [trial for trial in tuned_on.trials if maps.holds(trial.sample.sample_id)]
    rules = replace(prepared.rules, smooth=BEST)
    return trials, f"{definition(with_rules(prepared.spec, rules).as_json())}, {len(trials)} maps"


def _smoothed(prepared: PreparedRun, means: dict[str, float]) -> PreparedRun:
    """The run with the standard deviation that has the largest mean."""
    rules = replace(prepared.rules, smooth=best_name(float(max(means, key=lambda sigma: means[sigma]))))
    return replace(prepared, rules=rules, spec=with_rules(prepared.spec, rules), validation=None)


def primary_only(rules: Protocol) -> Protocol:
    """The rules by which smoothings are compared: the primary metric alone."""
    mask = rules.mask if rules.primary in _OF_MASK else NONE
    return replace(rules, metrics=(rules.primary,), mask=mask)


class _Tried(Strict):
    """The content of a run's smoothing.json: definition and number of maps -> standard deviation -> mean."""

    tried: dict[str, dict[str, float]]


def _read(path: Path) -> dict[str, dict[str, float]]:
    """The means that are known already; none if the file is missing or damaged, so that it is written again."""
    try:
        found: dict[str, dict[str, float]] = read_state(path, _Tried, "")["tried"]
    except DataError:
        return {}
    return found


def _means(maps: MapStore, trials: Sequence[Trial], rules: Protocol, progress: Progress) -> dict[str, float]:
    """Standard deviation -> mean of the primary metric, for each of SIGMAS, from the smallest one on."""
    metric, only = rules.primary, primary_only(rules)
    stored, categories = [maps.load(one.sample.sample_id) for one in trials], [one.sample.category for one in trials]
    means, done = {}, count(1)
    for sigma in SIGMAS:
        smoother, scores = replace(only, smooth=f"{sigma:g}"), list[float | None]()
        for pair in zip(stored, trials, strict=True):
            scores.append(score_map(*pair, smoother).metrics.get(metric))
            progress(next(done), len(SIGMAS) * len(trials))
        if (found := average(scores, categories, rules.average).value) is not None:
            means[f"{sigma:g}"] = found
    return means


def _check(prepared: PreparedRun, tuned_on: PreparedRun) -> None:
    """Raise UsageError unless `tuned_on` is the same method on patients that `prepared` does not score."""
    ours, theirs = prepared.spec, tuned_on.spec
    mine, other = ours.as_json(), theirs.as_json()
    if mine["weights"] == BOXES:
        raise UsageError(f"{ours.key} answers with boxes; {BEST} is for maps")
    free = (*_OF_DATA, *(["weights_version"] if mine["weights"] == "maps" else []))  # external maps are their data
    if unlike := [name for name in MAP_FIELDS if name not in free and mine[name] != other[name]]:
        listed = "; ".join(f"{name} {mine[name]} and {other[name]}" for name in unlike)
        raise UsageError(f"{ours.key} and --tune-on {theirs.key} differ in their settings: {listed}")
    if theirs.control != CONTROLS[0]:
        raise UsageError(f"--tune-on {theirs.key} was run under control {theirs.control}; name the plain run")
    if (ours.dataset, ours.dataset_options, ours.split) == (theirs.dataset, theirs.dataset_options, theirs.split):
        raise UsageError(
            f"--tune-on {theirs.key} is on the split that is scored, {ours.split}, which would bias the scores; "
            "run the method on the validation split"
        )
    shared = {trial.sample.patient_id for trial in prepared.trials} & {t.sample.patient_id for t in tuned_on.trials}
    if shared and ours.dataset == theirs.dataset and ours.dataset_options == theirs.dataset_options:
        raise UsageError(
            f"--tune-on {theirs.key}: splits {theirs.split} and {ours.split} share {len(shared)} patients; choose a "
            "split without them"
        )


def _scenes(maps: MapStore, trials: Sequence[Trial], rules: Protocol) -> Iterator[tuple[FloatArray, BoolArray]]:
    """Values and region of each trial with a stored map, in the pixels that are scored."""
    for trial in trials:
        if maps.holds(trial.sample.sample_id):
            scene = view(maps.load(trial.sample.sample_id), trial, rules).scene
            if scene.values.size:
                yield scene.values, scene.region
