"""Everything that `gtg-bench compare` reports: runs against the first one, their controls, and the priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.compare import ALL, Difference, compare_with_all
from gtg_bench.benchmark.analysis.seeds import find_method, seeds_note, spread
from gtg_bench.benchmark.analysis.sensitivity import (
    CHANGES,
    PLAIN,
    Contrast,
    contrasts,
    find_controls,
    find_priors,
    is_prior,
)
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.runs.command_line import controls_command, possible_controls
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.scoring.protocols import protocol_of


@dataclass(frozen=True)
class Subject:
    """A run, what it was compared with, and its controls and priors."""

    label: str
    """Its name; with what the user called it if two names are the same."""
    run: FinishedRun
    """Its records; a mean over seeds or checkpoints if the name refers to several runs."""
    primary: str
    """The metric that the sentences about controls are about."""
    rows: tuple[Difference, ...] = ()
    """The first run (A) against this one (B); empty for the first itself."""
    controls: tuple[Contrast, ...] = ()
    """This run (A) against itself under controls (B)."""
    missing: tuple[str, ...] = ()
    """Controls that were not run."""
    command: str = ""
    """Command that runs them; "" if none is missing."""
    priors: tuple[Contrast, ...] = ()
    """This run (A) against priors and baselines (B) other than the compared runs; empty if it is one itself."""


@dataclass(frozen=True)
class Report:
    """Runs compared with the first of them."""

    subjects: tuple[Subject, ...]
    """At least two, in the user's order."""
    metrics: tuple[str, ...]
    """Names in METRICS."""
    average: str
    """Average over all samples."""

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        runs = []
        for subject in self.subjects:
            spreads = {metric: spread(subject.run, metric, self.average) for metric in self.metrics}
            runs.append(
                {
                    "label": subject.label,
                    "keys": list(subject.run.keys),
                    "over_runs": {metric: asdict(found) for metric, found in spreads.items() if found},
                    "note": seeds_note(subject.run),
                    "controls": [contrast.as_json() for contrast in subject.controls],
                    "controls_missing": list(subject.missing),
                    "controls_command": subject.command,
                    "priors": [contrast.as_json() for contrast in subject.priors],
                }
            )
        first, *others = self.subjects
        comparisons = [
            {"a": first.label, "b": subject.label} | row.as_json() for subject in others for row in subject.rows
        ]
        return {"average": self.average, "runs": runs, "comparisons": comparisons}


def make(
    runs_dir: Path,
    names: Sequence[str],
    metrics: Sequence[str] | None = None,
    average: str | None = None,
    dataset: str | None = None,
    context: bool = True,
    by_category: bool = False,
    margins: Mapping[str, float] | None = None,
) -> Report:
    """Compare the first of several runs with each of the others.

    Args:
        runs_dir: folder of the runs.
        names: at least two names, see `seeds.find_method`. Unnamed settings are those of the first run, else defaults.
        metrics: names in METRICS; None takes those of the first run's protocol.
        average: "overall", "macro" or "frequency2"; None takes the protocol's.
        dataset: only runs on this data set.
        context: also look for controls and priors.
        by_category: also compare within each category.
        margins: metric, or ALL for every one -> largest difference that does not matter, for tests of equivalence.

    Raises:
        UsageError: a name that refers to no run or several, an unknown metric, a margin for a metric that is not
            compared, or runs under different conditions.
        DataError: two runs share no sample.
    """
    first = find_method(runs_dir, names[0], dataset)
    runs = [first, *(find_method(runs_dir, name, dataset, first.spec) for name in names[1:])]
    if twice := [name for name, run in zip(names[1:], runs[1:], strict=True) if run.keys == first.keys]:
        raise UsageError(f"{names[0]} and {twice[0]} are the same run, {' '.join(first.keys)}; name two")
    protocol = protocol_of(first.spec.protocol)
    chosen, kind = tuple(metrics or protocol.metrics), average or protocol.average
    margins = _margins(margins or {}, chosen)
    defined = [name for name in chosen if all(any(name in r.metrics for r in run.records) for run in runs)] or chosen
    primary = protocol.primary if protocol.primary in defined else defined[0]  # a box answer has no CNR
    rows = [[], *compare_with_all(first, runs[1:], chosen, kind, by_category, margins)]
    titles = [run.name for run in runs]
    compared, subjects = {key for run in runs for key in run.keys}, []
    for run, name, title, found in zip(runs, names, titles, rows, strict=True):
        subject = Subject(title if titles.count(title) == 1 else f"{title} {name}", run, primary, tuple(found))
        if context:
            controls = find_controls(runs_dir, run)
            possible = possible_controls(run.spec, CHANGES) if run.spec.control == PLAIN else ()
            missing = tuple(control for control in possible if control not in controls)
            priors = {} if is_prior(run.spec.method) else find_priors(runs_dir, run, compared)
            commands = (controls_command(part.spec, runs_dir, missing) for part in run.parts or (run,))
            subject = replace(
                subject,
                controls=tuple(contrasts(run, controls, chosen, kind, margins)),
                missing=missing,
                command="; ".join(filter(None, commands)) if missing else "",
                priors=tuple(contrasts(run, priors, chosen, kind, margins)),
            )
        subjects.append(subject)
    return Report(tuple(subjects), chosen, kind)


def _margins(given: Mapping[str, float], metrics: Sequence[str]) -> dict[str, float]:
    """The margin of each metric that has one; a metric's own margin replaces that of ALL."""
    if strange := [name for name in given if name not in (ALL, *metrics)]:
        raise UsageError(f"--margin {strange[0]}: that metric is not compared; choose from {', '.join(metrics)}")
    if wrong := [margin for margin in given.values() if not 0 < margin < float("inf")]:
        raise UsageError(f"--margin {wrong[0]:g} must be a positive number")
    return {name: given.get(name, given.get(ALL, 0.0)) for name in metrics if name in given or ALL in given}
