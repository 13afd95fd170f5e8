"""Stored maps are scored again, never computed again; and which runs share them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS


def results(result: Any) -> list[dict[str, Any]]:
    """The records without their seconds."""
    return [record.as_json() | {"seconds": 0} for record in result.records]


def manifest(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.folder / "manifest.json").read_text())
    return found


@pytest.mark.parametrize(
    "options", [{"protocol": name, "smooth": "0"} for name in PROTOCOLS] + [{"mask": "0.4"}, {"control": "image-swap"}]
)
def test_another_scoring_builds_no_model_and_equals_a_run_from_scratch(toy: Any, options: dict[str, str]) -> None:
    first = toy.run(protocol="biovil" if options.get("protocol") == "gtg" else "gtg")
    scratch = toy.run("scratch", **options)
    assert (toy.built, scratch.reused) == (2, 0)
    toy.forbidden = True
    again = toy.run(**options)
    assert results(again) == results(scratch)
    assert (again.computed, again.reused, again.maps_of) == (12, 12, first.spec.key)
    assert manifest(again)["maps_of"] == first.spec.key
    assert not (again.folder / "maps").exists()


def test_a_plain_run_after_its_image_swap_builds_no_model(toy: Any) -> None:
    swapped = toy.run(control="image-swap")
    toy.forbidden = True
    plain = toy.run()
    assert plain.reused == 12
    assert manifest(plain)["map_key"] == manifest(swapped)["map_key"] == plain.spec.map_key
    assert plain.spec.samples_sha256 != swapped.spec.samples_sha256
    assert results(plain) != results(swapped)


def test_other_settings_controls_and_data_have_other_maps(toy: Any) -> None:
    toy.run()
    others = [{"seed": 1}, {"control": "phrase-swap"}, {"control": "neutral-phrase"}]
    for built, options in enumerate([*others, {"split": "validate"}, {"dataset_options": {"seed": "1"}}], 2):
        result = toy.run(**options)
        assert (result.reused, result.maps_of, toy.built) == (0, None, built), options


@pytest.mark.parametrize("limit", [1, 11, 12])
def test_maps_are_found_whatever_the_limit(toy: Any, limit: int) -> None:
    """The toy's own limit is 12."""
    more, fewer = toy.run(limit=12), toy.run("fewer", limit=limit)
    toy.forbidden = True
    cut = toy.run(limit=limit)
    assert (cut.reused, cut.maps_of) == (limit, more.spec.key) if limit < 12 else (cut.computed == 0)
    assert results(cut) == results(fewer)


def test_a_longer_run_computes_only_what_is_missing(toy: Any) -> None:
    toy.run(limit=5)
    whole = toy.run(limit=12)
    assert (whole.reused, whole.computed, len(list((whole.folder / "maps").iterdir()))) == (5, 12, 7)
    assert results(whole) == results(toy.run("scratch", limit=12))


def test_an_interrupted_run_uses_maps_that_another_protocol_computed_since(toy: Any) -> None:
    """In both directions: each folder has the maps that it computed itself."""
    prepared = runner.prepare(toy.request())
    runner.run(replace(prepared, trials=prepared.trials[:5]), toy.request())
    other = toy.run(protocol="chexlocalize")
    assert (other.reused, len(list((other.folder / "maps").iterdir()))) == (5, 7)
    scratch = toy.run("scratch")
    toy.forbidden = True
    whole = toy.run()
    assert (whole.computed, whole.reused) == (7, 7)
    assert results(whole) == results(scratch)


def damage(path: Path, how: str) -> None:
    if how == "torn":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no frame":
        np.savez(path, values=np.zeros((2, 2), np.float32))
    else:
        with np.load(path) as archive:
            np.savez(path, values=archive["values"] * np.float32(0.5), frame=archive["frame"])


@pytest.mark.parametrize("how", ["torn", "empty", "no frame", "another map"])
def test_a_damaged_map_is_computed_again(toy: Any, how: str) -> None:
    first = toy.run()
    damage(sorted((first.folder / "maps").iterdir())[3], how)
    maps = MapStore.of_run(first.folder)
    with pytest.raises(DataError, match=r"damaged|fingerprint"):
        [maps.load(record.sample_id) for record in first.records]
    again = toy.run(protocol="chexlocalize")
    assert (again.reused, toy.built) == (11, 2)
    assert results(again) == results(toy.run("scratch", protocol="chexlocalize"))
    toy.forbidden = True
    assert toy.run(protocol="biovil").reused == 12, "an intact copy is in the folder of the second run"
    with pytest.raises(DataError, match="unheard-of"):
        maps.load("unheard-of")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_repeated_run_scores_nothing(toy: Any, control: str) -> None:
    toy.run(control=control)
    toy.forbidden = True
    again = toy.run(control=control)
    assert (again.computed, again.reused, again.maps_of) == (0, 0, None)


def test_the_map_of_a_failed_sample_is_computed_again(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(type(toy), "ground_batch", lambda self, queries: [1 / 0 for _ in queries])
        assert {record.status for record in toy.run().records} == {"failed"}
    again = toy.run(protocol="chexlocalize")
    assert ({record.status for record in again.records}, again.reused) == ({"ok"}, 0)
