"""`gtg-bench runs ...`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.cli.common import (
    AsJson,
    LeaderboardsDir,
    OnlyDataset,
    Plugins,
    RunsDir,
    err,
    load_plugins,
    out,
    reports_errors,
)

if TYPE_CHECKING:
    from gtg_bench.benchmark.runs.inventory import StoredRun

app = typer.Typer(no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="A run's key, or its method with settings.")]


@app.command("list")
@reports_errors
def list_(
    runs_dir: RunsDir = Path("runs"), dataset: OnlyDataset = None, as_json: AsJson = False, plugin: Plugins = None
) -> None:
    """List the stored runs, unfinished and unreadable ones too."""
    from rich.table import Table
    from rich.text import Text

    from gtg_bench.benchmark.runs.inventory import inventory, named

    load_plugins(plugin)
    runs = inventory(runs_dir, dataset)
    rows = [_row(run, name) for run, name in zip(runs, named(runs), strict=True)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        out.say(f"{runs_dir} has no runs")
        return
    table = Table("key", "run", "data", "samples", "state", "size", box=None, pad_edge=False)
    for column in (3, 5):
        table.columns[column].justify = "right"
    for row in rows:
        failed = f", {row['failed']} failed" if row["failed"] else ""
        samples, size = f"{row['done']} of {row['total'] or '?'}", f"{row['bytes'] / 1e6:,.1f} MB"
        words = row["key"], row["name"], row["data"], samples, f"{row['state']}{failed}", size
        table.add_row(*(Text(str(word)) for word in words))
    out.print(table)


@app.command("show")
@reports_errors
def show(
    run: Names,
    runs_dir: RunsDir = Path("runs"),
    dataset: OnlyDataset = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Show what made a run: settings, data, versions, counts, failures, and the command that repeats it."""
    from gtg_bench.benchmark.runs.command_line import run_command
    from gtg_bench.benchmark.runs.inventory import find, inventory, named
    from gtg_bench.benchmark.runs.records import read_records

    load_plugins(plugin)
    runs = inventory(runs_dir, dataset)
    found = [one for name in dict.fromkeys(run) for one in find(runs, name, runs_dir)]
    if as_json:
        typer.echo(json.dumps([_row(one, name) | one.manifest for one, name in zip(found, named(found), strict=True)]))
        return
    for one, name in zip(found, named(found), strict=True):
        row, manifest = _row(one, name), dict(one.manifest)
        lines = {"folder": one.path, "state": row["state"], "samples": f"{row['done']} of {row['total'] or '?'}"}
        lines |= {"by status": ", ".join(f"{n} {status}" for status, n in sorted(one.counts().items()))}
        lines |= {"own maps": one.own_maps, "size": f"{row['bytes'] / 1e6:,.1f} MB"}
        lines |= {key: value for key, value in (manifest.pop("spec", None) or {}).items() if value not in (None, "")}
        lines |= {key: value for key, value in manifest.items() if value not in (None, "", {}) and key != "key"}
        if one.spec:
            lines["command"] = run_command(one.spec, runs_dir, *_control(one))
        out.say(f"{one.key}  {name}", style="bold")
        for key, value in lines.items():
            out.say(f"  {key}: {_text(value)}")
        for record in [r for r in read_records(one.path).values() if r.status == "failed"][:3]:
            out.say(f"  failed: {record.sample_id}: {record.error}")


@app.command("rm")
@reports_errors
def rm(
    run: Annotated[list[str], typer.Argument(metavar="KEY...", help="A run's key; see `gtg-bench runs list`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs_dir: RunsDir = Path("runs"),
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    dataset: OnlyDataset = None,
    plugin: Plugins = None,
) -> None:
    """Delete runs: their records, maps, and rows in the leaderboards."""
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.inventory import inventory, named, readers, remove

    load_plugins(plugin)
    runs = inventory(runs_dir, dataset)
    if strange := [key for key in run if key not in [one.key for one in runs]]:
        raise UsageError(f"{runs_dir}: {unknown('key', strange[0], [one.key for one in runs])}")
    found = [one for one in runs if one.key in run]
    for one, name in zip(found, named(found), strict=True):
        out.say(f"{one.key}  {name}: {one.state}, {one.size / 1e6:,.1f} MB")
        if others := [other.key for other in readers(one, runs) if other not in found]:
            text = f"  {', '.join(others)} read maps from it: scores stay, but `score` would need the maps again"
            out.say(text)
    if not yes and not typer.confirm(f"Delete {'this run' if len(found) == 1 else f'these {len(found)} runs'}?"):
        raise typer.Exit(1)
    for one in found:
        if one.spec:
            leaderboard.remove(leaderboards_dir, one.spec)
        remove(one)
    err.print(f"deleted {number_of(len(found), 'run')}")


@app.command("merge")
@reports_errors
def merge(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN...]", help="A run's key, or its method with settings. (default: all with shards)"),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Another runs folder, whose records and maps are copied; repeatable."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    dataset: OnlyDataset = None,
    plugin: Plugins = None,
) -> None:
    """Join the shards of runs, made with `run --shard K/N`, and update the leaderboard."""
    from gtg_bench.benchmark.cli.results import show as show_rows
    from gtg_bench.benchmark.report import leaderboard
    from gtg_bench.benchmark.runs.command_line import run_command
    from gtg_bench.benchmark.runs.inventory import find, inventory
    from gtg_bench.benchmark.runs.merging import merge as join

    load_plugins(plugin)
    for folder in others or ():
        if not folder.is_dir():
            raise UsageError(f"--from {folder} is not a folder")
    here = inventory(runs_dir, dataset)
    stored = [*here, *(one for folder in others or () for one in inventory(folder, dataset))]
    if run:
        stored = [one for name in dict.fromkeys(run) for one in find(stored, name, runs_dir)]
    else:
        stored = [one for one in stored if one not in here or one.has_shards]
    specs = {one.key: one.spec for one in stored if one.spec}
    if not specs:
        err.say(f"{runs_dir} has no shards to merge")
    rows, unfinished = [], False
    for spec in specs.values():
        merged = join(runs_dir, spec, others or (), lambda: err.print("waiting for a process that is still computing"))
        if merged.missing:
            unfinished = True
            shards = f" (shard {', '.join(merged.shards)})" if merged.shards else ""
            total, control = len(merged.records) + merged.missing, ("--control", spec.control)
            command = run_command(spec, runs_dir, *(control if spec.control != "none" else ()))
            text = f"{merged.missing} of {total} samples have no record{shards}; compute them by `{command}`"
            err.say(f"{spec.method} {spec.key}: {text}")
        else:
            err.say(f"{spec.method}: {len(merged.records)} samples merged in {merged.folder}")
            rows.append(leaderboard.update(leaderboards_dir, spec, merged.records))
    if rows:
        show_rows(leaderboards_dir, rows, runs_dir)
    if unfinished:
        raise typer.Exit(1)


def _row(run: StoredRun, name: str) -> dict:
    counts = run.counts()
    where = [run.path.parts[-3]]
    if run.spec:
        where += [run.spec.split, run.spec.dataset_options, f"--limit {run.spec.limit}" if run.spec.limit else ""]
    return {
        "key": run.key,
        "name": name,
        "data": " ".join(filter(None, where)),
        "state": run.state,
        "done": sum(counts.values()),
        "failed": counts["failed"],
        "total": run.manifest.get("n_total"),
        "bytes": run.size,
        "folder": str(run.path),
    }


def _control(run: StoredRun) -> list[str]:
    return ["--control", run.spec.control] if run.spec and run.spec.control != "none" else []


def _text(value: object) -> str:
    return shlex.join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
