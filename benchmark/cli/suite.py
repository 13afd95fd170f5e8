"""`gtg-bench suite`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.cli.common import (
    LeaderboardsDir,
    Limit,
    Plugins,
    err,
    load_plugins,
    out,
    reports_errors,
)
from gtg_bench.benchmark.cli.groups import DataOptions, JobOptions, takes_choices
from gtg_bench.benchmark.cli.results import LeftOut, Named, execute, prepare_all, show
from gtg_bench.benchmark.runs.launch import Launch
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import RULES

if TYPE_CHECKING:
    from gtg_bench.benchmark.report.leaderboard import Row
    from gtg_bench.benchmark.runs.lookup import FinishedRun
    from gtg_bench.benchmark.runs.suite import Suite

HELP = "Run all cells of a table or figure of the paper, or a list of runs in a YAML file; rerun it to resume."


@reports_errors
@takes_choices
def suite(
    settings: dict[str, Any],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME|FILE.yaml]", help="Suite to run. (default: list the packaged ones)")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only show the runs, what is done, what they share, and estimated time and disk."),
    ] = False,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Run these methods instead of the suite's; repeatable.")
    ] = None,
    all_controls: Annotated[
        bool, typer.Option("--all-controls", help="Add every sanity-check control of each run.")
    ] = False,
    data: DataOptions = DataOptions(),
    limit: Limit = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Write the suite's table to this folder or file, or its figure to this file."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML report of the runs to this file.")
    ] = None,
    job: JobOptions = JobOptions(),
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    plugin: Plugins = None,
) -> None:
    """Run a suite."""
    from gtg_bench.benchmark.datasets import open_dataset
    from gtg_bench.benchmark.runs.launch import alone
    from gtg_bench.benchmark.runs.runner import prepare
    from gtg_bench.benchmark.runs.suite import find_suite, passes

    if name is None:
        _list()
        return
    if plan and Launch.current().count > 1:
        raise UsageError("--plan measures one process; leave out the launcher")
    load_plugins(plugin)
    found = find_suite(name)
    requests = found.requests(
        settings | ({"method": method} if method else {}), **data.request, **vars(job), limit=limit
    )
    if plan and not alone():
        return
    if not plan:
        _check_places(found, to, html)
    left_out, entry_of = LeftOut(len(requests), quiet=plan), passes(requests)
    opened = open_dataset(*data.place.values())
    with _offline() if plan else nullcontext():
        batteries = prepare_all(
            requests, lambda one: prepare(one, entry_of(one), opened), left_out, controls=all_controls
        )
    if plan:
        _show_plan(batteries, left_out)
        return
    rows, done = execute(batteries, leaderboards_dir, left_out)
    if done:
        _end(found, rows, done, settings, (leaderboards_dir, job.runs_dir), data.place, to, html)
    left_out.finish(rows)


def _end(
    found: Suite,
    rows: list[Row],
    done: Sequence[FinishedRun],
    settings: Mapping[str, Any],
    folders: tuple[Path, Path],
    place: Mapping[str, Any],
    to: Path | None,
    html: Path | None,
) -> None:
    """Show the table or the runs, and write what was asked for; `folders` hold the leaderboards and the runs."""
    if found.table:
        _show_table(found.table, done, settings, *folders, to)
    else:
        show(folders[0], rows, folders[1])
    _show_sensitivity(done)
    if found.figure and to:
        _draw(found.figure, done, to)
    if html:
        _report(done, html, folders[1], place)


def _check_places(found: Suite, to: Path | None, html: Path | None) -> None:
    """Refuse files that cannot be written before anything is computed."""
    from gtg_bench.benchmark.paths import check_writable
    from gtg_bench.benchmark.report.pictures.drawing import check_format
    from gtg_bench.benchmark.report.tables.render import SUFFIXES

    if to and not (found.table or found.figure):
        raise UsageError(f"--out {to}: this suite ends with neither a table nor a figure; --report writes a report")
    if to and found.figure:
        check_format(to)
    for path in (html, to):
        if path and (path == html or found.figure or path.suffix in SUFFIXES.values()):
            check_writable(path)


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the block from downloading weights."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        del os.environ["HF_HUB_OFFLINE"]
        if before is not None:
            os.environ["HF_HUB_OFFLINE"] = before


def _list() -> None:
    """Print the packaged suites."""
    from gtg_bench.benchmark.runs.suite import packaged_suites

    table = Table("suite", Column("runs", justify="right"), "content", box=SIMPLE_HEAD, pad_edge=False)
    for name, found in packaged_suites().items():
        table.add_row(name, str(len(found.requests({}))), found.title)
    out.print(table)
    out.print("Your own: a YAML file, see Suites in benchmark/README.md", markup=False, highlight=False)


def _show_plan(batteries: Sequence[Named], left_out: LeftOut) -> None:
    """Print how far each run is, then what the rest takes."""
    from gtg_bench.benchmark.runs.plan import estimate, shared_notes, steps_of

    steps = steps_of((name, *run) for name, battery in batteries for run in battery.runs)
    table = Table(
        "run", "state", Column("to make", justify="right"), Column("to score", justify="right"), box=SIMPLE_HEAD
    )
    table.pad_edge = False
    for one in steps:
        table.add_row(Text(one.name), one.state, _count(len(one.missing)), _count(len(one.stored)))
    for name in left_out.errors:
        table.add_row(Text(name), "[red]cannot run[/red]", "-", "-")
    out.print(table)
    reasons: dict[str, list[str]] = {}
    for name, error in left_out.errors.items():
        reasons.setdefault(str(error), []).append(name)
    for reason, (name, *more) in reasons.items():
        others = f" and {number_of(len(more), 'other run')}" if more else ""
        out.say(f"- {name}{others} cannot run: {reason}")
    for note in shared_notes(steps):
        out.print(f"- {note}", markup=False, highlight=False)
    with err.status("Measuring") as status:
        found = estimate(steps, lambda name: status.update(Text(f"Measuring {name}")))
    done = sum(one.state == "done" for one in steps)
    text = f"{done} of {number_of(len(steps), 'run')} done."
    if done < len(steps):
        text += f" The rest takes about {_duration(found.seconds)} here and writes {_bytes(found.bytes)}"
    if found.measured:
        text += f" (estimated from a few samples of {number_of(found.measured, 'kind')} of runs"
        text += f"; {found.unmeasured} more count as their mean)" if found.unmeasured else ")"
    out.print(text, markup=False, highlight=False)
    if left_out.errors:
        raise typer.Exit(1)


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _duration(seconds: float) -> str:
    """Seconds in two digits: "50 s", "4.2 min", "12 h"."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _show_table(
    number: int, done: Sequence[FinishedRun], settings: Mapping[str, Any], folder: Path, runs_dir: Path, to: Path | None
) -> None:
    """Print the paper's table of the runs by the suite's first protocol, once for each way of scoring."""
    from gtg_bench.benchmark.cli.table import paper_document
    from gtg_bench.benchmark.metrics.named_masks import rule_of
    from gtg_bench.benchmark.report.tables.document import joined
    from gtg_bench.benchmark.report.tables.render import show as show_document
    from gtg_bench.benchmark.report.tables.render import write
    from gtg_bench.benchmark.runs.labels import as_text

    names = {"dataset_options", "split", "limit", "seed", "weights", *RULES, *settings} - {"protocol"}
    protocol, boards = done[0].spec.protocol, dict[tuple[str, ...], list[dict[str, str]]]()
    for run in done:
        if run.spec.protocol == protocol:
            spec = {name: as_text(value) for name, value in run.spec.as_json().items()}
            spec |= {name: rule_of(spec[name]) for name in RULES}
            boards.setdefault(tuple(spec[name] for name in RULES), []).append(spec)
    documents = []
    for specs in boards.values():
        values = {name: {spec[name] for spec in specs} for name in names}
        where = {name: found.pop() for name, found in values.items() if len(found) == 1}
        documents.append(paper_document(number, (folder, specs[0]["dataset"], where, protocol, False), runs_dir))
    document = joined(documents)
    show_document(document, out)
    for path in write(document, to) if to else ():
        out.say(f"Written: {path}")


