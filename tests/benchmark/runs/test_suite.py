"""Suites: lists of runs as data, and the packaged ones against the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gtg_bench.benchmark.api.errors import DataError, GtgError
from gtg_bench.benchmark.report.plots.paper_steps import ALL_STEPS, LAST_STEPS, MODES, STEPS
from gtg_bench.benchmark.report.tables.paper_layouts import LAYOUTS
from gtg_bench.benchmark.report.tables.published import figures
from gtg_bench.benchmark.runs.runner import RunRequest
from gtg_bench.benchmark.runs.suite import Suite, combinations, find_suite, name_of, packaged_suites, passes, varying


def settings_of(found: list[RunRequest], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(one.settings, name) for name in names) for one in found]


def written(path: Path, text: str) -> Suite:
    path.write_text(text)
    return find_suite(str(path))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_table_suite_fills_every_cell_of_the_paper(number: int) -> None:
    layout = LAYOUTS[number]
    runs = [one.settings.as_json() | {"protocol": one.protocol} for one in find_suite(f"table{number}").requests({})]
    used = set()
    for figure in figures(number):
        wanted = dict(layout.variants[0].settings)
        for label in (figure.section, figure.row, figure.column):
            wanted |= layout.wants.get(label, {})
        fitting = [i for i, run in enumerate(runs) if all(run[name] == value for name, value in wanted.items())]
        assert fitting, wanted
        used |= set(fitting)
    assert used == set(range(len(runs)))
    assert {run["protocol"] for run in runs if run["method"].startswith("biovil")} in ({"gtg", "biovil"}, set())


def test_figure_suites_have_the_steps_of_the_figures() -> None:
    found = find_suite("figure4").requests({})
    assert set(settings_of(found, "sampling", "steps")) == {(mode, n) for mode in MODES for n in STEPS}
    found = find_suite("figure5").requests({})
    assert settings_of(found, "steps", "last_steps") == [(ALL_STEPS, n) for n in LAST_STEPS]


def test_packaged_suites_are_described() -> None:
    found = packaged_suites()
    assert {name: len(suite.requests({})) for name, suite in found.items()} == {
        **{"table1": 7, "table2": 24, "table3": 5},
        **{"figure4": 16, "figure5": 16, "controls": 8},
    }
    assert all(suite.title for suite in found.values())


def test_groups_are_multiplied_and_sorted_by_model(tmp_path: Path) -> None:
    text = "runs:\n- {method: [a, b], seed: [1, 2]}\n- {method: a, control: all, seed: 1}\n"
    text += "- {method: a, layers: 3, steps: auto}\n"
    found = written(tmp_path / "mine.yaml", text).requests({}, limit=3)
    assert [one.settings.method for one in found] == ["a"] * 7 + ["b"] * 2
    assert [one.control for one in found[2:6]] == ["neutral-phrase", "phrase-swap", "image-swap", "side-swap"]
    assert settings_of(found, "seed")[:3] == [(1,), (2,), (1,)]
    assert (found[6].settings.layers, found[6].settings.steps, found[6].limit) == ("3", "auto", 3)


def test_choices_replace_those_of_the_groups_that_name_them() -> None:
    suite = find_suite("table1")
    found = suite.requests({"bbm": ["linear"], "steps": [2]})
    assert set(settings_of(found, "method", "bbm", "steps")) == {
        *((name, None, 2) for name in ("biovil", "biovil-l")),
        *((name, "linear", 2) for name in ("clip-ldm", "cxrbert-ldm")),
    }
    assert {one.settings.method for one in suite.requests({"method": ["mine"]})} == {"mine"}


def test_rules_of_scoring_are_choices(tmp_path: Path) -> None:
    suite = written(tmp_path / "mine.yaml", "runs: [{method: a, mask: [otsu, 0.50], smooth: [0, best]}]")
    found = suite.requests({"frame": ["original"]})
    assert [(one.rules.mask, one.rules.smooth) for one in found] == [
        *(("otsu", "0"), ("otsu", "best")),
        *(("0.5", "0"), ("0.5", "best")),
    ]
    assert {one.rules.frame for one in found} == {"original"}
    names = [name_of(one, varying(found)) for one in found]
    assert names[1] == "a, mask otsu, smooth best"
    with pytest.raises(GtgError, match="--smooth"):
        suite.requests({"smooth": ["much"]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: []", "runs"),
        ("- 1", "a list of `runs`"),
        ("title: x", "runs"),
        ("runs: [{seed: 1}]", "runs.0.method"),
        ("runs: [{method: a, sampel: x}]", "did you mean sampling"),
        ("runs: [{method: a}]\ntabel: 3", "did you mean table"),
        ("runs: [{method: a, sampling: [x]}]", "runs.0.sampling.0"),
        ("runs: [{method: a, steps: [1, x]}]", "runs.0.steps.1"),
        ("runs: [{method: a, seed: []}]", "runs.0.seed"),
        ("runs: [{method: a}]\ntable: 9", "table"),
        ("runs: [{method: a, frame: crop}]", "runs.0.frame"),
    ],
)
def test_a_file_that_is_not_a_suite_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=r"mine\.yaml") as caught:
        written(tmp_path / "mine.yaml", text)
    assert said in str(caught.value)


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(GtgError, match="table2"):
        find_suite("tabel2")


def test_names_say_what_distinguishes_runs() -> None:
    found = [RunRequest.of("a", **one, steps=3) for one in combinations({"sampling": ["text", "cfg"], "seed": [1, 2]})]
    found.append(RunRequest.of("a", sampling="cfg", seed=1, steps=3, control="side-swap", protocol="strict"))
    names = [name_of(one, varying(found)) for one in found]
    assert names[1] == "a text, seed 2"
    assert names[-1] == "a cfg, seed 1, protocol strict, control side-swap"
    assert [name_of(one, varying(found[:1])) for one in found[:1]] == ["a"]
    usual = [RunRequest.of("a", tokens="lexical"), RunRequest.of("b"), RunRequest.of("b", bbm="mixture")]
    assert [name_of(one, varying(usual)) for one in usual] == ["a", "b", "b, bbm mixture"]


def test_runs_that_differ_only_in_the_last_steps_share_a_pass() -> None:
    def entry(last: int | None, **more: Any) -> Any:
        return entry_of(RunRequest.of("cxrbert-ldm", last_steps=last, **more))

    choices = combinations({"last_steps": [1, 2], "seed": [1, 2], "bbm": ["none", "linear"]})
    entry_of = passes([RunRequest.of("cxrbert-ldm", **one) for one in choices])
    (one, two, other) = (entry(1, seed=1, bbm="none"), entry(2, seed=1, bbm="none"), entry(1, seed=2, bbm="none"))
    assert one.build.args[0] is two.build.args[0]
    assert one.build.args[0] is not other.build.args[0]
    assert (one.build.args[1], two.build.args[1]) == (1, 2)
    assert entry(1, seed=1, bbm="linear") is None
    assert entry(1, seed=1, bbm="none", control="phrase-swap") is None
    assert passes([RunRequest.of("cxrbert-ldm", last_steps=1)])(RunRequest.of("cxrbert-ldm", last_steps=1)) is None
