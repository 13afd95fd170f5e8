"""Leaderboard rows as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gtg_bench.benchmark.api.settings import DEFAULTS, PHANTOM, SETTINGS, of_phantom
from gtg_bench.benchmark.report.leaderboard import RANK_GROUP, SUFFIXES, Row
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, PROTOCOLS, Protocol, definition

_HEADINGS = {
    "phrase_discrimination": "spec.",
    "coverage": "cover",
    "box_iou_full": "box",
    "box_iou": "box",
    "box_miou": "mbox",
    "distance": "dist.",
    "miou_thresholds": "miou-t",
    "miou_thresholds_minmax": "miou-mm",
    "cnr_abs": "|cnr|",
}
"""Columns under a shorter name; what it stands for is said below the table."""

_MANY = 7
"""Columns from which on they move together, so that a terminal of 80 characters has room for names."""

_LEAST_WIDTH = 16
_AVERAGES = {
    "overall": "Means over the ok samples",
    "macro": "Macro averages over categories of the ok samples",
    "frequency2": "Averages over the ok samples in which a category weighs its squared count",
}
_TOLD_APART_BY = tuple(name for name in SETTINGS if name not in ("method", "sampling"))


def nearest(rows: Sequence[Row], now: Sequence[Row], priors: Sequence[str]) -> list[Row]:
    """Those rows that a person wants to see beside the ones just computed; a leaderboard may hold hundreds.

    They are the baselines, everything that was run with the same methods and weights, and of every other method one row
    with the usual choices: that of the weights `phantom` where there is one.

    Args:
        rows: rows of the same samples and definition, those of this call among them.
        now: rows of this call.
        priors: names of the baselines.
    """
    models = {(row["method"], row.get("weights_version")) for row in now}
    kept = [row for row in rows if row["method"] in priors or (row["method"], row.get("weights_version")) in models]
    known, others = {row["method"] for row in kept}, dict[str, list[Row]]()
    for row in rows:
        if row["method"] not in known and row["control"] == CONTROLS[0] and _plain(row):
            others.setdefault(row["method"], []).append(row)
    return kept + [min(found, key=lambda row: (row["weights"], row["layers"] == "all")) for found in others.values()]


def _plain(row: Row) -> bool:
    return all(row.get(name) in ("", None, usual) for name, usual in DEFAULTS.items())


def comparison(rows: Sequence[Row], now: Sequence[Row], priors: Sequence[str]) -> Table:
    """The rows just computed (bold) beside what was measured on the same samples before.

    Args:
        rows: rows of the same samples and definition.
        now: rows of this call.
        priors: names of the baselines, which come last.
    """
    first = now[0]
    options = f" {first['dataset_options']}" if first["dataset_options"] else ""
    limit = f", first {first['limit']} samples" if first["limit"] else ""
    rules = PROTOCOLS[first["protocol"]]
    title = f"{first['dataset']} v{first['dataset_version']}{options}, {first['split']} split{limit}{_named(first)}"
    ranked = any(row.get(RANK_GROUP) for row in rows)
    caption = _caption(rules, ranked)
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.padding = 0 if len(rules.metrics) > _MANY else (0, 1, 0, 0)
    table.add_column("method", overflow="fold", min_width=_LEAST_WIDTH)
    for name in ("ok", *(["rank"] if ranked else []), *rules.metrics):
        table.add_column(_HEADINGS.get(name, name), justify="right", no_wrap=True)
    keys = {row["run_key"] for row in now}
    before = ""
    for row in sorted(rows, key=lambda row: _rank(row, priors)):
        name = _name(row, rows)
        control = row["control"]
        label = name if control == "none" else f"  {control}" if name == before else f"{name} {control}"
        before = name
        table.add_row(label, *_cells(row, rules, ranked), style="bold" if row["run_key"] in keys else None)
    return table


def _named(row: Row) -> str:
    """The definition of the numbers, unless it is the usual one."""
    found = definition(row)
    return "" if found == PROTOCOL else f", protocol {found}"


def _caption(rules: Protocol, ranked: bool) -> str:
    short = [f"{_HEADINGS[name]}: {name}" for name in rules.metrics if name in _HEADINGS]
    short += [f"rank: who shares one cannot be told apart from its best by {rules.primary}"] if ranked else []
    told = [_AVERAGES[rules.average], "bold: this call", *short, "indented: the same run under a control"]
    return "; ".join(told) + "; 95 % bounds and other averages are in the CSV."


def _rank(row: Row, priors: Sequence[str]) -> tuple:
    settings = [row.get(name) or "" for name in _TOLD_APART_BY]
    control = CONTROLS.index(row["control"]) if row["control"] in CONTROLS else len(CONTROLS)
    return row["method"] in priors, row["method"], row["sampling"], settings, control


def _name(row: Row, rows: Sequence[Row]) -> str:
    """Method and sampling mode, and those settings that are not as usual among the rows of the same method and mode."""
    alike = [other for other in rows if (other["method"], other["sampling"]) == (row["method"], row["sampling"])]
    settings = [f"{name} {row[name]}" for name in _TOLD_APART_BY if row.get(name) and row[name] != _usual(name, alike)]
    return " ".join(filter(None, [row["method"], row["sampling"], ", ".join(settings)]))


def _usual(name: str, rows: Sequence[Row]) -> str:
    """A setting's default; where each model has its own, what most rows have."""
    values = [row[name] for row in rows if row.get(name)]
    if name == "weights" and all(map(of_phantom, values)):
        return PHANTOM
    return DEFAULTS.get(name) or Counter(values).most_common(1)[0][0]


def _cells(row: Row, rules: Protocol, ranked: bool) -> list[str]:
    ok = row["n_ok"] if row["n_ok"] == row["n_total"] else f"{row['n_ok']}/{row['n_total']}"
    values = [row.get(name + SUFFIXES[rules.average]) for name in rules.metrics]
    rank = [row.get(RANK_GROUP) or ""] if ranked else []
    return [ok, *rank, *(f"{float(value):.3f}" if value else "-" for value in values)]
