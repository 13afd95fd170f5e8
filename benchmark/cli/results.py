"""What `run` and `score` print about a run: progress, failures, and its row with controls and priors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.cli.common import err, out
from gtg_bench.benchmark.paths import PlaceError

if TYPE_CHECKING:
    from gtg_bench.benchmark.report.leaderboard import Row
    from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, RunResult


def with_progress(prepared: PreparedRun, request: RunRequest, more: str = "") -> RunResult:
    """Execute a run and show its progress, named after method, data set and `more`; see `runner.run`."""
    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.benchmark.runs.runner import run

    def busy() -> None:
        err.print("another process is working on the same run; waiting for it to finish")

    with counting(err, f"{prepared.spec.method} on {prepared.spec.dataset}{more}", keep=True) as count:
        return run(prepared, request, count, busy=busy)


def report(result: RunResult) -> None:
    """Print how long a run took, how much of it was reused, and its first failures."""
    known, total = len(result.records) - result.computed, len(result.records)
    notes = [f"{known} of {total} samples were already scored"] if known else []
    if result.reused:
        source = f" of run {result.maps_of}" if result.maps_of else ""
        notes.append(f"rescored {result.reused} stored maps{source}")
    if result.made_by:
        notes.append(f"made by {result.made_by}; --fresh computes them anew")
    if used := [record.steps_used for record in result.records if record.steps_used is not None]:
        notes.append(f"{sum(used) / len(used):.1f} steps per sample on average, {min(used)} to {max(used)}")
    note = f" ({'; '.join(notes)})" if notes else ""
    text = f"{result.spec.method}: {result.seconds:.1f} s{note}; records in {result.folder}"
    err.print(text, soft_wrap=True, markup=False)
    bad = [record for record in result.records if record.status == "failed"]
    if bad:
        err.print(f"[yellow]warning:[/yellow] {len(bad)} of {total} samples failed; the first ones:")
        for record in bad[:3]:
            err.print(f"  {record.sample_id}: {record.error}", soft_wrap=True, markup=False)


def show(folder: Path, rows: list[Row], runs_dir: Path) -> None:
    """Print the rows of this call with their controls and the priors; see `run_table.show_runs`."""
    from gtg_bench.benchmark.report.tables.run_table import show_runs

    show_runs(rows, folder, out, runs_dir)


class LeftOut:
    """What a command leaves out because it cannot run, while the rest can: named when it happens and at the end."""

    def __init__(self, total: int) -> None:
        self.total = total
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
            self.errors[name] = error
            reasons = list(dict.fromkeys(map(str, self.errors.values())))
            if len(self.errors) == self.total and len(reasons) == 1:
                raise
            err.print(f"[yellow]warning:[/yellow] {escape(name)} is left out: {escape(str(error))}", soft_wrap=True)

    def finish(self, unscored: Iterable[str] = ()) -> None:
        """Name everything that failed and exit with code 1, or return if nothing did.

        Args:
            unscored: names of methods that ran, but without a single scored sample.
        """
        failed = [f"{name} (left out)" for name in self.errors]
        failed += [f"{name} (no sample scored)" for name in dict.fromkeys(unscored)]
        if failed:
            err.print(f"[red]failed:[/red] {escape(', '.join(failed))}", soft_wrap=True)
            raise typer.Exit(1)
