"""Plans: what is done, what is shared, what the rest takes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.plan import estimate, shared_notes, steps_of
from gtg_bench.benchmark.runs.runner import prepare


def planned(*requests: Any) -> Any:
    return steps_of((str(k), request, prepare(request)) for k, request in enumerate(requests))


def test_a_plan_counts_records_stored_maps_and_maps_of_earlier_runs(toy: Any) -> None:
    toy.run(limit=5)
    whole = prepare(toy.request(limit=9))
    runner.run(replace(whole, trials=whole.trials[:7]), toy.request(limit=9))  # as if it had been killed
    toy.forbidden = True
    steps = planned(toy.request(limit=5), toy.request(limit=9), toy.request(), toy.request(protocol="biovil"))
    assert [(one.state, len(one.stored), len(one.missing)) for one in steps] == [
        ("done", 0, 0),
        ("7 of 9 done", 0, 2),
        ("to do", 9, 3),
        ("to do", 12, 0),
    ]
    assert [note.split()[0] for note in shared_notes(steps)] == ["1", "21"]
    fresh = planned(toy.request(limit=5, fresh=True))
    assert (fresh[0].state, len(fresh[0].missing)) == ("to do", 5)
    assert shared_notes(planned(toy.request(limit=5))) == []


def test_an_estimate_is_near_the_time_and_size_of_the_runs(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ground, build = toy.ground_batch, toy.build

    def slow(queries: Any) -> Any:
        time.sleep(0.1 * len(queries))
        return ground(queries)

    def slowly(settings: Any) -> Any:
        time.sleep(0.3)
        return build(settings)

    monkeypatch.setattr(toy, "ground_batch", slow)
    monkeypatch.setitem(METHODS._registered, "toy", replace(METHODS.get("toy"), build=slowly))
    requests = [toy.request(limit=8), toy.request(limit=8, control="phrase-swap")]
    found = estimate(planned(*requests))
    assert (found.measured, found.unmeasured) == (1, 0)
    assert 0.3 + 16 * 0.1 < found.seconds < 10
    assert not (toy.folder / "runs").exists()
    for request in requests:
        runner.run(prepare(request), request)
    size = sum(path.stat().st_size for path in (toy.folder / "runs").rglob("*") if path.is_file())
    assert 0.5 * size < found.bytes < 1.5 * size
    assert estimate(planned(*requests)).seconds == 0


def test_a_plan_runs_the_validation_split_before_runs_whose_smoothing_is_chosen_there(toy: Any) -> None:
    best = toy.request(smooth="best", mask="otsu", limit=5)
    requests = [best, replace(best, control="phrase-swap")]

    def short(request: Any) -> Any:
        prepared = prepare(request)
        assert prepared.validation is not None
        return replace(prepared, validation=replace(prepared.validation, trials=prepared.validation.trials[:4]))

    def found(**changed: Any) -> Any:
        return steps_of((str(k), one, short(one)) for k, one in enumerate(replace(one, **changed) for one in requests))

    steps = found()
    assert [one.name for one in steps] == ["0, split validate", "0", "1, control phrase-swap"]
    assert [(one.total, one.chosen_on) for one in steps] == [(4, 0), (5, 4), (5, 4)]
    assert {one.state for one in steps} == {"to do"}
    assert estimate(steps).seconds > 0
    assert not (toy.folder / "runs").exists()
    runner.run(short(best), best)
    assert [(one.state, one.chosen_on) for one in found()] == [("done", 0), ("done", 0), ("to do", 0)]
    assert [one.state for one in found(fresh=True)] == ["to do"] * 4  # each computes the validation split anew
