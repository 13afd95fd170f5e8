"""Three averages of a metric over samples that belong to categories; mean and deviation over runs.

- overall: every sample counts alike, so a category weighs its number of samples n.
- macro: every category counts alike.
- frequency2: every sample counts by its category's n, so a category weighs n squared. It is what the paper's
  released code calls a weighted average, and what Table 1 reports for the diffusion models.
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
        value: None where no value is defined.
        n: values that entered.
        n_undefined: values that were undefined and left out.
    """

    value: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one method: seeds or checkpoints.

    Attributes:
        mean: over the runs where there is a value; None where there is none.
        deviation: standard deviation over those runs, unbiased variance; None for fewer than two.
        n: runs that entered.
        n_undefined: runs without a value.
    """

    mean: float | None
    deviation: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums by group and category.

    Attributes:
        totals: float64 [groups, categories], the sum of the defined values.
        counts: float64 [groups, categories], their number; each group and category has at least one.
        n_undefined: values that were left out.
    """

    totals: Doubles
    counts: Doubles
    n_undefined: int


def average(values: Values, categories: Names, kind: str = "overall") -> Average:
    """The average of a metric's values over samples.

    Args:
        values: one a sample; None (or NaN) where the metric is undefined.
        categories: of each sample. A category without any defined value does not enter, and n counts defined values
            only (as in the released code, which passes over what it could not compute).
        kind: one of AVERAGES.
    """
    sums = tally(values, categories, [""] * len(categories))
    n = int(sums.counts.sum())
    return Average(float(AVERAGES[kind](sums.totals, sums.counts)[0]) if n else None, n, sums.n_undefined)


def average_of_categories(means: Sequence[float], counts: Sequence[int], kind: str) -> float:
    """The average that belongs to the means of categories, as a published table gives them.

    Args:
        means: of each category.
        counts: samples of each category, at least 1.
        kind: one of AVERAGES.

    Raises:
        ValueError: there is no category, a category without samples, or not a count for each mean.
    """
    if not means or len(means) != len(counts) or min(counts) < 1:
        raise ValueError("an average of categories needs a mean and a positive count for each of them")
    weights = np.asarray(counts, dtype=np.float64)
    return float(AVERAGES[kind](np.asarray(means, dtype=np.float64) * weights, weights))


def over_runs(values: Values) -> Spread:
    """Mean and standard deviation over runs.

    Args:
        values: of each run, in any unit; None where a run has no value.
    """
    found = _as_array(values)
    defined = found[~np.isnan(found)]
    mean = float(defined.mean()) if defined.size else None
    deviation = float(defined.std(ddof=1)) if defined.size > 1 else None
    return Spread(mean, deviation, defined.size, found.size - defined.size)


def tally(values: Values, categories: Names, groups: Names) -> Tally:
    """Sum a metric's defined values by group and category; groups and categories without any do not appear.

    Args:
        values: one a sample; None (or NaN) where the metric is undefined.
        categories: of each sample.
        groups: of each sample, such as its patient.

    Raises:
        ValueError: the arguments differ in length.
    """
    found = _as_array(values)
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


def _as_array(values: Values) -> Doubles:
    """float64 [n], NaN where undefined."""
    return np.asarray(values, dtype=np.float64)


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
"""Name -> the average of totals and counts [..., categories], of which at least one count is positive: [...]."""
