"""Several seeds or checkpoints of one method: their mean per sample, and the spread over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import FROM_CARD
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run, matching, only_one, read_run
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.statistics import Spread, average, over_runs

_WEIGHTS = ("weights", "weights_version")
_TRAINING = (
    *("variant", "recipe_name", "recipe", "data", "steps", "components"),
    *("rank", "started_from", "stands_on", "precision"),
)
"""Entries of a card that say how its weights were trained; two checkpoints of one method may also differ in `seed`."""


def find_method(runs_dir: Path, name: str, dataset: str | None = None, like: RunSpec | None = None) -> FinishedRun:
    """The run that a name refers to, or the mean of several that repeat one method.

    Runs repeat one method if they differ only in the noise seed, or in weights whose cards say that they were trained
    alike but for the training seed. "NAME+NAME" names them one by one.

    Args:
        runs_dir: folder of the runs.
        name: as for `lookup.find_run`, or several such names joined by "+".
        dataset: only runs on this data set.
        like: runs that can be compared with this one are preferred.

    Raises:
        UsageError: no run matches, or several that do not repeat one method; the message lists their keys.
    """
    if "+" in name and not Path(name).exists():
        return mean_of([find_run(runs_dir, part, dataset) for part in name.split("+")])
    found = matching(runs_dir, name, dataset, like)
    if len({_repeated(spec) for spec in found}) > 1:
        only_one(found, name, runs_dir)
    found.sort(key=lambda spec: (spec.settings.seed, spec.key))
    return mean_of([read_run(runs_dir, spec) for spec in found])


def mean_of(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Runs of one method as one run: each sample's metrics are means over the runs. A single run stays as it is.

    Every mean is over all runs: a sample needs a score in each run, a metric a value in each.

    Raises:
        UsageError: the runs are not of one method under the same conditions.
    """
    if len(runs) == 1:
        return runs[0]
    free = ("seed", *_WEIGHTS, *FROM_CARD)
    first = _without(runs[0].spec, free)
    for run in runs[1:]:
        if differ := [key for key, value in _without(run.spec, free).items() if value != first[key]]:
            values = f"{differ[0]} {first[differ[0]]!r} and {run.spec.as_json()[differ[0]]!r}"
            raise UsageError(f"{runs[0].spec.key} and {run.spec.key} are not seeds of one method: {values}")
    by_id = [{record.sample_id: record for record in run.records} for run in runs]
    shared = [record.sample_id for record in runs[0].records if all(record.sample_id in found for found in by_id)]
    records = [_mean([found[name] for found in by_id]) for name in shared]
    return FinishedRun(runs[0].spec, records, tuple(runs))


def repeats(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Runs grouped by the method that they repeat, see `find_method`; groups in the order of their first run."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(_repeated(spec), []).append(spec)
    return [sorted(group, key=lambda spec: (spec.settings.seed, spec.key)) for group in groups.values()]


def spread(run: FinishedRun, metric: str, kind: str) -> Spread | None:
    """Mean and standard deviation of a metric's average over the runs that `run` is the mean of; None for one run."""
    if not run.parts:
        return None
    values = []
    for part in run.parts:
        ok = [record for record in part.records if record.status == "ok"]
        found = average([record.metrics.get(metric) for record in ok], [record.category for record in ok], kind)
        values.append(found.value)
    return over_runs(values)


def seeds_note(run: FinishedRun) -> str:
    """Which seeds or weights a mean is over, and how to name one of them; "" for one run."""
    if not run.parts:
        return ""
    what = "seed" if len({part.spec.settings.seed for part in run.parts}) == len(run.parts) else "weights"
    values = ", ".join(str(part.spec.as_json()[what]) for part in run.parts)
    one = f"{run.spec.method}:seed={run.spec.settings.seed}" if what == "seed" else run.spec.key
    return f"mean per sample over {len(run.parts)} runs ({what} {values}); {one} names one of them"


def _mean(records: Sequence[SampleRecord]) -> SampleRecord:
    """One sample's records of several runs as one; the first that is not ok decides."""
    for record in records:
        if record.status != "ok":
            return record
    shared = [name for name in records[0].metrics if all(name in record.metrics for record in records)]
    means = {name: sum(record.metrics[name] for record in records) / len(records) for name in shared}
    return replace(records[0], metrics=means, map_sha256="", note="")


def _without(spec: RunSpec, names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in spec.as_json().items() if key not in names}


def _repeated(spec: RunSpec) -> str:
    """What runs that repeat one method share, as text."""
    try:
        card = METHODS.get(spec.method).weights_card(spec.settings.weights)
    except UsageError:
        card = None  # the method is not registered any more
    if card is None or not all(name in card for name in ("recipe", "seed")):
        return json.dumps(_without(spec, ("seed",)), sort_keys=True)
    defaults, values = card.get("defaults") or {}, spec.as_json()
    from_card = [name for name in FROM_CARD if name in defaults and values[name] == defaults[name]]
    trained = {name: _without_seeds(card.get(name)) for name in _TRAINING}
    return json.dumps([_without(spec, ("seed", *_WEIGHTS, *from_card)), trained], sort_keys=True)


def _without_seeds(value: Any) -> Any:
    """A part of a card without the seeds in it."""
    if isinstance(value, dict):
        return {key: _without_seeds(part) for key, part in value.items() if key != "seed"}
    return value
