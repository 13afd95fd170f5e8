"""Bounds of an average from a bootstrap over patients.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile, BCa); Field and Welsh, Bootstrapping
Clustered Data, JRSS B 69, 2007 (whole clusters are drawn); Hesterberg, What Teachers Should Know About the Bootstrap,
The American Statistician 69, 2015 (expanded percentiles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from gtg_bench.benchmark.statistics.averages import AVERAGES, Doubles, Names, Tally, Values, tally

RESAMPLES = 2000
SEED = 4200
LEVEL = 0.95
METHOD = "expanded"
"""Percentiles that keep their level best where patients are few; from a few hundred on all METHODS agree."""

_CELLS = 4_000_000
"""Of resamples x patients, at a time."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """An average with its bounds and counts.

    Attributes:
        value: None where no value is defined.
        low, high: the bounds; None for fewer than two patients, of whom nothing can be said.
        n: values that entered.
        n_undefined: values that were undefined and left out.
        n_patients: patients with at least one value.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_undefined: int
    n_patients: int


def bootstrap(
    values: Values,
    categories: Names,
    patients: Names,
    kind: str = "overall",
    method: str = METHOD,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Estimate:
    """One average of a metric with its bounds; see `bootstrap_averages`."""
    return bootstrap_averages(values, categories, patients, (kind,), method, resamples, seed, level)[kind]


def bootstrap_averages(
    values: Values,
    categories: Names,
    patients: Names,
    kinds: Iterable[str] = tuple(AVERAGES),
    method: str = METHOD,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Averages of a metric with their bounds, all from the same resamples.

    As many patients as there are are drawn with replacement, each with all its samples, so that the bounds also hold
    where a patient's samples resemble one another. A category that a resample misses does not enter its macro average.

    Args:
        values: one a sample; None (or NaN) where the metric is undefined.
        categories: of each sample.
        patients: of each sample. Patients without any defined value do not take part.
        kinds: some of AVERAGES.
        method: one of METHODS.
        resamples: how many.
        seed: of the draws: the same samples give the same bounds, in whatever order they come.
        level: of confidence.

    Returns:
        kind -> estimate. Values that are all alike give bounds of no width.
    """
    sums = tally(values, categories, patients)
    kinds, patients_drawn = tuple(kinds), len(sums.counts)
    totals, counts = sums.totals.sum(axis=0), sums.counts.sum(axis=0)
    draws = _drawn(sums, kinds, resamples, seed) if patients_drawn > 1 else {}
    found = {}
    for kind in kinds:
        value = float(AVERAGES[kind](totals, counts)) if patients_drawn else None
        low, high = None, None
        if value is not None and kind in draws:
            shares = METHODS[method](_Draws(value, draws[kind], sums, kind), (1 - level) / 2)
            low, high = np.quantile(draws[kind], shares).tolist()
        found[kind] = Estimate(value, low, high, int(counts.sum()), sums.n_undefined, patients_drawn)
    return found


def _drawn(sums: Tally, kinds: Sequence[str], resamples: int, seed: int) -> dict[str, Doubles]:
    """The averages of the resamples: kind -> float64 [resamples]."""
    parts: dict[str, list[Doubles]] = {kind: [] for kind in kinds}
    for weights in _weights(len(sums.counts), resamples, seed):
        totals, counts = weights @ sums.totals, weights @ sums.counts
        for kind in kinds:
            parts[kind].append(AVERAGES[kind](totals, counts))
    return {kind: np.concatenate(part) for kind, part in parts.items()}


def _weights(patients: int, resamples: int, seed: int) -> Iterator[Doubles]:
    """How often each patient is drawn: float64 [some resamples, patients], all resamples in turn."""
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // patients)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = random.integers(0, patients, (rows, patients)) + patients * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """What bounds are made from: the value, its resamples [B], and the sums of which it is an average."""

    value: float
    resampled: Doubles
    sums: Tally
    kind: str


def _percentile(draws: _Draws, tail: float) -> tuple[float, float]:
    """The plain quantiles."""
    return tail, 1 - tail


def _expanded(draws: _Draws, tail: float) -> tuple[float, float]:
    """Quantiles moved outwards, so that means of few patients get the width of a t interval."""
    from scipy.special import stdtrit

    share = _NORMAL.cdf(float(stdtrit(len(draws.sums.counts) - 1, tail)) * _narrowness(draws))
    return share, 1 - share


def _narrowness(draws: _Draws) -> float:
    """How much too narrow resamples are, at least 1: the jackknife's standard error over the bootstrap's.

    For a mean of n values it is the square root of n / (n - 1). In a macro average each category has few patients of
    its own, and it is more. The bootstrap's standard error is taken in the limit of many resamples (infinitesimal
    jackknife), where it is the average's derivative by the weights of patients.
    """
    patients = len(draws.sums.counts)
    bootstrap_error = float(np.sqrt((_influence(draws) ** 2).sum()))
    left_out = _left_out(draws)
    jackknife_error = float(np.sqrt((patients - 1) / patients * ((left_out - left_out.mean()) ** 2).sum()))
    scale = 1e-9 * float(np.abs(left_out).max())
    return max(jackknife_error / bootstrap_error, 1.0) if bootstrap_error > scale else 1.0


def _influence(draws: _Draws) -> Doubles:
    """How the average changes with the weight of each patient, [patients]."""
    totals, counts = draws.sums.totals.sum(axis=0), draws.sums.counts.sum(axis=0)
    step = 1e-4
    more, less = (
        AVERAGES[draws.kind](totals + sign * draws.sums.totals, counts + sign * draws.sums.counts)
        for sign in (step, -step)
    )
    return np.asarray((more - less) / (2 * step), dtype=np.float64)


def _left_out(draws: _Draws) -> Doubles:
    """The averages that leave out one patient each, [patients]."""
    totals, counts = (part.sum(axis=0) - part for part in (draws.sums.totals, draws.sums.counts))
    return np.asarray(AVERAGES[draws.kind](totals, counts), dtype=np.float64)


def _bca(draws: _Draws, tail: float) -> tuple[float, float]:
    """Quantiles corrected for bias and, by the jackknife over patients, for skewness."""
    below = np.mean(draws.resampled < draws.value) + np.mean(draws.resampled <= draws.value)
    edge = 0.5 / len(draws.resampled)
    bias = _NORMAL.inv_cdf(min(max(float(below) / 2, edge), 1 - edge))
    acceleration = _acceleration(draws)
    shifted = [bias + _NORMAL.inv_cdf(share) for share in (tail, 1 - tail)]
    low, high = (_NORMAL.cdf(bias + shift / (1 - acceleration * shift)) for shift in shifted)
    return low, high


def _acceleration(draws: _Draws) -> float:
    """A sixth of the skewness of the averages that leave out one patient each; 0 where they are all alike."""
    left_out = _left_out(draws)
    deviations = left_out.mean() - left_out
    scale = np.abs(deviations).max()
    if not scale > 1e-12 * np.abs(left_out).max():
        return 0.0
    deviations /= scale
    return float((deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5))


METHODS: dict[str, Callable[[_Draws, float], tuple[float, float]]] = {
    "percentile": _percentile,
    "expanded": _expanded,
    "bca": _bca,
}
"""Name -> which quantiles of the resamples are the bounds, given the share of a tail."""
