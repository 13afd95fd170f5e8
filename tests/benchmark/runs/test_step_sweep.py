"""Runs over the number of steps and of last steps: the same as single runs, from one pass, and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.runs.lookup import find_run
from gtg_bench.benchmark.runs.runner import RunRequest, prepare, run
from gtg_bench.benchmark.runs.step_sweep import over_last_steps, over_steps
from gtg_bench.methods.ldm import ldm_entry


@pytest.fixture
def request_of(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A request for the tiny model on two phantom samples; `runs` names the folder of its runs."""
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": ldm_entry("tiny-ldm", "a test")})

    def make(runs: str = "runs", **options: Any) -> RunRequest:
        return RunRequest.of("tiny-ldm", weights=str(folder), limit=2, runs_dir=tmp_path / runs, **options)

    return make


def test_one_pass_gives_the_runs_of_every_number_of_last_steps(request_of: Any, tmp_path: Path) -> None:
    found, done = over_last_steps(request_of(steps=4), [1, 3, 4]), []
    for number, one in found.items():
        single = request_of("single", steps=4, last_steps=number)
        expected = run(prepare(single), single)
        assert one.spec.key == expected.spec.key
        for record, other in zip(one.records, expected.records, strict=True):
            assert record.status == "ok"
            assert record.metrics == pytest.approx(other.metrics, abs=1e-4)
    over_last_steps(request_of(steps=4), [1, 3, 4], lambda *words: done.append(run(*words)) or done[-1])
    assert [result.computed for result in done] == [0, 0, 0], "stored runs are found"
    assert find_run(tmp_path / "runs", "tiny-ldm:last_steps=3").spec.settings.steps == 4
    assert find_run(tmp_path / "runs", "tiny-ldm").spec.settings.last_steps is None


def test_a_run_for_each_number_of_steps(request_of: Any) -> None:
    found = over_steps(request_of(sampling="gt1-cfg"), [1, 2])
    assert [(n, run.spec.settings.steps, len(run.records)) for n, run in found.items()] == [(1, 1, 2), (2, 2, 2)]


def test_methods_without_steps_and_impossible_numbers_are_refused(request_of: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no denoising steps"):
        over_steps(RunRequest.of("class-prior", runs_dir=tmp_path), [1])
    with pytest.raises(UsageError, match="between 1 and --steps"):
        over_last_steps(request_of(steps=4), [5])
    with pytest.raises(UsageError, match="--bbm"):
        over_last_steps(request_of(steps=4, bbm="mixture"), [2])
