"""Sign-flip p-values of every pair of many runs at once: the patterns of signs are drawn once for all pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.statistics.averages import Doubles, Names
from gtg_bench.benchmark.statistics.bounds import SEED
from gtg_bench.benchmark.statistics.comparison import TIE, sample_weights
from gtg_bench.benchmark.statistics.permutation import PERMUTATIONS, SLACK, sign_flip

_CELLS = 4_000_000
"""Of permutations x patients or x runs, at a time."""

Pair = tuple[str, str]
Places = NDArray[np.int64]


def pairwise_p_values(
    values: Mapping[str, Doubles],
    categories: Names,
    patients: Names,
    kind: str = "overall",
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> dict[Pair, float | None]:
    """The p-value of each pair of runs, as `sign_flip` has it for the samples that both have.

    Where several pairs share all their samples, the sum of a pair's flipped differences is the difference of two runs'
    flipped sums, so that one matrix product serves all of them.

    Args:
        values: name -> float64 [samples], NaN where the run has no value.
        categories: of each sample.
        patients: of each sample.
        kind: one of AVERAGES.
        permutations: enumerated at most or drawn.
        seed: of the draws.

    Returns:
        (name, name) in the order of `values` -> p, not corrected; None where no sample is shared.
    """
    defined = {name: ~np.isnan(found) for name, found in values.items()}
    alike: dict[bytes, list[Pair]] = defaultdict(list)
    for one, other in combinations(values, 2):
        alike[(defined[one] & defined[other]).tobytes()].append((one, other))
    found: dict[Pair, float | None] = {}
    for key, pairs in alike.items():
        kept = np.frombuffer(key, dtype=bool)
        names = list(dict.fromkeys(name for pair in pairs for name in pair))
        weights = sample_weights(np.asarray(categories, dtype=np.str_)[kept], kind)
        _, rows = np.unique(np.asarray(patients)[kept], return_inverse=True)
        shares = np.bincount(rows, weights).astype(np.float64)
        sums = np.stack([np.bincount(rows, weights * values[name][kept]) for name in names], axis=1).astype(np.float64)
        columns = {name: column for column, name in enumerate(names)}
        places = np.array([(columns[one], columns[other]) for one, other in pairs])
        p_values = _p_values(sums, shares, places, permutations, seed) if kept.any() else [None] * len(pairs)
        found |= dict(zip(pairs, p_values, strict=True))
    return {pair: found[pair] for pair in combinations(values, 2)}


def _p_values(sums: Doubles, shares: Doubles, places: Places, permutations: int, seed: int) -> Sequence[float | None]:
    """The p-value of each pair.

    Args:
        sums: float64 [patients, runs], what each patient adds to each run's average.
        shares: float64 [patients], what each patient weighs.
        places: int [pairs, 2], columns of `sums`.
        permutations: enumerated at most or drawn.
        seed: of the draws.
    """
    ones, others = places.T
    differences = sums[:, ones] - sums[:, others]
    differences[np.abs(differences) <= TIE * shares[:, None]] = 0
    bars = np.abs(differences.sum(axis=0)) - SLACK * np.abs(differences).sum(axis=0)
    extreme = np.zeros(len(places), dtype=np.int64)
    for signs in _signs(len(sums), permutations, seed, len(places)):
        flipped = signs @ sums
        extreme += (np.abs(flipped[:, ones] - flipped[:, others]) >= bars).sum(axis=0)
    found = (1 + extreme) / (1 + permutations)
    few = 2.0 ** (differences != 0).sum(axis=0) <= permutations
    exact = (sign_flip(differences[:, index], permutations, seed) if few[index] else p for index, p in enumerate(found))
    return [float(p) for p in exact]


def _signs(patients: int, permutations: int, seed: int, pairs: int) -> Iterator[Doubles]:
    """Random signs, float64 [some permutations, patients] of -1 and 1, `permutations` in all."""
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // max(patients, pairs))
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        bits = np.frombuffer(random.bytes(rows * -(-patients // 8)), dtype=np.uint8).reshape(rows, -1)
        yield 1.0 - 2.0 * np.unpackbits(bits, axis=1, count=patients)
