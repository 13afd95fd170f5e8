"""What the page says about runs: warnings, sentences, estimates, differences by category, and where runs come from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.audit import stored
from gtg_bench.benchmark.analysis.audit.finding import Question
from gtg_bench.benchmark.analysis.compare import Difference, compare_with_all, in_words
from gtg_bench.benchmark.analysis.comparison import Report, make
from gtg_bench.benchmark.analysis.seeds import seeds_note
from gtg_bench.benchmark.analysis.sensitivity import PLAIN, control_in_words, is_prior, prior_in_words
from gtg_bench.benchmark.analysis.subgroups import subgroups
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.settings import BOXES, of_phantom
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.report.tables import audit_page
from gtg_bench.benchmark.report.tables.selection import BOXES_NOTE, PHANTOM_NOTE
from gtg_bench.benchmark.runs.command_line import run_command
from gtg_bench.benchmark.runs.lookup import FinishedRun, conditions, read_run, specs_in
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.spec import VALIDATION
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.statistics import average, bootstrap_averages

FEW_PATIENTS = 30
"""With fewer patients the page warns."""

COMPARED = 6
"""Most runs of which every pair is compared by category; of further runs only the pairs with the first."""

PHANTOM_DATA = "The phantom is generated: its numbers compare methods on the phantom and say nothing about patients."

Json = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """A run on the page."""

    label: str
    """Its name."""
    run: FinishedRun
    role: str
    """"run", "prior" or "control"."""
    plain: int | None = None
    """Index of the run that a control belongs to."""

    @property
    def key(self) -> str:
        """Its key, or those of the runs that it is the mean of."""
        return "+".join(self.run.keys)


@dataclass(frozen=True)
class Evidence:
    """A comparison, and all its runs in the order of the page."""

    report: Report
    lines: tuple[Line, ...]
    left_out: int
    """Number of finished runs that were not chosen, if no run was named."""


def collect(runs_dir: Path, names: Sequence[str], dataset: str | None) -> Evidence:
    """The named runs, each followed by its controls, then the priors; see `analysis.comparison.make`.

    Args:
        runs_dir: folder of the runs.
        names: of runs, see `analysis.seeds.find_method`; none takes the largest group of runs that can be compared.
        dataset: only runs on this data set.

    Raises:
        UsageError: no run, or runs under different conditions.
        DataError: runs that share no sample.
    """
    left_out = 0
    if not names:
        names, left_out = _largest_group(runs_dir, dataset)
    report = make(runs_dir, names, dataset=dataset, by_category=True)
    lines: list[Line] = []
    for subject in report.subjects:
        spec = subject.run.spec
        role = "control" if spec.control != PLAIN else "prior" if is_prior(spec.method) else "run"
        lines.append(Line(subject.label, subject.run, role))
        own = len(lines) - 1
        lines += [Line(f"{subject.label}, {one.name}", one.run, "control", own) for one in subject.controls]
    for subject in report.subjects:
        known = {line.key for line in lines}
        new = [Line(one.run.name, one.run, "prior") for one in subject.priors]
        lines += [line for line in new if line.key not in known]
    return Evidence(report, tuple(lines), left_out)


def _largest_group(runs_dir: Path, dataset: str | None) -> tuple[list[str], int]:
    """Keys of the runs without a control that share their conditions, best first; and how many runs are left out."""
    specs = [spec for spec in specs_in(runs_dir, dataset) if spec.control == PLAIN]
    if not specs:
        raise UsageError(f"{runs_dir} has no finished run; make one with `gtg-bench run --method METHOD`")
    groups: dict[str, list[FinishedRun]] = {}
    for spec in specs:
        run = read_run(runs_dir, spec)
        if any(record.status == "ok" for record in run.records):
            groups.setdefault(f"{conditions(spec)} {spec.limit}", []).append(run)
    if not groups:
        raise UsageError(f"no run in {runs_dir} has a scored sample; its records say why")

    def size(group: list[FinishedRun]) -> tuple[int, int, bool]:
        methods = sum(not is_prior(run.spec.method) for run in group)
        return methods, len(group), group[0].spec.split != VALIDATION

    runs = max(groups.values(), key=size)
    rules = protocol_of(runs[0].spec.protocol)

    def score(run: FinishedRun) -> float:
        ok = [record for record in run.records if record.status == "ok"]
        found = average([r.metrics.get(rules.primary) for r in ok], [r.category for r in ok], rules.average)
        return found.value if found.value is not None else float("-inf")

    methods = [run for run in runs if not is_prior(run.spec.method)] or runs
    return [run.spec.key for run in sorted(methods, key=score, reverse=True)], len(specs) - len(runs)


def audits(evidence: Evidence, runs_dir: Path, private: bool) -> list[Json]:
    """The stored audits of the page's runs; a private page has no notes, which may name files."""
    pages = []
    for line in evidence.lines:
        for part in line.run.parts or (line.run,):
            if (page := stored.find(runs_dir, part.spec)) is not None:
                if private:
                    page = replace(page, questions=tuple(map(_without_notes, page.questions)))
                pages.append(audit_page.as_sections(page) | {"label": line.label})
    return pages


