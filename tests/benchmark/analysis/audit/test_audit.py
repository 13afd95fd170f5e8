"""Rules of verdicts, random weights, agreement of maps, and the page on the command line and in a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from gtg_bench.benchmark.analysis.audit import agreement
from gtg_bench.benchmark.analysis.audit.finding import NO, NONE, UNKNOWN, YES, Finding, Question, above, below
from gtg_bench.benchmark.analysis.audit.random_weights import modules_of, scrambled
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import GroundingMap
from gtg_bench.benchmark.report.html import write_report
from gtg_bench.benchmark.statistics import Estimate


@pytest.mark.parametrize(
    ("low", "high", "patients", "verdict"),
    [
        (0.2, 0.4, 10, YES),
        (0.05, 0.4, 10, UNKNOWN),
        (-0.1, 0.05, 10, NO),
        (0.2, 0.4, 9, UNKNOWN),
        (None, None, 3, UNKNOWN),
    ],
)
def test_a_verdict_compares_the_whole_interval_with_the_bar(
    low: float | None, high: float | None, patients: int, verdict: str
) -> None:
    found = Estimate(0.1, low, high, 40, 0, patients)
    assert above(found, 0.1) == verdict
    mirrored = Estimate(-0.1, None if high is None else -high, None if low is None else -low, 40, 0, patients)
    assert below(mirrored, -0.1) == verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [((YES, NO), NO), ((UNKNOWN, YES), UNKNOWN), ((UNKNOWN, NONE), UNKNOWN), ((NONE,), NONE), ((YES, NONE), YES)],
)
def test_one_no_decides_a_question_and_one_doubt_leaves_it_open(verdicts: tuple[str, ...], expected: str) -> None:
    found = [Finding("x", "cnr", verdict=verdict, n_patients=20) for verdict in verdicts]
    ignored = Finding("y", "cnr", verdict=NO, decides=False)
    assert Question(1, "?", (*found, ignored)).verdict == expected


def test_a_figure_of_few_patients_has_no_say_beside_others() -> None:
    few = Finding("x", "cnr", verdict=UNKNOWN, n_patients=9)
    assert Question(1, "?", (few, Finding("y", "cnr", verdict=YES, n_patients=10))).verdict == YES
    assert Question(1, "?", (few,)).verdict == UNKNOWN


def test_rank_correlation_is_spearmans_and_a_shifted_map_is_moved_back() -> None:
    random = np.random.default_rng(0)
    values = random.random((128, 128), dtype=np.float32).round(1)
    one = agreement.on_grid(GroundingMap(values, Frame.original((128, 128))))
    two = agreement.on_grid(GroundingMap(random.random((128, 128), dtype=np.float32), Frame.original((128, 128))))
    assert agreement.rank_correlation(one, two) == pytest.approx(spearmanr(one[0].ravel(), two[0].ravel()).statistic)
    assert agreement.rank_correlation(one, one) == agreement.structural_similarity(one, one) == 1.0
    moved = np.pad(values, ((4, 0), (4, 0)), mode="edge")[:128, :128]
    back = agreement.on_grid(GroundingMap(moved, Frame.original((128, 128))), 4)
    assert agreement.rank_correlation(one, back) == pytest.approx(1.0)
    assert back[1].sum() < one[1].sum()
    constant = agreement.on_grid(GroundingMap(np.ones((8, 8), np.float32), Frame.original((128, 128))))
    assert agreement.rank_correlation(one, constant) == 0.0


def test_weights_are_shuffled_from_the_last_layer_on(torch: Any) -> None:
    class Inner:
        def __init__(self) -> None:
            self.model = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Linear(9, 9))

    class Method:
        def __init__(self) -> None:
            self.parts = [Inner()]

        def ground(self, image: Any, text: str) -> Any: ...

    method = Method()
    (model,) = modules_of(method)
    assert model is method.parts[0].model
    before = [layer.weight.detach().clone() for layer in model]
    scrambled(method, 0.5)
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[1].weight, before[1])
    assert torch.equal(model[1].weight.flatten().sort().values, before[1].flatten().sort().values)
    assert modules_of(object()) == []


def test_a_complete_audit_is_printed_kept_and_reported(call: Callable[..., Any], runs: Path, tmp_path: Path) -> None:
    words = ("audit", "class-prior", "--limit", "12", "--protocol", "biovil")
    found = call(*words, "--json", "--out", tmp_path / "page.md")
    assert [question["number"] for question in found["questions"]] == list(range(1, 9))
    assert found["questions"][2]["findings"][1]["figure"] == 0  # the map does not depend on the image
    assert "### 3. Does it use the image?" in (tmp_path / "page.md").read_text(encoding="utf-8")
    text = call("audit", found["key"])
    assert all(len(line) <= 80 for line in text.splitlines())
    write_report([found["key"]], tmp_path / "report.html", runs)
    assert "Does it use the image?" in (tmp_path / "report.html").read_text(encoding="utf-8")
    (kept,) = runs.glob("*/class-prior/*/audit.json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"page": {}}))
    write_report([found["key"]], tmp_path / "report.html", runs)
    assert "Does it use the image?" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_equivalence_to_a_prior_is_by_the_interval_of_compare_and_decides_nothing(call: Callable[..., Any]) -> None:
    words = ("audit", "phrase-prior", "--limit", "60", "--protocol", "biovil", "--question", "1", "--json")
    page = call(*words)
    (plain,) = page["questions"]
    two = ("phrase-prior:smooth=0.06", "class-prior:smooth=0.06", "--metric", page["metric"], "--bare", "--margin", "9")
    (compared,) = call("compare", *two, "--json")["comparisons"]
    low, high = compared["low_90"], compared["high_90"]
    for margin, verdict in ((high + 0.01, YES), (high - 0.01, UNKNOWN), (low - 0.01, NO)):
        (question,) = call(*words, "--margin", margin)["questions"]
        tested = {f["name"]: f for f in question["findings"] if f["name"].startswith("equivalent")}
        found = tested["equivalent to class-prior"]
        assert (found["verdict"], found["note"]) == (verdict, f"90 % CI {low:.3f} to {high:.3f}")
        assert [f for f in question["findings"] if f["name"] not in tested] == plain["findings"]
        assert question["verdict"] == plain["verdict"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("audit", "nosuch"), "nosuch"),
        (("audit", "class-prior", "--margin", "0"), "--margin 0"),
        (("audit", "class-prior", "--question", "9"), "1 to 8"),
        (("audit", "class-prior", "--out", "page.txt"), ".md"),
        (("audit", "uniform", "--limit", "2", "--against", "nosuch", "--question", "7", "--repeat", "x"), "x"),
    ],
)
def test_what_cannot_be_audited_is_refused(words: tuple[str, ...], said: str, call: Callable[..., Any]) -> None:
    assert said in call(*words, code=2)
