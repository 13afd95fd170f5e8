"""Which cells of a table are marked as best: only significant leads, from the records of the runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.report import leaderboard
from gtg_bench.benchmark.runs.lookup import find_run
from gtg_bench.benchmark.runs.spec import RunSpec

BASE = np.random.default_rng(3).random(40)
NOISE = np.random.default_rng(4).normal(0, 0.05, 40)
LED, HEAD = BASE - 0.1 + NOISE, BASE + NOISE - NOISE.mean() + 0.001


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ({"a": BASE, "b": LED}, {"a"}),
        ({"a": LED, "b": BASE, "c": LED}, {"b"}),
        ({"a": BASE, "b": HEAD, "c": LED}, set()),
        ({"a": BASE, "b": LED, "c": BASE - 0.2 + 20 * (NOISE - NOISE.mean())}, set()),
        ({"a": BASE, "b": BASE}, set()),
        ({"a": BASE}, set()),
        ({"uniform": BASE, "b": LED}, set()),
        ({"class-prior": BASE, "b": BASE + 0.1 + NOISE}, {"b"}),
        ({"oracle-lesion": BASE + 0.5, "a": BASE, "b": LED}, {"a"}),
        ({"a": BASE, "a/2": BASE - 0.02, "b": LED}, {"a"}),
        ({"a": BASE, "a/2": LED - 0.1, "b": HEAD - 0.1}, set()),
    ],
    ids=(
        "a lead",
        "in the middle",
        "no significant lead",
        "a lead over the second only",
        "equal",
        "alone",
        "a baseline",
        "over a prior",
        "below a ceiling",
        "two seeds",
        "seeds apart",
    ),
)
@pytest.mark.parametrize("form", ["rows", "columns"])
def test_only_a_significant_lead_is_marked(
    tmp_path: Path, finished: Callable[..., RunSpec], values: dict[str, np.ndarray], best: set[str], form: str
) -> None:
    for method, found in values.items():
        name, _, seed = method.partition("/")  # "a/2" is the second seed of a
        spec = finished(values=found, method=name, seed=int(seed or 1))
        leaderboard.update(tmp_path / "boards", spec, find_run(tmp_path / "runs", spec.key).records)
    one, other = ("method", "metric") if form == "rows" else ("category", "method")
    words = ["table", "--rows", one, "--columns", other, "--metric", "iou", "--dataset", "d"]
    words += ["--leaderboards-dir", str(tmp_path / "boards")]

    def printed(runs: str, kind: str) -> str:
        done = CliRunner().invoke(app, [*words, "--runs-dir", str(tmp_path / runs), "--format", kind])
        assert done.exit_code == 0, done.output
        return done.output

    lines = list(csv.DictReader(io.StringIO(printed("runs", "csv"))))
    whole = [line for line in lines if form == "rows" or line["row"] == "all samples"]
    assert {line["row" if form == "rows" else "column"] for line in whole if line["mark"] == "best"} == best
    assert printed("runs", "latex").count(r"\textbf") == sum(line["mark"] == "best" for line in lines)
    assert not any(line["mark"] for line in csv.DictReader(io.StringIO(printed("elsewhere", "csv"))))


def test_the_shipped_results_and_the_published_values_are_not_marked(tmp_path: Path) -> None:
    for table in ("2", "--reference"):
        words = ["table", table, "--runs-dir", str(tmp_path), "--format", "latex"]
        assert r"\textbf" not in CliRunner().invoke(app, words).output
