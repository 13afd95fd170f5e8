"""All distances between two sets of features, each with a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtg_bench.benchmark.quality.distances import fast_fid, fid, fid_infinity, kernel, kid, mmd
from gtg_bench.benchmark.quality.neighbours import NEIGHBOURS, distances, manifold
from gtg_bench.benchmark.quality.results import MEASURES, Value
from gtg_bench.benchmark.statistics.bounds import LEAST_PATIENTS

HALVES = 100
"""Pairs of random halves from which an interval is computed."""

_Z = 1.959964
_LIMITS = {"fid": (0.0, math.inf), "density": (0.0, math.inf)} | dict.fromkeys(
    ("precision", "recall", "coverage"), (0.0, 1.0)
)
"""Smallest and largest possible values, which an interval does not leave."""

_EXTRAPOLATED = 256
"""Most features for which the extrapolated FID gets an interval, which takes 17 FIDs for each pair of halves."""


def compare(
    real: Tensor, other: Tensor, real_groups: Sequence[str], groups: Sequence[str], seed: int
) -> dict[str, Value]:
    """Every measure of a set of images against real ones; those that need more images are absent.

    Intervals come from HALVES random halves of both sides, drawn without replacement and by whole groups: for a mean,
    the variance between halves equals that of the mean of all n (delete-half jackknife; Shao and Wu, Annals of
    Statistics 17, 1989, who show it for statistics that are not smooth, too). A bootstrap would repeat images, which
    FID, KID and nearest neighbours all mistake for similarity.

    Args:
        real, other: features float64 [n, D] of the same number of images, at least 2.
        real_groups, groups: patient or prompt of each image.
        seed: of the halves and subsets.
    """
    pairs = _Pairs.of(real, other)
    found = _measured(pairs, seed)
    found["fid"] = fid(real, other)
    spread = None
    if "kid" in found:
        found["kid"], spread = kid(real, other, seed)
    drawn: dict[str, list[float]] = {}
    if min(len(set(real_groups)), len(set(groups))) >= LEAST_PATIENTS:
        random = np.random.default_rng(seed)
        for a, b in zip(_halves(real_groups, random), _halves(groups, random), strict=True):
            for name, value in _measured(pairs.part(a, b), seed, inner=True).items():
                drawn.setdefault(name, []).append(value)
    return {
        name: _value(name, found[name], drawn.get(name), spread if name == "kid" else None)
        for name in MEASURES
        if name in found
    }


def _value(name: str, value: float, drawn: list[float] | None, spread: float | None) -> Value:
    if drawn is None:
        return Value(value, spread=spread)
    half = _Z * float(np.std(drawn, ddof=1))
    least, most = _LIMITS.get(name, (-math.inf, math.inf))
    return Value(value, max(least, value - half), min(most, value + half), spread)


@dataclass(frozen=True)
class _Pairs:
    """Features of both sides, with distances and kernels within and between them."""

    real: Tensor
    other: Tensor
    distances: tuple[Tensor, Tensor, Tensor]
    kernels: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, real: Tensor, other: Tensor) -> _Pairs:
        """Compute the matrices."""
        sides = ((real, real), (real, other), (other, other))
        found = [(distances(one, two), kernel(one, two)) for one, two in sides]
        return cls(real, other, tuple(d for d, _ in found), tuple(k for _, k in found))  # type: ignore[arg-type]

    def part(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> _Pairs:
        """Some images of both sides."""
        rows, columns = torch.from_numpy(a), torch.from_numpy(b)
        places = ((rows, rows), (rows, columns), (columns, columns))
        cut = [tuple(m[i][:, j] for m, (i, j) in zip(ms, places, strict=True)) for ms in (self.distances, self.kernels)]
        return _Pairs(self.real[rows], self.other[columns], *cut)  # type: ignore[arg-type]


def _measured(pairs: _Pairs, seed: int, inner: bool = False) -> dict[str, float]:
    """The measures of one draw; `inner` for those of a half."""
    n, size = pairs.real.shape
    found = {"fid": fast_fid(pairs.real, pairs.other)}
    if n >= 4 or inner:
        found["kid"] = mmd(*pairs.kernels)
    if n >= 2 * size and (not inner or size <= _EXTRAPOLATED):
        found["fid_infinity"] = fid_infinity(pairs.real, pairs.other, seed)
    if n > NEIGHBOURS:
        found |= manifold(*pairs.distances)
    return found


def _halves(groups: Sequence[str], random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Indices of half of the images, by whole groups but for the last one, HALVES times."""
    members: dict[str, list[int]] = {}
    for place, name in enumerate(groups):
        members.setdefault(name, []).append(place)
    lists = list(members.values())
    for _ in range(HALVES):
        order = [place for number in random.permutation(len(lists)) for place in lists[number]]
        yield np.array(order[: len(groups) // 2])
