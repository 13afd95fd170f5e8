"""Three averages of a metric over samples with categories; mean and standard deviation over runs.

- overall: every sample has the same weight, so a category of n samples weighs n.
- macro: every category has the same weight.
- frequency2: every sample weighs its category's n, so a category weighs n squared. The paper's released code calls
  this a weighted average, and Table 1 reports it for the diffusion models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Values = Sequence[float | None] | NDArray[np.floating]
Names = Sequence[str] | NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Average:
    """An average with its counts.

    Attributes:
        value: None if no value is defined.
        n: number of defined values.
        n_undefined: number of undefined values, which were left out.
    """

    value: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over several runs of one method, such as seeds or checkpoints.

    Attributes:
        mean: over the runs with a value; None if there are none.
        deviation: standard deviation over those runs (unbiased variance); None for fewer than two.
        n: number of runs with a value.
        n_undefined: number of runs without a value.
    """

    mean: float | None
    deviation: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums by group and category.

    Attributes:
        totals: float64 [groups, categories], sums of the defined values.
        counts: float64 [groups, categories], their numbers; no row and no column is all 0.
        n_undefined: number of undefined values, which were left out.
    """

    totals: Doubles
    counts: Doubles
    n_undefined: int


def average(values: Values, categories: Names, kind: str = "overall") -> Average:
    """Average a metric's values over samples.

    Args:
        values: one per sample; None (or NaN) where the metric is undefined.
        categories: one per sample. Only defined values count towards a category's n (as in the released code), and a
            category without any is ignored.
        kind: one of AVERAGES.
    """
    sums = tally(values, categories, [""] * len(categories))
    n = int(sums.counts.sum())
    return Average(float(AVERAGES[kind](sums.totals, sums.counts)[0]) if n else None, n, sums.n_undefined)


def average_of_categories(means: Sequence[float], counts: Sequence[int], kind: str) -> float:
    """Compute an average from the means of categories, as a published table gives them.

    Args:
        means: one per category.
        counts: samples of each category, at least 1.
        kind: one of AVERAGES.

    Raises:
        ValueError: no categories, a category without samples, or different numbers of means and counts.
    """
    if not means or len(means) != len(counts) or min(counts) < 1:
        raise ValueError("an average of categories needs a mean and a positive count for each category")
    weights = np.asarray(counts, dtype=np.float64)
    return float(AVERAGES[kind](np.asarray(means, dtype=np.float64) * weights, weights))


def over_runs(values: Values) -> Spread:
    """Mean and standard deviation over runs.

    Args:
        values: one per run, in any unit; None for a run without a value.
    """
    found = np.asarray(values, dtype=np.float64)
    defined = found[~np.isnan(found)]
    mean = float(defined.mean()) if defined.size else None
    deviation = float(defined.std(ddof=1)) if defined.size > 1 else None
    return Spread(mean, deviation, defined.size, found.size - defined.size)


def tally(values: Values, categories: Names, groups: Names) -> Tally:
    """Sum a metric's defined values by group and category, leaving out groups and categories without any.

    Args:
        values: one per sample; None (or NaN) where the metric is undefined.
        categories: one per sample.
        groups: one per sample, such as its patient.

    Raises:
        ValueError: the arguments differ in length.
    """
    found = np.asarray(values, dtype=np.float64)
    if not len(found) == len(categories) == len(groups):
        raise ValueError(f"{len(found)} values, {len(categories)} categories and {len(groups)} groups do not pair up")
    defined = ~np.isnan(found)
    rows, columns = (np.unique(np.asarray(names)[defined], return_inverse=True) for names in (groups, categories))
    shape = len(rows[0]), len(columns[0])
    cells = rows[1] * shape[1] + columns[1]
    size = shape[0] * shape[1]
    totals, counts = (
        np.bincount(cells, weights, size).astype(np.float64) for weights in (found[defined], np.ones(len(cells)))
    )
    return Tally(totals.reshape(shape), counts.reshape(shape), int(found.size - defined.sum()))


def _overall(totals: Doubles, counts: Doubles) -> Any:
    return totals.sum(axis=-1) / counts.sum(axis=-1)


def _macro(totals: Doubles, counts: Doubles) -> Any:
    present = counts > 0
    means = np.divide(totals, counts, out=np.zeros_like(totals), where=present)
    return means.sum(axis=-1) / present.sum(axis=-1)


def _frequency2(totals: Doubles, counts: Doubles) -> Any:
    return (totals * counts).sum(axis=-1) / (counts * counts).sum(axis=-1)


AVERAGES: dict[str, Callable[[Doubles, Doubles], Any]] = {
    "overall": _overall,
    "macro": _macro,
    "frequency2": _frequency2,
}
"""Name -> function of totals and counts [..., categories], at least one count positive, that returns averages [...]."""
