"""Paired comparisons: permutation test, effect size, correction for multiple comparisons."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from gtg_bench.benchmark.api.types import SampleRecord, Status
from gtg_bench.benchmark.statistics import (
    AVERAGES,
    Comparison,
    Pairs,
    average,
    bootstrap,
    compare,
    holm,
    paired,
    permutation,
    sign_flip,
)


def pairs_of(ours: list[float], theirs: list[float], categories: str, patients: str) -> Pairs:
    return Pairs(np.array(ours), np.array(theirs), np.array(list(categories)), np.array(list(patients)))


SMALL = pairs_of([0.9, 0.5, 0.4, 0.7, 0.2], [0.5, 0.4, 0.4, 0.3, 0.3], "aaabb", "ppqrr")


# The permutation test


@pytest.mark.parametrize("patients", [13, 14, 1023, 1024, 5000])
def test_sign_flips_of_many_patients(patients: int) -> None:
    """Two to the number of patients exceeds the range of a float from 1,024 on."""
    noise = np.random.default_rng(patients).normal(size=patients)
    assert sign_flip(noise + 10) < 0.001
    assert sign_flip(np.where(np.arange(patients) % 2, 1.0, -1.0)) > 0.5


def test_sign_flips_by_hand() -> None:
    # Sums of +-1 +-2 +-3: 6, 4, 2, 0 and their negatives; 0 twice. Of the eight, two are as extreme as 6.
    assert sign_flip([1, 2, 3]) == sign_flip([1, 0, 2, 0, 3]) == 2 / 8  # patients without a difference do not matter
    assert sign_flip([-1, 2, 3]) == 4 / 8
    assert sign_flip([1, 2, -3]) == sign_flip([5]) == sign_flip([0, 0]) == sign_flip([]) == 1


@pytest.mark.parametrize("patients", [2, 5, 10])
def test_enumeration_against_loops_and_scipy(patients: int) -> None:
    for seed in range(3):
        unrounded = np.random.default_rng(seed).standard_normal(patients)
        found = unrounded.round(1)
        patterns = itertools.product([1, -1], repeat=patients)
        flipped = [sum(s * v for s, v in zip(signs, found, strict=True)) for signs in patterns]
        assert sign_flip(found) == sum(abs(total) >= abs(found.sum()) - 1e-9 for total in flipped) / 2**patients
        expected = stats.permutation_test((unrounded,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip(unrounded) == pytest.approx(expected.pvalue)


def test_patterns_are_drawn_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.random.default_rng(0).standard_normal(13)
    assert sign_flip(found, seed=1) == sign_flip(found, seed=2)
    assert sign_flip(found, permutations=8191, seed=1) != sign_flip(found, permutations=8191, seed=2)
    for seed in range(4):
        found = np.random.default_rng(seed).standard_normal(12) + 0.3
        exact, drawn = sign_flip(found), sign_flip(found, permutations=4000, seed=seed)
        assert drawn == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4000) ** 0.5 + 1 / 4000)
    assert sign_flip(np.ones(200), permutations=999) == 1 / 1000, "never zero"
    found = np.random.default_rng(5).standard_normal(37)
    whole = sign_flip(found, permutations=3000)
    monkeypatch.setattr(permutation, "_CELLS", 5000)
    assert sign_flip(found, permutations=3000) == pytest.approx(whole, abs=0.03)


def test_thousands_of_patients() -> None:
    """Sums of 5,000 signs are normal with a standard deviation of sqrt(5,000)."""
    ones = np.where(np.arange(5000) < 2570, 1.0, -1.0)
    assert sign_flip(ones) == pytest.approx(2 * stats.norm.sf(139 / 5000**0.5), abs=0.01)
    assert sign_flip(np.ones(5000), permutations=99) == 1 / 100
    for patients in (1023, 1024, 1025):
        assert 0 < sign_flip(ones[:patients], permutations=9) <= 1
    # Enumerated as long as 2^n is at most the number of permutations.
    assert [sign_flip([1, 2, 3], permutations=number) for number in (8, 9)] == [2 / 8] * 2
    assert sign_flip([1, 2, 3], permutations=7) != 2 / 8


# Comparisons


def test_a_comparison_by_hand() -> None:
    # Differences 0.4, 0.1, 0, 0.4, -0.1; per patient 0.5, 0, 0.3.
    found = compare(SMALL)
    assert (found.n, found.n_patients) == (5, 3)
    assert (found.ours, found.theirs) == (pytest.approx(0.54), pytest.approx(0.38))
    assert found.difference == pytest.approx(0.16)
    assert found.p_value == 2 / 4
    assert found.effect_size == pytest.approx(0.16 / np.std([0.4, 0.1, 0, 0.4, -0.1], ddof=1))
    assert (found.wins, found.ties, found.losses) == (3, 1, 1)
    assert (found.low, found.note) == (None, "only 3 patients: no CI")
    lower = compare(SMALL, higher_is_better=False)
    assert (lower.wins, lower.ties, lower.losses, lower.difference) == (1, 1, 3, found.difference)
    # Category means of ours - theirs: a 0.5 / 3, b 0.15.
    assert compare(SMALL, "macro").difference == pytest.approx((0.5 / 3 + 0.15) / 2)
    assert compare(SMALL, "frequency2").difference == pytest.approx((9 * 0.5 / 3 + 4 * 0.15) / 13)


def random_pairs(seed: int, patients: int, shift: float = 0.0) -> Pairs:
    random = np.random.default_rng(seed)
    names = np.repeat([f"{number:04}" for number in range(patients)], random.integers(1, 4, patients))
    theirs = random.random(len(names))
    per_patient = {name: random.normal(shift, 0.1) for name in names}
    ours = theirs + [per_patient[name] for name in names] + random.normal(0, 0.05, len(names))
    return Pairs(ours, theirs, random.choice(["a", "b", "c"], len(names), p=[0.6, 0.3, 0.1]), names)


@pytest.mark.parametrize("kind", AVERAGES)
def test_the_difference_of_averages_is_the_average_of_differences(kind: str) -> None:
    pairs = random_pairs(0, 30)
    found = compare(pairs, kind)
    ours, theirs = (average(values, pairs.categories, kind).value for values in (pairs.ours, pairs.theirs))
    assert (found.ours, found.theirs) == pytest.approx((ours, theirs))
    assert found.difference == pytest.approx(ours - theirs)
    interval = bootstrap(pairs.ours - pairs.theirs, pairs.categories, pairs.patients, kind)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def p_by_loops(pairs: Pairs, kind: str) -> float:
    """Swap the two runs for every subset of patients and average anew."""
    names, found = sorted(set(pairs.patients)), []
    for swapped in itertools.product([False, True], repeat=len(names)):
        chosen = np.isin(pairs.patients, [name for name, swap in zip(names, swapped, strict=True) if swap])
        ours, theirs = np.where(chosen, pairs.theirs, pairs.ours), np.where(chosen, pairs.ours, pairs.theirs)
        one, other = (average(values, pairs.categories, kind).value for values in (ours, theirs))
        found.append(abs(one - other))
    return float(np.mean(np.array(found) >= found[0] - 1e-12))


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize("seed", range(2))
def test_p_values_against_swapping_the_runs_of_patients(kind: str, seed: int) -> None:
    pairs = random_pairs(seed, 7, shift=0.05)
    assert compare(pairs, kind).p_value == pytest.approx(p_by_loops(pairs, kind))


def test_equal_runs() -> None:
    found = compare(Pairs(SMALL.ours, SMALL.ours, SMALL.categories, SMALL.patients))
    assert (found.difference, found.p_value, found.effect_size) == (0, 1, None)
    assert (found.wins, found.ties, found.losses) == (0, 5, 0)
    rounding = np.random.default_rng(0).normal(0, 1e-11, 5) + 1e-11
    found = compare(Pairs(SMALL.ours + rounding, SMALL.ours, SMALL.categories, SMALL.patients))
    assert (found.difference, found.p_value, found.ties) == (0, 1, 5)


def test_nothing_to_compare() -> None:
    empty = pairs_of([], [], "", "")
    nothing = dict.fromkeys(("ours", "theirs", "difference", "low", "high", "p_value", "effect_size"))
    assert compare(empty) == Comparison(
        n=0, n_patients=0, only_ours=0, only_theirs=0, **nothing, wins=0, ties=0, losses=0
    )
    one = compare(pairs_of([0.5], [0.25], "a", "p"))
    assert (one.difference, one.low, one.p_value, one.effect_size, one.wins) == (0.25, None, 1, None, 1)


# Pairing records


def record(name: str, metrics: dict[str, float], status: Status = "ok") -> SampleRecord:
    return SampleRecord(name, "image", f"patient {name}", "edema", status, metrics=metrics)


def test_records_are_paired_where_both_have_the_metric() -> None:
    ours = [record("c", {"cnr": 3}), record("a", {"cnr": 1}), record("b", {"iou": 1}), record("d", {"cnr": 4})]
    theirs = [record("a", {"cnr": 5}), record("b", {"cnr": 6}), record("c", {"cnr": 7})]
    theirs += [record("d", {"cnr": 8}, "failed"), record("e", {"cnr": 9})]
    pairs = paired(ours, theirs, "cnr")
    assert (pairs.ours.tolist(), pairs.theirs.tolist()) == ([1, 3], [5, 7])
    assert (pairs.patients.tolist(), pairs.categories.tolist()) == (["patient a", "patient c"], ["edema"] * 2)
    assert (pairs.only_ours, pairs.only_theirs) == (1, 2)
    found = compare(pairs)
    assert (found.n, found.only_ours, found.only_theirs, found.losses) == (2, 1, 2, 2)


def test_pairs_of_a_category() -> None:
    part = SMALL.of_category("b")
    assert (part.ours.tolist(), part.patients.tolist()) == ([0.7, 0.2], ["r", "r"])
    assert compare(part).difference == pytest.approx(0.15)
    assert compare(SMALL.of_category("z")).n == 0


# Many comparisons


def test_holm_by_hand() -> None:
    # Times 4, 3, 2 and 1 in rising order; 0.03 x 2 is raised to the 0.09 before it.
    assert holm([0.01, 0.04, 0.03, 0.03]) == pytest.approx([0.04, 0.09, 0.09, 0.09])
    assert holm([0.5, None, 0.4]) == [0.8, None, 0.8]
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
    assert holm([None]) == [None]


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2, 0.5])
def test_holm_rejects_what_its_steps_reject(level: float) -> None:
    """The smallest p-values in turn, until one is too large."""
    for seed in range(5):
        p_values = np.random.default_rng(seed).random(12) ** 4
        order = np.argsort(p_values, kind="stable")
        passes = p_values[order] <= level / np.arange(12, 0, -1)
        rejected = order[: passes.argmin() if not passes.all() else 12]
        corrected = holm(p_values.tolist())
        assert {index for index, p in enumerate(corrected) if p <= level} == set(rejected.tolist())
