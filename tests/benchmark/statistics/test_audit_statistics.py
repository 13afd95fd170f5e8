"""AUROC of presence, averages over runs and patients, and what a comparison can detect."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gtg_bench.benchmark.statistics import bootstrap, bounds_of, detectable, over_runs_and_patients, presence_auroc

PATIENTS = [f"p{k:02d}" for k in range(40)]


def test_presence_auroc_is_that_of_sklearn_within_groups() -> None:
    random = np.random.default_rng(0)
    scores, shown = random.normal(0, 1, 40).round(1), random.random(40) < 0.5
    groups = np.array(["a", "b"])[random.integers(0, 2, 40)]
    found = presence_auroc(scores.tolist(), shown.tolist(), groups.tolist(), PATIENTS)
    pairs = {g: (shown[groups == g].sum() * (~shown[groups == g]).sum()) for g in "ab"}
    parts = {g: roc_auc_score(shown[groups == g], scores[groups == g]) for g in "ab"}
    assert found.value == pytest.approx(sum(pairs[g] * parts[g] for g in "ab") / sum(pairs.values()))
    assert (found.low or 1) < found.value < (found.high or 0)


@pytest.mark.parametrize(
    ("scores", "value"), [([2, 2, 1, 1], 1.0), ([1, 1, 1, 1], 0.5), ([1, 1, 2, 2], 0.0), ([2, 1, 1, 2], 0.5)]
)
def test_presence_auroc_by_hand(scores: list[float], value: float) -> None:
    assert presence_auroc(scores, [True, True, False, False], ["x"] * 4, list("abcd")).value == value


def test_a_group_without_pairs_is_left_out() -> None:
    found = presence_auroc([1, 0, 9], [True, False, False], ["x", "x", "y"], list("abc"))
    assert (found.value, found.n, found.n_undefined, found.n_patients) == (1.0, 2, 1, 2)
    assert presence_auroc([1.0], [True], ["x"], ["a"]).value is None


def test_bounds_of_a_mean_are_those_of_the_bootstrap() -> None:
    values = np.random.default_rng(1).normal(0, 1, 40)
    low, high = bounds_of(lambda weights: weights @ values / weights.sum(axis=1), 40)
    known = bootstrap(values, ["x"] * 40, PATIENTS)
    assert (low, high) == (pytest.approx(known.low), pytest.approx(known.high))
    assert bounds_of(lambda weights: weights.sum(axis=1), 4) == (None, None)


def test_the_interval_over_runs_covers_their_spread() -> None:
    values = np.random.default_rng(2).normal(0, 1, 40)
    alike = over_runs_and_patients([values, values], ["x"] * 40, PATIENTS)
    apart = over_runs_and_patients([values + 1, values - 1], ["x"] * 40, PATIENTS)
    known = bootstrap(values, ["x"] * 40, PATIENTS)
    assert (alike.value, apart.value) == (pytest.approx(known.value), pytest.approx(known.value))
    assert (alike.low, alike.high) == (pytest.approx(known.low), pytest.approx(known.high))
    assert (apart.low or 0) < (alike.low or 0) - 0.5
    assert over_runs_and_patients([[1.0, None], [2.0, 3.0]], ["x"] * 2, ["a", "b"]).n == 1


def test_the_detectable_difference_is_2_8_standard_errors() -> None:
    assert detectable(-1.96, 1.96) == pytest.approx(2.80, abs=0.005)
    assert detectable(None, None) is None
