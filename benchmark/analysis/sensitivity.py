"""What a method listens to: a run beside the same run under its controls, and beside the priors.

A control changes one thing on purpose (see `benchmark.controls`): what the score loses by it is what the method owes
to that thing. A prior never looks at the image: what a method has not more than a prior, it has not shown to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.compare import Line, compare_with_all
from gtg_bench.benchmark.analysis.seeds import mean_of
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions, read_run, specs_in
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS

PLAIN, *CHANGES = CONTROLS

_LISTENS = {
    "neutral-phrase": ("listens to", "listen to", "the phrase", "when the phrase names no finding"),
    "phrase-swap": ("listens to", "listen to", "the phrase", "when the phrase is that of another finding"),
    "image-swap": ("looks at", "look at", "the image", "on the region of another patient with nearly the same phrase"),
    "side-swap": ("listens to", "listen to", "the side", "when left and right change places in the phrase"),
}
"""Control -> what a fall shows that a method does, in two forms, to what, and what was changed."""


@dataclass(frozen=True)
class Beside:
    """A run beside another that is there to explain it.

    Attributes:
        name: the control, or the prior's method.
        run: the other run.
        lines: one a metric over the samples that both have; ours is the run, theirs the other. P-values are corrected
            over all controls, or all priors, of the metric.
    """

    name: str
    run: FinishedRun
    lines: tuple[Line, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [{name: value for name, value in line.as_json().items() if name != "category"} for line in self.lines]
        return {"name": self.name, "run_keys": list(self.run.keys), "metrics": rows}


def under_controls(
    run: FinishedRun, found: Mapping[str, FinishedRun], metrics: Sequence[str], average: str
) -> list[Beside]:
    """A run beside itself under its controls, on the samples that both have.

    Args:
        run: without control.
        found: control -> the same run under it, in the order of the answer.
        metrics: names of METRICS.
        average: "overall", "macro" or "frequency2".
    """
    return _beside(run, found, metrics, average)


def beside_priors(
    run: FinishedRun, priors: Sequence[FinishedRun], metrics: Sequence[str], average: str
) -> list[Beside]:
    """A run beside priors, on the samples that both have."""
    return _beside(run, {prior.spec.method: prior for prior in priors}, metrics, average)


def _beside(run: FinishedRun, others: Mapping[str, FinishedRun], metrics: Sequence[str], average: str) -> list[Beside]:
    kept = {name: other for name, other in others.items() if _share(run, other, metrics)}
    lines = compare_with_all(run, list(kept.values()), metrics, average, by_category=False)
    return [Beside(name, kept[name], tuple(part)) for name, part in zip(kept, lines, strict=True)]


def _share(one: FinishedRun, other: FinishedRun, metrics: Sequence[str]) -> bool:
    """Whether there is a sample of which both have one of the metrics."""
    ours, theirs = (
        {(r.sample_id, m) for r in run.records if r.status == "ok" for m in metrics if m in r.metrics}
        for run in (one, other)
    )
    return bool(ours & theirs)


def find_controls(runs_dir: Path, run: FinishedRun) -> dict[str, FinishedRun]:
    """The same run under each control, as far as it is there: control -> run. None for a run that is itself under one.

    For a mean of several runs a control counts where all of them have it.
    """
    if run.spec.control != PLAIN:
        return {}
    specs = list(specs_in(runs_dir, run.spec.dataset))
    found = {}
    for control in CHANGES:
        alike = [_under(specs, part.spec, control) for part in run.parts or (run,)]
        known = [spec for spec in alike if spec is not None]
        if len(known) == len(alike):
            found[control] = mean_of([read_run(runs_dir, spec) for spec in known])
    return found


def _under(specs: Sequence[RunSpec], plain: RunSpec, control: str) -> RunSpec | None:
    fitting = (spec for spec in specs if spec.control == control and alike_but_control(plain, spec))
    return next(fitting, None)


def alike_but_control(one: RunSpec, other: RunSpec) -> bool:
    """Whether two runs differ in their control alone, and in what follows from it."""
    changed = {"control": other.control, "samples_sha256": other.samples_sha256}
    return one.as_json() | changed == other.as_json()


def find_priors(runs_dir: Path, run: FinishedRun, without: Set[str] = frozenset()) -> list[FinishedRun]:
    """A run of each prior and baseline that was made on the same data in the same way, in the order of their names.

    Args:
        runs_dir: where runs are kept.
        run: beside which they stand.
        without: keys of runs that are not wanted, nor any other of their methods.
    """
    specs = [
        s for s in specs_in(runs_dir, run.spec.dataset) if s.control == PLAIN and conditions(s) == conditions(run.spec)
    ]
    found: dict[str, RunSpec] = {}
    limit, seed = run.spec.limit, run.spec.settings.seed
    for spec in sorted(specs, key=lambda s: (s.method, s.limit != limit, s.settings.seed != seed, s.key)):
        if is_prior(spec.method) and spec.key not in run.keys:
            found.setdefault(spec.method, spec)
    unwanted = {spec.method for spec in specs if spec.key in without}
    return [read_run(runs_dir, spec) for method, spec in found.items() if method not in unwanted]


def is_prior(method: str) -> bool:
    """Whether a method is a prior or baseline, as far as its name is known here."""
    try:
        return METHODS.get(method).card.kind in ("prior", "baseline")
    except UsageError:
        return False


def control_in_words(line: Line, run: str, control: str) -> str:
    """What a control has shown, as a sentence.

    Args:
        line: the run (ours) beside itself under the control (theirs).
        run: its name.
        control: one of CHANGES.
    """
    does, do, what, when = _LISTENS[control]
    found = line.found
    if found.difference is None or found.low is None or found.high is None or line.p_value is None:
        return f"{run}: nothing can be said of {control} by {line.metric}: {found.n} samples."
    verb, low, high = ("falls", found.low, found.high) if found.difference >= 0 else ("rises", -found.high, -found.low)
    many = f"{found.n} samples of {found.n_patients} patients"
    basis = f"{line.metric} {verb} by {abs(found.difference):.3f} (95 % {low:.3f} to {high:.3f}, p = {line.p_value:.2g}"
    if found.ties == found.n:
        basis = f"{line.metric} is the same everywhere (p = 1"
    if line.gain < 0:
        return f"{run} is better {when}: {basis}; {many})."
    shown = does if line.gain else f"cannot be shown to {do}"
    return f"{run} {shown} {what}: {basis}; {many}) {when}."


def prior_in_words(beside: Beside, run: str) -> str:
    """How a run stands to a prior, as a sentence."""
    kinds = {1: "above", 0: "level with", -1: "below"}
    parts = [
        f"{word} {beside.name} by {', '.join(named)}"
        for gain, word in kinds.items()
        if (named := [line.metric for line in beside.lines if line.found.n and line.gain == gain])
    ]
    return f"{run} is {'; '.join(parts)}."
