"""What a leaderboard has measured: the rows that may stand in one table, and which run fills a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gtg_bench.benchmark.api.choices import BBM, LATENTS, PRECISIONS, PROFILES, SAMPLINGS, TOKENS, of_phantom
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.metrics.named_masks import rule_of
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.report.leaderboard import Row
from gtg_bench.benchmark.report.model import NOTHING, Cell
from gtg_bench.benchmark.runs.spec import COLUMNS
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOL, UNCOVERED, Protocol, definition, find_protocol
from gtg_bench.benchmark.statistics import over_runs

AVERAGES = {"overall": "", "macro": "_macro", "frequency2": "_freq2"}
"""Average over a data set -> what its column is called after the metric."""

AVERAGE_NAMES = {
    "overall": "means over samples",
    "macro": "macro means over categories",
    "frequency2": "frequency-squared means",
}
"""The same in words."""

SAMPLES = ("dataset_options", "limit", "split", "frame", "uncovered", "protocol", "dataset_version")
"""Rows that differ in one of these were measured on other samples, or otherwise: never in one table."""

_USUAL = {
    "sampling": SAMPLINGS[-1],
    "tokens": TOKENS[0],
    "bbm": BBM[0],
    "latent": LATENTS[0],
    "profile": PROFILES[0],
    "precision": PRECISIONS[0],
}
_DEFINITION = ("frame", "uncovered", "mask")
_OF_THE_PAPER = (PROTOCOL, f"{PROTOCOL}-released")
_NO_SETUP = (*SAMPLES, "mask", "protocol_version", "dataset", "method", "control", "seed")
_SETUP = tuple(name for name in COLUMNS if name not in _NO_SETUP)
_TOLD = ("weights", "layers", "steps", "last_steps", "guidance", "profile", "precision", "seed")
_WHERE_EMPTY = {"control": CONTROLS[0], "frame": FRAMES[0], "uncovered": UNCOVERED[0], "protocol": PROTOCOL}
"""What older rows, without such a column, were measured with."""

_PHANTOM = "Weights `phantom` were trained on the phantom alone: not a published model, not a diagnostic tool."


def value(row: Row, name: str) -> str:
    """A setting of a row, "" where it has none."""
    return row.get(name) or _WHERE_EMPTY.get(name, "")


@dataclass(frozen=True)
class Board:
    """The comparable part of one leaderboard.

    Attributes:
        dataset: its name.
        title: data set, version and split in words.
        whole: every split, no limit, no option and no control, in the paper's frame and by its rules.
        rows: overall rows, every control and setting.
        parts: rows by category, of the same runs.
        where: what the user asked for.
        rules: the protocol of all rows.
        notes: what a reader should know of the choice.
        weights: taken where a method was run with several, see `with_shared_weights`; "" has no preference.
    """

    dataset: str
    title: str
    whole: bool
    rows: tuple[Row, ...]
    parts: tuple[Row, ...]
    where: Mapping[str, str]
    rules: Protocol
    notes: tuple[str, ...] = ()
    weights: str = ""

    def with_shared_weights(self, cells: Sequence[Mapping[str, str]]) -> Board:
        """The same, with a preference for the weights that fill most of a table's cells.

        So methods that were trained at one cost stand in one table, if there are such. Of several the first by name.
        """
        labels = [{value(row, "weights") for row in self._fitting(wanted)} for wanted in cells]
        known = sorted(set().union(*labels) - {""})
        return replace(self, weights=max(known, key=lambda name: sum(name in found for found in labels), default=""))

    def runs(self, wanted: Mapping[str, str]) -> list[Row]:
        """The run that has the wanted settings, or its repetitions with other seeds; none where there is none.

        Among several setups the one with the usual choices is taken, then the one with the preferred weights, then the
        one that most rows of the method have;
        among rows alike in all but their key, the last.
        """
        found = self._fitting(wanted)
        if not found:
            return []
        setups = list(dict.fromkeys(map(_setup, found)))
        chosen = min(setups, key=lambda setup: self._rank(found[0], setup))
        return list({value(row, "seed"): row for row in found if _setup(row) == chosen}.values())

    def passed_over(self, wanted: Mapping[str, str]) -> list[Row]:
        """Runs that have the wanted settings too and are not the chosen ones."""
        chosen = {row["run_key"] for row in self.runs(wanted)}
        return [row for row in self._fitting(wanted) if row["run_key"] not in chosen]

    def cell(self, runs: Sequence[Row], metric: str, category: str | None = None, suffix: str = "") -> Cell:
        """A metric's mean over the samples of a category, or of all; over runs too where there are several.

        Args:
            runs: as `runs` gives them.
            metric: a column's name.
            category: as the data set spells it; None takes the overall row.
            suffix: one of AVERAGES' values.
        """
        keys = {row["run_key"] for row in runs}
        rows = (
            runs if category is None else [r for r in self.parts if r["run_key"] in keys and r["category"] == category]
        )
        rows = [row for row in rows if row.get(metric + suffix)]
        if not rows:
            return NOTHING
        return _one(rows[0], metric, suffix) if len(rows) == 1 else _several(rows, metric, suffix)

    def shown(self, name: str) -> list[Row]:
        """The rows without a control, unless it is the control that tells them apart."""
        free = name == "control" or "control" in self.where
        return [row for row in self.rows if free or value(row, "control") == CONTROLS[0]]

    def _fitting(self, wanted: Mapping[str, str]) -> list[Row]:
        control = {} if "control" in self.where else {"control": CONTROLS[0]}
        return [row for row in self.rows if all(value(row, k) == v for k, v in (control | dict(wanted)).items())]

    def _rank(self, like: Row, setup: tuple[str, ...]) -> tuple[int, bool, int]:
        other = setup[_SETUP.index("weights")] != self.weights
        return _unusual(setup), bool(self.weights) and other, -self._frequency(like, setup)

    def _frequency(self, like: Row, setup: tuple[str, ...]) -> int:
        """How many rows of the method share the setup, whatever was sampled, averaged or merged."""
        free = {"sampling", "tokens", "bbm"}
        kept = [i for i, name in enumerate(_SETUP) if name not in free]
        rows = [_setup(row) for row in self.rows if row["method"] == like["method"]]
        return sum(all(row[i] == setup[i] for i in kept) for row in rows)


def load(folder: Path, dataset: str, where: Mapping[str, str], protocol: str = PROTOCOL) -> Board:
    """The rows of a data set's leaderboard that were measured on the same samples in the same way.

    Args:
        folder: of the CSV files.
        dataset: a name, as the files are called.
        where: column -> value, what rows must have; the usual values are preferred for the rest.
        protocol: which numbers, unless `where` says it. Frame, uncovered and mask are the protocol's own but where
            `where` says otherwise.

    Raises:
        UsageError: a data set, protocol or column that there is not.
        DataError: a file that is no leaderboard.
    """
    if strange := [name for name in where if name not in COLUMNS]:
        raise UsageError(unknown("leaderboard column", strange[0], COLUMNS))
    rules = find_protocol(where.get("protocol", protocol))
    described = {"dataset": dataset, "protocol": rules.name, "protocol_version": str(rules.version)}
    described |= {name: where.get(name, getattr(rules, name)) for name in _DEFINITION}
    path = leaderboard.path_of(folder, described)
    if not path.exists() and dataset not in DATASETS:
        raise UsageError(unknown("data set", dataset, DATASETS))
    rows = [row for row in leaderboard.read(path) if definition(row) == definition(described) and _has(row, where)]
    if not rows:
        asked = " with " + ", ".join(f"{k}={v}" for k, v in where.items()) if where else ""
        note = f"Nothing is measured{asked}: no such row in {path}."
        return Board(dataset, dataset, False, (), (), where, rules, (note,))
    samples = min({_samples(row) for row in rows}, key=lambda found: _preference(dataset, found))
    rows = [row for row in rows if _samples(row) == samples]
    keys = {row["run_key"] for row in rows}
    parts = [row for row in leaderboard.read(leaderboard.categories_of(path)) if row["run_key"] in keys]
    control = where.get("control", CONTROLS[0])
    unusual = [f"{name} {described[name]}" for name in _DEFINITION if described[name] != getattr(rules, name)]
    named = [f"protocol {rules.name}"] if rules.name != PROTOCOL else []
    title = _title(dataset, samples, [*named, *unusual]) + (f", control {control}" if control != CONTROLS[0] else "")
    whole = _whole(samples) and control == CONTROLS[0] and not unusual and rules.name in _OF_THE_PAPER
    return Board(dataset, title, whole, tuple(rows), tuple(parts), where, rules)


def same_samples(board: Board, other: Board) -> bool:
    """Whether two boards, of whatever protocols, were measured on the same samples."""
    names = [name for name in SAMPLES if name not in ("frame", "uncovered", "protocol")]
    found = [[value(one.rows[0], name) for name in names] for one in (board, other) if one.rows]
    return len(found) == 2 and found[0] == found[1]


def _has(row: Row, where: Mapping[str, str]) -> bool:
    """Whether a row has what the user asked for; thresholds that were chosen on a validation split are "best"."""
    return all(value(row, k) == v or (k == "mask" and rule_of(value(row, k)) == v) for k, v in where.items())


def _one(row: Row, metric: str, suffix: str) -> Cell:
    name = metric + suffix
    low, high = (f"{float(bound):.3f}" if bound else "" for bound in (row.get(f"{name}_low"), row.get(f"{name}_high")))
    n = row.get(f"n_{metric}") or row["n_ok"]
    return Cell(f"{float(row[name]):.3f}", row[name], low=low, high=high, n=n, run_key=row["run_key"])


def _several(rows: Sequence[Row], metric: str, suffix: str) -> Cell:
    """Mean and standard deviation over runs that differ in the seed alone."""
    found = over_runs([float(row[metric + suffix]) for row in rows])
    keys = " ".join(row["run_key"] for row in rows)
    return Cell(f"{found.mean:.3f}", f"{found.mean:.5f}", f"{found.deviation:.3f}", n=f"{found.n} runs", run_key=keys)


def _setup(row: Row) -> tuple[str, ...]:
    return tuple(value(row, name) for name in _SETUP)


def _unusual(setup: tuple[str, ...]) -> int:
    found = dict(zip(_SETUP, setup, strict=True))
    return sum(found[name] not in ("", usual) for name, usual in _USUAL.items())


def _samples(row: Row) -> tuple[str, ...]:
    return tuple(value(row, name) for name in SAMPLES)


def _preference(dataset: str, samples: tuple[str, ...]) -> tuple:
    """Smallest first: no option, no limit, the usual split, then the newest version."""
    found = dict(zip(SAMPLES, samples, strict=True))
    splits = ["all", "test"] if dataset == "ms-cxr" else ["test", "all"]
    split = splits.index(found["split"]) if found["split"] in splits else len(splits)
    version = [-int(part) for part in re.findall(r"\d+", found["dataset_version"])]
    return found["dataset_options"] != "", found["limit"] != "", split, version, samples


def _whole(samples: tuple[str, ...]) -> bool:
    found = dict(zip(SAMPLES, samples, strict=True))
    return found["split"] == "all" and not found["limit"] and not found["dataset_options"]


def _title(dataset: str, samples: tuple[str, ...], unusual: Sequence[str]) -> str:
    found = dict(zip(SAMPLES, samples, strict=True))
    parts = [f"{dataset} v{found['dataset_version']} {found['dataset_options']}".strip(), f"{found['split']} split"]
    parts += [f"first {found['limit']} samples"] if found["limit"] else []
    return ", ".join([*parts, *unusual])


def choices(board: Board, wanted: Sequence[Mapping[str, str]]) -> list[str]:
    """Sentences on what was measured how: the settings of the runs shown, and runs that could stand there as well."""
    shown = [row for settings in wanted for row in board.runs(settings)]
    if not shown:
        return []
    methods = {row["method"]: [other for other in shown if other["method"] == row["method"]] for row in shown}
    told = [f"{name} ({'; '.join(_settings(rows))})" for name, rows in methods.items()]
    phantom = any(of_phantom(value(row, "weights")) for row in shown)
    several = _repeated([board.runs(settings) for settings in wanted])
    return [f"Measured runs: {', '.join(told)}."] + several + [_PHANTOM] * phantom + _others(board, wanted)


def _repeated(cells: Sequence[Sequence[Row]]) -> list[str]:
    """One sentence on the cells that are means over runs."""
    seeds = {(runs[0]["method"], tuple(sorted(value(row, "seed") for row in runs))) for runs in cells if len(runs) > 1}
    found = {f"{method} over {len(each)} seeds ({', '.join(each)})" for method, each in seeds}
    return [f"Mean and standard deviation over runs, not bounds: {'; '.join(sorted(found))}."] if found else []


def _settings(rows: Sequence[Row]) -> list[str]:
    """What the runs of one method were made with, and how many samples they scored."""
    found = {name: list(dict.fromkeys(filter(None, (value(row, name) for row in rows)))) for name in _TOLD}
    counts = dict.fromkeys(f"{row['n_ok']} of {row['n_total']} samples" for row in rows)
    return [*(f"{name} {' or '.join(values)}" for name, values in found.items() if values), *counts]


def _others(board: Board, wanted: Sequence[Mapping[str, str]]) -> list[str]:
    """One sentence a method: settings of runs that were passed over."""
    found: dict[str, dict[str, None]] = {}
    for settings in wanted:
        runs, others = board.runs(settings), board.passed_over(settings)
        for row in others:
            apart = [f"{name}={value(row, name)}" for name in _SETUP if value(row, name) != value(runs[0], name)]
            if apart:
                found.setdefault(row["method"], {})[" ".join(apart)] = None
    return [
        f"{method} has also been run with {'; '.join(settings)}: choose by `--where NAME=VALUE`."
        for method, settings in found.items()
    ]
