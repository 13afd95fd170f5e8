"""Which leaderboard rows may share a table, and which run fills a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.settings import BOXES, DEFAULTS, DERIVED, SETTINGS, of_phantom
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.metrics.named_masks import rule_of
from gtg_bench.benchmark.report import leaderboard, quality_board
from gtg_bench.benchmark.report.leaderboard import Row
from gtg_bench.benchmark.report.quality_board import FIDS, comparable, of_weights
from gtg_bench.benchmark.report.tables.document import NOTHING, Cell
from gtg_bench.benchmark.report.tables.quality_table import quality_cell
from gtg_bench.benchmark.runs.spec import COLUMNS
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, RULES, Protocol, find_protocol
from gtg_bench.benchmark.statistics import over_runs

AVERAGE_NAMES = {
    "overall": "means over samples",
    "macro": "macro means over categories",
    "frequency2": "frequency-squared means",
}
"""Average over a data set -> its name in a title."""

SAMPLES = ("dataset_options", "limit", "split", "frame", "uncovered", "protocol", "dataset_version")
"""Rows that differ in one of these were measured on other samples or by other rules: never in one table."""

BOXES_NOTE = "‡ answers with boxes: mask metrics are of their union, top1 of the best box's centre"
PHANTOM_NOTE = "Phantom weights are not published models and not a diagnostic tool."

_OF_THE_PAPER = (PROTOCOL, f"{PROTOCOL}-released")
_SETUP = tuple(name for name in SETTINGS if name not in ("method", "seed"))


def value(row: Row, name: str) -> str:
    """A setting of a row, "" if it has none."""
    return row.get(name) or ""


@dataclass(frozen=True)
class Board:
    """The comparable part of one leaderboard."""

    dataset: str
    """Name of the data set."""
    title: str
    """Data set, version and split in words."""
    whole: bool
    """Every split, no limit, option or control, by the paper's rules."""
    rows: tuple[Row, ...]
    """Overall rows, with every control and setting."""
    parts: tuple[Row, ...]
    """Rows by category of the same runs."""
    where: Mapping[str, str]
    """What the user asked for."""
    rules: Protocol
    """Protocol of all rows."""
    notes: tuple[str, ...] = ()
    """What a reader should know about the choice of rows."""
    quality: tuple[Row, ...] = ()
    """Rows of quality.csv: what generated images of the methods scored."""
    weights: str = ""
    """Preferred weights if a method was run with several, see `with_shared_weights`; "" for no preference."""

    def with_shared_weights(self, cells: Sequence[Mapping[str, str]]) -> Board:
        """A copy that prefers the weights that fill most of a table's cells, so that training budgets match.

        Of several the first by name. Where images of some weights were measured, only these count.
        """
        rows = [self.fitting(wanted) for wanted in cells]
        if any(self.fids(row) for found in rows for row in found):
            rows = [[row for row in found if self.fids(row)] for found in rows]
        labels = [{value(row, "weights") for row in found} for found in rows]
        known = sorted(set().union(*labels) - {""})
        return replace(self, weights=max(known, key=lambda name: sum(name in found for found in labels), default=""))

    def runs(self, wanted: Mapping[str, str]) -> list[Row]:
        """The run with the wanted settings, or its repetitions with other seeds; empty if no run fits.

        Of several setups it takes the one with default choices, then the one with the preferred weights, then the one
        that most rows of the method have; of rows that differ only in their key, the last.
        """
        found = self.fitting(wanted)
        if not found:
            return []
        setups = list(dict.fromkeys(map(_setup, found)))
        chosen = min(setups, key=lambda setup: self._rank(found[0], setup))
        return list({value(row, "seed"): row for row in found if _setup(row) == chosen}.values())

    def named(self, name: str) -> dict[str, str]:
        """The settings that a name stands for, to be passed to `runs`.

        Args:
            name: a run's key, or METHOD[:SETTING=VALUE ...].

        Raises:
            UsageError: no row has them.
        """
        if not self.rows:
            raise UsageError(f"--add {name}: {' '.join(self.notes)}")
        if any(row["run_key"] == name for row in self.rows):
            return {"run_key": name}
        method, *pairs = name.split(":")
        settings = {"method": method} | {key: text for key, _, text in (pair.partition("=") for pair in pairs)}
        methods = dict.fromkeys(row["method"] for row in self.rows)
        if method not in methods:
            raise UsageError(f"{self.title}: " + unknown("method", method, methods))
        if strange := [key for key in settings if key not in COLUMNS]:
            raise UsageError(f"{name}: " + unknown("leaderboard column", strange[0], COLUMNS))
        if not self.fitting(settings):
            raise UsageError(f"{self.title}: no run of {method} has {', '.join(pairs)}; `gtg-bench table` lists them")
        return settings

    def cell(self, runs: Sequence[Row], metric: str, average: str, category: str | None = None) -> Cell:
        """A metric's mean over the samples of a category, or of all; over runs too if there are several.

        Args:
            runs: as returned by `runs`.
            metric: name of a column.
            average: over all samples, a name in `leaderboard.SUFFIXES`.
            category: as the data set spells it; None takes the overall row.
        """
        if metric in FIDS:
            return self.fids(runs[0]).get(metric, NOTHING) if runs else NOTHING
        rows = list(runs)
        if category is not None:
            keys = {row["run_key"] for row in runs}
            rows = [row for row in self.parts if row["run_key"] in keys and row["category"] == category]
        cells = [cell for row in rows if (cell := measured_cell(row, metric, average, category)) is not NOTHING]
        if len(cells) < 2:
            return cells[0] if cells else NOTHING
        found = over_runs([float(cell.exact) for cell in cells])  # runs that differ only in the seed
        return replace(
            cells[0],
            shown=f"{found.mean:.3f}",
            exact=f"{found.mean:.5f}",
            spread=f"{found.deviation:.3f}",
            low="",
            high="",
            n=f"{found.n} runs",
            run_key=" ".join(cell.run_key for cell in cells),
        )

    def fids(self, run: Row) -> dict[str, Cell]:
        """The FIDs of images that a run's method generated with the same weights, by metric."""
        found = {name: of_weights(comparable(self.quality, features), run) for name, features in FIDS.items()}
        return {name: quality_cell(row, "fid") for name, row in found.items() if row}

    def shown(self, name: str) -> list[Row]:
        """The rows without a control, unless the control is what distinguishes them."""
        free = name == "control" or "control" in self.where
        return [row for row in self.rows if free or value(row, "control") == CONTROLS[0]]

    def fitting(self, wanted: Mapping[str, str]) -> list[Row]:
        """All rows that have the wanted settings, without a control unless the user asked for one."""
        control = {} if "control" in self.where else {"control": CONTROLS[0]}
        return [row for row in self.rows if all(value(row, k) == v for k, v in (control | dict(wanted)).items())]

    def _rank(self, like: Row, setup: tuple[str, ...]) -> tuple[int, bool, int]:
        """Smallest first: settings that are not the default, other weights, rows of the method with this setup."""
        named = dict(zip(_SETUP, setup, strict=True))
        unusual = sum(named[name] not in ("", usual) for name, usual in DEFAULTS.items())
        free = {"sampling", "tokens", "bbm"}
        kept = [i for i, name in enumerate(_SETUP) if name not in free]
        rows = [_setup(row) for row in self.rows if row["method"] == like["method"]]
        frequency = sum(all(row[i] == setup[i] for i in kept) for row in rows)
        return unusual, bool(self.weights) and named["weights"] != self.weights, -frequency


