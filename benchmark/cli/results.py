"""What `run` and `score` show of a run: progress, failures, and its row beside the others of its leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.choices import of_phantom
from gtg_bench.benchmark.cli.common import err, out

if TYPE_CHECKING:
    from gtg_bench.benchmark.report.leaderboard import Row
    from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, RunResult


def with_progress(prepared: PreparedRun, request: RunRequest, processes: int = 1) -> RunResult:
    """Execute a run under a progress bar; see `runner.run`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from gtg_bench.benchmark.runs.runner import run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=False) as bar:
        task = bar.add_task(f"{request.method} on {request.dataset}", total=len(prepared.trials))
        return run(prepared, request, lambda done, total: bar.update(task, completed=done, total=total), processes)


def report(result: RunResult) -> None:
    """How long it took, what was there already, and the first failures."""
    known, total = len(result.records) - result.computed, len(result.records)
    notes = [f"{known} of {total} were there already"] if known else []
    if result.reused:
        source = f" of run {result.maps_of}" if result.maps_of else ""
        notes.append(f"{result.reused} stored maps{source} were scored anew")
    note = f" ({'; '.join(notes)})" if notes else ""
    err.print(f"{result.spec.method}: {result.seconds:.1f} s{note}; records in {result.folder}", soft_wrap=True)
    bad = [record for record in result.records if record.status == "failed"]
    if bad:
        err.print(f"[yellow]warning:[/yellow] {len(bad)} of {total} samples failed, the first ones:")
        for record in bad[:3]:
            err.print(f"  {record.sample_id}: {record.error}", soft_wrap=True, markup=False)


def show(folder: Path, rows: list[Row], runs_dir: Path) -> None:
    """The rows of this call beside those that were measured on the same samples, ranked anew, a table for each set.

    Args:
        folder: of the leaderboards.
        rows: of this call.
        runs_dir: where the records are by which methods are ranked.
    """
    from gtg_bench.benchmark.api.registry import METHODS
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.report.run_table import comparison, nearest

    priors = [entry.name for entry in METHODS.entries() if entry.card.kind in ("prior", "baseline")]
    shown: set[str] = set()
    for row in rows:
        if row["run_key"] not in shown:
            near = leaderboard.beside(folder, row)
            shown |= {other["run_key"] for other in near}
            now = {one["run_key"] for one in rows}
            here = [one for one in near if one["run_key"] in now]
            seen = nearest(near, here, priors)
            out.print(comparison(seen, here, priors))
            more = (
                f" ({len(near) - len(seen)} more rows, of other settings and weights)" if len(near) > len(seen) else ""
            )
            out.print(f"Leaderboard: {leaderboard.path_of(folder, row)}{more}", soft_wrap=True, highlight=False)
    if any(of_phantom(row["weights"]) for row in rows):
        out.print("Weights `phantom` were trained on the phantom alone: not a published model, not a diagnostic tool.")
