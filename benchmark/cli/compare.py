"""`gtg-bench compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import AsJson, OnlyDataset, RunsDir, choice, out, reports_errors
from gtg_bench.benchmark.statistics import AVERAGES

HELP = "Compare runs sample by sample: differences with 95 % CI and p-value, controls and priors."


@reports_errors
def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Run key, or METHOD[:SETTING=VALUE ...]; a name with several seeds means their mean."
        ),
    ],
    b: Annotated[list[str], typer.Argument(metavar="B...", help="Runs to subtract from A; every difference is A - B.")],
    metric: Annotated[list[str] | None, typer.Option(help="Metric; repeatable. (default: the protocol's)")] = None,
    average: Annotated[
        str | None,
        choice(list(AVERAGES), "--average", help="Average over all samples. (default: the protocol's)"),
    ] = None,
    by_category: Annotated[bool, typer.Option("--by-category", help="Also compare within each category.")] = False,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METRIC=]VALUE",
            help="Largest difference that does not matter, for a test of equivalence (90 % CI within it); repeatable.",
        ),
    ] = None,
    context: Annotated[
        bool, typer.Option("--context/--bare", help="Also compare with controls and with the priors.")
    ] = True,
    dataset: OnlyDataset = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Compare runs."""
    from gtg_bench.benchmark.analysis.comparison import make
    from gtg_bench.benchmark.report.tables.analysis_tables import show

    report = make(runs_dir, [a, *b], metric, average, dataset, context, by_category, _margins(margin))
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1))
    else:
        show(report, out)


def _margins(given: list[str] | None) -> dict[str, float]:
    """Metric, or ALL, -> margin."""
    from gtg_bench.benchmark.analysis.compare import ALL

    found = {}
    for text in given or ():
        name, _, value = text.rpartition("=")
        try:
            found[name or ALL] = float(value)
        except ValueError:
            raise UsageError(f"--margin {text!r} is not a number or METRIC=NUMBER") from None
    return found
