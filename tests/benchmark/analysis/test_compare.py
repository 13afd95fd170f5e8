"""Compare runs, from Python and on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.analysis.compare import ALL, Difference, compare_with_all, in_words
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run
from gtg_bench.benchmark.runs.spec import RunSpec

Make = Callable[..., RunSpec]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folder of the runs that `finished` makes."""
    return tmp_path / "runs"


def compare_runs(a: FinishedRun, b: FinishedRun, metrics: list[str], average: str) -> list[Difference]:
    return compare_with_all(a, [b], metrics, average)[0]


def test_lines_by_hand(runs: Path, finished: Make) -> None:
    """The gain is 0, 1, 2, 3 or 4 hundredths in turn, 0.02 on average."""
    ours = find_run(runs, finished(gain=0.01, method="better").key)
    theirs = find_run(runs, finished().key)
    lines = compare_runs(ours, theirs, ["iou"], "overall")
    assert [line.category for line in lines] == [ALL, "A", "B"]
    whole = lines[0].found
    assert whole.difference == pytest.approx(0.02)
    assert (whole.n, whole.n_patients, whole.wins, whole.ties, whole.losses) == (40, 20, 32, 8, 0)
    for line in lines:
        assert line.found.p_value is not None
        assert line.p_value is not None
        assert line.found.p_value <= line.p_value <= min(1.0, 3 * line.found.p_value)
    assert in_words(lines[0], "a", "b").startswith("a is better than b in iou: A - B = 0.020 (95 % CI 0.0")
    back = compare_runs(theirs, ours, ["iou"], "overall")[0]
    assert back.found.difference == pytest.approx(-0.02)
    assert in_words(back, "a", "b").startswith("a is worse than b in iou: A - B = -0.020 (95 % CI -0.0")


def test_equal_runs_do_not_differ(runs: Path, finished: Make) -> None:
    one = find_run(runs, finished().key)
    other = find_run(runs, finished(seed=2).key)
    line = compare_runs(one, other, ["iou"], "macro")[0]
    assert (line.found.ties, line.p_value) == (40, 1.0)
    assert "does not differ significantly" in in_words(line, "a", "b")


@pytest.mark.parametrize(
    "changes",
    [
        *({"frame": "original"}, {"uncovered": "exclude"}, {"dataset_options": "seed=1"}),
        *({"mask": "otsu"}, {"protocol": "strict"}, {"protocol_version": 2}),
    ],
)
def test_runs_under_other_conditions_are_refused(runs: Path, finished: Make, changes: dict[str, Any]) -> None:
    one, other = finished(), finished(method="other", **changes)
    with pytest.raises(UsageError, match=f"differ in {next(iter(changes))} "):
        compare_runs(find_run(runs, one.key), find_run(runs, other.key), ["iou"], "overall")


def test_runs_without_a_common_value(runs: Path, finished: Make) -> None:
    one, other = finished(), finished(method="other")
    with pytest.raises(DataError, match="share no scored sample"):
        compare_runs(find_run(runs, one.key), find_run(runs, other.key), ["cnr"], "overall")


def test_p_values_are_corrected_over_categories_and_methods(runs: Path, finished: Make) -> None:
    """Holm by hand over all nine: three methods, each with all samples and two categories."""
    first = find_run(runs, finished(gain=0.01, method="first").key)
    others = [find_run(runs, finished(gain=gain, method=f"m{gain}").key) for gain in (0.0, 0.005, 0.01)]
    found = [line for part in compare_with_all(first, others, ["iou"], "overall") for line in part]
    raw = [line.found.p_value for line in found]
    assert len(raw) == 9
    highest, expected = 0.0, {}
    for rank, index in enumerate(sorted(range(9), key=lambda index: (raw[index], index))):
        highest = max(highest, min(1.0, raw[index] * (9 - rank)))
        expected[index] = highest
    assert [line.p_value for line in found] == pytest.approx([expected[index] for index in range(9)])
    alone = compare_runs(first, others[0], ["iou"], "overall")
    assert [line.found for line in alone] == [line.found for line in found[:3]]
    assert alone[0].p_value < found[0].p_value


def test_without_categories_the_family_is_the_pairs(runs: Path, finished: Make) -> None:
    first = find_run(runs, finished(gain=0.01, method="first").key)
    others = [find_run(runs, finished(gain=gain, method=f"m{gain}").key) for gain in (0.0, 0.01)]
    (differs,), (same,) = compare_with_all(first, others, ["iou"], "overall", by_category=False)
    assert differs.p_value == pytest.approx(2 * differs.found.p_value)
    assert (same.p_value, differs.better, same.better) == (1, 1, 0)


def called(*words: object) -> str:
    done = CliRunner().invoke(app, ["compare", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_unnamed_settings_are_those_of_the_first_run(runs: Path, finished: Make) -> None:
    rules = {"protocol": "strict", "frame": "original", "mask": "otsu", "dataset_options": "seed=1"}
    finished(method="first", **rules)
    finished()
    wanted = finished(**rules)
    assert f'"{wanted.key}"' in called("first", "ours", "--metric", "iou", "--bare", "--json", "--runs-dir", runs)


def test_the_command(runs: Path, finished: Make) -> None:
    finished(gain=0.01, method="better")
    finished()
    words = ["better", "ours", "--metric", "iou", "--runs-dir", runs]
    assert "better gt-cfg is better than ours gt-cfg in iou: A - B = 0.020 " in called(*words)
    found = json.loads(called(*words, "--by-category", "--json"))
    rows = found["comparisons"]
    assert [row["category"] for row in rows] == [ALL, "A", "B"]
    assert rows[0]["difference"] == pytest.approx(0.02)
    assert [one["label"] for one in found["runs"]] == ["better gt-cfg", "ours gt-cfg"]
    assert CliRunner().invoke(app, ["compare", "better", "unheard", "--runs-dir", str(runs)]).exit_code == 2


def test_the_command_with_several_runs(runs: Path, finished: Make) -> None:
    for gain, method in enumerate(("worst", "middle", "best")):
        finished(gain=gain / 100, method=method)
    said = called("best", "middle", "worst", "--metric", "iou", "--bare", "--runs-dir", runs)
    assert "best gt-cfg is better than middle gt-cfg in iou: A - B = 0.020 " in said
    assert "best gt-cfg is better than worst gt-cfg in iou: A - B = 0.040 " in said
    assert said.count("*") == 3  # both differences are significant; the legend explains the star
    assert "controls" not in said
    done = CliRunner().invoke(app, ["compare", "best", "best", "--runs-dir", str(runs)])
    assert (done.exit_code, "the same run" in done.stderr) == (2, True)
