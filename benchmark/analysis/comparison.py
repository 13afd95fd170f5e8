"""All that `gtg-bench compare` has to say: runs against the first, what they listen to, and the priors beside them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.compare import ALL, Line, compare_with_all
from gtg_bench.benchmark.analysis.seeds import find_method, spread, told
from gtg_bench.benchmark.analysis.sensitivity import (
    CHANGES,
    PLAIN,
    Beside,
    beside_priors,
    find_controls,
    find_priors,
    is_prior,
    under_controls,
)
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.runs.command_line import run_command
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.scoring.protocols import protocol_of


@dataclass(frozen=True)
class Subject:
    """One of the runs that are compared.

    Attributes:
        label: its name, with what the user called it where two names are the same.
        run: its records; a mean over seeds or checkpoints where the name stands for several.
        lines: the first run against this one; none for the first itself.
        controls: this run under its controls.
        missing: controls that were not run.
        command: makes them; "" where none is missing.
        priors: priors and baselines on the samples that this run has too, but the compared ones; none where it is one
            itself.
    """

    label: str
    run: FinishedRun
    lines: tuple[Line, ...]
    controls: tuple[Beside, ...] = ()
    missing: tuple[str, ...] = ()
    command: str = ""
    priors: tuple[Beside, ...] = ()


@dataclass(frozen=True)
class Report:
    """Runs compared with the first of them.

    Attributes:
        subjects: in the order of the user, two at least.
        metrics: names of METRICS.
        average: over all samples.
        primary: the metric that the sentences on controls are about.
    """

    subjects: tuple[Subject, ...]
    metrics: tuple[str, ...]
    average: str
    primary: str

    def as_json(self, by_category: bool) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "average": self.average,
            "runs": [self._run(subject) for subject in self.subjects],
            "comparisons": [
                {"a": self.subjects[0].label, "b": subject.label} | line.as_json()
                for subject in self.subjects[1:]
                for line in subject.lines
                if by_category or line.category == ALL
            ],
        }

    def _run(self, subject: Subject) -> dict[str, Any]:
        spreads = {metric: spread(subject.run, metric, self.average) for metric in self.metrics}
        return {
            "label": subject.label,
            "keys": list(subject.run.keys),
            "over_runs": {metric: asdict(found) for metric, found in spreads.items() if found},
            "note": told(subject.run),
            "controls": [beside.as_json() for beside in subject.controls],
            "controls_missing": list(subject.missing),
            "controls_command": subject.command,
            "priors": [beside.as_json() for beside in subject.priors],
        }


def make(
    runs_dir: Path,
    names: Sequence[str],
    metrics: Sequence[str] | None = None,
    average: str | None = None,
    dataset: str | None = None,
    beside: bool = True,
) -> Report:
    """Compare the first of several runs with each of the others.

    Args:
        runs_dir: where runs are kept.
        names: of runs, see `repetitions.find_method`; two at least. What they do not say is as in the first, then as
            usual.
        metrics: names of METRICS; None takes those of the first run's protocol.
        average: "overall", "macro" or "frequency2"; None takes the protocol's.
        dataset: only runs on this data set.
        beside: look for controls and priors too.

    Raises:
        UsageError: a name that stands for no run or for several, an unknown metric, runs under different conditions.
        DataError: two runs share no sample.
    """
    first = find_method(runs_dir, names[0], dataset)
    runs = [first, *(find_method(runs_dir, name, dataset, first.spec) for name in names[1:])]
    if twice := [name for name, run in zip(names[1:], runs[1:], strict=True) if run.keys == runs[0].keys]:
        raise UsageError(f"{names[0]} and {twice[0]} are the same run, {' '.join(runs[0].keys)}; name two")
    protocol = protocol_of(runs[0].spec.protocol)
    chosen, kind = tuple(metrics or protocol.metrics), average or protocol.average
    lines = [[], *compare_with_all(runs[0], runs[1:], chosen, kind)]
    titles = [run.name for run in runs]
    labels = [
        title if titles.count(title) == 1 else f"{title} {name}" for title, name in zip(titles, names, strict=True)
    ]
    subjects = [Subject(label, run, tuple(found)) for label, run, found in zip(labels, runs, lines, strict=True)]
    if beside:
        compared = {key for run in runs for key in run.keys}
        subjects = [_with_neighbours(subject, runs_dir, chosen, kind, compared) for subject in subjects]
    primary = protocol.primary if protocol.primary in chosen else chosen[0]
    return Report(tuple(subjects), chosen, kind, primary)


def _with_neighbours(
    subject: Subject, runs_dir: Path, metrics: Sequence[str], average: str, compared: Set[str]
) -> Subject:
    """A run with its controls and the priors, but those that are compared anyway, with p-values of another family."""
    run = subject.run
    controls = find_controls(runs_dir, run)
    missing = [name for name in CHANGES if name not in controls] if run.spec.control == PLAIN else []
    priors = [] if is_prior(run.spec.method) else find_priors(runs_dir, run, compared)
    command = "; ".join(run_command(part.spec, runs_dir, "--all-controls") for part in run.parts or (run,))
    return Subject(
        subject.label,
        run,
        subject.lines,
        tuple(under_controls(run, controls, metrics, average)),
        tuple(missing),
        command if missing else "",
        tuple(beside_priors(run, priors, metrics, average)),
    )
