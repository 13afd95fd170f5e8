"""What a method uses: a run against the same run under controls, and against priors.

A control changes one thing (see `scoring.controls`): the score that the run loses is what it owes to that thing. A
prior never looks at the image: a run that is not better than a prior has not shown that it uses the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.compare import Difference, after_correction, compare_with_all, counted, in_numbers
from gtg_bench.benchmark.analysis.seeds import mean_of
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import NO_MODEL
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions, read_run, specs_in
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS

PLAIN, *CHANGES = CONTROLS

_EVIDENCE = {
    "neutral-phrase": ("the phrase", "a phrase that names no finding"),
    "phrase-swap": ("the phrase", "the phrase of another finding"),
    "image-swap": ("the image", "the region of another patient with nearly the same phrase"),
    "side-swap": ("laterality", "left and right swapped in the phrase"),
}
"""Control -> what a drop shows that a method uses, and what the control changes."""


@dataclass(frozen=True)
class Contrast:
    """A run (A) against a control or a prior (B) on the samples that both have."""

    name: str
    """The control, or the prior's method."""
    run: FinishedRun
    """B."""
    rows: tuple[Difference, ...]
    """One per metric; p-values are corrected over all controls, or all priors, of the metric."""

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [{name: value for name, value in row.as_json().items() if name != "category"} for row in self.rows]
        return {"name": self.name, "run_keys": list(self.run.keys), "metrics": rows}


def contrasts(
    run: FinishedRun,
    others: Mapping[str, FinishedRun],
    metrics: Sequence[str],
    average: str,
    margins: Mapping[str, float] | None = None,
) -> list[Contrast]:
    """A run against others, on the samples that each pair shares; others without a shared sample are left out.

    Args:
        run: A, without a control.
        others: control or prior -> its run, B.
        metrics: names in METRICS.
        average: "overall", "macro" or "frequency2".
        margins: metric -> largest difference that does not matter, for tests of equivalence.
    """
    values = _scored(run, metrics)
    kept = {name: other for name, other in others.items() if values & _scored(other, metrics)}
    rows = compare_with_all(run, list(kept.values()), metrics, average, margins=margins)
    return [Contrast(name, kept[name], tuple(part)) for name, part in zip(kept, rows, strict=True)]


def _scored(run: FinishedRun, metrics: Sequence[str]) -> set[tuple[str, str]]:
    """Ids of the samples that have a metric, with the metric."""
    ok = [record for record in run.records if record.status == "ok"]
    return {(record.sample_id, metric) for record in ok for metric in metrics if metric in record.metrics}


def find_controls(runs_dir: Path, run: FinishedRun) -> dict[str, FinishedRun]:
    """The stored runs of the same method under each control: control -> run. Empty if the run is under one itself.

    For a mean of several runs, a control counts if all of them have it.
    """
    if run.spec.control != PLAIN:
        return {}
    specs = list(specs_in(runs_dir, run.spec.dataset))
    found = {}
    for control in CHANGES:
        alike = [
            next((spec for spec in specs if spec.control == control and alike_but_control(part.spec, spec)), None)
            for part in run.parts or (run,)
        ]
        known = [spec for spec in alike if spec is not None]
        if len(known) == len(alike):
            found[control] = mean_of([read_run(runs_dir, spec) for spec in known])
    return found


def alike_but_control(one: RunSpec, other: RunSpec) -> bool:
    """Whether two runs differ only in their control, and in the digests that follow from it."""
    changed = {"control": other.control, "samples_sha256": other.samples_sha256, "images_sha256": other.images_sha256}
    return one.as_json() | changed == other.as_json()


def find_priors(runs_dir: Path, run: FinishedRun, without: Set[str] = frozenset()) -> dict[str, FinishedRun]:
    """A stored run of each prior and baseline under the same conditions: method -> run, in alphabetical order.

    Args:
        runs_dir: folder of the runs.
        run: the run to compare with them.
        without: keys of runs whose methods are left out.
    """
    specs = [
        s for s in specs_in(runs_dir, run.spec.dataset) if s.control == PLAIN and conditions(s) == conditions(run.spec)
    ]
    found: dict[str, RunSpec] = {}
    limit, seed, images = run.spec.limit, run.spec.settings.seed, run.spec.images_sha256
    specs = [s for s in specs if s.limit != limit or None in (images, s.images_sha256) or s.images_sha256 == images]
    for spec in sorted(specs, key=lambda s: (s.method, s.limit != limit, s.settings.seed != seed, s.key)):
        if is_prior(spec.method) and not is_ceiling(spec.method) and spec.key not in run.keys:
            found.setdefault(spec.method, spec)
    unwanted = {spec.method for spec in specs if spec.key in without}
    return {method: read_run(runs_dir, spec) for method, spec in found.items() if method not in unwanted}


def is_prior(method: str) -> bool:
    """Whether a method has no model: a prior, a baseline or a ceiling."""
    return _kind(method) in NO_MODEL


def is_ceiling(method: str) -> bool:
    """Whether a method paints the true region, so that it shows what others could reach."""
    return _kind(method) == "ceiling"


def _kind(method: str) -> str:
    try:
        return METHODS.get(method).card.kind
    except UsageError:
        return ""


def control_in_words(row: Difference, run: str, control: str) -> str:
    """What a control shows, as a sentence.

    Args:
        row: the run (A) against itself under the control (B).
        run: its name.
        control: name in CHANGES.
    """
    used, change = _EVIDENCE[control]
    found = row.found
    if found.difference is None or found.low is None or row.p_value is None:
        return f"{run}: {control} shows nothing in {row.metric}: {counted(found)}."
    if row.better < 0:
        return f"{run} scores better with {change}: {row.metric} {in_numbers(row)}."
    verdict = f"{run} uses {used}" if row.better else f"No evidence that {run} uses {used}"
    verdict += f" (not significant {after})" if (after := after_correction(row)) else ""
    numbers = f"is unchanged in all {found.n} samples" if found.ties == found.n else in_numbers(row)
    return f"{verdict}: with {change}, {row.metric} {numbers}."


def prior_in_words(contrast: Contrast, run: str) -> str:
    """How a run compares with a prior, as a sentence."""
    found: dict[str, list[str]] = {}
    for row in sorted(contrast.rows, key=lambda row: (1, -1, 0).index(row.better)):
        if row.found.low is not None:
            after, tested = after_correction(row), row.equivalence
            same = f"not significantly different{f' ({after})' if after else ''} from"
            same = "equivalent to" if tested and tested.shown else same
            verdict = {1: "better than", -1: "worse than", 0: same}[row.better]
            within = f" (within {tested.margin:g})" if tested and tested.shown else ""
            found.setdefault(verdict, []).append(row.metric + within)
    parts = [f"{verdict} {contrast.name} in {', '.join(names)}" for verdict, names in found.items()]
    if not parts:
        return f"{run} and {contrast.name} cannot be compared: {counted(contrast.rows[0].found)}."
    return f"{run} is {'; '.join(parts)}."
