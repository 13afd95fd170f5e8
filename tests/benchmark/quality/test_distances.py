"""FID, KID and nearest-neighbour measures of features: by hand, by loops, and against other libraries."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.metric_prc import calculate_precision_recall_full

from gtg_bench.benchmark.quality.compare import compare
from gtg_bench.benchmark.quality.distances import fast_fid, fid, fid_infinity, kernel, kid, mmd
from gtg_bench.benchmark.quality.neighbours import distances, manifold, nearest


def gaussian(n: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(n: int, size: int, seed: int = 0) -> Tensor:
    """Features whose mean is exactly 0 and whose covariance is exactly the identity."""
    values = gaussian(n, size, seed)
    orthogonal = torch.linalg.qr(values - values.mean(0)).Q
    return orthogonal * (n - 1) ** 0.5


def numpy_fid(a: np.ndarray, b: np.ndarray) -> float:
    one, two = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(one @ two))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + two - 2 * root))


@pytest.mark.parametrize("measure", [fid, fast_fid])
def test_fid_has_its_closed_form(measure) -> None:
    values = whitened(50, 6)
    assert measure(values, 3 * values + 0.5) == pytest.approx(6 * 0.5**2 + 6 * (3 - 1) ** 2)
    assert measure(values, values) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m", "size"), [(40, 40, 7), (40, 25, 7), (12, 12, 30)])
def test_fid_equals_plain_numpy_and_the_fast_one(n: int, m: int, size: int) -> None:
    a, b = gaussian(n, size), gaussian(m, size, 1) * 1.5 + 0.3
    assert fid(a, b) == pytest.approx(fast_fid(a, b), rel=1e-5)
    if n > size:
        assert fid(a, b) == pytest.approx(numpy_fid(a.numpy(), b.numpy()), rel=1e-6)


def test_extrapolation_removes_the_bias_of_fid() -> None:
    true = 8 * 0.2**2
    found = [(gaussian(60, 8, seed), gaussian(60, 8, seed + 100) + 0.2) for seed in range(20)]
    biased = np.mean([fid(a, b) for a, b in found])
    assert biased > true + 0.5
    assert np.mean([fid_infinity(a, b) for a, b in found]) == pytest.approx(true, abs=0.25)


def test_kid_equals_loops_over_pairs() -> None:
    a, b = gaussian(5, 3), gaussian(6, 3, 1) + 1

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within = sum(k(a[i], a[j]) for i, j in product(range(5), repeat=2) if i != j) / 20
    within += sum(k(b[i], b[j]) for i, j in product(range(6), repeat=2) if i != j) / 30
    expected = within - 2 * sum(k(x, y) for x, y in product(a, b)) / 30
    assert mmd(kernel(a, a), kernel(a, b), kernel(b, b)) == pytest.approx(expected)


def test_kid_is_reproducible_unbiased_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    same = [kid(gaussian(40, 5, seed), gaussian(40, 5, seed + 100))[0] for seed in range(40)]
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(np.mean(same)) < 3 * np.std(same) / 40**0.5
    a, b = gaussian(40, 5), gaussian(40, 5, 1) + 1
    assert kid(a, b) == kid(a, b)
    assert kid(a, b)[0] == pytest.approx(mmd(kernel(a, a), kernel(a, b), kernel(b, b)), rel=0.2)


def test_neighbours_by_hand() -> None:
    """Real points 0, 1, 3 have radii 1, 1, 2 for one neighbour; the others 0.5 and 9 have 8.5."""
    real, other = (torch.tensor(values).double()[:, None] for values in ([0, 1, 3], [0.5, 9]))
    found = manifold(*(distances(a, b) for a, b in ((real, real), (real, other), (other, other))), k=1)
    assert found == {"precision": 0.5, "recall": 1.0, "density": pytest.approx(1.0), "coverage": pytest.approx(2 / 3)}


def test_neighbours_equal_loops_and_torch_fidelity() -> None:
    a, b, k = gaussian(30, 4), gaussian(30, 4, 1) + 0.5, 5
    radii = [sorted(float((x - y).norm()) for y in a)[k] for x in a]
    inside = np.array([[float((x - y).norm()) < radius for y in b] for x, radius in zip(a, radii, strict=True)])
    found = manifold(distances(a, a), distances(a, b), distances(b, b), k)
    assert found["density"] == pytest.approx(inside.sum() / (k * len(b)))
    assert found["coverage"] == pytest.approx(inside.any(1).mean())
    expected = calculate_precision_recall_full(b, a, neighborhood=k)
    assert (found["precision"], found["recall"]) == pytest.approx(expected)


def test_nearest_equals_a_search_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gtg_bench.benchmark.quality.neighbours._BLOCK", 7)
    images, training = gaussian(9, 3), gaussian(20, 3, 1)
    training[17] = images[4]
    gaps, where = nearest(images, training)
    every = distances(images, training)
    assert torch.equal(gaps, every.min(1).values)
    assert torch.equal(where, every.argmin(1))
    assert (float(gaps[4]), int(where[4])) == (0, 17)


# all of them, with intervals


def names(n: int, per: int = 1) -> list[str]:
    return [str(i // per) for i in range(n)]


def test_the_interval_of_kid_covers_the_truth() -> None:
    hits, runs = 0, 15
    for seed in range(runs):
        a, b = gaussian(40, 20, seed), gaussian(40, 20, seed + 1000)
        found = compare(a, b, names(40), names(40), seed)["kid"]
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert hits >= 0.85 * runs


def test_images_of_one_prompt_widen_the_interval() -> None:
    real, prompts = gaussian(80, 30), gaussian(10, 30, 1)
    other = prompts.repeat_interleave(8, 0) + 0.01 * gaussian(80, 30, 2)
    alone, grouped = (compare(real, other, names(80), groups, 0)["kid"] for groups in (names(80), names(80, 8)))
    assert (grouped.high or 0) - (grouped.low or 0) > 1.3 * ((alone.high or 0) - (alone.low or 0))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (2, {"fid"}),
        (5, {"fid", "kid"}),
        (10, {"fid", "kid", "precision", "recall", "density", "coverage", "fid_infinity"}),
    ],
)
def test_measures_that_need_more_images_are_absent(n: int, expected: set[str]) -> None:
    found = compare(gaussian(n, 5), gaussian(n, 5, 1), names(n), ["one"] * n, 0)
    assert found.keys() == expected
    assert all(value.low is None for value in found.values())
