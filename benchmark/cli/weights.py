"""`gtg-bench weights ...`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object
from gtg_bench.benchmark.cli.common import Plugins, load_plugins, out, reports_errors

REPORT = "gtg_bench.methods.weights.report"
"""Where the weights are looked at; resolved by name, so this room depends on no method."""

AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]
app = typer.Typer(no_args_is_help=True)


@app.command("list")
@reports_errors
def list_(as_json: AsJson = False, plugin: Plugins = None) -> None:
    """List the weights of every method: packaged and published ones, and what of them is here."""
    load_plugins(plugin)
    sources = load_object(f"{REPORT}:sources")()
    if as_json:
        _print_json(sources)
    else:
        _print_sources(sources)


@app.command("check")
@reports_errors
def check(
    method: Annotated[str | None, typer.Argument(help="Leave it out for a summary of all.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="phantom, paper, a folder or a YAML file; default: phantom.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Say of each part where it lies, or how to fetch it, and whether the parts fit. Exit code 1: it cannot run."""
    load_plugins(plugin)
    if method is None:
        _check_all(weights, as_json)
        return
    report = load_object(f"{REPORT}:check")(method, weights)
    if as_json:
        _print_json(report)
    else:
        _print_report(report)
    if not report.ready:
        raise typer.Exit(1)


def _check_all(weights: str | None, as_json: bool) -> None:
    """All methods; only packaged weights that are damaged are an error."""
    if weights is not None:
        raise UsageError("--weights belongs to one method: gtg-bench weights check METHOD --weights ...")
    sources, damaged = load_object(f"{REPORT}:sources")(), load_object(f"{REPORT}:damaged")()
    if as_json:
        typer.echo(json.dumps({"weights": list(map(dataclasses.asdict, sources)), "damaged": damaged}, indent=1))
    else:
        _print_sources(sources)
        _lines(damaged or ["The packaged weights are whole: every file is the one that its card names."])
    if damaged:
        raise typer.Exit(1)


def _print_json(found: Any) -> None:
    plain = [dataclasses.asdict(row) for row in found] if isinstance(found, list) else dataclasses.asdict(found)
    typer.echo(json.dumps(plain, indent=1))


def _print_sources(sources: list[Any]) -> None:
    from rich.table import Table

    table = Table(title="weights", title_justify="left")
    for column in ("method", "weights", "state", "size", "licence"):
        table.add_column(column, no_wrap=column != "licence", overflow="fold")
    for row in sources:
        table.add_row(row.method, row.weights, row.state, _size(row.size) + (" +" if row.more else ""), row.licence)
    out.print(table)
    out.print("More: gtg-bench weights check METHOD [--weights paper]", highlight=False)


def _print_report(report: Any) -> None:
    _lines([f"{report.method}, weights {report.weights}" if report.weights else f"{report.method}: {report.note}"])
    if report.parts:
        out.print(_parts_table(report.parts))
        for part in report.parts:
            _lines(_about(part))
    _lines(f"{'ok' if row.ok else 'NOT OK'}: {row.check}: {row.detail}" for row in report.checks)
    _lines(report.problems)
    if commands := [part.fetch for part in report.parts if part.fetch]:
        _lines(["To fetch what is missing, where there is a network:", *(f"  {command}" for command in commands)])
    if report.yaml:
        _lines(
            ["To use your own, fill in FOLDER here and name the file with --weights FILE.yaml:", report.yaml.rstrip()]
        )
    if report.weights:
        _lines([report.note] if report.note else [])
        _lines([f"ready, version {report.version}" if report.ready else "not ready"])


def _about(part: Any) -> list[str]:
    """What the table has no room for."""
    place = part.where or part.place
    head = f"{part.part}: {place or part.state}"
    below = [part.problem, part.licence and f"licence: {part.licence}", part.note]
    return [head, *(f"  {text}" for text in below if text)]


def _parts_table(parts: list[Any]) -> Any:
    from rich.table import Table

    table = Table()
    for column in ("part", "state", "files", "size", "revision", "sha256"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for part in parts:
        files = str(part.files) if part.files else ""
        table.add_row(part.part, part.state, files, _size(part.size), (part.revision or "")[:12], part.sha256)
    return table


def _lines(texts: Any) -> None:
    for text in texts:
        out.print(escape(text), soft_wrap=True, highlight=False)


def _size(count: int | None) -> str:
    """Bytes as people say them, in powers of ten as the hub does."""
    if count is None:
        return ""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
