"""`gtg-bench weights ...`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.filesize import decimal
from rich.markup import escape

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli.common import Plugins, load_plugins, out, reports_errors

if TYPE_CHECKING:
    from gtg_bench.methods.weights.check import PartReport, Report, Source

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
app = typer.Typer(no_args_is_help=True)


@app.command("list")
@reports_errors
def list_(as_json: AsJson = False, plugin: Plugins = None) -> None:
    """List the packaged and published weights of every method, and which are on this machine."""
    from gtg_bench.methods.weights.check import sources

    load_plugins(plugin)
    found = sources()
    if as_json:
        typer.echo(json.dumps(list(map(dataclasses.asdict, found)), indent=1))
    else:
        _print_sources(found)


@app.command("check")
@reports_errors
def check(
    method: Annotated[str | None, typer.Argument(help="Method to check; default: all packaged weights.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="phantom, paper, a folder or a YAML file; default: phantom.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Check that the weights of a method are complete and fit together, and show how to download what is missing.

    The exit code is 1 if the method cannot run with them.
    """
    from gtg_bench.methods.weights.check import check

    load_plugins(plugin)
    if method is None:
        _check_all(weights, as_json)
        return
    report = check(method, weights)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=1))
    else:
        _print_report(report)
    if not report.ready:
        raise typer.Exit(1)


def _check_all(weights: str | None, as_json: bool) -> None:
    """Every method; only damaged packaged weights count as an error."""
    from gtg_bench.methods.weights.check import damaged, sources

    if weights is not None:
        raise UsageError("--weights needs a method: gtg-bench weights check METHOD --weights NAME")
    found, problems = sources(), damaged()
    if as_json:
        typer.echo(json.dumps({"weights": list(map(dataclasses.asdict, found)), "damaged": problems}, indent=1))
    else:
        _print_sources(found)
        _lines(problems or ["All packaged weights match the sha256 sums on their cards."])
    if problems:
        raise typer.Exit(1)


def _print_sources(sources: list[Source]) -> None:
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("method", "weights", "status", "size", "licence"):
        table.add_column(column, no_wrap=column != "licence", justify="right" if column == "size" else "left")
    for row in sources:
        size = "" if row.size is None else decimal(row.size) + ("+" if row.more else "")
        table.add_row(row.method, row.weights, row.state, size, row.licence.replace("; ", "\n"))
    out.print(table)
    _lines(
        [
            "not published: the authors have not released every part; size counts the parts that are published.",
            "A + marks parts of unknown size. Details: gtg-bench weights check METHOD --weights paper",
        ]
    )


def _print_report(report: Report) -> None:
    if report.weights is None:
        _lines([f"{report.method}: {report.note}"])
        return
    _lines([f"{report.method}, --weights {report.weights}"])
    out.print(_parts_table(report.parts))
    for part in report.parts:
        below = [part.problem, part.licence and f"licence: {part.licence}", part.note]
        _lines([f"{part.part}: {part.where or part.place or part.state}", *(f"  {text}" for text in below if text)])
    _lines(f"{'ok' if row.ok else 'FAILED'}: {row.check}: {row.detail}" for row in report.checks)
    _lines(report.problems)
    if commands := [part.fetch for part in report.parts if part.fetch]:
        _lines(["To download what is missing, run:", *(f"  {command}" for command in commands)])
    if report.yaml:
        head = "To use your own weights, fill in this template, save it, and pass it as --weights FILE.yaml:"
        _lines([head, report.yaml.rstrip()])
    _lines([report.note] if report.note else [])
    _lines([f"Ready to run (weights version {report.version})." if report.ready else "Not ready to run."])


def _parts_table(parts: list[PartReport]) -> Any:
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("part", "status", "files", "size", "revision", "sha256"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("files", "size") else "left")
    for part in parts:
        files, size = str(part.files) if part.files else "", "" if part.size is None else decimal(part.size)
        table.add_row(part.part, part.state, files, size, (part.revision or "")[:12], part.sha256)
    return table


def _lines(texts: Iterable[str]) -> None:
    for text in texts:
        out.print(escape(text), soft_wrap=True, highlight=False)
