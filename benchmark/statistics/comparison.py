"""Paired comparison of two runs on the same samples: which is better, by how much, and could it be chance?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.statistics.averages import AVERAGES, Doubles
from gtg_bench.benchmark.statistics.bounds import LEVEL, RESAMPLES, SEED, bootstrap, interval_note
from gtg_bench.benchmark.statistics.permutation import PERMUTATIONS, sign_flip

EQUIVALENCE_LEVEL = 0.9
"""Level of the interval that must lie within the margin, for two one-sided tests at 5 % each."""

TIE = 1e-9
"""Two values of a sample whose difference is at most this count as equal, so that rounding decides nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """One metric of two runs, on the samples where both have a value.

    Attributes:
        ours, theirs: float64 [n], finite.
        categories, patients: str [n].
        only_ours, only_theirs: number of samples that were left out because only one run has a value.
    """

    ours: Doubles
    theirs: Doubles
    categories: NDArray[np.str_]
    patients: NDArray[np.str_]
    only_ours: int = 0
    only_theirs: int = 0

    def of_category(self, name: str) -> Pairs:
        """The pairs of one category. The counts of left-out samples are not known per category and become 0."""
        kept = self.categories == name
        return Pairs(self.ours[kept], self.theirs[kept], self.categories[kept], self.patients[kept])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing two runs; every difference is `ours - theirs`.

    Attributes:
        n: samples for which both runs have a value.
        n_patients: their patients.
        only_ours, only_theirs: samples that were left out because only one run has a value.
        ours, theirs: averages over the n samples; they and the following fields are None if n is 0.
        difference: ours - theirs, of the averages.
        low, high: confidence limits of the difference, by the bootstrap over patients; None for fewer than five.
        p_value: two-sided, by flipping the signs of patients; not corrected for multiple comparisons.
        effect_size: standardised mean difference (Cohen's d_z): mean of the samples' differences over their standard
            deviation (unbiased variance), whatever the average; None if all differences are equal.
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

    @property
    def note(self) -> str:
        """Why the interval is absent or unreliable, see `bounds.interval_note`."""
        return interval_note(self.n_patients)


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Whether two runs differ by less than a margin, by two one-sided tests (TOST).

    Attributes:
        margin: largest difference of the averages that does not matter, in the metric's unit; above 0.
        low, high: limits of the 90 % confidence interval of ours - theirs; None for fewer than five patients.
    """

    margin: float
    low: float | None
    high: float | None

    @property
    def shown(self) -> bool:
        """Whether the interval is within the margin on both sides."""
        return self.low is not None and self.high is not None and -self.margin < self.low <= self.high < self.margin


def paired(ours: Iterable[SampleRecord], theirs: Iterable[SampleRecord], metric: str) -> Pairs:
    """Pair the records of two runs by sample id, sorted by id, where both are ok and have the metric."""
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
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
    level: float = LEVEL,
) -> Comparison:
    """Compare two runs by one average of one metric.

    Every average is linear in the samples' values, so the difference of averages is the average of differences, and
    flipping a patient's sign flips that patient's contribution to it.

    Args:
        pairs: see `paired`.
        kind: one of AVERAGES.
        higher_is_better: False for a distance; it decides which run wins, not the sign of the difference.
        resamples: number of bootstrap resamples.
        permutations: maximum number to enumerate, or the number to draw, see `sign_flip`.
        seed: seed of the resamples and the permutations.
        level: confidence level.
    """
    differences = _differences(pairs)
    found = bootstrap(differences, pairs.categories, pairs.patients, kind, resamples, seed, level)
    better = differences if higher_is_better else -differences
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    weights = _sample_weights(pairs.categories, kind)
    ours = theirs = p_value = effect_size = None
    if found.n:
        ours, theirs = float(weights @ pairs.ours), float(weights @ pairs.theirs)
        _, rows = np.unique(pairs.patients, return_inverse=True)
        p_value = sign_flip(np.bincount(rows, weights * differences), permutations, seed)
    if found.n > 1 and np.ptp(differences) > 0:
        effect_size = float(differences.mean() / differences.std(ddof=1))
    return Comparison(
        n=len(differences),
        n_patients=found.n_patients,
        only_ours=pairs.only_ours,
        only_theirs=pairs.only_theirs,
        ours=ours,
        theirs=theirs,
        difference=found.value,
        low=found.low,
        high=found.high,
        p_value=p_value,
        effect_size=effect_size,
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
    )


def equivalence(
    pairs: Pairs, margin: float, kind: str = "overall", resamples: int = RESAMPLES, seed: int = SEED
) -> Equivalence:
    """Test whether an average of one metric differs by less than a margin between two runs.

    Source: Schuirmann, A Comparison of the Two One-Sided Tests Procedure and the Power Approach, Journal of
    Pharmacokinetics and Biopharmaceutics 15, 1987; here with the 90 % interval of the bootstrap over patients.

    Args:
        pairs: see `paired`.
        margin: largest difference that does not matter, above 0. Choose it before looking at the results.
        kind, resamples, seed: see `compare`.
    """
    differences = _differences(pairs)
    found = bootstrap(differences, pairs.categories, pairs.patients, kind, resamples, seed, EQUIVALENCE_LEVEL)
    return Equivalence(margin, found.low, found.high)


def _differences(pairs: Pairs) -> Doubles:
    """Ours - theirs of each sample [n], 0 for ties."""
    differences = pairs.ours - pairs.theirs
    differences[np.abs(differences) <= TIE] = 0
    return differences


def _sample_weights(categories: NDArray[np.str_], kind: str) -> Doubles:
    """The weight of each sample [n] in an average; the weights add up to 1."""
    _, columns, counts = np.unique(categories, return_inverse=True, return_counts=True)
    # The average of values that are 1 in one category and 0 elsewhere is that category's weight.
    shares = AVERAGES[kind](np.diag(counts).astype(np.float64), np.tile(counts, (len(counts), 1)).astype(np.float64))
    return (shares / counts)[columns]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for multiple comparisons by Holm's method, which controls the family-wise error rate.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: of every comparison in a family, such as all categories and methods of a table; None for a
            comparison without data, which does not count.

    Returns:
        The corrected values in the same order, each at least as large as before and at most 1; None stays None.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[index] = highest
    return corrected
