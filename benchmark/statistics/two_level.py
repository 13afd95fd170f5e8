"""An average over several runs of one method, with a CI that covers runs and patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gtg_bench.benchmark.statistics.averages import AVERAGES, Doubles, Names, Values, tally
from gtg_bench.benchmark.statistics.bounds import SEED, Estimate, bounds_of


def over_runs_and_patients(
    runs: Sequence[Values], categories: Names, patients: Names, kind: str = "overall"
) -> Estimate:
    """Mean over runs of a metric's average; its CI draws runs and patients, both with replacement.

    Source: Field and Welsh, Bootstrapping Clustered Data, JRSS B 69, 2007 (crossed factors: both are resampled). With
    two or three runs the spread over runs is underestimated.

    Args:
        runs: for each seed or training, one value per sample, in the same order; a sample that is undefined in any run
            is left out of all.
        categories: one per sample.
        patients: one per sample.
        kind: one of AVERAGES.
    """
    values = np.asarray(runs, dtype=np.float64)
    kept = ~np.isnan(values).any(axis=0)
    groups = np.asarray(categories)[kept], np.asarray(patients)[kept]
    sums = [tally(row[kept], *groups) for row in values]
    totals, counts = np.stack([one.totals for one in sums]), sums[0].counts
    number, n_patients = totals.shape[:2]
    random = np.random.default_rng(SEED)

    def drawn(weights: Doubles) -> Doubles:
        picked = random.multinomial(number, np.full(number, 1 / number), size=len(weights)) / number
        return np.asarray(
            AVERAGES[kind](np.einsum("br,bp,rpc->bc", picked, weights, totals, optimize=True), weights @ counts)
        )

    n = int(kept.sum())
    value = float(AVERAGES[kind](totals.mean(axis=0).sum(axis=0), counts.sum(axis=0))) if n else None
    low, high = bounds_of(drawn, n_patients) if n else (None, None)
    return Estimate(value, low, high, n, int((~kept).sum()), n_patients)
