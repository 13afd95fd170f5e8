"""Which measured cells of a table are marked as best: only those whose lead is significant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from gtg_bench.benchmark.analysis.compare import LEVEL
from gtg_bench.benchmark.analysis.seeds import mean_of
from gtg_bench.benchmark.analysis.sensitivity import is_ceiling, is_prior
from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.tables.document import Block, Cell, Document
from gtg_bench.benchmark.runs.lookup import FinishedRun, read_run, specs_in
from gtg_bench.benchmark.statistics import compare, paired

Place = tuple[int, int]
"""Indices of a cell's row and column."""


def with_marks(document: Document, runs_dir: Path, dataset: str) -> Document:
    """The document with the best of each group of competing cells marked, if its lead over every other is significant.

    Competitors are the measured cells of one metric along `Block.along`. The best is compared with each other sample by
    sample, from the records of their runs; as all of these tests must reject, their p-values need no correction
    (Berger, Multiparameter Hypothesis Testing and Acceptance Sampling, Technometrics 24, 1982). If records are missing
    nothing is marked, and a prior or baseline never is.

    Args:
        document: a table of a leaderboard.
        runs_dir: folder of the runs.
        dataset: their data set.
    """

    @cache
    def records(keys: str) -> FinishedRun | None:
        """The runs with these keys as one; None if one was not run here, is unfinished or cannot be read."""
        try:
            return mean_of([read_run(runs_dir, specs[key]) for key in keys.split()])
        except (GtgError, KeyError):
            return None

    specs = {spec.key: spec for spec in specs_in(runs_dir, dataset)}
    blocks = []
    for block in document.blocks:
        best = {_leader(block, pool, records) for pool in _pools(block)}
        rows = (
            replace(row, cells=tuple(replace(c, mark="best") if (i, j) in best else c for j, c in enumerate(row.cells)))
            for i, row in enumerate(block.rows)
        )
        blocks.append(replace(block, rows=tuple(rows)))
    return replace(document, blocks=tuple(blocks))


def _pools(block: Block) -> list[list[Place]]:
    """The places of cells that compete with each other."""
    found: dict[tuple, list[Place]] = {}
    for i, row in enumerate(block.rows) if block.along else ():
        for j, column in enumerate(block.columns):
            if column.metric in METRICS and row.cells[j].run_key and not is_ceiling(row.cells[j].method):
                line = (i, column.metric) if block.along == "row" else (row.section, j)
                found.setdefault(line, []).append((i, j))
    return [pool for pool in found.values() if len(pool) > 1]


def _leader(block: Block, pool: Sequence[Place], records: Callable[[str], FinishedRun | None]) -> Place | None:
    """The place of the best cell of a pool; None if a lead is not significant, or it is a prior or baseline."""
    cells: dict[Place, Cell] = {(i, j): block.rows[i].cells[j] for i, j in pool}
    name = block.columns[pool[0][1]].metric
    higher = METRICS[name].higher_is_better
    first, *others = sorted(pool, key=lambda place: float(cells[place].exact), reverse=higher)
    best = cells[first]
    one = records(best.run_key)
    if is_prior(best.method) or one is None:
        return None
    for place in others:
        other = records(cells[place].run_key)
        if other is None:
            return None
        pairs = paired(one.records, other.records, name)
        pairs = pairs if best.category is None else pairs.of_category(best.category)
        found = compare(pairs, best.average, higher)
        ahead = found.difference is not None and found.difference != 0 and (found.difference > 0) == higher
        if not ahead or found.p_value is None or found.p_value >= LEVEL:
            return None
    return first
