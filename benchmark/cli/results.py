"""What `run` and `score` print about a run: progress, failures, and its row with controls and priors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.cli.common import complain, err, out
from gtg_bench.benchmark.metrics.named_masks import BEST
from gtg_bench.benchmark.paths import PlaceError
from gtg_bench.benchmark.runs.launch import ElsewhereError, Launch

if TYPE_CHECKING:
    from gtg_bench.benchmark.analysis.control_battery import Battery
    from gtg_bench.benchmark.report.leaderboard import Row
    from gtg_bench.benchmark.runs.lookup import FinishedRun
    from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, RunResult


def with_progress(prepared: PreparedRun, request: RunRequest, more: str = "", name: str = "") -> RunResult:
    """Execute a run and show its progress, named after method or `name`, data set and `more`; see `runner.run`."""
    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.benchmark.runs.runner import run

    def busy() -> None:
        err.print("another process is working on the same run; waiting for it to finish")

    with counting(err, f"{name or prepared.spec.method} on {prepared.spec.dataset}{more}", keep=True) as count:
        return run(prepared, request, count, busy=busy)


Named = tuple[str, "Battery"]
"""The name of a method with its settings, and its run with its controls."""


def prepare_all(
    requests: Sequence[RunRequest], make: Callable[[RunRequest], PreparedRun], left_out: LeftOut, controls: bool = False
) -> list[Named]:
    """Prepare runs, named after what distinguishes them; those that turn out to be the same run are prepared once.

    Args:
        requests: the runs.
        make: prepares one.
        left_out: gets those that cannot run.
        controls: add all sanity-check controls of each run.
    """
    from gtg_bench.benchmark.analysis.control_battery import Battery, prepare_battery
    from gtg_bench.benchmark.runs.suite import name_of, varying

    names = varying(requests)
    found: dict[str, Named] = {}
    with err.status("Reading annotations and images"):
        for request in requests:
            with left_out.keep_going(name_of(request, names)):
                battery = prepare_battery(request, make) if controls else Battery(((request, make(request)),), {})
                spec = battery.runs[0][1].spec
                own = replace(request, settings=replace(spec.settings, dataset=None))
                found.setdefault(spec.key, (name_of(own, names), battery))
    return list(found.values())


def execute(
    batteries: Sequence[Named], leaderboards_dir: Path, left_out: LeftOut
) -> tuple[list[Row], list[FinishedRun]]:
    """Execute runs one after the other, update the leaderboard after each, and share models and what they computed.

    The command ends here, without tables, where others are still computing, and in all processes of a launch but the
    first, which reports for all.

    Args:
        batteries: the runs, see `prepare_all`.
        leaderboards_dir: folder of the leaderboards.
        left_out: gets those that cannot run.

    Returns:
        Leaderboard rows and runs of those that can.
    """
    from gtg_bench.benchmark.api.sharing import sharing
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.lookup import FinishedRun

    rows, done, leads, missing = [], [], Launch.current().leads, 0
    with sharing():
        for name, battery in batteries:
            source = copy(battery.runs[0][1].source)  # a copy: its method is built for these runs, then released
            with left_out.keep_going(name):
                for request, prepared in battery.runs:
                    result = with_progress(replace(prepared, source=source), request, name=name)
                    report(result, name)
                    missing += result.missing
                    if result.missing or not leads:
                        continue
                    rows.append(leaderboard.update(leaderboards_dir, result.spec, result.records))
                    done.append(FinishedRun(result.spec, result.records))
    if missing or not leads:
        left_out.finish()
        raise typer.Exit
    return rows, done


def report(result: RunResult, name: str = "") -> None:
    """Print how long a run took, how much of it was reused, and its first failures."""
    if result.missing:
        total = len(result.records) + result.missing
        text = f"{len(result.records)} of {total} samples have a record; the last shard to end finishes the run"
        err.say(f"{name or result.spec.method}: {text} {result.spec.key}")
        return
    known, total = len(result.records) - result.computed, len(result.records)
    notes = [f"smoothing {result.spec.smooth}"] if result.spec.smooth.startswith(BEST) else []
    notes += [f"{known} of {total} samples were already scored"] if known else []
    if result.reused:
        source = f" of run {result.maps_of}" if result.maps_of else ""
        notes.append(f"rescored {result.reused} stored maps{source}")
    if result.made_by:
        notes.append(f"made by {result.made_by}; --fresh computes them anew")
    if used := [record.steps_used for record in result.records if record.steps_used is not None]:
        notes.append(f"{sum(used) / len(used):.1f} steps per sample on average, {min(used)} to {max(used)}")
    note = f" ({'; '.join(notes)})" if notes else ""
    text = f"{name or result.spec.method}: {result.seconds:.1f} s{note}; records in {result.folder}"
    err.say(text)
    bad = [record for record in result.records if record.status == "failed"]
    if bad:
        err.print(f"[yellow]warning:[/yellow] {len(bad)} of {total} samples failed; the first ones:")
        for record in bad[:3]:
            err.say(f"  {record.sample_id}: {record.error}")


def show(folder: Path, rows: list[Row], runs_dir: Path) -> None:
    """Print the rows of this call with their controls and the priors; see `run_table.show_runs`."""
    from gtg_bench.benchmark.report.tables.run_table import show_runs

    show_runs(rows, folder, out, runs_dir)


class LeftOut:
    """What a command leaves out because it cannot run, while the rest can: named when it happens and at the end."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        """`total`: how much could be left out. `quiet`: print nothing when something is."""
        self.total, self.quiet = total, quiet
        self.errors: dict[str, GtgError] = {}

    @contextmanager
    def keep_going(self, name: str) -> Iterator[None]:
        """Leave `name` out if the block raises a GtgError.

        Raises:
            GtgError: nothing is left, or a file cannot be written, which no other method can mend.
        """
        try:
            yield
        except PlaceError:
            raise
        except GtgError as error:
            known = str(error) in map(str, self.errors.values())
            self.errors[name] = error
            reasons = list(dict.fromkeys(map(str, self.errors.values())))
            if len(self.errors) == self.total and len(reasons) == 1:
                raise
            if not (self.quiet or known or isinstance(error, ElsewhereError)):  # `finish` names all of one reason
                complain(f"[yellow]warning:[/yellow] {escape(name)} is left out: {escape(str(error))}")

    def finish(self, rows: Iterable[Row] = ()) -> None:
        """Name everything that failed and exit with code 1, or return if nothing did.

        Args:
            rows: leaderboard rows of what ran; one without a single scored sample has failed.
        """
        failed = [f"{name} (left out)" for name in self.errors]
        unscored = dict.fromkeys(row["method"] for row in rows if row["n_ok"] == "0")
        failed += [f"{name} (no sample scored)" for name in unscored]
        if failed:
            err.print(f"[red]failed:[/red] {escape(', '.join(failed))}", soft_wrap=True)
            raise typer.Exit(1)
