"""`gtg-bench doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
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

HELP = "Say whether a run would get through: data, weights, disk, memory, versions, device. Exit code 1: it would not."
_COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@reports_errors
def doctor(
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Repeatable; default: the main job's.")
    ] = None,
    sampling: Annotated[str, choice(SAMPLINGS, "--sampling", help="As for `run`.")] = "gt-cfg",
    dataset: Annotated[str, typer.Option(help="See `data list`.")] = "phantom",
    split: Annotated[str, typer.Option(help="Which samples.")] = "test",
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data set's annotations and images.")] = None,
    dataset_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="As for `run`.")] = 16,
    device: Device = "auto",
    weights: Annotated[str | None, typer.Option(help="As for `run`.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the run would keep records and maps.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    plugin: Plugins = None,
) -> None:
    """Look at everything that a run needs."""
    from rich.progress import Progress
    from rich.table import Table

    from gtg_bench.benchmark.runs.doctor import Plan, examine

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
    with Progress(console=err, transient=True, disable=as_json) as bar:
        task = bar.add_task("looking at images", total=None)
        found = examine(plan, lambda k, n: bar.update(task, completed=k, total=n))
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        table = Table(title=f"{' '.join(plan.methods)} on {dataset}, {split} split", title_justify="left")
        for column in ("check", "result", "what"):
            table.add_column(column, overflow="fold")
        for line in found.lines:
            table.add_row(line.name, f"[{_COLOURS[line.state]}]{line.state}[/]", escape(line.text))
        out.print(table)
    if not found.fine:
        raise typer.Exit(1)
