"""`gtg-bench compare`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import out, reports_errors

HELP = "Compare two runs sample by sample: difference, bounds over patients, p-value, and a sentence in words."


_LEGEND = (
    "Bounds: bootstrap over patients. p: sign flips of patients, Holm-corrected over a metric's rows, its categories "
    "included. effect: mean difference over its deviation. w/t/l: samples won, tied, lost by A."
)


class Kind(StrEnum):
    """How categories weigh."""

    overall = "overall"
    macro = "macro"
    frequency2 = "frequency2"


@reports_errors
def compare(
    ours: Annotated[str, typer.Argument(metavar="A", help="A run's key, or METHOD[:SETTING=VALUE ...].")],
    theirs: Annotated[str, typer.Argument(metavar="B", help="The same; a gain of A over B is positive.")],
    metric: Annotated[list[str] | None, typer.Option(help="Repeatable; default: those of the protocol.")] = None,
    average: Annotated[Kind, typer.Option(help="How categories weigh in the row of all samples.")] = Kind.overall,
    by_category: Annotated[bool, typer.Option("--by-category", help="A row for every category, too.")] = False,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this data set.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where records are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Compare two runs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from gtg_bench.benchmark.compare import ALL, compare_runs, find_run, in_words
    from gtg_bench.benchmark.metrics import GTG

    one, other = find_run(runs_dir, ours, dataset), find_run(runs_dir, theirs, dataset)
    lines = compare_runs(one, other, metric or GTG, str(average))
    labels = (one.name, other.name) if one.name != other.name else (f"{one.name} {ours}", f"{other.name} {theirs}")
    lines = [line for line in lines if by_category or line.category == ALL]
    if as_json:
        typer.echo(json.dumps([line.as_json() for line in lines], indent=1))
        return
    table = Table(title=f"A: {labels[0]}\nB: {labels[1]}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("metric", "A", "B", "A - B", "95 % bounds", "p", "effect", "w/t/l"):
        table.add_column(heading, justify="left" if heading == "metric" else "right", no_wrap=heading != "metric")
    for line in lines:
        found, name = line.found, line.metric if line.category == ALL else f"  {line.category}"
        values = [_number(value) for value in (found.ours, found.theirs, found.difference)]
        bounds = f"{_number(found.low)} {_number(found.high)}"
        p = "-" if line.p_value is None else f"{line.p_value:.2g}"
        table.add_row(name, *values, bounds, p, _number(found.effect_size), f"{found.wins}/{found.ties}/{found.losses}")
    out.print(table)
    for line in lines:
        out.print(in_words(line, *labels), soft_wrap=True, highlight=False)
    out.print(_LEGEND, highlight=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
