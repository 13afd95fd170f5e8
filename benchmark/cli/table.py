"""`gtg-bench table`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import ProtocolOption, out, reports_errors

if TYPE_CHECKING:
    from gtg_bench.benchmark.report.model import Document
    from gtg_bench.benchmark.scoring.protocols import Protocol

HELP = "Show the paper's tables beside what is measured here, or any two columns of a leaderboard as a table."


class What(StrEnum):
    """Tables that have a name."""

    one = "1"
    two = "2"
    three = "3"
    four = "4"
    averages = "averages"


class Format(StrEnum):
    """Forms of a table."""

    csv = "csv"
    markdown = "markdown"
    latex = "latex"


class Average(StrEnum):
    """Averages over a data set."""

    overall = "overall"
    macro = "macro"
    frequency2 = "frequency2"


@reports_errors
def table(
    what: Annotated[
        What | None,
        typer.Argument(help="A table of the paper, or: which average it prints. Else --rows and --columns."),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="A leaderboard column, or category.")] = None,
    columns: Annotated[str | None, typer.Option(help="A leaderboard column, category or metric.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="With --rows; repeatable; default: miou, cnr, or the protocol's primary."),
    ] = None,
    average: Annotated[
        Average | None,
        typer.Option(
            help="Over samples, over categories, or a category by its count squared; default: the protocol's."
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Whose leaderboard.")] = "phantom",
    protocol: ProtocolOption = "gtg",
    where: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only rows with this setting; repeatable.")
    ] = None,
    leaderboards_dir: Annotated[Path, typer.Option(help="Where the CSV files are.")] = Path("leaderboards"),
    form: Annotated[
        list[Format] | None, typer.Option("--format", help="Print, or with --out write, this form; repeatable.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="A folder, for all forms or those of --format; or a file.")
    ] = None,
) -> None:
    """Show tables."""
    from gtg_bench.benchmark.report.formats import WRITERS, write
    from gtg_bench.benchmark.report.terminal import show

    document = _document(what, rows, columns, metric, average, dataset, where, leaderboards_dir, protocol)
    if form and to is None:
        for name in form:
            typer.echo(WRITERS[name](document), nl=False)
        return
    show(document, out)
    for path in write(document, to, form or ()) if to else ():
        out.print(f"Written: {path}", soft_wrap=True, highlight=False)


def _document(
    what: What | None,
    rows: str | None,
    columns: str | None,
    metric: list[str] | None,
    average: Average | None,
    dataset: str,
    where: list[str] | None,
    folder: Path,
    protocol: str,
) -> Document:
    from gtg_bench.benchmark.report.averages import averages
    from gtg_bench.benchmark.report.measured import load
    from gtg_bench.benchmark.report.paper_tables import paper_table
    from gtg_bench.benchmark.report.pivot import pivot

    if (what is None) == (rows is None and columns is None):
        raise UsageError("name a table (1, 2, 3, 4 or averages), or both --rows and --columns")
    if what == What.averages:
        return averages()
    board = load(folder, dataset, _settings(where), protocol)
    if what is not None:
        if metric:
            raise UsageError("--metric belongs to --rows and --columns: the paper's tables have theirs")
        twin = load(folder, dataset, {k: v for k, v in board.where.items() if k not in _DEFINED}, "biovil")
        return paper_table(int(what), board, average, twin)
    if rows is None or columns is None:
        raise UsageError("--rows and --columns belong together")
    return pivot(board, rows, columns, metric or _usual_metrics(board.rules), average or board.rules.average)


_DEFINED = ("protocol", "protocol_version", "frame", "uncovered", "mask")
"""What a protocol says, so that it does not belong to another one's rows."""


def _usual_metrics(rules: Protocol) -> list[str]:
    """What a protocol ranks by, and the paper's two where it has them."""
    shown: list[str] = [name for name in ("miou", "cnr") if name in rules.metrics]
    return shown if rules.primary in shown else [rules.primary, *shown]


def _settings(pairs: list[str] | None) -> dict[str, str]:
    """NAME=VALUE options as a dictionary; the value may hold further equals signs."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--where {pair!r} is not NAME=VALUE")
        found[name] = value
    return found
