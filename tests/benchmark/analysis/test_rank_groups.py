"""Rank groups: every pair at once as one by one, groups by hand, simulations, and rows of a leaderboard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from gtg_bench.benchmark.analysis.rank_groups import groups, groups_of_rows, regroup
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.statistics import AVERAGES, Pairs, compare, pairwise, pairwise_p_values

Make = Callable[..., RunSpec]


def setting(patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Categories and patients of two samples a patient."""
    random = np.random.default_rng(seed)
    names = np.repeat([f"p{k:03}" for k in range(patients)], 2)
    return random.choice(["a", "b", "c"], 2 * patients, p=[0.6, 0.3, 0.1]), names


def one_by_one(values: dict[str, np.ndarray], categories: np.ndarray, patients: np.ndarray, kind: str) -> list[float]:
    found = []
    for one, other in combinations(values, 2):
        kept = ~np.isnan(values[one]) & ~np.isnan(values[other])
        pairs = Pairs(values[one][kept], values[other][kept], categories[kept], patients[kept])
        found.append(compare(pairs, kind, resamples=2).p_value)
    return found


@pytest.mark.parametrize("kind", AVERAGES)
@pytest.mark.parametrize("holes", [False, True])
def test_few_patients_give_exactly_what_a_comparison_of_two_gives(kind: str, holes: bool) -> None:
    random = np.random.default_rng(1)
    categories, patients = setting(9)
    values = {name: random.random(18) for name in "xyz"}
    if holes:
        values["y"][:3] = np.nan
        values["z"][10] = np.nan
    found = pairwise_p_values(values, categories, patients, kind)
    assert list(found) == [("x", "y"), ("x", "z"), ("y", "z")]
    assert list(found.values()) == pytest.approx(one_by_one(values, categories, patients, kind))


@pytest.mark.parametrize("kind", AVERAGES)
def test_many_patients_give_about_what_a_comparison_of_two_gives(kind: str) -> None:
    """Both draw 9,999 patterns, other ones: within four standard errors of each."""
    random = np.random.default_rng(2)
    categories, patients = setting(60)
    base = random.random(120)
    values = {name: base + random.normal(gain, 0.2, 120) for name, gain in zip("wxyz", (0, 0, 0.03, 0.2), strict=True)}
    values["x"][:20] = np.nan
    for ours, theirs in zip(
        pairwise_p_values(values, categories, patients, kind).values(),
        one_by_one(values, categories, patients, kind),
        strict=True,
    ):
        assert ours == pytest.approx(theirs, abs=4 * (2 * theirs * (1 - theirs) / 9999) ** 0.5 + 1e-4)


def test_blocks_of_patterns_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    categories, patients = setting(40)
    values = {name: random.random(80) for name in "xyz"}
    whole = pairwise_p_values(values, categories, patients)
    monkeypatch.setattr(pairwise, "_CELLS", 1000)
    parts = pairwise_p_values(values, categories, patients)
    assert list(parts.values()) == pytest.approx(list(whole.values()), abs=0.03)


def test_runs_that_share_nothing_or_are_the_same() -> None:
    categories, patients = setting(30)
    left, right = np.full(60, np.nan), np.full(60, np.nan)
    left[:30], right[30:] = 1, 2
    same = np.random.default_rng(0).random(60)
    found = pairwise_p_values({"l": left, "r": right, "s": same, "t": same + 1e-11}, categories, patients)
    assert (found["l", "r"], found["s", "t"]) == (None, 1)
    assert pairwise_p_values({}, [], []) == pairwise_p_values({"s": same}, categories, patients) == {}


def runs_of(values: dict[str, np.ndarray], make: Make, patients: int) -> tuple[list[FinishedRun], dict[str, str]]:
    """Runs of the given values of cnr, two samples a patient, and the name of each key."""
    runs = [
        FinishedRun(
            make(method=name, n=0),
            [
                SampleRecord(f"s{k}", "i", f"p{k % patients}", "AB"[k % 2], "ok", {"cnr": float(value)})
                for k, value in enumerate(found)
            ],
        )
        for name, found in values.items()
    ]
    return runs, {run.spec.key: run.spec.method for run in runs}


def test_groups_by_hand(finished: Make) -> None:
    """Two that differ by noise alone, one clearly below, one that differs from no one for want of samples."""
    random = np.random.default_rng(0)
    base = random.random(80)
    values = {"a": base + random.normal(0, 0.1, 80), "b": base + random.normal(0, 0.1, 80), "c": base - 0.5}
    values["few"] = base[:2] - 0.1
    runs, names = runs_of(values, finished, 40)
    runs.append(FinishedRun(finished(method="broken", n=0), []))
    found = {names[key]: group for key, group in groups(runs, "cnr", "overall").items()}
    assert (found["a"], found["b"], found["c"]) == (1, 1, 2)
    assert set(found) == {"a", "b", "c", "few"}
    reverse = {names[key]: group for key, group in groups(runs[::-1], "cnr", "overall").items()}
    assert found == reverse
    assert groups([], "cnr", "overall") == {}


