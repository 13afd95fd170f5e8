"""A run's key holds everything that decides its numbers."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from typing import Any

import pytest

from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS
from gtg_bench.benchmark.runs.spec import MAP_FIELDS, RunSpec, map_key

SPEC = RunSpec(
    dataset="phantom",
    dataset_version="1",
    dataset_options="seed=3",
    samples_sha256="ab" * 32,
    split="test",
    limit=20,
    method="cxrbert-ldm",
    code="cd" * 32,
    weights="phantom",
    weights_version="0123456789ab",
    sampling="gt-cfg",
    latent="sample",
    lexicon="rule 1",
    profile="paper",
    precision="float32",
    tokens="lexical",
    bbm="none",
    steps=50,
    last_steps=40,
    guidance=16.0,
    layers="all",
    seed=4200,
)
FIELDS = [field.name for field in fields(RunSpec)]


def others(name: str) -> list[Any]:
    """Other values for a field: one that is near, and None or an empty text where the field allows one."""
    value = getattr(SPEC, name)
    near = value + "x" if isinstance(value, str) else value + 1
    optional = "None" in str(RunSpec.__annotations__[name])
    return [near, None] if optional else [near, ""] if isinstance(value, str) else [near, 0]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_the_key(name: str) -> None:
    keys = {SPEC.key, *(replace(SPEC, **{name: value}).key for value in others(name))}
    assert len(keys) == 3


def test_the_same_fields_give_the_same_key() -> None:
    again = RunSpec(**{name: getattr(SPEC, name) for name in reversed(FIELDS)})
    assert again == SPEC
    assert again.key == SPEC.key
    assert re.fullmatch(r"[0-9a-f]{12}", SPEC.key)


def test_a_value_does_not_stand_for_another_of_its_kind() -> None:
    assert replace(SPEC, steps=40, last_steps=50).key != SPEC.key
    assert replace(SPEC, tokens="none", bbm="lexical").key != SPEC.key
    assert replace(SPEC, limit=None).key != replace(SPEC, limit=0).key
    assert replace(SPEC, weights=None).key != replace(SPEC, weights="None").key


def test_a_spec_comes_back_from_json() -> None:
    read = RunSpec(**json.loads(json.dumps(SPEC.as_json())))
    assert read == SPEC
    assert read.key == SPEC.key


def test_equal_specs_have_equal_keys() -> None:
    assert replace(SPEC, guidance=16) == SPEC
    assert replace(SPEC, guidance=16).key == SPEC.key


@pytest.mark.parametrize("name", FIELDS)
def test_the_maps_key_has_what_decides_a_map_and_leaves_the_scoring_out(name: str) -> None:
    """Split and limit are in the digest of the samples."""
    scoring = {"frame", "uncovered", "mask", "protocol", "protocol_version", "schema", "split", "limit"}
    assert (name in MAP_FIELDS) == (name not in scoring)
    keys = {SPEC.map_key, *(replace(SPEC, **{name: value}).map_key for value in others(name))}
    assert len(keys) == (1 if name in scoring else 3)


def test_a_control_of_the_region_has_the_maps_of_the_plain_run() -> None:
    keys = {control: replace(SPEC, control=control).map_key for control in CONTROLS}
    assert {control for control in CONTROLS if keys[control] == keys["none"]} == {"none", *REGION_CONTROLS}
    assert len(set(keys.values())) == len(CONTROLS) - len(REGION_CONTROLS)


def test_the_maps_key_of_an_older_description() -> None:
    later = ("mask", "protocol_version", "schema")
    older = {name: value for name, value in SPEC.as_json().items() if name not in later} | {"schema": 2}
    assert map_key(older) == SPEC.map_key
    assert re.fullmatch(r"[0-9a-f]{12}", SPEC.map_key)
    with pytest.raises(KeyError):
        map_key({name: value for name, value in older.items() if name != "latent"})
