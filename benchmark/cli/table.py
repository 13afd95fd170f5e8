"""`gtg-bench table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import LeaderboardsDir, ProtocolOption, RunsDir, choice, out, reports_errors
from gtg_bench.benchmark.scoring.protocols import RULES
from gtg_bench.benchmark.statistics import AVERAGES

if TYPE_CHECKING:
    from gtg_bench.benchmark.report.tables.document import Document

HELP = "Show a whole leaderboard, the paper's tables beside measured values, or any two columns as a table."
_NAMES = ("1", "2", "3", "4", "averages", "smoothing")
_FORMATS = ("csv", "markdown", "latex")
Source = tuple[Path, str, dict[str, str], str, bool]
"""Arguments of `selection.load`."""

_DEFINITION = ("protocol", "protocol_version", *RULES)


@reports_errors
def table(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[1|2|3|4|averages|smoothing]",
            help="A table of the paper, which average it prints, or each method at every smoothing that was scored. "
            "(default: the whole leaderboard)",
        ),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Leaderboard column, or category. Needs --columns.")] = None,
    columns: Annotated[str | None, typer.Option(help="Leaderboard column, category or metric. Needs --rows.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric; repeatable. (default: all, or with --rows miou and cnr, or the primary metric)"),
    ] = None,
    average: Annotated[
        str | None,
        choice(list(AVERAGES), "--average", help="Average over a data set. (default: the protocol's)"),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="Show one more run beside the paper's: METHOD[:SETTING=VALUE ...] or a run key; repeatable.",
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Data set of the leaderboard.")] = "phantom",
    protocol: ProtocolOption = "gtg",
    where: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only rows with this setting; repeatable.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="Use the results shipped with gtg-bench instead of your own.")
    ] = False,
    leaderboards_dir: LeaderboardsDir = Path("leaderboards"),
    runs_dir: RunsDir = Path("runs"),
    form: Annotated[
        list[str] | None,
        typer.Option("--format", metavar=f"[{'|'.join(_FORMATS)}]", help="Print, or write with --out; repeatable."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", help="Write to this folder, in all formats or those of --format, or file.")
    ] = None,
) -> None:
    """Show tables."""
    from gtg_bench.benchmark.report.tables.render import WRITERS, show, write

    if strange := [name for name in form or () if name not in _FORMATS]:
        raise UsageError(f"--format {strange[0]}: choose from {', '.join(_FORMATS)}")
    settings = {}
    for pair in where or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--where {pair!r} is not NAME=VALUE")
        settings[name] = value
    document = _document(
        what, rows, columns, metric, average, add or (), (leaderboards_dir, dataset, settings, protocol, reference)
    )
    document = _finished(document, runs_dir, dataset)
    if form and to is None:
        for name in form:
            typer.echo(WRITERS[name](document), nl=False)
        return
    show(document, out)
    for path in write(document, to, form or ()) if to else ():
        out.say(f"Written: {path}")


def paper_document(number: int, source: Source, runs_dir: Path) -> Document:
    """A table of the paper beside what was measured; `source` are the arguments of `selection.load`."""
    return _finished(_document(str(number), None, None, None, None, (), source), runs_dir, source[1])


def _finished(document: Document, runs_dir: Path, dataset: str) -> Document:
    """A document with marks of significance and numbers of patients."""
    from gtg_bench.benchmark.report.tables.document import with_patients
    from gtg_bench.benchmark.report.tables.marks import with_marks

    return with_patients(with_marks(document, runs_dir, dataset))


def _document(
    what: str | None,
    rows: str | None,
    columns: str | None,
    metric: list[str] | None,
    average: str | None,
    add: Sequence[str],
    source: Source,
) -> Document:
    """The table that was asked for; `source` are the arguments of `selection.load`."""
    from gtg_bench.benchmark.report.tables.paper_tables import averages, paper_table
    from gtg_bench.benchmark.report.tables.pivot import pivot
    from gtg_bench.benchmark.report.tables.run_table import board_document
    from gtg_bench.benchmark.report.tables.selection import load, with_quality
    from gtg_bench.benchmark.report.tables.smoothing_table import METRICS as SMOOTHED
    from gtg_bench.benchmark.report.tables.smoothing_table import smoothing_document

    folder, dataset, where, _, reference = source
    if what not in (None, *_NAMES):
        raise UsageError(f"unknown table {what!r}; choose from {', '.join(_NAMES)}")
    if (rows is None) != (columns is None) or (what and rows):
        raise UsageError("name a table of the paper, or both --rows and --columns")
    if add and what in (None, "averages", "smoothing"):
        raise UsageError("--add needs a table of the paper: `gtg-bench table 1` to `4`")
    if what == "averages":
        return averages()
    if what == "smoothing":
        return smoothing_document(*source, metrics=metric or SMOOTHED, average=average)
    if what is None and (rows is None or columns is None):
        return board_document(*source, metrics=metric or ())
    board = load(*source)
    if rows is not None and columns is not None:
        rules = board.rules
        usual: list[str] = [name for name in ("miou", "cnr") if name in rules.metrics]
        usual = usual if rules.primary in usual else [rules.primary, *usual]
        return pivot(board, rows, columns, metric or usual, average or rules.average)
    if metric:
        raise UsageError("--metric needs --rows and --columns: the paper's tables have their own metrics")
    twin = load(folder, dataset, {k: v for k, v in where.items() if k not in _DEFINITION}, "biovil", reference)
    if what == "4":
        board = with_quality(board, folder, reference)
    return paper_table(int(what or 0), board, average, twin, add)
