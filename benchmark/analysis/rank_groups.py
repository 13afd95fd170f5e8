"""Methods of one leaderboard that cannot be told apart share a rank group."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np

from gtg_bench.benchmark.analysis.compare import LEVEL
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.report.leaderboard import Row, beside, put_groups
from gtg_bench.benchmark.runs.lookup import FinishedRun, read_run, specs_in
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.statistics import average, holm, pairwise_p_values, rank_groups
from gtg_bench.benchmark.statistics.permutation import PERMUTATIONS

_FINENESS = 4
"""The smallest p-value that the draws can give, corrected for all pairs, is at most LEVEL divided by it."""


def groups(runs: Sequence[FinishedRun], metric: str, kind: str) -> dict[str, int]:
    """Rank groups of runs under the same conditions, from 1, the best.

    Every pair is compared on the samples that both have, by flipping the signs of patients; p-values are corrected
    over all pairs (Holm). A group's members cannot be told apart from its best one; see `statistics.rank_groups`.

    Args:
        runs: without control, of one data set and protocol.
        metric: a name of METRICS.
        kind: of average, "overall", "macro" or "frequency2".

    Returns:
        run key -> group. A run without any value of the metric has no group.
    """
    defined = {run.spec.key: _values(run, metric) for run in runs}
    known = {record.sample_id: record for run in runs for record in run.records}
    ids = sorted(set().union(*defined.values())) if defined else []
    categories = [known[name].category for name in ids]
    values = {
        key: np.array([found.get(name, np.nan) for name in ids], dtype=np.float64) for key, found in defined.items()
    }
    pairs = len(values) * (len(values) - 1) // 2
    permutations = max(PERMUTATIONS, ceil(_FINENESS * pairs / LEVEL))
    found = pairwise_p_values(values, categories, [known[name].patient_id for name in ids], kind, permutations)
    corrected = dict(zip(found, holm(list(found.values())), strict=True))

    def alike(leader: str, other: str) -> bool:
        p = corrected[(leader, other) if (leader, other) in corrected else (other, leader)]
        return p is None or p >= LEVEL

    scores = {key: average(found, categories, kind).value for key, found in values.items()}
    return rank_groups(scores, alike, METRICS[metric].higher_is_better)


def _values(run: FinishedRun, metric: str) -> dict[str, float]:
    return {r.sample_id: r.metrics[metric] for r in run.records if r.status == "ok" and metric in r.metrics}


def groups_of_rows(rows: Sequence[Row], runs_dir: Path) -> tuple[dict[str, int], str]:
    """Rank groups of leaderboard rows by their protocol's primary metric and average, from the records of their runs.

    Args:
        rows: measured on the same samples by the same protocol; those under a control get no group.
        runs_dir: where runs are kept.

    Returns:
        Run key -> group, and "". No group, and the reason, where the records of a row are not there: a group says how a
        run stands to all the others.
    """
    wanted = [row for row in rows if row.get("control", CONTROLS[0]) == CONTROLS[0]]
    if not wanted:
        return {}, "no run without a control"
    specs = {spec.key: spec for spec in specs_in(runs_dir, wanted[0]["dataset"])}
    if missing := [row for row in wanted if row["run_key"] not in specs]:
        named = f"{missing[0]['method']} {missing[0]['run_key']}"
        return {}, f"the records of {len(missing)} of {len(wanted)} rows ({named} ...) are not in {runs_dir}"
    runs = [read_run(runs_dir, specs[row["run_key"]]) for row in wanted]
    protocol = protocol_of(runs[0].spec.protocol)
    return groups(runs, protocol.primary, protocol.average), ""


def regroup(folder: Path, row: Row, runs_dir: Path) -> str:
    """Write the rank groups of all rows measured on the same samples by the same definition as `row`.

    Args:
        folder: of the leaderboards.
        row: one of them.
        runs_dir: where runs are kept.

    Returns:
        "", or why the groups were left as they are.
    """
    found, reason = groups_of_rows(beside(folder, row), runs_dir)
    if not reason:
        put_groups(folder, row, found)
    return reason
