"""Several seeds or checkpoints of one method: their mean sample by sample, and the spread over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.runs.lookup import FinishedRun, distinguished, find_run, matching, read_run
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.statistics import Spread, average, over_runs

"""Where cards are found; resolved by name, so this room depends on no method."""

_WEIGHTS = ("weights", "weights_version")
_TUNED = ("steps", "guidance", "layers")
"""Settings that a card gives where the user does not."""

_MADE_BY = (
    *("variant", "recipe_name", "recipe", "data", "steps", "components"),
    *("rank", "started_from", "stands_on", "precision"),
)
"""What of a card says how its weights were made; two checkpoints may differ in `seed` beside these."""


def find_method(runs_dir: Path, name: str, dataset: str | None = None, like: RunSpec | None = None) -> FinishedRun:
    """The run that a name stands for, or the mean of several that repeat one method.

    A name stands for several runs where they differ in nothing but the seed of the noise, or in the folder of weights
    where the cards in both say that they were made alike but for the training's seed. "NAME+NAME" names them singly.

    Args:
        runs_dir: where runs are kept.
        name: as for `finished.find_run`, or several of these joined by "+".
        dataset: only runs on this data set.
        like: of several runs those that can be compared with this one are meant.

    Raises:
        UsageError: there is none; there are several that are no repetitions of one another, listed with their keys.
    """
    if "+" in name and not Path(name).exists():
        return mean_of([find_run(runs_dir, part, dataset) for part in name.split("+")])
    found = matching(runs_dir, name, dataset, like)
    if len(found) > 1 and len({_repeats(spec) for spec in found}) > 1:
        raise UsageError(f"{name} has {len(found)} runs in {runs_dir}; name a setting or a key: {distinguished(found)}")
    found.sort(key=lambda spec: (spec.settings.seed, spec.key))
    return mean_of([read_run(runs_dir, spec) for spec in found])


def mean_of(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Runs of one method as one: each sample with its mean over the runs. One run alone is itself.

    A sample counts where every run has scored it, a metric where every run has it: each sample's mean is over the same
    runs.

    Raises:
        UsageError: the runs are not of one method under the same conditions.
    """
    if len(runs) == 1:
        return runs[0]
    free = ("seed", *_WEIGHTS, *_TUNED)
    first = _without(runs[0].spec, free)
    for run in runs[1:]:
        if differ := [key for key, value in _without(run.spec, free).items() if value != first[key]]:
            told = f"{differ[0]} {first[differ[0]]!r} and {run.spec.as_json()[differ[0]]!r}"
            raise UsageError(f"{runs[0].spec.key} and {run.spec.key} are no repetitions of one method: {told}")
    by_id = [{record.sample_id: record for record in run.records} for run in runs]
    shared = [record.sample_id for record in runs[0].records if all(record.sample_id in found for found in by_id)]
    records = [_mean([found[name] for found in by_id]) for name in shared]
    return FinishedRun(runs[0].spec, records, tuple(runs))


def spread(run: FinishedRun, metric: str, kind: str) -> Spread | None:
    """Mean and standard deviation of a metric's average over the runs that `run` is the mean of; None for one run."""
    if not run.parts:
        return None
    return over_runs([_average(part, metric, kind) for part in run.parts])


def told(run: FinishedRun) -> str:
    """Which seeds or weights a mean is over; "" for one run."""
    if not run.parts:
        return ""
    what = "seed" if len({part.spec.settings.seed for part in run.parts}) == len(run.parts) else "weights"
    values = ", ".join(str(part.spec.as_json()[what]) for part in run.parts)
    one = f"{run.spec.method}:seed={run.spec.settings.seed}" if what == "seed" else run.spec.key
    return f"each sample's mean over {len(run.parts)} runs ({what} {values}); name one of them, {one}, to take it alone"


def _average(run: FinishedRun, metric: str, kind: str) -> float | None:
    ok = [record for record in run.records if record.status == "ok"]
    return average([record.metrics.get(metric) for record in ok], [record.category for record in ok], kind).value


def _mean(records: Sequence[SampleRecord]) -> SampleRecord:
    """One sample's records of several runs as one; the first that is not ok speaks for all."""
    for record in records:
        if record.status != "ok":
            return record
    shared = [name for name in records[0].metrics if all(name in record.metrics for record in records)]
    means = {name: sum(record.metrics[name] for record in records) / len(records) for name in shared}
    return replace(records[0], metrics=means, map_sha256="", note="")


def _without(spec: RunSpec, names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in spec.as_json().items() if key not in names}


def _repeats(spec: RunSpec) -> str:
    """What runs that repeat one another share, as text."""
    card = _card(spec)
    if card is None or not all(name in card for name in ("recipe", "seed")):
        return json.dumps(_without(spec, ("seed",)), sort_keys=True)
    defaults = card.get("defaults") or {}
    tuned = [name for name in _TUNED if name in defaults and spec.as_json()[name] == defaults[name]]
    made = {name: _unseeded(card.get(name)) for name in _MADE_BY}
    return json.dumps([_without(spec, ("seed", *_WEIGHTS, *tuned)), made], sort_keys=True)


def _card(spec: RunSpec) -> dict[str, Any] | None:
    """The card of a run's weights, if there is one here."""
    try:
        return METHODS.get(spec.method).weights_card(spec.settings.weights)
    except UsageError:
        return None  # the method is no longer registered


def _unseeded(value: Any) -> Any:
    """A part of a card without the seeds in it."""
    if isinstance(value, dict):
        return {key: _unseeded(part) for key, part in value.items() if key != "seed"}
    return value
