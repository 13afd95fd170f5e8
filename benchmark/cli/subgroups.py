"""`gtg-bench subgroups`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import out, reports_errors

HELP = "Show results by size of the region, number of boxes, side, length of the phrase or category."


class By(StrEnum):
    """What samples are told apart by."""

    size = "size"
    boxes = "boxes"
    side = "side"
    length = "length"
    category = "category"


@reports_errors
def subgroups(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Keys, or METHOD[:SETTING=VALUE ...]; compared with the first."),
    ],
    by: Annotated[list[By] | None, typer.Option(help="Repeatable; default: all of them.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Repeatable; default: the protocol's primary one.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this data set.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where records are kept.")] = Path("runs"),
    to: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show results by subgroup."""
    from gtg_bench.benchmark.analysis.seeds import find_method
    from gtg_bench.benchmark.analysis.subgroups import as_rows
    from gtg_bench.benchmark.analysis.subgroups import subgroups as split_by
    from gtg_bench.benchmark.report.subgroups import show, write_csv

    first = find_method(runs_dir, runs[0], dataset)
    others = list(dict.fromkeys(runs))[1:]
    chosen = [first, *(find_method(runs_dir, name, dataset, first.spec) for name in others)]
    found = split_by(chosen, [str(each) for each in by or By], metric)
    if to is not None:
        write_csv(found, chosen, to)
    if as_json:
        typer.echo(json.dumps(as_rows(found, chosen), indent=1))
        return
    show(found, chosen, out)
    if to is not None:
        out.print(f"Written: {to}", soft_wrap=True, highlight=False)