def measured_cell(row: Row, metric: str, average: str, category: str | None = None) -> Cell:
    """A metric of one row with its 95 % CI and count; rows of a category have no other average than the mean."""
    average = average if category is None else "overall"
    name = metric + leaderboard.SUFFIXES[average]
    if not row.get(name):
        return NOTHING
    return Cell(
        shown=f"{float(row[name]):.3f}",
        exact=row[name],
        low=value(row, f"{name}_low"),
        high=value(row, f"{name}_high"),
        n=value(row, f"n_{metric}") or row["n_ok"],
        n_patients=value(row, "n_patients"),
        run_key=row["run_key"],
        method=row["method"],
        weights=value(row, "weights"),
        category=category,
        average=average,
    )


def find_rows(
    folder: Path, dataset: str, where: Mapping[str, str], protocol: str, reference: bool = False
) -> tuple[Path, list[Row]]:
    """A leaderboard's file and its rows with the wanted settings; the shipped one if the user's has no such row.

    Args:
        folder: folder of the CSV files.
        dataset: name of the data set.
        where: column -> value that rows must have.
        protocol: name of the protocol, unless `where` has it. RULES are the protocol's own unless
            `where` has them.
        reference: read the shipped results only.

    Raises:
        UsageError: an unknown data set, protocol or column.
        DataError: the file is not a leaderboard.
    """
    if strange := [name for name in where if name not in COLUMNS]:
        raise UsageError(unknown("leaderboard column", strange[0], COLUMNS))
    rules = find_protocol(where.get("protocol", protocol))
    described = {"dataset": dataset, "protocol": rules.name, "protocol_version": str(rules.version)}
    described |= {name: where.get(name, getattr(rules, name)) for name in RULES}
    path, shipped = (leaderboard.path_of(each, described) for each in (folder, leaderboard.REFERENCE))
    if not path.exists() and dataset not in DATASETS:
        raise UsageError(unknown("data set", dataset, DATASETS))
    for each in [shipped] if reference else [path, shipped]:
        if rows := [row for row in leaderboard.read(each) if _has(row, where)]:
            return each, rows
    return (shipped if reference else path), []


