"""Leaderboard rows as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gtg_bench.benchmark.api.choices import DEFAULTS
from gtg_bench.benchmark.leaderboard import Row
from gtg_bench.benchmark.metrics import GTG
from gtg_bench.benchmark.spec import FRAMES, UNCOVERED

_ORDER = {"none": 0, "neutral-phrase": 1, "phrase-swap": 2, "image-swap": 3}
_HEADINGS = {"specificity": "spec."}
_TOLD_APART_BY = (
    *("weights", "layers", "steps", "last_steps", "guidance", "latent", "tokens", "lexicon", "bbm", "profile"),
    *("precision", "seed"),
)


def comparison(rows: Sequence[Row], now: Sequence[Row], priors: Sequence[str]) -> Table:
    """The rows just computed (bold) beside what was measured on the same samples before.

    Args:
        rows: rows of the same samples and protocol.
        now: rows of this call.
        priors: names of the baselines, which come last.
    """
    first = now[0]
    options = f" {first['dataset_options']}" if first["dataset_options"] else ""
    limit = f", first {first['limit']} samples" if first["limit"] else ""
    frame = f", {first['frame']} frame" if first["frame"] != FRAMES[0] else ""
    rule = ", uncovered pixels excluded" if first["uncovered"] != UNCOVERED[0] else ""
    title = f"{first['dataset']} v{first['dataset_version']}{options}, {first['split']} split{limit}{frame}{rule}"
    caption = (
        "Means over the ok samples; bold: this call; spec.: specificity; indented: the same run under a control; "
        "95 % bounds are in the CSV."
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("method", overflow="fold")
    for name in ("ok", *GTG):
        table.add_column(_HEADINGS.get(name, name), justify="right", no_wrap=True)
    keys = {row["run_key"] for row in now}
    before = ""
    for row in sorted(rows, key=lambda row: _rank(row, priors)):
        name = _name(row, rows)
        control = row["control"]
        label = name if control == "none" else f"  {control}" if name == before else f"{name} {control}"
        before = name
        table.add_row(label, *_cells(row), style="bold" if row["run_key"] in keys else None)
    return table


def _rank(row: Row, priors: Sequence[str]) -> tuple:
    settings = [row.get(name) or "" for name in _TOLD_APART_BY]
    return row["method"] in priors, row["method"], row["sampling"], settings, _ORDER.get(row["control"], 9)


def _name(row: Row, rows: Sequence[Row]) -> str:
    """Method and sampling mode, and those settings that are not as usual among the rows of the same method and mode."""
    alike = [other for other in rows if (other["method"], other["sampling"]) == (row["method"], row["sampling"])]
    settings = [f"{name} {row[name]}" for name in _TOLD_APART_BY if row.get(name) and row[name] != _usual(name, alike)]
    return " ".join(filter(None, [row["method"], row["sampling"], ", ".join(settings)]))


def _usual(name: str, rows: Sequence[Row]) -> str:
    """A setting's default; where each model has its own, what most rows have."""
    values = [row[name] for row in rows if row.get(name)]
    return DEFAULTS.get(name) or Counter(values).most_common(1)[0][0]


def _cells(row: Row) -> list[str]:
    ok = row["n_ok"] if row["n_ok"] == row["n_total"] else f"{row['n_ok']}/{row['n_total']}"
    return [ok, *(f"{float(row[name]):.3f}" if row.get(name) else "-" for name in GTG)]
