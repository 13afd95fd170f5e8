"""Maps that a run stored are scored again, never computed again; and which runs share them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.runs import runner
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOLS


def told(result: Any) -> list[dict[str, Any]]:
    """All of the records but the time that they took."""
    return [record.as_json() | {"seconds": 0} for record in result.records]


def manifest(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((result.folder / "manifest.json").read_text())
    return found


@pytest.mark.parametrize(
    "options", [{"protocol": name} for name in PROTOCOLS] + [{"mask": "0.4"}, {"control": "image-swap"}]
)
def test_another_scoring_builds_no_model_and_equals_a_run_from_scratch(toy: Any, options: dict[str, str]) -> None:
    first = toy.run(protocol="strict" if options.get("protocol") == "gtg" else "gtg")
    scratch = toy.run("scratch", **options)
    assert (toy.built, scratch.reused) == (2, 0)
    toy.forbidden = True
    again = toy.run(**options)
    assert told(again) == told(scratch)
    assert (again.computed, again.reused, again.maps_of) == (12, 12, first.spec.key)
    assert manifest(again)["maps_of"] == first.spec.key
    assert not (again.folder / "maps").exists()


def test_a_run_after_its_image_swap_builds_no_model_either(toy: Any) -> None:
    swapped = toy.run(control="image-swap")
    toy.forbidden = True
    plain = toy.run()
    assert plain.reused == 12
    assert manifest(plain)["map_key"] == manifest(swapped)["map_key"] == plain.spec.map_key
    assert plain.spec.samples_sha256 != swapped.spec.samples_sha256
    assert told(plain) != told(swapped)


@pytest.mark.parametrize(
    "options",
    [{"seed": 1}, {"control": "phrase-swap"}, {"control": "neutral-phrase"}, {"limit": 11}, {"split": "validate"}],
)
def test_what_decides_a_map_makes_another_one(toy: Any, options: dict[str, Any]) -> None:
    toy.run()
    result = toy.run(**options)
    assert (result.reused, result.maps_of, toy.built) == (0, None, 2)


def test_data_with_other_options_have_other_maps(toy: Any) -> None:
    toy.run()
    assert toy.run(dataset_options={"seed": "1"}).reused == 0


def test_a_run_that_was_stopped_takes_what_another_protocol_has_since_computed(toy: Any) -> None:
    """Both ways: each folder holds the maps that it computed itself."""
    prepared = runner.prepare(toy.request())
    half = dataclasses.replace(prepared, trials=prepared.trials[:5])
    runner.run(half, toy.request())
    strict = toy.run(protocol="strict")
    assert (strict.reused, len(list((strict.folder / "maps").iterdir()))) == (5, 7)
    scratch = toy.run("scratch")
    toy.forbidden = True
    whole = toy.run()
    assert (whole.computed, whole.reused) == (7, 7)
    assert told(whole) == told(scratch)


def spoiled(path: Path, how: str) -> None:
    if how == "torn":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no frame":
        np.savez(path, values=np.zeros((2, 2), np.float32))
    else:
        with np.load(path) as archive:
            np.savez(path, values=archive["values"] * np.float32(0.5), frame=archive["frame"])


@pytest.mark.parametrize("how", ["torn", "empty", "no frame", "of another map"])
def test_a_damaged_map_is_computed_anew(toy: Any, how: str) -> None:
    first = toy.run()
    spoiled(sorted((first.folder / "maps").iterdir())[3], how)
    maps = MapStore(first.folder)
    with pytest.raises(DataError, match=r"is damaged|fingerprint"):
        [maps.load(record.sample_id) for record in first.records]
    again = toy.run(protocol="strict")
    assert (again.reused, toy.built) == (11, 2)
    assert told(again) == told(toy.run("scratch", protocol="strict"))
    toy.forbidden = True
    assert toy.run(protocol="biovil").reused == 12, "the sound copy is beside the damaged one"


def test_there_is_no_map_of_another_sample(toy: Any) -> None:
    with pytest.raises(DataError, match="no map of sample nobody"):
        MapStore(toy.run().folder).load("nobody")


@pytest.mark.parametrize("control", CONTROLS)
def test_a_repeated_run_scores_nothing(toy: Any, control: str) -> None:
    toy.run(control=control)
    toy.forbidden = True
    again = toy.run(control=control)
    assert (again.computed, again.reused, again.maps_of) == (0, 0, None)


def test_a_sample_that_failed_has_its_map_computed_again(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(type(toy), "ground_batch", lambda self, queries: [1 / 0 for _ in queries])
        assert {record.status for record in toy.run().records} == {"failed"}
    again = toy.run(protocol="strict")
    assert ({record.status for record in again.records}, again.reused) == ({"ok"}, 0)