def test_a_lower_distance_is_better(finished: Make) -> None:
    runs, names = runs_of({"near": np.full(40, 1.0), "far": np.full(40, 2.0)}, finished, 20)
    runs = [
        FinishedRun(
            run.spec,
            [
                SampleRecord(r.sample_id, "i", r.patient_id, r.category, "ok", {"distance": r.metrics["cnr"]})
                for r in run.records
            ],
        )
        for run in runs
    ]
    assert {names[key]: group for key, group in groups(runs, "distance", "overall").items()} == {"near": 1, "far": 2}


def test_equal_methods_share_a_group_and_different_ones_do_not(finished: Make) -> None:
    """Six methods, five of them equal, patients of two samples that resemble each other; 200 worlds."""
    together, apart = 0, 0
    random = np.random.default_rng(7)
    specs = {f"m{k}": finished(method=f"m{k}", n=0) for k in range(6)}
    for _ in range(200):
        easy = np.repeat(random.normal(0, 1, 40), 2)
        runs = []
        for k, spec in enumerate(specs.values()):
            own = np.repeat(random.normal(0, 0.3, 40), 2) + random.normal(0, 0.3, 80) - (0.5 if k == 5 else 0)
            records = [
                SampleRecord(f"s{i}", "i", f"p{i // 2}", "AB"[i % 2], "ok", {"cnr": float(value)})
                for i, value in enumerate(easy + own)
            ]
            runs.append(FinishedRun(spec, records))
        found = groups(runs, "cnr", "overall")
        equal = {found[spec.key] for name, spec in specs.items() if name != "m5"}
        together += equal == {1}
        apart += found[specs["m5"].key] > max(equal)
    assert together >= 0.95 * 200
    assert apart >= 0.98 * 200


def test_many_runs_can_still_differ(finished: Make) -> None:
    """The more pairs, the more patterns are drawn: corrected over 780 pairs, 9,999 of them could not tell any apart."""
    random = np.random.default_rng(1)
    base = random.random(60)
    values = {f"m{k}": base + random.normal(0, 0.01, 60) - (0.5 if k == 39 else 0) for k in range(40)}
    runs, names = runs_of(values, finished, 30)
    found = {names[key]: group for key, group in groups(runs, "cnr", "overall").items()}
    assert found["m39"] == max(found.values()) > 1


def test_rows_of_a_leaderboard(tmp_path: Path, finished: Make) -> None:
    values = np.random.default_rng(0).random(40)
    best, alike = (
        finished(values=values, protocol="chexlocalize"),
        finished(values=values, seed=2, protocol="chexlocalize"),
    )
    worst, control = finished(values=values - 0.5, method="w", protocol="chexlocalize"), finished(control="phrase-swap")
    rows = [
        {"dataset": "d", "method": spec.method, "control": spec.control, "run_key": spec.key}
        for spec in (best, worst, control, alike)
    ]
    found, reason = groups_of_rows(rows, tmp_path / "runs")
    assert (found, reason) == ({best.key: 1, alike.key: 1, worst.key: 2}, "")
    rows.append({"dataset": "d", "method": "gone", "control": "none", "run_key": "0123"})
    found, reason = groups_of_rows(rows, tmp_path / "runs")
    assert (found, "the records of 1 of 4 rows (gone 0123 ...) are not in" in reason) == ({}, True)
    assert groups_of_rows([rows[2]], tmp_path)[0] == {}


def test_groups_are_written_for_rows_of_the_same_samples_alone(tmp_path: Path, finished: Make) -> None:
    runs, board = tmp_path / "runs", tmp_path / "boards"
    values = np.random.default_rng(0).random(40)
    specs = [finished(values=values, protocol="chexlocalize", limit=None, method="best")]
    specs.append(finished(values=values - 0.5, protocol="chexlocalize", method="worst"))
    specs.append(finished(values=values, protocol="chexlocalize", method="other", limit=7))
    specs.append(finished(values=values, protocol="chexlocalize", method="best", control="phrase-swap"))
    rows = [leaderboard.update(board, spec, find_run(runs, spec.key).records) for spec in specs]
    assert regroup(board, rows[0], runs) == ""
    path = leaderboard.path_of(board, rows[0])
    found = {row["run_key"]: row["rank_group"] for row in leaderboard.read(path)}
    assert [found[spec.key] for spec in specs] == ["1", "2", "", ""]
    before = path.read_text()
    gone = dataclasses.replace(specs[0], settings=dataclasses.replace(specs[0].settings, method="gone"))
    leaderboard.update(board, gone, find_run(runs, specs[0].key).records)
    assert "gone" in regroup(board, rows[0], runs)
    assert {row["run_key"]: row["rank_group"] for row in leaderboard.read(path)} == found | {gone.key: ""}
    assert before.splitlines()[0] == path.read_text().splitlines()[0]
