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
    Device,
    Plugins,
    choice,
    err,
    key_values,
    load_plugins,
    out,
    reports_errors,
)

HELP = """Check before a run that everything it needs is in place.

Covers installed packages, data, weights, device, disk and memory. The exit code is 1 if the run would fail.
"""
_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@reports_errors
def doctor(
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Method to run; repeatable; default: cxrbert-ldm.")
    ] = None,
    sampling: Annotated[str, choice(SAMPLINGS, "--sampling", help="As for `run`.")] = "gt-cfg",
    dataset: Annotated[str, typer.Option(help="Data set; see `data list`.")] = "phantom",
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Data set option; repeatable.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    device: Device = "auto",
    weights: Annotated[str | None, typer.Option(help="As for `run`.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="Folder for records and maps.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
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
        dataset=dataset,
        data_root=data_root,
        options=key_values(dataset_option),
        split=split,
        device=device,
        batch_size=batch_size,
        runs_dir=runs_dir,
    )
    with counting(err, "checking images", silent=as_json) as count:
        found = examine(plan, check, count)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        title = f"{', '.join(plan.methods)} on {dataset}, {split} split"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("check", "result", "details"):
            table.add_column(column, overflow="fold")
        for line in found.lines:
            table.add_row(line.name, f"[{_COLOURS[line.state]}]{line.state}[/]", escape(line.text))
        out.print(table)
    if not found.fine:
        raise typer.Exit(1)