def _has(row: Row, where: Mapping[str, str]) -> bool:
    """Whether a row has what the user asked for; "best" stands for values chosen on a validation split."""
    return all(value(row, k) == v or (k in RULES and rule_of(value(row, k)) == v) for k, v in where.items())


def load(
    folder: Path, dataset: str, where: Mapping[str, str], protocol: str = PROTOCOL, reference: bool = False
) -> Board:
    """The rows of a leaderboard measured on the same samples by the same rules; see `find_rows`.

    Of several sets of samples it takes the one with default options, without a limit, of the default split.
    """
    rules = find_protocol(where.get("protocol", protocol))
    path, rows = find_rows(folder, dataset, where, protocol, reference)
    if not rows:
        asked = " with " + ", ".join(f"{k}={v}" for k, v in where.items()) if where else ""
        return Board(dataset, dataset, False, (), (), where, rules, (f"{path} has no rows{asked}.",))
    sets = by_samples(dataset, rows)
    samples, rows = next(iter(sets.items()))
    keys = {row["run_key"] for row in rows}
    parts = [row for row in leaderboard.read(leaderboard.categories_of(path)) if row["run_key"] in keys]
    title, control = title_of(rows[0]), where.get("control", CONTROLS[0])
    title += f", control {control}" if control != CONTROLS[0] else ""
    own = all(where.get(name, getattr(rules, name)) == getattr(rules, name) for name in RULES)
    whole = samples[:3] == ("", "", "all") and own and control == CONTROLS[0] and rules.name in _OF_THE_PAPER
    return Board(dataset, title, whole, tuple(rows), tuple(parts), where, rules, (source_note(path),))


def with_quality(board: Board, folder: Path, reference: bool = False) -> Board:
    """The board with the rows of the folder's quality.csv, else the shipped ones; `reference`: these only."""
    for path in (
        [leaderboard.REFERENCE / quality_board.NAME]
        if reference
        else [
            folder / quality_board.NAME,
            leaderboard.REFERENCE / quality_board.NAME,
        ]
    ):
        if rows := quality_board.read(path):
            shipped = path.parent == leaderboard.REFERENCE
            source = "results shipped with gtg-bench (reference/quality.csv)" if shipped else path
            return replace(board, quality=tuple(rows), notes=(*board.notes, f"FIDs measured here: {source}."))
    return board


def source_note(path: Path) -> str:
    """Which file the measured values come from."""
    if path.parent.resolve() == leaderboard.REFERENCE.resolve():
        return f"Measured values: results shipped with gtg-bench ({path.parent.name}/{path.name})."
    shipped = leaderboard.REFERENCE / path.name
    more = "; `--reference` shows the shipped results" if shipped.exists() else ""
    return f"Measured values: {path}{more}."


