"""`gtg-bench list`."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import StrEnum
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.cli.common import Plugins, load_plugins, out, reports_errors
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS

HELP = "List methods, data sets, sampling modes, metrics and protocols."
Row = dict[str, str]
_SHOWN = {"methods": ("name", "kind", "summary")}
"""What a table has room for; the rest is in the cards and in the JSON."""


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    datasets = "datasets"
    samplings = "samplings"
    metrics = "metrics"
    protocols = "protocols"


@reports_errors
def list_(
    what: Annotated[Kind | None, typer.Argument(help="Leave it out for all.")] = None,
    cards: Annotated[
        bool, typer.Option("--cards", help="Methods with all that is known of where they come from.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    plugin: Plugins = None,
) -> None:
    """List what there is."""
    load_plugins(plugin)
    found = {kind.value: _ROWS[kind]() for kind in ([what] if what else Kind)}
    if as_json:
        typer.echo(json.dumps(found[what.value] if what else found, indent=1))
        return
    for title, rows in found.items():
        if title == Kind.protocols or (cards and title == Kind.methods):
            _print_cards(title, rows)
        else:
            _print(title, [{name: row[name] for name in _SHOWN.get(title, row)} for row in rows])


def _print_cards(title: str, rows: list[Row]) -> None:
    out.print(title, style="italic")
    for row in rows:
        out.print(f"[bold]{row['name']}[/bold]")
        for name, text in row.items():
            if text and name != "name":
                out.print(f"  {name}: {text}", markup=False, highlight=False)


def _print(title: str, rows: list[Row]) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    out.print(table)


def _methods() -> list[Row]:
    rows = []
    for name in METHODS.names():
        try:
            entry = METHODS.get(name)
        except UsageError as error:
            rows.append({"name": name, "kind": "broken", "summary": str(error)})
            continue
        facts = {field.name.replace("_", " "): str(getattr(entry.card, field.name)) for field in fields(entry.card)}
        rows.append({"name": name, "kind": entry.card.kind, "samplings": " ".join(entry.samplings)} | facts)
    return rows


def _datasets() -> list[Row]:
    return [
        {"name": name, "splits": " ".join(entry.splits), "options": entry.options, "summary": entry.summary}
        | {"terms": entry.terms}
        for name, entry in DATASETS.items()
    ]


def _samplings() -> list[Row]:
    built = {mode for entry in METHODS.entries() for mode in entry.samplings}
    meaning = {
        "text": "from Gaussian noise, conditioned on the phrase",
        "cfg": "from Gaussian noise, with classifier-free guidance",
        "gt1-cfg": "the noised image in the first step only, then with guidance",
        "gt-cfg": "the freshly noised image in every step",
    }
    return [
        {"name": name, "meaning": meaning[name], "state": "ready" if name in built else "not built yet"}
        for name in SAMPLINGS
    ]


def _metrics() -> list[Row]:
    return [
        {
            "name": name,
            "meaning": metric.summary,
            "best": "highest" if metric.higher_is_better else "lowest",
            "protocols": " ".join(protocol.name for protocol in PROTOCOLS.values() if name in protocol.metrics),
        }
        for name, metric in METRICS.items()
    ]


def _protocols() -> list[Row]:
    return [
        {
            "name": one.name,
            "summary": one.summary,
            "columns": " ".join(one.metrics),
            "average": one.average,
            "primary": one.primary,
            "frame": one.frame,
            "uncovered": one.uncovered,
            "mask": one.mask,
            "version": str(one.version),
            "notes": " ".join(one.notes),
        }
        for one in PROTOCOLS.values()
    ]


_ROWS = {
    Kind.methods: _methods,
    Kind.datasets: _datasets,
    Kind.samplings: _samplings,
    Kind.metrics: _metrics,
    Kind.protocols: _protocols,
}
