"""Several seeds or checkpoints of one method: when they are one, their mean, and their spread."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.analysis.seeds import find_method, mean_of, seeds_note, spread
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.types import MethodCard, SampleRecord
from gtg_bench.benchmark.runs.lookup import FinishedRun
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.statistics import Spread
from gtg_bench.methods.ldm import CARD_OF

Make = Callable[..., RunSpec]


def test_seeds_are_one_method(runs: Path, finished: Make) -> None:
    specs = [finished(values=np.full(6, 0.1 * seed), seed=seed) for seed in (1, 2, 6)]
    found = find_method(runs, "ours")
    assert set(found.keys) == {spec.key for spec in specs}
    assert [record.metrics["iou"] for record in found.records] == pytest.approx([0.3] * 6)
    assert spread(found, "iou", "overall") == Spread(pytest.approx(0.3), pytest.approx(0.07**0.5), 3, 0)
    assert "over 3 runs (seed" in seeds_note(found)
    alone = find_method(runs, "ours:seed=2")
    assert (alone.keys, alone.parts) == ((specs[1].key,), ())
    assert (spread(alone, "iou", "overall"), seeds_note(alone)) == (None, "")


def test_a_sample_or_metric_that_one_run_lacks_does_not_count(finished: Make) -> None:
    def record(name: str, status: Any = "ok", **metrics: float) -> SampleRecord:
        return SampleRecord(name, "i", "p", "A", status, metrics, error="" if status == "ok" else "why")

    one = FinishedRun(finished(n=0), [record("a", iou=1, cnr=2), record("b", iou=1), record("c", iou=1)])
    other = FinishedRun(finished(n=0, seed=2), [record("b", "failed"), record("a", iou=0.5), record("d", iou=1)])
    found = mean_of([one, other]).records
    assert [(r.sample_id, r.status, r.metrics, r.error) for r in found] == [
        ("a", "ok", {"iou": 0.75}, ""),
        ("b", "failed", {}, "why"),
    ]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method of the runs is one whose weights have cards."""
    entry = MethodEntry("ours", "", MethodCard("a test", "plug-in"), card_of=CARD_OF)
    monkeypatch.setattr(METHODS, "_registered", {"ours": entry})


def card(folder: Path, seed: int, **changes: Any) -> str:
    """A folder of weights with a card."""
    folder.mkdir()
    facts = {"recipe": {"schedule": {"steps": 9}, "seed": seed}, "seed": seed, "data": {"world": 0}}
    facts |= {"defaults": {"steps": 8 + seed, "layers": "3"}, "sha256": {"unet": str(seed)}}
    (folder / "card.json").write_text(json.dumps(facts | changes))
    return str(folder)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("made", "steps", "n"),
    [
        ({}, 10, 2),
        ({"recipe": {"schedule": {"steps": 7}, "seed": 2}}, 10, 0),
        ({"data": {"world": 1}}, 10, 0),
        ({}, 5, 0),
    ],
)
def test_checkpoints_made_and_used_alike_but_for_the_seed_are_one_method(
    tmp_path: Path, runs: Path, finished: Make, made: dict[str, Any], steps: int, n: int
) -> None:
    """Steps as the card says are part of how a checkpoint was made; other steps are a choice of the user's."""
    finished(weights=card(tmp_path / "w1", 1), weights_version="1", steps=9, layers="3")
    finished(weights=card(tmp_path / "w2", 2, **made), weights_version="2", steps=steps, layers="3")
    if n:
        found = find_method(runs, "ours")
        assert len(found.parts) == n
        assert f"weights {found.parts[0].spec.settings.weights}" in seeds_note(found)
    else:
        with pytest.raises(UsageError, match="ours has 2 runs"):
            find_method(runs, "ours")


def test_weights_without_a_card_are_never_one_method(runs: Path, finished: Make) -> None:
    one, other = finished(weights="a"), finished(weights="b")
    with pytest.raises(UsageError, match="ours has 2 runs"):
        find_method(runs, "ours")
    assert set(find_method(runs, f"{one.key}+{other.key}").keys) == {one.key, other.key}

    third = finished(tokens="all")
    with pytest.raises(UsageError, match="tokens 'lexical' and 'all'"):
        find_method(runs, f"{one.key}+{third.key}")


def test_compare_says_what_it_took_the_mean_of(call: Callable[..., Any], finished: Make) -> None:
    for seed in (1, 2):
        finished(gain=seed / 100, seed=seed)
    finished(method="other")
    words = ["compare", "ours", "other", "--metric", "iou"]
    said = call(*words)
    assert "ours gt-cfg (mean of 2 runs) is better than other gt-cfg in iou: A - B = 0.030 " in said
    assert "mean ± SD over the runs: iou" in said
    found = call(*words, "--json")["runs"][0]
    assert (len(found["keys"]), found["over_runs"]["iou"]["n"]) == (2, 2)
    assert found["over_runs"]["iou"]["deviation"] == pytest.approx(0.02 / 2**0.5)
