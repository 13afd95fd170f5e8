"""What `gtg-bench run` shows of its runs, and a whole leaderboard as a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence, Set
from pathlib import Path
from textwrap import wrap

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gtg_bench.benchmark.analysis.sensitivity import is_ceiling, is_prior
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import SETTINGS, of_phantom
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.leaderboard import Row, measured
from gtg_bench.benchmark.report.tables.document import HEADINGS, Block, Column, Document
from gtg_bench.benchmark.report.tables.document import Row as Line
from gtg_bench.benchmark.report.tables.render import drawn, table_width
from gtg_bench.benchmark.report.tables.selection import (
    AVERAGE_NAMES,
    BOXES_NOTE,
    PHANTOM_NOTE,
    by_samples,
    changed_rules,
    find_rows,
    measured_cell,
    of_boxes,
    samples_note,
    source_note,
    title_of,
)
from gtg_bench.benchmark.runs.labels import labels
from gtg_bench.benchmark.runs.lookup import read_run, specs_in
from gtg_bench.benchmark.runs.spec import COLUMNS
from gtg_bench.benchmark.scoring.controls import CONTROLS, applies
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, definition, find_protocol
from gtg_bench.benchmark.statistics import interval_note

LINES = 15
"""Most lines in the summary of a run."""

PLAIN = CONTROLS[0]
CONTEXT = ("ceiling", "prior")
"""Kinds of methods whose rows are shown beside runs."""


SAME = "same_samples_as"
"""Key of a row that is not a run: a plain run's means on the samples of the control with this name."""


def show_runs(rows: Sequence[Row], folder: Path, console: Console, runs_dir: Path | None = None) -> None:
    """Print runs with their controls, and ceiling and priors on the same samples: at most LINES lines, but every run.

    Controls, ceiling and priors are taken from the user's leaderboard, else from the shipped one. Below a control that
    does not apply to every sample is the plain run on the samples of the control, if its records are in `runs_dir`.
    Where they do not all fit, the hint at the whole leaderboard is left out first, then these rows, then controls of
    earlier calls, then priors and ceiling.

    Args:
        rows: leaderboard rows of the runs, of any data set and protocol; a table for each.
        folder: folder of the user's leaderboards.
        console: where to print.
        runs_dir: folder of the runs.
    """
    tables: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        where = (definition(row), *(row[name] for name in leaderboard.SAMPLES))
        tables.setdefault(where, []).append(row)
    for own in tables.values():
        keys = {row["run_key"] for row in own}
        shown, shipped = _with_context(own, folder)
        same = {} if runs_dir is None else _on_samples_of_controls(shown, runs_dir)
        context = sorted((row for row in shown if row["run_key"] not in keys), key=lambda row: row["control"] == PLAIN)
        left_out: set[str] = set()
        hint = True
        while True:
            kept = [row for row in shown if row["run_key"] not in left_out]
            kept = [each for row in kept for each in (row, same.get(row["run_key"])) if each is not None]
            table, caption = _summary(kept, keys, shipped, folder, console, hint)
            if not (context or same) or len(console.render_lines(table)) + len(caption) <= LINES:
                break
            if hint:
                hint = False
                continue
            if same:
                same = {}
                continue
            # controls are left out all together
            left_out |= {row["run_key"] for row in context if row["control"] != PLAIN} or {context[0]["run_key"]}
            context = [row for row in context if row["run_key"] not in left_out]
        title, *below = caption
        console.print(Text(title, style="bold"), soft_wrap=True)
        console.print(table)
        for line in below:
            console.print(Text(line), soft_wrap=True)


def _with_context(own: Sequence[Row], folder: Path) -> tuple[list[Row], set[str]]:
    """The ceiling, the runs, each with the same run under other controls, the priors; and the keys of shipped rows."""
    here, known = ({row["run_key"]: row for row in rows} for rows in (leaderboard.comparable(folder, own[0]), own))
    reference = {row["run_key"]: row for row in leaderboard.comparable(leaderboard.REFERENCE, own[0])}
    known = reference | here | known
    found: dict[str, Row] = {}
    for row in own:
        family = [other for other in known.values() if _without_control(other) == _without_control(row)]
        by_control = {other["control"]: other for other in [*family, row]}  # of one control the last: the user's
        found |= {other["run_key"]: other for other in sorted(by_control.values(), key=_control)}
    for entry in METHODS.entries():
        priors = [row for row in known.values() if row["method"] == entry.name and row["control"] == PLAIN]
        if entry.card.kind in CONTEXT and priors and all(row["method"] != entry.name for row in own):
            best = min(
                priors, key=lambda row: (row["run_key"] not in here, row["seed"] != own[0]["seed"], row["run_key"])
            )
            found[best["run_key"]] = best
    ordered = sorted(found.values(), key=lambda row: not is_ceiling(row["method"]))
    return ordered, found.keys() - here.keys() - {row["run_key"] for row in own}


