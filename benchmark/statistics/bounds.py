"""Confidence intervals of averages, from a bootstrap over patients.

Source: Field and Welsh, Bootstrapping Clustered Data, JRSS B 69, 2007 (whole clusters are drawn); Hesterberg, What
Teachers Should Know About the Bootstrap, The American Statistician 69, 2015 (expanded percentiles, which keep their
coverage for few patients; from a few hundred patients on they equal plain percentiles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.statistics.averages import AVERAGES, Doubles, Names, Tally, Values, tally

RESAMPLES = 2000
SEED = 4200
LEVEL = 0.95

_CELLS = 4_000_000
"""Maximum resamples x patients per block, to bound memory."""

_KEPT = 30_000_000
"""Maximum resamples x patients of draws that are kept for the next metric: 60 MB."""

_NORMAL = NormalDist()


LEAST_PATIENTS = 5
"""Fewest patients that get a confidence interval."""

ENOUGH_PATIENTS = 20
"""Fewest patients whose confidence interval needs no caution."""


def interval_note(n_patients: int) -> str:
    """What a reader must know about the confidence interval of so few patients; "" if there is nothing to say."""
    if n_patients >= ENOUGH_PATIENTS:
        return ""
    verdict = "no CI" if n_patients < LEAST_PATIENTS else "unreliable CI"
    return f"only {number_of(n_patients, 'patient')}: {verdict}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """An average with its confidence interval and counts. Where the interval is printed, so must `note` be.

    Attributes:
        value: None if no value is defined.
        low, high: confidence limits; None for fewer than LEAST_PATIENTS patients.
        n: number of defined values.
        n_undefined: number of undefined values, which were left out.
        n_patients: patients with at least one defined value.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_undefined: int
    n_patients: int

    @property
    def note(self) -> str:
        """Why the interval is absent or unreliable, see `interval_note`."""
        return interval_note(self.n_patients)


def bootstrap(
    values: Values,
    categories: Names,
    patients: Names,
    kind: str = "overall",
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Estimate:
    """Estimate one average of a metric with its confidence interval; see `bootstrap_averages`."""
    return bootstrap_averages(values, categories, patients, (kind,), resamples, seed, level)[kind]


def bootstrap_averages(
    values: Values,
    categories: Names,
    patients: Names,
    kinds: Iterable[str] = tuple(AVERAGES),
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Estimate several averages of a metric with their confidence intervals, all from the same resamples.

    Each resample draws as many patients as the data has, with replacement and with all their samples, so that the
    intervals allow for correlation within a patient. A category that is missing from a resample is left out of that
    resample's macro average.

    Args:
        values: one per sample; None (or NaN) where the metric is undefined.
        categories: one per sample.
        patients: one per sample. Patients without any defined value are not drawn.
        kinds: some of AVERAGES.
        resamples: number of resamples.
        seed: seed of the draws; the result does not depend on the order of the samples.
        level: confidence level.

    Returns:
        kind -> estimate. If all values are equal, the interval has zero width.
    """
    sums = tally(values, categories, patients)
    kinds, n_patients = tuple(kinds), len(sums.counts)
    totals, counts = sums.totals.sum(axis=0), sums.counts.sum(axis=0)
    draws = _drawn(sums, kinds, resamples, seed) if n_patients >= LEAST_PATIENTS else {}
    found = {}
    for kind in kinds:
        value = float(AVERAGES[kind](totals, counts)) if n_patients else None
        low, high = None, None
        if kind in draws:
            share = _expanded(sums, kind, (1 - level) / 2)
            low, high = np.quantile(draws[kind], (share, 1 - share)).tolist()
        found[kind] = Estimate(value, low, high, int(counts.sum()), sums.n_undefined, n_patients)
    return found


def bounds_of(
    statistic: Callable[[Doubles], Doubles],
    n_patients: int,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> tuple[float | None, float | None]:
    """Confidence limits of any statistic of the samples, from the same bootstrap over patients.

    Args:
        statistic: of how often each resample draws each patient, float64 [resamples, patients]; its values, float64
            [resamples], NaN where it is undefined.
        n_patients: number of patients.
        resamples: number of resamples.
        seed: seed of the draws.
        level: confidence level.

    Returns:
        Lower and upper limit, widened as those of a mean; None for fewer than LEAST_PATIENTS patients, or if every
        resample leaves the statistic undefined.
    """
    from scipy.special import stdtrit

    if n_patients < LEAST_PATIENTS:
        return None, None
    drawn = np.concatenate([statistic(weights) for weights in _weights(n_patients, resamples, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return None, None
    wider = float(stdtrit(n_patients - 1, (1 - level) / 2)) * float(np.sqrt(n_patients / (n_patients - 1)))
    share = _NORMAL.cdf(wider)
    low, high = np.quantile(drawn, (share, 1 - share)).tolist()
    return low, high


def _drawn(sums: Tally, kinds: Sequence[str], resamples: int, seed: int) -> dict[str, Doubles]:
    """The averages of the resamples: kind -> float64 [resamples]."""
    parts: dict[str, list[Doubles]] = {kind: [] for kind in kinds}
    for weights in _weights(len(sums.counts), resamples, seed):
        totals, counts = weights @ sums.totals, weights @ sums.counts
        for kind in kinds:
            parts[kind].append(AVERAGES[kind](totals, counts))
    return {kind: np.concatenate(part) for kind, part in parts.items()}


def _weights(patients: int, resamples: int, seed: int) -> Iterator[Doubles]:
    """How often each resample draws each patient, float64 [resamples in the block, patients], block by block."""
    few = patients * resamples <= _KEPT
    for block in _kept(patients, resamples, seed) if few else _blocks(patients, resamples, seed):
        yield block.astype(np.float64)


@lru_cache(maxsize=2)
def _kept(patients: int, resamples: int, seed: int) -> list[NDArray[np.uint16]]:
    """The draws of the last calls: the next metric of the same samples has the same."""
    return list(_blocks(patients, resamples, seed))


def _blocks(patients: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // patients)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = random.integers(0, patients, (rows, patients)) + patients * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients)
        yield counts.astype(np.uint16)  # more than 65,535 draws of one patient do not happen


def _expanded(sums: Tally, kind: str, tail: float) -> float:
    """The share of resamples below the lower limit, chosen so that means of few patients get the width of a t interval.

    Resamples are too narrow by the ratio of the jackknife's standard error to the bootstrap's, at least 1. For a mean
    of n values it is sqrt(n / (n - 1)); it is larger for a macro average, because a single category has few patients.
    The bootstrap's standard error is taken in the limit of many resamples (infinitesimal jackknife), from the
    derivative of the average by each patient's weight.
    """
    from scipy.special import stdtrit

    patients, step = len(sums.counts), 1e-4
    totals, counts = sums.totals.sum(axis=0), sums.counts.sum(axis=0)
    more, less = (AVERAGES[kind](totals + by * sums.totals, counts + by * sums.counts) for by in (step, -step))
    left_out = AVERAGES[kind](totals - sums.totals, counts - sums.counts)
    bootstrap_error = float(np.sqrt((((more - less) / (2 * step)) ** 2).sum()))
    jackknife_error = float(np.sqrt((patients - 1) / patients * ((left_out - left_out.mean()) ** 2).sum()))
    negligible = bootstrap_error <= 1e-9 * float(np.abs(left_out).max())
    narrowness = 1.0 if negligible else max(jackknife_error / bootstrap_error, 1.0)
    return _NORMAL.cdf(float(stdtrit(patients - 1, tail)) * narrowness)
