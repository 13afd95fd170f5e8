"""Averages and their confidence intervals: by hand, by loops, against SciPy, and in simulations."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from gtg_bench.benchmark.statistics import (
    AVERAGES,
    Average,
    Spread,
    average,
    average_of_categories,
    bootstrap,
    bootstrap_averages,
    bounds,
    over_runs,
)
from gtg_bench.benchmark.statistics.averages import tally

VALUES = [1.0, 2.0, 6.0, 4.0, None, 8.0]
CATEGORIES = ["a", "a", "a", "b", "b", "c"]
PATIENTS = ["p", "p", "q", "q", "r", "s"]
MANY = [f"{block}{name}" for block in range(3) for name in PATIENTS]
"""Patients of VALUES * 3: nine with a value."""


# Averages


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overall", (1 + 2 + 6 + 4 + 8) / 5),
        ("macro", (3 + 4 + 8) / 3),
        ("frequency2", (9 * 3 + 1 * 4 + 1 * 8) / (9 + 1 + 1)),
    ],
)
def test_averages_by_hand(kind: str, expected: float) -> None:
    assert average(VALUES, CATEGORIES, kind) == Average(pytest.approx(expected), 5, 1)
    assert average_of_categories([3, 4, 8], [3, 1, 1], kind) == pytest.approx(expected)


@pytest.mark.parametrize("kind", AVERAGES)
def test_undefined_values_are_left_out_and_counted(kind: str) -> None:
    assert average([1, 2, 6], ["a"] * 3, kind) == Average(pytest.approx(3), 3, 0)
    assert average([None, 2, float("nan")], ["a", "b", "b"], kind) == Average(2, 1, 2)
    assert average([None, None], ["a", "b"], kind) == Average(None, 0, 2)
    assert average([], [], kind) == Average(None, 0, 0)


def average_by_loops(values: NDArray, categories: list[str], kind: str) -> float:
    groups = defaultdict(list)
    for value, category in zip(values.tolist(), categories, strict=True):
        groups[category].append(value)
    weights = {"overall": len, "macro": lambda group: 1, "frequency2": lambda group: len(group) ** 2}
    shares = {name: weights[kind](group) for name, group in groups.items()}
    return sum(shares[name] * sum(group) / len(group) for name, group in groups.items()) / sum(shares.values())


@pytest.mark.parametrize("kind", AVERAGES)
def test_averages_against_loops(kind: str) -> None:
    for seed in range(3):
        random = np.random.default_rng(seed)
        values, categories = random.standard_normal(70), random.choice(list("abcde"), 70, p=[0.5, 0.2, 0.2, 0.07, 0.03])
        expected = average_by_loops(values, categories.tolist(), kind)
        assert average(values, categories, kind).value == pytest.approx(expected, abs=1e-12)


def test_the_papers_weighted_average_weighs_by_frequency_squared() -> None:
    """Table 1, from its first row (Atelectasis) to its last (pleural effusion), with the pairs of MS-CXR."""
    counts = [61, 333, 117, 82, 46, 182, 245, 96]
    ldm_miou = [0.58, 0.65, 0.52, 0.46, 0.55, 0.53, 0.34, 0.55]
    ldm_cnr = [1.69, 1.37, 1.62, 1.57, 1.35, 1.60, 0.45, 1.65]
    clip_miou = [0.425, 0.451, 0.436, 0.402, 0.541, 0.438, 0.312, 0.356]
    biovil_l_miou = [0.302, 0.375, 0.346, 0.209, 0.275, 0.315, 0.135, 0.315]
    for means, kind, expected in (
        (ldm_miou, "frequency2", 0.537),
        (ldm_cnr, "frequency2", 1.207),
        (ldm_miou, "overall", 0.5235),
        (ldm_cnr, "overall", 1.290),
        (clip_miou, "frequency2", 0.409),
        (biovil_l_miou, "macro", 0.284),
    ):
        assert average_of_categories(means, counts, kind) == pytest.approx(expected, abs=0.0005)


def test_arguments_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="pair up"):
        average([1, 2], ["a"])
    with pytest.raises(ValueError, match="pair up"):
        bootstrap([1, 2], ["a", "a"], ["p"])
    for means, counts in ([], []), ([1, 2], [3]), ([1.0], [0]):
        with pytest.raises(ValueError, match="count"):
            average_of_categories(means, counts, "macro")


def test_runs_by_hand() -> None:
    assert over_runs([1, None, 3, 5]) == Spread(3, 2, 3, 1)
    assert over_runs([1.5]) == Spread(1.5, None, 1, 0)
    assert over_runs([None]) == Spread(None, None, 0, 1)
    assert over_runs([]) == Spread(None, None, 0, 0)


# Confidence intervals: degenerate cases and seeds


@pytest.mark.parametrize("kind", AVERAGES)
def test_equal_values_have_an_interval_of_no_width(kind: str) -> None:
    found = bootstrap([0.3] * 18, CATEGORIES * 3, MANY, kind)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3), abs=1e-12)
    assert (found.n, found.n_undefined, found.n_patients) == (18, 0, 12)


@pytest.mark.parametrize(
    ("patients", "note"), [(0, "no"), (1, "no"), (4, "no"), (5, "unreliable"), (19, "unreliable"), (20, "")]
)
def test_few_patients_have_no_interval_or_one_with_a_note(patients: int, note: str) -> None:
    """Two samples of each patient, and one of another patient without a value."""
    names = [str(k) for k in range(patients)] * 2 + ["other"]
    found = bootstrap([*range(2 * patients), None], ["a"] * len(names), names)
    assert (found.low is None, found.high is None) == (patients < 5, patients < 5)
    assert found.value == (pytest.approx(patients - 0.5) if patients else None)
    assert (found.n, found.n_undefined, found.n_patients) == (2 * patients, 1, patients)
    counted = f"{patients} patient{'s' * (patients != 1)}"
    assert found.note == (f"only {counted}: {note} CI" if note else "")


def test_intervals_are_seeded_and_their_estimate_is_the_average() -> None:
    data = VALUES * 3, CATEGORIES * 3, MANY
    found = bootstrap(*data, "macro", seed=1)
    assert found == bootstrap(*data, "macro", seed=1)
    assert (found.value, found.n_patients) == (pytest.approx(5), 9)
    together = bootstrap_averages(*data, seed=1)
    assert list(together) == list(AVERAGES)
    assert together["macro"] == found
    turned = bootstrap(*(column[::-1] for column in data), "macro", seed=1)
    assert (turned.low, turned.high) == pytest.approx((found.low, found.high), abs=1e-12)
    random = np.random.default_rng(0).random(50)
    names = [str(i) for i in range(50)]
    assert bootstrap(random, names, names, seed=1).low != bootstrap(random, names, names, seed=2).low


# Resamples: independent implementations


def sample(patients: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]]:
    """Skewed values of one to four samples per patient, three categories; some values undefined."""
    random = np.random.default_rng(seed)
    names = np.repeat([f"{number:04}" for number in range(patients)], random.integers(1, 5, patients))
    per_patient = {name: random.exponential() for name in names}
    values = np.array([per_patient[name] + random.exponential(0.5) for name in names])
    values[random.random(len(names)) < 0.1] = np.nan
    return values, random.choice(["a", "b", "c"], len(names), p=[0.6, 0.3, 0.1]), names


def percentiles(values: NDArray, categories: NDArray, patients: NDArray, kind: str, resamples: int, seed: int) -> tuple:
    """The plain percentiles of the resamples."""
    drawn = bounds._drawn(tally(values, categories, patients), (kind,), resamples, seed)[kind]
    return tuple(np.quantile(drawn, (0.025, 0.975)))


@pytest.mark.parametrize("kind", AVERAGES)
def test_resamples_against_loops(kind: str) -> None:
    """Patients are drawn one by one from the same stream of random numbers, and their samples averaged."""
    values, categories, names = sample(12, 3)
    kept = ~np.isnan(values)
    values, categories, names = values[kept], categories[kept], names[kept]
    patients, random, expected = sorted(set(names)), np.random.default_rng(8), []
    for _ in range(300):
        drawn = [patients[index] for index in random.integers(0, len(patients), len(patients))]
        rows = [row for patient in drawn for row in np.flatnonzero(names == patient)]
        expected.append(average_by_loops(values[rows], categories[rows].tolist(), kind))
    found = bounds._drawn(tally(*sample(12, 3)), (kind,), 300, 8)[kind]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("patients", [5, 40])
def test_percentiles_of_means_of_patients_are_those_of_scipy(patients: int) -> None:
    """A mean over clusters is a ratio of two sums over patients; SciPy draws the same patients from the same seed."""
    values, _, names = sample(patients, 1)
    kept = ~np.isnan(values)
    _, rows = np.unique(names[kept], return_inverse=True)
    expected = stats.bootstrap(
        (np.bincount(rows, values[kept]), np.bincount(rows)),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        n_resamples=1000,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(6),
    ).confidence_interval
    found = percentiles(values, np.full(len(values), "a"), names, "overall", 1000, 6)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_blocks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sample(30, 0)
    whole = bootstrap_averages(*data, resamples=500)
    monkeypatch.setattr(bounds, "_CELLS", 1000)
    assert bootstrap_averages(*data, resamples=500) == whole


# Widths


def test_intervals_of_few_patients_are_as_wide_as_a_t_interval() -> None:
    values = np.random.default_rng(2).standard_normal(9)
    names, category = np.array([str(i) for i in range(9)]), np.full(9, "a")
    found = bootstrap(values, category, names, resamples=40000)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.08)
    low, high = percentiles(values, category, names, "overall", 40000, bounds.SEED)
    assert found.high - found.low > 1.15 * (high - low)
    data = sample(800, 0)
    many = bootstrap(*data)
    assert (many.low, many.high) == pytest.approx(percentiles(*data, "overall", 2000, bounds.SEED), abs=0.01)


def test_a_macro_average_of_rare_categories_is_widened_more_than_a_mean() -> None:
    """Category b has only three patients, so the interval is that of three values, not of forty."""
    values = np.random.default_rng(0).standard_normal(40)
    names, categories = np.array([f"{k:02}" for k in range(40)]), np.array(["b" if k < 3 else "a" for k in range(40)])
    widths = {}
    for kind in ("overall", "macro"):
        low, high = percentiles(values, categories, names, kind, 2000, bounds.SEED)
        wide = bootstrap(values, categories, names, kind)
        widths[kind] = (wide.high - wide.low) / (high - low)
    assert 1.0 < widths["overall"] < 1.1
    assert widths["macro"] > 1.2


# Coverage, by simulation


def covered(patients: int, kind: str, runs: int, plain: bool = False) -> float:
    """How often the interval holds the truth; at least half of the variance is between patients."""
    random, hits = np.random.default_rng(11), 0
    shares = np.array([0.5, 0.3, 0.2])
    weights = {"overall": shares, "macro": np.full(3, 1 / 3), "frequency2": shares**2 / (shares**2).sum()}
    truth = 0.3 * weights[kind] @ np.arange(3)
    for run in range(runs):
        sizes = random.integers(1, 4, patients)
        names = np.repeat(np.arange(patients), sizes)
        categories = random.choice(3, len(names), p=shares)
        values = np.repeat(random.gamma(4, 0.5, patients) - 2, sizes) + 0.5 * random.standard_normal(len(names))
        data = values + 0.3 * categories, categories.astype(str), names.astype(str)
        if plain:
            low, high = percentiles(*data, kind, 1000, run)
        else:
            found = bootstrap(*data, kind, 1000, seed=run)
            assert found.low is not None
            assert found.high is not None
            low, high = found.low, found.high
        hits += low <= truth <= high
    return hits / runs


@pytest.mark.parametrize(("kind", "patients"), [("overall", 60), ("macro", 60), ("frequency2", 60), ("macro", 20)])
def test_intervals_hold_the_truth_in_93_to_97_of_100_clustered_samples(kind: str, patients: int) -> None:
    assert 0.93 <= covered(patients, kind, runs=1200) <= 0.97


def test_few_patients_need_expanded_percentiles() -> None:
    assert covered(8, "overall", 400, plain=True) < 0.91 < covered(8, "overall", 400)
