"""Finished runs found by key, or by method and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.benchmark.runs.lookup import conditions, find_run, matching, specs_in
from gtg_bench.benchmark.runs.spec import RunSpec

Make = Callable[..., RunSpec]
PLAIN: dict[str, Any] = dict.fromkeys(
    ("weights", "sampling", "latent", "tokens", "lexicon", "bbm", "profile", "precision", "steps", "layers")
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folder of the runs that `finished` makes."""
    return tmp_path / "runs"


def test_a_run_is_found_by_method_settings_or_key(runs: Path, finished: Make) -> None:
    plain, merged = finished(), finished(bbm="mixture")
    finished(control="phrase-swap")
    finished(dataset_options="seed=1")
    prior = finished(method="prior", **PLAIN)
    for name, spec in {
        "ours": plain,
        "ours:bbm=mixture": merged,
        merged.key: merged,
        "prior": prior,
        "ours:control=phrase-swap": dataclasses.replace(plain, control="phrase-swap"),
    }.items():
        found = find_run(runs, name)
        assert found.spec == spec
        assert len(found.records) == 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("our", "unknown run 'our'; did you mean ours"),
        ("ours", r"\(layers (all|3,4)\); .* \(layers (all|3,4)\)"),
        ("ours:layers=9", "layers=9"),
        ("ours:size=9", "size=9"),
    ],
)
def test_a_name_that_is_not_one_run(runs: Path, finished: Make, name: str, message: str) -> None:
    finished()
    finished(layers="3,4")
    with pytest.raises(UsageError, match=message):
        find_run(runs, name)


def test_unnamed_settings_have_their_defaults(runs: Path, finished: Make) -> None:
    plain = finished()
    strict = finished(protocol="strict", frame="original")
    finished(limit=5)
    finished(frame="original")
    named = finished(protocol="strict", frame="original", limit=5)
    finished(protocol="strict", uncovered="exclude")
    old = finished(protocol_version=1)
    for name, spec in {
        "ours": plain,
        "ours:protocol_version=1": old,
        "ours:protocol=strict": strict,
        "ours:protocol=strict:limit=5": named,
        "ours:seed=1": plain,
    }.items():
        assert find_run(runs, name).spec == spec


def test_unnamed_settings_are_those_of_the_run_to_compare_with(runs: Path, finished: Make) -> None:
    first = finished(method="first", protocol="strict", frame="original", mask="otsu", dataset_options="seed=1")
    finished(dataset_options="seed=1")
    finished()
    wanted = finished(protocol="strict", frame="original", mask="otsu", dataset_options="seed=1")
    limited = finished(protocol="strict", frame="original", mask="otsu", dataset_options="seed=1", limit=5)
    assert matching(runs, "ours", like=first) == [wanted]
    assert matching(runs, "ours", like=dataclasses.replace(first, limit=5)) == [limited]
    assert matching(runs, "ours:mask=mixture", like=first) != [wanted]


def test_a_torn_manifest_is_skipped(runs: Path, finished: Make) -> None:
    spec = finished()
    (runs / "d" / "ours" / "torn").mkdir()
    (runs / "d" / "ours" / "torn" / "manifest.json").write_text("{")
    assert find_run(runs, "ours").spec == spec


def test_thresholds_chosen_on_a_validation_split_are_one_rule(finished: Make) -> None:
    one, other = finished(mask="best:0.3"), finished(mask="best:0.4")
    assert conditions(one) == conditions(other) != conditions(finished(mask="0.3"))


def test_a_plain_name_means_the_settings_of_the_weights_card(tmp_path: Path, finished: Any) -> None:
    usual = METHODS.get("cxrbert-ldm").completed(MethodSettings("cxrbert-ldm"))
    card = {name: getattr(usual, name) for name in ("weights_version", "steps", "guidance", "layers")}
    as_usual = finished(method="cxrbert-ldm", **card)
    every_layer = finished(method="cxrbert-ldm", **card | {"layers": "all"})
    finished(method="cxrbert-ldm", **card | {"weights_version": "older"})
    assert find_run(tmp_path / "runs", "cxrbert-ldm").spec == as_usual
    assert find_run(tmp_path / "runs", "cxrbert-ldm:layers=all").spec == every_layer


def test_a_plain_name_means_the_default_weights(tmp_path: Path, finished: Callable[..., Any]) -> None:
    usual = METHODS.get("cxrbert-ldm").completed(MethodSettings("cxrbert-ldm"))
    known = {name: getattr(usual, name) for name in ("weights_version", "steps", "guidance", "layers")}
    plain = finished(method="cxrbert-ldm", **known)
    other = finished(method="cxrbert-ldm", **known | {"weights": "phantom-quick", "weights_version": "1"})
    assert find_run(tmp_path / "runs", "cxrbert-ldm").spec == plain
    assert find_run(tmp_path / "runs", "cxrbert-ldm:weights=phantom-quick").spec == other


def test_an_unfinished_run_is_named_and_not_used(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, ground, calls = toy.folder / "runs", type(toy).ground_batch, []

    def interrupted(self: Any, queries: Any) -> Any:
        calls.append(len(queries))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return ground(self, queries)

    with monkeypatch.context() as patched:
        patched.setattr(type(toy), "ground_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            toy.run(batch_size=4)
    with pytest.raises(UsageError, match="toy is unfinished"):
        find_run(runs, "toy")
    assert list(specs_in(runs)) == []
    (begun,) = specs_in(runs, finished=False)
    finished = toy.run(batch_size=4)
    assert finished.spec == begun
    assert finished.computed == 8
    assert len(find_run(runs, "toy").records) == 12