def _on_samples_of_controls(rows: Sequence[Row], runs_dir: Path) -> dict[str, Row]:
    """Key of a control's run -> its plain run on the samples of the control, if they are fewer and it was run here."""
    specs = {spec.key: spec for spec in specs_in(runs_dir, rows[0]["dataset"])}
    plain = {tuple(_without_control(row)): row for row in rows if row["control"] == PLAIN}
    found = {}
    for row in rows:
        own = plain.get(tuple(_without_control(row)))
        if own is None or own["n_total"] == row["n_total"] or own["run_key"] not in specs:
            continue
        records = read_run(runs_dir, specs[own["run_key"]]).records
        kept = [record for record in records if applies(row["control"], record.phrase, record.category)]
        found[row["run_key"]] = own | measured(kept, find_protocol(own["protocol"])) | {SAME: row["control"]}
    return found


def _without_control(row: Row) -> list[str]:
    return [row.get(name) or "" for name in COLUMNS if name != "control"]


def _control(row: Row) -> int:
    return CONTROLS.index(row["control"]) if row["control"] in CONTROLS else len(CONTROLS)


def _summary(
    rows: Sequence[Row], own: Set[str], shipped: Set[str], folder: Path, console: Console, hint: bool
) -> tuple[Table, list[str]]:
    """The table, and the lines of its title and caption."""
    first, rules = rows[0], find_protocol(rows[0]["protocol"])
    metrics, width = list(rules.metrics), 0
    while True:  # leave out the last metrics but the primary one until the table fits
        block = _block(rows, metrics, own=own, shipped=shipped)
        bare = Block("", block.columns, tuple(Line("", line.cells) for line in block.rows), compact=True)
        width = table_width(drawn(bare))
        if width <= console.width or len(metrics) == 1:
            break
        metrics.remove([name for name in metrics if name != rules.primary][-1])
    block = _block(rows, metrics, own=own, shipped=shipped, label_width=max(18, console.width - width + 18))
    names = [f"{HEADINGS[name]} = {name}" for name in metrics if name in HEADINGS]
    marks = ["† shipped result"] if any(row["run_key"] in shipped for row in rows) else []
    marks += [BOXES_NOTE] if any(map(of_boxes, rows)) else []
    average = "" if rules.average == "overall" else f"{AVERAGE_NAMES[rules.average]} "
    patients = [int(row["n_patients"]) for row in rows if row.get("n_patients")]
    marks += [note] if patients and (note := interval_note(min(patients))) else []
    caption = wrap("; ".join([f"{average}± half-width of the 95 % CI", *marks, *names]), console.width)
    phantom = any(of_phantom(row["weights"]) for row in rows if row["run_key"] in own)
    title = title_of(first) + ("" if first["limit"] else f", {first['n_total']} samples")
    path = leaderboard.path_of(folder, first)
    fits = len(f"{title} ({path})") <= console.width
    title, caption = (f"{title} ({path})", caption) if fits else (title, [*caption, f"Leaderboard: {path}"])
    caption += [f"All rows: {_table_command(first, folder)}"] if hint else []
    return drawn(block), [title, *caption, *([PHANTOM_NOTE] if phantom else [])]


def _table_command(row: Row, folder: Path) -> str:
    """The command that shows the leaderboard of a row."""
    rules, words = find_protocol(row["protocol"]), ["gtg-bench", "table"]
    words += ["--dataset", row["dataset"]] if row["dataset"] != "phantom" else []
    words += ["--protocol", rules.name] if rules.name != PROTOCOL else []
    for name, text in changed_rules(row).items():
        words += ["--where", f"{name}={text}"]
    words += ["--leaderboards-dir", str(folder)] if folder != Path("leaderboards") else []
    return shlex.join(words)


