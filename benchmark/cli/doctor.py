"""`gtg-bench doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape

from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.cli.common import (
    AsJson,
    Device,
    Plugins,
    RunsDir,
    choice,
    err,
    load_plugins,
    out,
    reports_errors,
)
from gtg_bench.benchmark.cli.groups import DataOptions, takes_groups

HELP = """Check before a run that everything it needs is in place.

Covers installed packages, data, weights, device, disk and memory. The exit code is 1 if the run would fail.
"""
_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@reports_errors
@takes_groups
def doctor(
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Method to run; repeatable; default: cxrbert-ldm.")
    ] = None,
    sampling: Annotated[str, choice(SAMPLINGS, "--sampling", help="As for `run`.")] = "gt-cfg",
    data: DataOptions = DataOptions(),
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    device: Device = "auto",
    weights: Annotated[str | None, typer.Option(help="As for `run`.")] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Check everything that a run needs."""
    from rich.table import Table

    from gtg_bench.benchmark.report.terminal import counting
    from gtg_bench.benchmark.runs.doctor import Plan, examine
    from gtg_bench.methods.weights.check import check

    load_plugins(plugin)
    plan = Plan(
        methods=tuple(dict.fromkeys(method or Plan.methods)),
        weights=weights,
        sampling=sampling,
        **data.request,
        device=device,
        batch_size=batch_size,
        runs_dir=runs_dir,
    )
    with counting(err, "checking images", silent=as_json) as count:
        found = examine(plan, check, count)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        title = f"{', '.join(plan.methods)} on {data.dataset}, {data.split} split"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("check", "result", "details"):
            table.add_column(column, overflow="fold")
        for line in found.lines:
            table.add_row(line.name, f"[{_COLOURS[line.state]}]{line.state}[/]", escape(line.text))
        out.print(table)
    if not found.fine:
        raise typer.Exit(1)
