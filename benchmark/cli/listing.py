"""`gtg-bench list`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.cli.common import AsJson, Plugins, load_plugins, out, reports_errors
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS, RULES

HELP = "List methods, data sets, sampling modes, metrics and protocols."
Row = dict[str, str]

_MEANINGS = {
    "text": "start from Gaussian noise, conditioned on the phrase",
    "cfg": "start from Gaussian noise, with classifier-free guidance",
    "gt1-cfg": "noise the image for the first step only, then classifier-free guidance",
    "gt-cfg": "noise the image anew for every step",
}


class Kind(StrEnum):
    """What can be listed."""

    methods = "methods"
    datasets = "datasets"
    samplings = "samplings"
    metrics = "metrics"
    protocols = "protocols"


_TITLES = {Kind.datasets: "data sets", Kind.samplings: "sampling modes"}
_COLUMNS = {
    Kind.methods: ("name", "kind", "summary"),
    Kind.samplings: ("name", "meaning"),
    Kind.metrics: ("name", "best", "meaning"),
}
"""What tables show; data sets and protocols are printed with all that is known about them."""


@reports_errors
def list_(
    what: Annotated[Kind | None, typer.Argument(help="List one kind in full. (default: a summary of all)")] = None,
    cards: Annotated[bool, typer.Option("--cards", help="Print where methods and their weights come from.")] = False,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """List names."""
    load_plugins(plugin)
    if cards and what not in (None, Kind.methods):
        raise UsageError(f"--cards is about methods; leave out {what}")
    what = Kind.methods if cards else what
    found = {kind: _ROWS[kind]() for kind in ([what] if what else Kind)}
    if as_json:
        typer.echo(json.dumps(found[what] if what else found, indent=1))
    elif what is None:
        _print_summary(found)
    elif cards or what not in _COLUMNS:
        _print_records(found[what])
    else:
        _print_table(found[what], _COLUMNS[what])


def _print_summary(found: dict[Kind, list[Row]]) -> None:
    """One line per name."""
    for kind, rows in found.items():
        out.print(_TITLES.get(kind, kind), style="bold")
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            summary = re.split(r"; | \(", row.get("summary") or row["meaning"])[0]
            line = f"  {row['name']:<{width}}  {summary}"
            out.print(line, no_wrap=True, overflow="ellipsis", markup=False, highlight=False)
    out.print("Details: `gtg-bench list methods`, `list methods --cards`, `list metrics`, ...", highlight=False)


def _print_table(rows: list[Row], columns: tuple[str, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=name != columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    out.print(table)


def _print_records(rows: list[Row]) -> None:
    """Each name with all its values."""
    from rich.padding import Padding
    from rich.text import Text

    for row in rows:
        out.print(Text(row["name"], style="bold"))
        for name, value in row.items():
            if value and name != "name":
                out.print(Padding(Text(f"{name}: {value}"), (0, 0, 0, 2), expand=False))


def _methods() -> list[Row]:
    rows = []
    for name in METHODS.names():
        try:
            entry = METHODS.get(name)
        except UsageError as error:
            rows.append({"name": name, "kind": "broken", "summary": str(error)})
            continue
        facts = {field.replace("_", " "): value for field, value in asdict(entry.card).items()}
        rows.append({"name": name, "kind": entry.card.kind, "samplings": " ".join(entry.samplings)} | facts)
    return rows


def _datasets() -> list[Row]:
    return [
        {"name": name, "splits": " ".join(entry.splits), "options": entry.options, "summary": entry.summary}
        | {"terms": entry.terms}
        for name, entry in DATASETS.items()
    ]


def _samplings() -> list[Row]:
    ready = {mode for entry in METHODS.entries() for mode in entry.samplings}
    return [
        {"name": name, "meaning": _MEANINGS[name], "state": "ready" if name in ready else "no method"}
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
            **{part: getattr(one, part) for part in RULES},
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