def _without_notes(question: Question) -> Question:
    return replace(question, findings=tuple(replace(one, note="") for one in question.findings))


def estimates(line: Line, metrics: Sequence[str], kind: str) -> dict[str, Json]:
    """Metric -> value, low, high, n, n_patients."""
    ok = [record for record in line.run.records if record.status == "ok"]
    categories, patients = [record.category for record in ok], [record.patient_id for record in ok]
    found = {
        name: bootstrap_averages([r.metrics.get(name) for r in ok], categories, patients)[kind] for name in metrics
    }
    return {name: asdict(one) for name, one in found.items()}


def differences(evidence: Evidence) -> Iterator[Json]:
    """A - B over all samples and by group: `a` and `b` are indices of lines; `rows` are those of a metric.

    p-values of categories are corrected as `gtg-bench compare` does, over all other named runs if A is the first one;
    those of other groups over the groups of the pair. `families` says how many that are.
    """
    report, lines = evidence.report, evidence.lines
    plain = [index for index, line in enumerate(lines) if line.plain is None]
    named = {subject.run.keys: subject.rows for subject in report.subjects[1:]}
    for place, a in enumerate(plain if len(plain) <= COMPARED else plain[:1]):
        for b in [*plain[place + 1 :], *(index for index, line in enumerate(lines) if line.plain == a)]:
            one, other = lines[a].run, lines[b].run
            rows: Sequence[Difference] = named.get(other.keys, ()) if a == 0 else ()
            if not rows:
                (rows,) = compare_with_all(one, [other], report.metrics, report.average, by_category=True)
            for metric in report.metrics:
                found = [("category", row) for row in rows if row.metric == metric]
                try:
                    parts = subgroups([one, other], ("side", "size"), [metric])[1:]
                except DataError:  # records of an earlier version do not describe their samples
                    parts = []
                found += [(part.by, part.differences[0]) for part in parts]
                yield {
                    "a": a,
                    "b": b,
                    "metric": metric,
                    "families": {by: row.family for by, row in found},
                    "rows": [_cells(by, row) for by, row in found],
                }


def _cells(by: str, row: Difference) -> list[Any]:
    found = row.found
    numbers = (found.difference, found.low, found.high, row.p_value)
    return [by, row.category, *(None if one is None else round(one, 6) for one in numbers), found.n]


def sentences(evidence: Evidence) -> list[str]:
    """What the primary metric shows: the first run against the others, then controls and priors of each run."""
    first, *others = evidence.report.subjects
    found = [
        in_words(row, first.label, other.label)
        for other in others
        for row in other.rows
        if row.metric == other.primary and row.category == "all"
    ]
    for subject in evidence.report.subjects:
        for contrast in subject.controls:
            row = next(row for row in contrast.rows if row.metric == subject.primary)
            found.append(control_in_words(row, subject.label, contrast.name))
        found += [prior_in_words(contrast, subject.label) for contrast in subject.priors]
    return found


