"""Two runs on the same samples: which is better, by how much, and could it be chance?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.statistics.averages import AVERAGES, Doubles
from gtg_bench.benchmark.statistics.bounds import LEVEL, METHOD, RESAMPLES, SEED, bootstrap
from gtg_bench.benchmark.statistics.permutation import PERMUTATIONS, sign_flip

TIE = 1e-9
"""Values of one sample that differ by no more are equal: rounding decides nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """One metric of two runs, on the samples where both have it.

    Attributes:
        ours, theirs: float64 [n], finite.
        categories, patients: str [n].
        only_ours, only_theirs: how many samples only one of the runs has a value for; they are left out.
    """

    ours: Doubles
    theirs: Doubles
    categories: NDArray[np.str_]
    patients: NDArray[np.str_]
    only_ours: int = 0
    only_theirs: int = 0

    def of_category(self, name: str) -> Pairs:
        """The pairs of one category; what was left out is not known by category and counted as none."""
        kept = self.categories == name
        return Pairs(self.ours[kept], self.theirs[kept], self.categories[kept], self.patients[kept])


@dataclass(frozen=True, slots=True)
class Comparison:
    """What can be said about `ours - theirs`.

    Attributes:
        n: samples that both runs have a value for.
        n_patients: their patients.
        only_ours, only_theirs: samples that were left out because only one run has a value.
        ours, theirs: the averages over the n samples; None where there is none, as all that follows.
        difference: ours - theirs, of the averages.
        low, high: its bounds by the bootstrap over patients; None for fewer than two patients.
        p_value: two-sided, by flipping the signs of patients; not corrected for other comparisons.
        effect_size: Cohen's d_z, the mean of the samples' differences over their standard deviation (unbiased
            variance), whatever the average; None where all differences are equal.
        wins, ties, losses: samples on which ours is better, equal (within TIE) or worse.
    """

    n: int
    n_patients: int
    only_ours: int
    only_theirs: int
    ours: float | None
    theirs: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    effect_size: float | None
    wins: int
    ties: int
    losses: int


def paired(ours: Iterable[SampleRecord], theirs: Iterable[SampleRecord], metric: str) -> Pairs:
    """Pair two runs' records by sample id, in the order of the ids, where both are ok and have the metric."""
    one, other = ({r.sample_id: r for r in run if r.status == "ok" and metric in r.metrics} for run in (ours, theirs))
    shared = sorted(one.keys() & other.keys())
    return Pairs(
        np.array([one[name].metrics[metric] for name in shared], dtype=np.float64),
        np.array([other[name].metrics[metric] for name in shared], dtype=np.float64),
        np.array([one[name].category for name in shared], dtype=np.str_),
        np.array([one[name].patient_id for name in shared], dtype=np.str_),
        len(one) - len(shared),
        len(other) - len(shared),
    )


def compare(
    pairs: Pairs,
    kind: str = "overall",
    higher_is_better: bool = True,
    method: str = METHOD,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
    level: float = LEVEL,
) -> Comparison:
    """Compare two runs by one average of one metric.

    Every average is linear in the samples' values, so the difference of averages is the average of differences, and
    flipping a patient's sign flips what that patient adds to it.

    Args:
        pairs: see `paired`.
        kind: one of AVERAGES.
        higher_is_better: False for a distance; it decides what is a win, not the sign of the difference.
        method: of the bounds, one of `bounds.METHODS`.
        resamples: of the bootstrap.
        permutations: enumerated at most or drawn, see `sign_flip`.
        seed: of both.
        level: of confidence.
    """
    differences = pairs.ours - pairs.theirs
    differences[np.abs(differences) <= TIE] = 0
    found = bootstrap(differences, pairs.categories, pairs.patients, kind, method, resamples, seed, level)
    better = differences if higher_is_better else -differences
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    weights = sample_weights(pairs.categories, kind)
    return Comparison(
        n=len(differences),
        n_patients=found.n_patients,
        only_ours=pairs.only_ours,
        only_theirs=pairs.only_theirs,
        ours=float(weights @ pairs.ours) if found.n else None,
        theirs=float(weights @ pairs.theirs) if found.n else None,
        difference=found.value,
        low=found.low,
        high=found.high,
        p_value=_p_value(weights * differences, pairs.patients, permutations, seed) if found.n else None,
        effect_size=_effect_size(differences),
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
    )


def sample_weights(categories: NDArray[np.str_], kind: str) -> Doubles:
    """What each sample [n] counts in an average; they add up to 1."""
    _, columns, counts = np.unique(categories, return_inverse=True, return_counts=True)
    # The average of a map that is 1 on one category and 0 elsewhere is that category's weight.
    shares = AVERAGES[kind](np.diag(counts).astype(np.float64), np.tile(counts, (len(counts), 1)).astype(np.float64))
    return (shares / counts)[columns]


def _p_value(contributions: Doubles, patients: NDArray[np.str_], permutations: int, seed: int) -> float:
    _, rows = np.unique(patients, return_inverse=True)
    return sign_flip(np.bincount(rows, contributions), permutations, seed)


def _effect_size(differences: Doubles) -> float | None:
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return float(differences.mean() / differences.std(ddof=1))
