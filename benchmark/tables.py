"""Leaderboard rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gtg_bench.benchmark.leaderboard import Row
from gtg_bench.benchmark.metrics import METRICS

_ORDER = {"none": 0, "neutral-phrase": 1, "phrase-swap": 2, "image-swap": 3}


def comparison(rows: Sequence[Row], now: Sequence[Row], priors: Sequence[str]) -> Table:
    """The rows just computed (bold) beside what was measured on the same samples before.

    Args:
        rows: rows of the same samples and protocol.
        now: rows of this call.
        priors: names of the baselines, which come last.
    """
    first = now[0]
    options = f" {first['dataset_options']}" if first["dataset_options"] else ""
    title = f"{first['dataset']} v{first['dataset_version']}{options}, {first['split']} split"
    table = Table(title=title, caption="means over the ok samples; bold: this call", title_justify="left")
    for name in ("method", "weights", "sampling", "steps", "control", "ok"):
        table.add_column(name, justify="right" if name in ("steps", "ok") else "left")
    for name in METRICS:
        table.add_column(name, justify="right")
    keys = {row["run_key"] for row in now}
    for row in sorted(rows, key=lambda row: _rank(row, priors)):
        table.add_row(*_cells(row), style="bold" if row["run_key"] in keys else None)
    return table


def _rank(row: Row, priors: Sequence[str]) -> tuple:
    return row["method"] in priors, row["method"], row["sampling"], _ORDER.get(row["control"], 9), row["run_key"]


def _cells(row: Row) -> list[str]:
    control = "" if row["control"] == "none" else row["control"]
    ok = row["n_ok"] if row["n_ok"] == row["n_total"] else f"{row['n_ok']}/{row['n_total']}"
    weights = row["weights"] if row["sampling"] else ""
    values = [f"{float(row[name]):.3f}" if row.get(name) else "-" for name in METRICS]
    return [row["method"], weights, row["sampling"], row["steps"], control, ok, *values]
