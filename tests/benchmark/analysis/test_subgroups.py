"""Subgroups: cut points, counts, intervals, paired differences, and the command."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.analysis.subgroups import BY, CSV_COLUMNS, UNKNOWN, Subgroup, as_rows, known_groups, subgroups
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.statistics import Pairs, bootstrap, compare, holm

Make = Callable[..., RunSpec]
SHARES = [0.001, 0.00999, 0.01, 0.03, 0.05, 0.1, 0.15, 0.9]
VALUES = np.random.default_rng(0).random(8)


def facts(k: int) -> dict[str, float | str]:
    """Facts of sample k: sizes as in SHARES, sides in turn, growing numbers of boxes and words."""
    side = ("left", "left", "right", "none")[k % 4]
    traits = {"view": ("frontal", "lateral")[k % 2], "sex": ("female", "male")[k % 2], "age": str(10 * (k % 8))}
    return {"region_share": SHARES[k % 8], "n_boxes": 1 + k // 3, "side": side, "n_words": 2 * k + 1, **traits}


FACTS = [facts(k) for k in range(8)]


def ids(by: str) -> dict[str, list[int]]:
    """Subgroup -> which of the eight samples it has, in order."""
    found: dict[str, list[int]] = {name: [] for name in BY[by][1]}
    for k in range(8):
        record = SampleRecord(f"s{k}", "i", f"p{k // 2}", "AB"[k % 2], "ok", {"iou": VALUES[k]}, facts=FACTS[k])
        found.setdefault(BY[by][0](record), []).append(k)
    return {name: samples for name, samples in found.items() if samples}


def test_cut_points_by_hand() -> None:
    sizes = {"below 1 %": [0, 1], "1 to 5 %": [2, 3], "5 to 15 %": [4, 5], "15 % and more": [6, 7]}
    assert list(ids("size").items()) == list(sizes.items())
    assert ids("boxes") == {"1 box": [0, 1, 2], "2 boxes": [3, 4, 5], "3 boxes and more": [6, 7]}
    assert ids("side") == {"left": [0, 1, 4, 5], "right": [2, 6], "none": [3, 7]}
    words = {"1 to 3 words": [0, 1], "4 to 6 words": [2], "7 to 10 words": [3, 4], "11 words and more": [5, 6, 7]}
    assert list(ids("length").items()) == list(words.items())
    assert ids("age") == {"below 18": [0, 1], "18 to 39": [2, 3], "40 to 59": [4, 5], "60 to 79": [6, 7]}
    assert known_groups([]) == ["size", "boxes", "side", "length", "category"]
    assert ids("category") == {"A": [0, 2, 4, 6], "B": [1, 3, 5, 7]}

    unknown = SampleRecord("s", "i", "p", "A", "ok", facts={"side": "none", "n_words": 3})
    names = {"size": UNKNOWN, "boxes": "mask", "side": "none", "length": "1 to 3 words", "category": "A"}
    names |= dict.fromkeys(("view", "sex", "age"), UNKNOWN)
    assert {by: name(unknown) for by, (name, _) in BY.items()} == names


@pytest.mark.parametrize("by", BY)
def test_means_and_intervals_are_those_of_the_subgroup_alone(runs: Path, finished: Make, by: str) -> None:
    run = find_run(runs, finished(values=VALUES, facts=FACTS).key)
    whole, *found = subgroups([run], [by], ["iou"])
    assert (whole.name, whole.estimates[0].n, whole.estimates[0].value) == ("all", 8, pytest.approx(VALUES.mean()))
    assert [subgroup.name for subgroup in found] == list(ids(by))
    for subgroup, samples in zip(found, ids(by).values(), strict=True):
        patients = [f"p{k // 2}" for k in samples]
        assert subgroup.estimates == (bootstrap(VALUES[samples], ["x"] * len(samples), patients),)
        assert (subgroup.estimates[0].low is None) == (len(set(patients)) < 5)
        assert subgroup.differences == ()


def test_differences_are_paired_and_corrected_over_all_subgroups_and_runs(runs: Path, finished: Make) -> None:
    random = np.random.default_rng(2)
    base, known = random.random(120), [facts(k % 8) for k in range(120)]
    values = [base, base + random.normal(0.05, 0.1, 120), base + random.normal(0, 0.1, 120)]
    chosen = [find_run(runs, finished(values=found, facts=known, method=f"m{k}").key) for k, found in enumerate(values)]
    found = subgroups(chosen, ["size", "side"], ["iou"])
    raw, corrected = [], []
    for subgroup in found:
        kept = [
            k for k in range(120) if subgroup.by == "all" or BY[subgroup.by][0](chosen[0].records[k]) == subgroup.name
        ]
        kept.sort(key=lambda k: f"s{k}")
        names = np.array([f"p{k // 2}" for k in kept])
        for other, difference in enumerate(subgroup.differences, start=1):
            expected = compare(Pairs(base[kept], values[other][kept], np.array(["x"] * len(kept)), names))
            assert difference.found.difference == pytest.approx(expected.difference)
            assert (difference.found.low, difference.found.high) == pytest.approx((expected.low, expected.high))
            raw.append(difference.found.p_value)
            corrected.append(difference.p_value)
    assert len(raw) == 2 * (1 + 4 + 3)
    assert corrected == pytest.approx(holm(raw))
    assert min(corrected) < 0.05 < max(corrected)


def test_records_without_facts_name_the_command_that_adds_them(runs: Path, finished: Make) -> None:
    old, new = finished(), finished(facts=[facts(k % 8) for k in range(40)], method="new")
    with pytest.raises(DataError, match=f"gtg-bench score {old.key}"):
        subgroups([find_run(runs, new.key), find_run(runs, old.key)], ["size"], ["iou"])
    assert len(subgroups([find_run(runs, old.key)], ["category"], ["iou"])) == 3


def test_runs_and_metrics_that_do_not_fit_are_refused(runs: Path, finished: Make) -> None:
    one, other = (find_run(runs, finished(frame=frame).key) for frame in ("crop512", "original"))
    with pytest.raises(UsageError, match="their runs differ in frame"):
        subgroups([one, other], ["category"], ["iou"])
    with pytest.raises(UsageError, match="unknown metric 'iuo'; did you mean iou"):
        subgroups([one], ["category"], ["iuo"])
    with pytest.raises(DataError, match="has no scored sample"):
        subgroups([FinishedRun(one.spec, [])], ["category"])


def test_missing_values_are_none(runs: Path, finished: Make) -> None:
    chosen = [
        find_run(runs, finished(values=VALUES[:1] + gain, facts=FACTS[:1], method=f"m{gain}").key) for gain in (0, 1)
    ]
    found: list[Subgroup] = subgroups(chosen, ["size"], ["iou"])
    first, second, *_ = as_rows(found, chosen)
    assert tuple(first) == CSV_COLUMNS
    assert (first["n"], first["n_patients"], first["low"], first["difference"]) == (1, 1, None, None)
    assert (second["difference"], second["difference_low"]) == (pytest.approx(-1), None)


def test_the_command(tmp_path: Path, call: Callable[..., Any], finished: Make) -> None:
    known = [facts(k % 8) for k in range(40)]
    finished(facts=known)
    finished(facts=known, gain=0.05, method="better")
    words = ["subgroups", "ours", "better", "--metric", "iou"]
    said = call(*words, "--by", "size", "--by", "side", "--csv", tmp_path / "s.csv")
    for text in ("region / frame", "15 % and more", "side named", "p corr.", "A - run: on shared", "B: better gt-cfg"):
        assert text in " ".join(said.split())
    assert "category" not in said
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (1 + 4 + 3)
    assert rows[0]["difference"] == ""
    assert float(rows[1]["difference"]) == pytest.approx(-0.1, abs=1e-5)
    assert {row["by"] for row in call(*words, "--json")} == {"all", *BY}
    assert "unheard" in call("subgroups", "unheard", code=2)


def test_a_subgroup_of_one_patient_has_no_interval(call: Callable[..., Any], finished: Make) -> None:
    finished(values=VALUES[:3], facts=FACTS[:3])
    said = " ".join(call("subgroups", "ours", "--metric", "iou", "--by", "size").split())
    assert "below 1 %: only 1 patient: no CI" in said
