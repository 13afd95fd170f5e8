"""Two finished runs found by name and compared, and what the command says of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import SampleRecord
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.compare import ALL, compare_runs, find_run, in_words
from gtg_bench.benchmark.records import RunFolder
from gtg_bench.benchmark.spec import RunSpec

SPEC = RunSpec(
    dataset="d",
    dataset_version="1",
    dataset_options="",
    samples_sha256="s",
    split="test",
    limit=None,
    method="ours",
    code=None,
    weights="phantom",
    weights_version="0",
    sampling="gt-cfg",
    latent="sample",
    tokens="lexical",
    lexicon="rule 1",
    bbm="none",
    profile="paper",
    precision="float32",
    steps=8,
    last_steps=None,
    guidance=16.0,
    layers="all",
    seed=1,
)
PLAIN: dict[str, Any] = dict.fromkeys(
    ("weights", "sampling", "latent", "tokens", "lexicon", "bbm", "profile", "precision", "steps", "layers")
)


def finished(runs: Path, gain: float = 0.0, n: int = 40, **changes: Any) -> RunSpec:
    """A run of n samples of n / 2 patients: random values, the same in every run, plus a gain."""
    spec = dataclasses.replace(SPEC, **changes)
    folder = RunFolder(runs, spec)
    folder.open("cpu")
    values = np.random.default_rng(0).random(n)
    folder.append(
        SampleRecord(f"s{k}", f"i{k}", f"p{k // 2}", "AB"[k % 2], "ok", {"iou": float(value) + gain * (k % 5)})
        for k, value in enumerate(values)
    )
    return spec


def test_a_run_is_found_by_method_settings_or_key(tmp_path: Path) -> None:
    plain, merged = finished(tmp_path), finished(tmp_path, bbm="mixture")
    finished(tmp_path, control="phrase-swap")
    finished(tmp_path, dataset_options="seed=1")
    prior = finished(tmp_path, method="prior", **PLAIN)
    for name, spec in {
        "ours": plain,
        "ours:bbm=mixture": merged,
        merged.key: merged,
        "prior": prior,
        "ours:control=phrase-swap": dataclasses.replace(SPEC, control="phrase-swap"),
    }.items():
        found = find_run(tmp_path, name)
        assert found.spec == spec
        assert len(found.records) == 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("our", "unknown run 'our'; did you mean ours"),
        ("ours", r"ours has 2 runs .* \(layers (all|3,4)\); .* \(layers (all|3,4)\)"),
        ("ours:layers=9", r"no run of ours .* has layers=9; there are"),
        ("ours:size=9", "'size=9' is no KEY=VALUE of a run; keys are dataset"),
    ],
)
def test_a_name_that_is_not_one_run(tmp_path: Path, name: str, message: str) -> None:
    finished(tmp_path)
    finished(tmp_path, layers="3,4")
    with pytest.raises(UsageError, match=message):
        find_run(tmp_path, name)


def test_a_torn_manifest_is_passed_over(tmp_path: Path) -> None:
    spec = finished(tmp_path)
    (tmp_path / "d" / "ours" / "torn").mkdir()
    (tmp_path / "d" / "ours" / "torn" / "manifest.json").write_text("{")
    assert find_run(tmp_path, "ours").spec == spec


def test_lines_by_hand(tmp_path: Path) -> None:
    """The gain is 0, 1, 2, 3 or 4 hundredths, 0.02 on average, whatever the category."""
    ours = find_run(tmp_path, finished(tmp_path, gain=0.01, method="better").key)
    theirs = find_run(tmp_path, finished(tmp_path).key)
    lines = compare_runs(ours, theirs, ["iou"], "overall")
    assert [line.category for line in lines] == [ALL, "A", "B"]
    whole = lines[0].found
    assert whole.difference == pytest.approx(0.02)
    assert (whole.n, whole.n_patients, whole.wins, whole.ties, whole.losses) == (40, 20, 32, 8, 0)
    for line in lines:
        assert line.found.p_value is not None
        assert line.p_value is not None
        assert line.found.p_value <= line.p_value <= min(1.0, 3 * line.found.p_value)
    assert in_words(lines[0], "better gt-cfg", "ours gt-cfg").startswith(
        "better gt-cfg is better than ours gt-cfg by 0.020"
    )
    back = compare_runs(theirs, ours, ["iou"], "overall")[0]
    assert back.found.difference == pytest.approx(-0.02)
    assert in_words(back, "ours", "better").startswith("better is better than ours by 0.020 iou")


def test_equal_runs_cannot_be_told_apart(tmp_path: Path) -> None:
    one = find_run(tmp_path, finished(tmp_path).key)
    other = find_run(tmp_path, finished(tmp_path, seed=2).key)
    line = compare_runs(one, other, ["iou"], "macro")[0]
    assert (line.found.ties, line.p_value) == (40, 1.0)
    assert "cannot be told apart" in in_words(line, "a", "b")


@pytest.mark.parametrize("changes", [{"frame": "original"}, {"uncovered": "exclude"}, {"dataset_options": "seed=1"}])
def test_runs_under_other_conditions_are_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    one, other = finished(tmp_path), finished(tmp_path, method="other", **changes)
    with pytest.raises(UsageError, match=f"their runs differ in {next(iter(changes))}"):
        compare_runs(find_run(tmp_path, one.key), find_run(tmp_path, other.key), ["iou"], "overall")


def test_runs_without_a_common_value(tmp_path: Path) -> None:
    one, other = finished(tmp_path), finished(tmp_path, method="other")
    with pytest.raises(DataError, match="share no scored sample"):
        compare_runs(find_run(tmp_path, one.key), find_run(tmp_path, other.key), ["cnr"], "overall")


def test_the_command(tmp_path: Path) -> None:
    finished(tmp_path, gain=0.01, method="better")
    finished(tmp_path)
    words = ["compare", "better", "ours", "--metric", "iou", "--runs-dir", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "better gt-cfg is better than ours gt-cfg by 0.020 iou" in result.stdout
    rows = json.loads(CliRunner().invoke(app, [*words, "--by-category", "--json"]).stdout)
    assert [row["category"] for row in rows] == [ALL, "A", "B"]
    assert rows[0]["difference"] == pytest.approx(0.02)
    assert CliRunner().invoke(app, ["compare", "better", "nobody", "--runs-dir", str(tmp_path)]).exit_code == 2
