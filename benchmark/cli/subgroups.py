"""`gtg-bench subgroups`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.cli.common import AsJson, OnlyDataset, RunsDir, out, reports_errors

HELP = "Show results by region size, boxes, side, phrase length, category, view, sex or age."


@reports_errors
def subgroups(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run keys, or METHOD[:SETTING=VALUE ...]; differences are A - run."),
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[size|boxes|side|length|category|...]",
            help="Also view, sex, age; repeatable. (default: all known)",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric; repeatable. (default: the protocol's primary metric)")
    ] = None,
    dataset: OnlyDataset = None,
    runs_dir: RunsDir = Path("runs"),
    to: Annotated[Path | None, typer.Option("--csv", help="Also write the rows to this CSV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show results by subgroup."""
    from gtg_bench.benchmark.analysis.seeds import find_method
    from gtg_bench.benchmark.analysis.subgroups import BY, as_rows, known_groups
    from gtg_bench.benchmark.analysis.subgroups import subgroups as split_by
    from gtg_bench.benchmark.report.tables.analysis_tables import show_subgroups, write_subgroups

    if strange := [name for name in by or () if name not in BY]:
        raise UsageError(unknown("subgroup", strange[0], BY))
    first = find_method(runs_dir, runs[0], dataset)
    others = list(dict.fromkeys(runs))[1:]
    chosen = [first, *(find_method(runs_dir, name, dataset, first.spec) for name in others)]
    found = split_by(chosen, by or known_groups(first.records), metric)
    if to is not None:
        write_subgroups(found, chosen, to)
    if as_json:
        typer.echo(json.dumps(as_rows(found, chosen), indent=1))
        return
    show_subgroups(found, chosen, out)
    if to is not None:
        out.say(f"Written: {to}")
