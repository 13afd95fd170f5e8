"""Sign-flip permutation test for paired differences, with the patient as its unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gtg_bench.benchmark.statistics.bounds import SEED

PERMUTATIONS = 9999
_CELLS = 4_000_000
"""Maximum permutations x patients per block, to bound memory."""

_SLACK = 1e-12
"""Relative tolerance for sums that are equal up to the order of addition."""


def sign_flip(contributions: ArrayLike, permutations: int = PERMUTATIONS, seed: int = SEED) -> float:
    """Two-sided p-value of the hypothesis that every patient's difference is symmetric about 0.

    The statistic is the absolute sum of the contributions. If the patients that contribute have at most `permutations`
    sign patterns, all of them are enumerated and p is exact. Otherwise that many are drawn, and p is
    (1 + number as extreme) / (1 + number drawn), which is never 0 and does not underestimate.

    Source: Fisher, The Design of Experiments, 1935; Phipson and Smyth, Permutation P-values Should Never Be Zero, 2010.

    Args:
        contributions: [patients], what each adds to the difference; all samples of a patient flip together.
        permutations: maximum number of patterns to enumerate, or the number to draw.
        seed: seed of the draws.

    Returns:
        A value in (0, 1]; 1 if there are no differences.
    """
    found = np.asarray(contributions, dtype=np.float64)
    found = found[found != 0]
    if not found.size:
        return 1.0
    bar = abs(found.sum()) - _SLACK * np.abs(found).sum()
    if found.size < permutations.bit_length():  # 2 ** size <= permutations, for any size
        sums = found[:1]  # the patterns with a positive first sign; the others have the same absolute sums
        for value in found[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= bar))
    random, extreme = np.random.default_rng(seed), 0
    step = max(1, _CELLS // found.size)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        bits = np.frombuffer(random.bytes(rows * -(-found.size // 8)), dtype=np.uint8).reshape(rows, -1)
        flips = np.unpackbits(bits, axis=1, count=found.size)
        extreme += int((np.abs(found.sum() - 2 * (flips @ found)) >= bar).sum())
    return (1 + extreme) / (1 + permutations)