def warnings(evidence: Evidence, runs_dir: Path, dataset: str | None, private: bool) -> list[str]:
    """What a reader must know before believing a number, the most important first."""
    lines, report = evidence.lines, evidence.report
    found = []
    for line in lines:
        counts = Counter(record.status for record in line.run.records)
        for status in ("failed", "unscorable"):
            if counts[status]:
                first = next(record for record in line.run.records if record.status == status)
                why = "" if private else f"; the first: {first.sample_id}: {first.error}"
                many = "is" if counts[status] == 1 and status == "unscorable" else "are"
                verb = "failed" if status == "failed" else f"{many} unscorable"
                found.append(f"{line.label}: {counts[status]} of {counts.total()} samples {verb}{why}")
        if line.run.parts:
            found.append(
                f"{line.label}: {seeds_note(line.run)}. The CI covers patients, not runs. "
                f"Maps are those of {line.run.keys[0]}."
            )
        if line.role == "control" and line.plain is None:
            found.append(f"{line.label} is a control: its scores show what changes, not how good the method is.")
    patients = {record.patient_id for record in lines[0].run.records if record.status == "ok"}
    if len(patients) < FEW_PATIENTS:
        found.append(f"Only {len(patients)} patients: the intervals are wide and their coverage is uncertain.")
    scored = {line.label: _ids(line) for line in lines if line.plain is None}
    if len({frozenset(ids) for ids in scored.values()}) > 1:
        counts_text = ", ".join(f"{label} {len(ids)}" for label, ids in scored.items())
        found.append(
            f"The runs were not scored on the same samples ({counts_text}). The board's means are over each run's own "
            "samples; differences A - B are over the samples that both have."
        )
    manifests = [RunFolder(runs_dir, spec).manifest() for line in lines for spec in _specs(line.run)]
    revisions = {short_revision(manifest.get("git_revision") or "unknown") for manifest in manifests}
    if len(revisions) > 1:
        found.append(f"The runs were made by different versions of the code: {', '.join(sorted(revisions))}.")
    begun = list(specs_in(runs_dir, dataset or lines[0].run.spec.dataset, finished=False))
    if begun:
        names = ", ".join(sorted({spec.method for spec in begun}))
        found.append(f"{number_of(len(begun), 'unfinished run')} left out ({names}): rerun to finish.")
    if evidence.left_out:
        found.append(
            f"{number_of(evidence.left_out, 'finished run')} left out: on other samples, by "
            "another protocol, or without a scored sample. Name runs to choose them."
        )
    for subject in report.subjects:
        if subject.missing and not is_prior(subject.run.spec.method):
            how = "." if private else f". Run: {subject.command}"
            found.append(f"{subject.label} was not run under {', '.join(subject.missing)}{how}")
    answered = [line.run.spec.method for line in lines if line.run.spec.settings.weights == BOXES]
    found += [f"{', '.join(dict.fromkeys(answered))}: {BOXES_NOTE.removeprefix('‡ ')}."] if answered else []
    found += [PHANTOM_NOTE] if any(of_phantom(line.run.spec.settings.weights) for line in lines) else []
    found += [PHANTOM_DATA] if lines[0].run.spec.dataset == "phantom" else []
    return found


def short_revision(text: str) -> str:
    """A git revision with 10 digits of its hash: "29a39b7a42", "29a39b7a42-dirty"."""
    return re.sub(r"[0-9a-f]{40}", lambda found: found[0][:10], text)


def _ids(line: Line) -> set[str]:
    return {record.sample_id for record in line.run.records if record.status == "ok"}


def _specs(run: FinishedRun) -> list[Any]:
    return [part.spec for part in run.parts or (run,)]


_PRIVATE = ("data_root", "dataset_options", "machine")
"""Entries of a manifest that may name folders or people."""


def provenance(line: Line, runs_dir: Path, private: bool) -> list[Json]:
    """For a run, or each that it is the mean of: key, the command that repeats it, and its manifest as pairs."""
    found = []
    for spec in _specs(line.run):
        more = ("--control", spec.control) if spec.control != PLAIN else ()
        manifest = RunFolder(runs_dir, spec).manifest()
        facts = manifest.pop("spec") | {f"{name} version": v for name, v in manifest.pop("versions", {}).items()}
        facts = manifest | facts  # the options of the data set are in both
        kept = {k: v for k, v in facts.items() if v not in (None, "") and not (private and k in _PRIVATE)}
        command = run_command(spec, Path("runs") if private else runs_dir, *more)
        found.append({"key": spec.key, "command": command, "manifest": kept})
    return found


def secrets(evidence: Evidence) -> dict[str, str]:
    """Folders in names of weights and options of data sets -> what a private page shows instead."""
    found = {}
    for spec in (spec for line in evidence.lines for spec in _specs(line.run)):
        options = [pair.partition("=")[2] for pair in re.split(r" (?=[\w-]+=)", spec.dataset_options)]
        for text in filter(None, [spec.settings.weights, *options]):
            if "/" in text or "\\" in text:
                found[text] = re.split(r"[/\\]", text.rstrip("/\\"))[-1] if text == spec.settings.weights else "..."
    return found
