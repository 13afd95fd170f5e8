"""Compare runs, from Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.analysis.compare import ALL, Difference, compare_with_all, in_words
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.runs.lookup import FinishedRun, find_run
from gtg_bench.benchmark.runs.spec import RunSpec

Make = Callable[..., RunSpec]


def compare_runs(a: FinishedRun, b: FinishedRun, average: str = "overall") -> list[Difference]:
    return compare_with_all(a, [b], ["iou"], average, by_category=True)[0]


def test_lines_by_hand(runs: Path, finished: Make) -> None:
    """The gain is 0, 1, 2, 3 or 4 hundredths in turn, 0.02 on average."""
    ours, theirs = (find_run(runs, finished(gain=gain, method=f"m{gain}").key) for gain in (0.01, 0))
    lines = compare_runs(ours, theirs)
    assert [line.category for line in lines] == [ALL, "A", "B"]
    whole = lines[0].found
    assert whole.difference == pytest.approx(0.02)
    assert (whole.n, whole.n_patients, whole.wins, whole.ties, whole.losses) == (40, 20, 32, 8, 0)
    assert in_words(lines[0], "a", "b").startswith("a is better than b in iou: A - B = 0.020 (95 % CI 0.0")
    back = compare_runs(theirs, ours)[0]
    assert back.found.difference == pytest.approx(-0.02)
    assert in_words(back, "a", "b").startswith("a is worse than b in iou: A - B = -0.020 (95 % CI -0.0")
    same = compare_runs(ours, find_run(runs, finished(gain=0.01, method="m0.01", seed=2).key), "macro")[0]
    assert (same.found.ties, same.p_value) == (40, 1.0)
    assert "does not differ significantly" in in_words(same, "a", "b")


@pytest.mark.parametrize(
    "changes",
    [
        *({"frame": "original"}, {"uncovered": "exclude"}, {"dataset_options": "seed=1"}),
        *({"mask": "otsu"}, {"protocol": "strict"}, {"protocol_version": 1}),
    ],
)
def test_runs_under_other_conditions_are_refused(runs: Path, finished: Make, changes: dict[str, Any]) -> None:
    one, other = finished(), finished(method="other", **changes)
    with pytest.raises(UsageError, match=f"differ in {next(iter(changes))} "):
        compare_runs(find_run(runs, one.key), find_run(runs, other.key))


def test_runs_on_altered_images_are_refused(runs: Path, finished: Make) -> None:
    """Images that only one of the runs has seen, or whose digest is not known, do not matter."""
    one, other = find_run(runs, finished().key), find_run(runs, finished(method="other").key)
    seen = [replace(record, image_sha256=f"{k}") for k, record in enumerate(one.records)]
    fewer = [replace(record, image_sha256="0" if k == 3 else "") for k, record in enumerate(other.records)]
    with pytest.raises(UsageError, match=r"images of 1 of .*s3"):
        compare_runs(replace(one, records=seen), replace(other, records=fewer))
    compare_runs(replace(one, records=seen), replace(other, records=seen[:20]))
    compare_runs(replace(one, records=seen), other)


def test_runs_without_a_common_value(runs: Path, finished: Make) -> None:
    one, other = find_run(runs, finished().key), find_run(runs, finished(method="other").key)
    with pytest.raises(DataError, match="share no scored sample"):
        compare_with_all(one, [other], ["cnr"], "overall")


@pytest.mark.parametrize(("by_category", "family"), [(True, 9), (False, 3)])
def test_p_values_are_corrected_over_what_is_shown(runs: Path, finished: Make, by_category: bool, family: int) -> None:
    """Holm by hand: three pairs of runs, each with all samples and, if they are shown, two categories."""
    first = find_run(runs, finished(gain=0.01, method="first").key)
    others = [find_run(runs, finished(gain=gain, method=f"m{gain}").key) for gain in (0.0, 0.005, 0.01)]
    found = [line for part in compare_with_all(first, others, ["iou"], "overall", by_category) for line in part]
    raw = [line.found.p_value for line in found]
    assert [line.family for line in found] == [family] * family
    highest, expected = 0.0, {}
    for rank, index in enumerate(sorted(range(family), key=lambda index: (raw[index], index))):
        highest = max(highest, min(1.0, raw[index] * (family - rank)))
        expected[index] = highest
    assert [line.p_value for line in found] == pytest.approx([expected[index] for index in range(family)])
    assert (found[0].better, found[-1].better) == (1, 0)


def test_a_difference_that_only_the_correction_hides_says_so(runs: Path, finished: Make) -> None:
    noise = np.repeat(np.random.default_rng(5).normal(0, 1, 20), 2)
    gain = noise - noise.mean() + 2.4 * noise.std() / 20**0.5
    values = [0.1 * gain, np.zeros(40), *[0.1 * gain] * 4]
    ours, *others = (find_run(runs, finished(values=v, method=f"m{k}").key) for k, v in enumerate(values))
    alone = compare_with_all(ours, others[:1], ["iou"], "overall")[0][0]
    line = compare_with_all(ours, others, ["iou"], "overall")[0][0]
    assert alone.found == line.found
    assert alone.p_value == line.found.p_value < 0.05 < line.p_value == pytest.approx(5 * line.found.p_value)
    assert "a is better than b in iou" in in_words(alone, "a", "b")
    assert "corrected" not in in_words(alone, "a", "b")
    said = in_words(line, "a", "b")
    assert "is not significant after correction for 5 comparisons" in said
    assert f"p = {line.found.p_value:.2g}, corrected p = {line.p_value:.2g};" in said


def test_the_command(call: Callable[..., Any], finished: Make) -> None:
    for gain, method in enumerate(("worst", "middle", "best")):
        finished(gain=gain / 100, method=method)
    said = call("compare", "best", "middle", "worst", "--metric", "iou", "--bare")
    assert "best gt-cfg is better than middle gt-cfg in iou: A - B = 0.020 " in said
    assert "best gt-cfg is better than worst gt-cfg in iou: A - B = 0.040 " in said
    assert "over the 2 comparisons" in said
    assert said.count("*") == 3  # both differences are significant; the legend explains the star
    assert max(map(len, said[: said.index("best gt-cfg is")].splitlines())) <= 80
    assert "controls" not in said
    found = call("compare", "best", "middle", "--metric", "iou", "--by-category", "--json")
    rows = found["comparisons"]
    assert [(row["category"], row["n_comparisons"]) for row in rows] == [(ALL, 3), ("A", 3), ("B", 3)]
    assert rows[0]["difference"] == pytest.approx(0.02)
    assert [one["label"] for one in found["runs"]] == ["best gt-cfg", "middle gt-cfg"]
    assert "unheard" in call("compare", "best", "unheard", code=2)
    assert "the same run" in call("compare", "best", "best", code=2)


def test_margins_on_the_command_line(call: Callable[..., Any], finished: Make) -> None:
    finished(gain=0.01)
    finished(method="other")
    words = ["compare", "ours", "other", "--metric", "iou", "--bare"]
    for given, margin, equivalent in ((["0.03"], 0.03, True), (["0.03", "iou=0.01"], 0.01, False)):
        options = [word for text in given for word in ("--margin", text)]
        (row,) = call(*words, *options, "--json")["comparisons"]
        assert (row["margin"], row["equivalent"]) == (margin, equivalent)
        assert row["low_90"] < row["difference"] < row["high_90"]
    assert "margin" not in call(*words)
    for text, message in (("iou", "not a number"), ("cnr=1", "not compared"), ("-1", "positive"), ("nan", "positive")):
        assert message in " ".join(call(*words, f"--margin={text}", code=2).split())


def test_unnamed_settings_are_those_of_the_first_run(call: Callable[..., Any], finished: Make) -> None:
    rules = {"protocol": "strict", "frame": "original", "mask": "otsu", "dataset_options": "seed=1"}
    finished(method="first", **rules)
    finished()
    wanted = finished(**rules)
    found = call("compare", "first", "ours", "--metric", "iou", "--bare", "--json")["runs"]
    assert found[1]["keys"] == [wanted.key]