def board_document(
    folder: Path, dataset: str, where: dict[str, str], protocol: str, reference: bool, metrics: Sequence[str] = ()
) -> Document:
    """All rows of a leaderboard, a block for each set of samples; see `selection.find_rows` for the arguments.

    Args:
        folder, dataset, where, protocol, reference: which leaderboard and rows.
        metrics: columns; empty for all of the protocol.
    """
    path, rows = find_rows(folder, dataset, where, protocol, reference)
    blocks, sets = [], by_samples(dataset, rows).values()
    for found in sets:
        found.sort(
            key=lambda row: (
                not is_ceiling(row["method"]),
                row["method"],
                [row.get(name) or "" for name in SETTINGS],
                _control(row),
            )
        )
        rules = find_protocol(found[0]["protocol"])
        counts = sorted({int(row["n_total"]) for row in found if row["control"] == PLAIN})
        samples = f"{counts[0]} samples, " if len(counts) == 1 and not found[0]["limit"] else ""
        title = f"{title_of(found[0])}: {samples}{AVERAGE_NAMES[rules.average]}"
        blocks.append(_block(found, metrics or rules.metrics, title))
    notes = [source_note(path)]
    ci = "95 % CI: ± half-width where the console is wide enough, limits with `--format csv`."
    notes += [f"Indented: the same run under a control. {ci}"] if rows else []
    short = dict.fromkeys(c.name for block in blocks for c in block.columns if c.name in HEADINGS)
    notes += [f"{', '.join(f'{HEADINGS[name]} = {name}' for name in short)}."] if short else []
    notes += list(dict.fromkeys(note for found in sets for note in samples_note(found)))
    notes += [f"{BOXES_NOTE}."] if any(map(of_boxes, rows)) else []
    notes += [PHANTOM_NOTE] if any(of_phantom(row["weights"]) for row in rows) else []
    notes += [] if rows else ["This leaderboard has no such rows; `gtg-bench run` makes them."]
    return Document(path.stem, f"Leaderboard of {dataset}", tuple(blocks), tuple(("", note) for note in notes))


def _block(
    rows: Sequence[Row],
    metrics: Sequence[str],
    title: str = "",
    own: Set[str] = frozenset(),
    shipped: Set[str] = frozenset(),
    label_width: int = 1000,
) -> Block:
    """Rows as a compact table; a control below its plain run has only the control's name.

    Args:
        rows: of the same samples and definition.
        metrics: columns.
        title: of the block.
        own: keys of rows in bold.
        shipped: keys of rows marked with a dagger.
        label_width: labels are wrapped between settings to this width.
    """
    average, total = find_protocol(rows[0]["protocol"]).average, rows[0]["n_total"]
    columns = [Column("", name, name, "", "measured", title_of(rows[0])) for name in metrics]
    lines: list[Line] = []
    before: list[str] = []
    budgets = {row["weights"] for row in rows if row.get("weights") and not is_prior(row["method"])}
    for row, label in zip(rows, labels(rows), strict=True):
        if len(budgets) > 1 and row["weights"] in budgets and f"weights {row['weights']}" not in label:
            label.insert(1, f"weights {row['weights']}")
        controlled, family = row["control"] != PLAIN, _without_control(row)
        items = [f"  {row['control']}"] if controlled and family == before else label
        items = ["  plain, same"] if SAME in row else items
        items += [f"control {row['control']}"] if controlled and family != before else []
        before = family
        marks = ("‡" if of_boxes(row) else "") + ("†" if row["run_key"] in shipped else "")
        items = [items[0] + marks, *items[1:]]
        items[-1] += f" n={row['n_ok']}" if row["n_ok"] != total else ""
        cells = tuple(measured_cell(row, name, average) for name in metrics)
        lines.append(Line(_wrapped(items, label_width), cells, bold=row["run_key"] in own))
    return Block(title, tuple(columns), tuple(lines), compact=True)


def _wrapped(items: Sequence[str], width: int) -> str:
    """Items joined by commas, with line breaks between them only."""
    lines = [items[0]]
    for item in items[1:]:
        if len(lines[-1]) + len(item) + 2 <= width:
            lines[-1] += f", {item}"
        else:
            lines.append(f"  {item}")
    return "\n".join(lines)