def by_samples(dataset: str, rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by the samples that they were measured on, named by SAMPLES; the preferred ones first.

    Preferred are default options, no limit, the default split, then the newest version.
    """
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(value(row, name) for name in SAMPLES), []).append(row)
    splits = ["all", "test"] if dataset == "ms-cxr" else ["test", "all"]

    def preference(samples: tuple[str, ...]) -> tuple:
        options, limit, split, *_, version = samples
        place = splits.index(split) if split in splits else len(splits)
        return options != "", limit != "", place, [-int(part) for part in re.findall(r"\d+", version)], samples

    return {samples: found[samples] for samples in sorted(found, key=preference)}


def of_boxes(row: Row) -> bool:
    """Whether a method answered with boxes: from a file, or so that no metric of the map is defined for any sample."""
    metrics = [name for name in find_protocol(row["protocol"]).metrics if METRICS[name].of_map]
    always = [name for name in metrics if not METRICS[name].partial]
    undefined = bool(always) and row["n_ok"] != "0" and not any(row.get(name) for name in always)
    return undefined or row["weights"] == BOXES


def title_of(row: Row) -> str:
    """Data set, version, options, split, limit and definition of a row in words."""
    rules = find_protocol(row["protocol"])
    parts = [f"{row['dataset']} v{row['dataset_version']} {row['dataset_options']}".strip(), f"{row['split']} split"]
    parts += [f"first {row['limit']} samples"] if row["limit"] else []
    parts += [f"protocol {rules.name}"] if rules.name != PROTOCOL else []
    return ", ".join([*parts, *(f"{name} {text}" for name, text in changed_rules(row).items())])


def changed_rules(row: Row) -> dict[str, str]:
    """RULES of a row where they are not the protocol's own."""
    rules = find_protocol(row["protocol"])
    return {name: rule_of(row[name]) for name in RULES if row[name] != getattr(rules, name)}


def same_samples(board: Board, other: Board) -> bool:
    """Whether two boards, of any protocols, were measured on the same samples."""
    names = [name for name in SAMPLES if name not in ("frame", "uncovered", "protocol")]
    found = [[value(one.rows[0], name) for name in names] for one in (board, other) if one.rows]
    return len(found) == 2 and found[0] == found[1]


def settings_notes(board: Board, wanted: Sequence[Mapping[str, str]]) -> list[str]:
    """Sentences about the settings of the runs shown, and about runs that would fit too."""
    cells = [board.runs(settings) for settings in wanted]
    shown = [row for rows in cells for row in rows]
    if not shown:
        return []
    found: dict[str, list[Row]] = {}
    for row in shown:
        found.setdefault(row["method"], []).append(row)
    notes = [f"Measured runs: {', '.join(f'{name} ({_settings(rows)})' for name, rows in found.items())}."]
    seeds = {(runs[0]["method"], tuple(sorted(value(row, "seed") for row in runs))) for runs in cells if len(runs) > 1}
    repeated = sorted(f"{method} over {len(each)} seeds ({', '.join(each)})" for method, each in seeds)
    notes += [f"Mean and standard deviation over runs, not a CI: {'; '.join(repeated)}."] if repeated else []
    notes += samples_note(shown)
    notes += [PHANTOM_NOTE] if any(of_phantom(value(row, "weights")) for row in shown) else []
    others: dict[str, dict[str, None]] = {}
    for settings, runs in zip(wanted, cells, strict=True):
        for row in board.fitting(settings):
            apart = [name for name in _SETUP if name not in DERIVED and value(row, name) != value(runs[0], name)]
            others.setdefault(row["method"], {}).update(dict.fromkeys(apart))
    return notes + [
        f"{method} was also run with other {', '.join(names)}: `gtg-bench table` lists the runs, `--where NAME=VALUE` "
        "chooses one."
        for method, names in others.items()
        if names
    ]


def samples_note(rows: Sequence[Row]) -> list[str]:
    """A sentence if rows are means over different samples, such as a control that only some phrases allow."""
    counts = sorted({int(row["n_ok"]) for row in rows})
    if len(counts) < 2:
        return []
    return [
        f"Not all rows are means over the same samples (n = {counts[0]} to {counts[-1]}): `gtg-bench compare` compares "
        "runs on the samples that both have."
    ]


def _settings(rows: Sequence[Row]) -> str:
    """The settings of a method's runs that are not defaults, and how many samples were scored if not all."""
    found = {}
    for name in (*_SETUP, "seed"):
        if name not in (*DERIVED, "sampling", "tokens", "bbm"):
            values = dict.fromkeys(value(row, name) for row in rows)
            found[name] = [one for one in values if one and one != DEFAULTS.get(name)]
    counts = dict.fromkeys(
        f"{row['n_ok']} of {row['n_total']} samples" for row in rows if row["n_ok"] != row["n_total"]
    )
    return "; ".join([*(f"{name} {' or '.join(values)}" for name, values in found.items() if values), *counts])


def _setup(row: Row) -> tuple[str, ...]:
    return tuple(value(row, name) for name in _SETUP)
