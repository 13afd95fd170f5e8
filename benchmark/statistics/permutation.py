"""The sign-flip permutation test of paired differences, with patients as its unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from gtg_bench.benchmark.statistics.averages import Doubles
from gtg_bench.benchmark.statistics.bounds import SEED

PERMUTATIONS = 9999
_CELLS = 4_000_000
"""Of permutations x patients, at a time."""

SLACK = 1e-12
"""Of the sum of all sizes: sums that differ by less are equal, whatever the order of addition."""


def sign_flip(contributions: ArrayLike, permutations: int = PERMUTATIONS, seed: int = SEED) -> float:
    """Two-sided p-value of the hypothesis that every patient's difference is as likely to have the other sign.

    The statistic is the size of the sum of contributions. Where the patients that contribute have no more patterns of
    signs than `permutations`, all of them are enumerated and p is exact; else that many are drawn, and p is
    (1 + as extreme) / (1 + drawn), which is never 0 and no smaller than it should be.

    Source: Fisher, The Design of Experiments, 1935; Phipson and Smyth, Permutation P-values Should Never Be Zero, 2010.

    Args:
        contributions: [patients], what each adds to the difference; all of a patient's samples flip together.
        permutations: how many patterns to enumerate at most, else to draw.
        seed: of the draws.

    Returns:
        A value in (0, 1]; 1 where nothing differs.
    """
    found = np.asarray(contributions, dtype=np.float64)
    found = found[found != 0]
    if not found.size:
        return 1.0
    bar = abs(found.sum()) - SLACK * np.abs(found).sum()
    if 2.0**found.size <= permutations:
        return float(np.mean(np.abs(_all_sums(found)) >= bar))
    extreme = sum(int((np.abs(sums) >= bar).sum()) for sums in _drawn_sums(found, permutations, seed))
    return (1 + extreme) / (1 + permutations)


def _all_sums(found: Doubles) -> Doubles:
    """The sums [2 ** (n - 1)] of all patterns whose first sign is plus; the others have the same sizes."""
    sums = found[:1]
    for value in found[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_sums(found: Doubles, permutations: int, seed: int) -> Iterator[Doubles]:
    """Sums of random patterns, `permutations` in all."""
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // found.size)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        bits = np.frombuffer(random.bytes(rows * -(-found.size // 8)), dtype=np.uint8).reshape(rows, -1)
        flips = np.unpackbits(bits, axis=1, count=found.size)
        yield found.sum() - 2 * (flips @ found)
