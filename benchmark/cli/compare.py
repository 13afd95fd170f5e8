"""`gtg-bench compare`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.cli.common import out, reports_errors

HELP = "Compare runs sample by sample: difference, bounds over patients, p-value, controls, priors, and words."


class Kind(StrEnum):
    """How categories weigh."""

    overall = "overall"
    macro = "macro"
    frequency2 = "frequency2"


@reports_errors
def compare(
    ours: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A run's key, or METHOD[:SETTING=VALUE ...]; several seeds are one method, their mean."
        ),
    ],
    theirs: Annotated[list[str], typer.Argument(metavar="B...", help="One or more; a gain of A over B is positive.")],
    metric: Annotated[list[str] | None, typer.Option(help="Repeatable; default: those of the protocol.")] = None,
    average: Annotated[
        Kind | None, typer.Option(help="How categories weigh in the row of all samples; default: the protocol's.")
    ] = None,
    by_category: Annotated[bool, typer.Option("--by-category", help="A row for every category, too.")] = False,
    beside: Annotated[
        bool, typer.Option("--beside/--bare", help="Controls of the runs, and the priors on the same samples.")
    ] = True,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this data set.")] = None,
    runs_dir: Annotated[Path, typer.Option(help="Where records are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Compare runs."""
    from gtg_bench.benchmark.analysis.comparison import make
    from gtg_bench.benchmark.report.comparison_tables import show

    report = make(runs_dir, [ours, *theirs], metric, average and str(average), dataset, beside)
    if as_json:
        typer.echo(json.dumps(report.as_json(by_category), indent=1))
    else:
        show(report, by_category, out)
