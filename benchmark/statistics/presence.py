"""AUROC of a score that should tell present from absent findings, with its CI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.statistics.averages import Doubles
from gtg_bench.benchmark.statistics.bounds import Estimate, bounds_of


def presence_auroc(
    scores: Sequence[float], present: Sequence[bool], groups: Sequence[str], patients: Sequence[str]
) -> Estimate:
    """Probability that a present finding scores higher than an absent one of the same group; ties count half.

    Comparing within groups keeps the score from telling categories apart instead of presence.

    Args:
        scores: one per phrase, finite.
        present: whether the image shows what the phrase names.
        groups: one per phrase, such as its category; a group without present or absent phrases is left out.
        patients: one per phrase; the CI is from a bootstrap over patients.

    Returns:
        A value in [0, 1], None without a pair; n is the number of phrases in some pair.
    """
    names, rows = np.unique(np.asarray(patients), return_inverse=True)
    wins, pairs = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    found, shown = np.asarray(scores, dtype=np.float64), np.asarray(present, dtype=bool)
    used = np.zeros(len(found), dtype=bool)
    for group in sorted(set(groups)):
        member = np.asarray(groups) == group
        yes, no = np.flatnonzero(member & shown), np.flatnonzero(member & ~shown)
        if yes.size and no.size:
            used[yes] = used[no] = True
            won = (np.sign(found[yes][:, None] - found[no][None, :]) + 1) / 2
            cells = rows[yes][:, None], rows[no][None, :]
            np.add.at(wins, cells, won)
            np.add.at(pairs, cells, 1.0)
    kept = np.unique(rows[used])
    wins, pairs = wins[np.ix_(kept, kept)], pairs[np.ix_(kept, kept)]
    value = float(wins.sum() / pairs.sum()) if pairs.any() else None

    def drawn(weights: Doubles) -> Doubles:
        with np.errstate(invalid="ignore"):
            return _form(weights, wins) / _form(weights, pairs)

    low, high = bounds_of(drawn, len(kept))
    return Estimate(value, low, high, int(used.sum()), int((~used).sum()), len(kept))


def _form(weights: Doubles, matrix: NDArray[np.float64]) -> Doubles:
    """w M w for each row w of the weights."""
    return np.asarray(((weights @ matrix) * weights).sum(axis=1), dtype=np.float64)