def _show_sensitivity(done: Sequence[FinishedRun]) -> None:
    """Print each run that has controls against them."""
    from gtg_bench.benchmark.analysis.control_battery import sensitivities
    from gtg_bench.benchmark.report.tables.analysis_tables import show_context

    for subject in sensitivities(done):
        if subject.controls:
            show_context(subject, out)


def _draw(number: int, done: Sequence[FinishedRun], to: Path) -> None:
    """Draw the paper's figure."""
    from gtg_bench.benchmark.cli.plot import write
    from gtg_bench.benchmark.report.plots import paper_steps

    plain = [(run, run.spec.settings) for run in done if run.spec.control == CONTROLS[0]]
    if number == 5:
        drawn = paper_steps.figure5({int(one.last_steps or one.steps or 0): run for run, one in plain})
    else:
        modes: dict[str, dict[int, FinishedRun]] = {}
        for run, one in plain:
            if isinstance(one.steps, int):  # "auto" has no place on the axis
                modes.setdefault(one.sampling or "", {})[one.steps] = run
        drawn = paper_steps.figure4(modes)
    write(drawn, [to])


def _report(done: Sequence[FinishedRun], path: Path, runs_dir: Path, place: Mapping[str, Any]) -> None:
    """Write the HTML report about the plain runs of the first protocol."""
    from gtg_bench.benchmark.report.html import write_report
    from gtg_bench.benchmark.runs.lookup import conditions
    from gtg_bench.benchmark.runs.rescore import Place

    alike = [run for run in done if conditions(run.spec) == conditions(done[0].spec)]
    keys = [run.spec.key for run in alike if run.spec.control == CONTROLS[0]]
    where = Place(place["data_root"], place["dataset_options"])
    with err.status("Comparing runs and drawing maps"):
        write_report(keys, path, runs_dir, place["dataset"], place=where)
    out.say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
