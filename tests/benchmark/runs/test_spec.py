"""A run's key holds everything that decides its numbers, and a setting is defined once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.settings import MethodSettings
from gtg_bench.benchmark.runs.spec import COLUMNS, FIELDS, MAP_FIELDS, RunSpec, differing

SETTINGS = MethodSettings(
    method="cxrbert-ldm",
    weights="phantom",
    weights_version="0123456789ab",
    sampling="gt-cfg",
    latent="sample",
    tokens="lexical",
    lexicon="rule 1",
    bbm="none",
    profile="paper",
    precision="float32",
    steps=50,
    last_steps=40,
    guidance=16.0,
    layers="all",
)
SPEC = RunSpec("phantom", "1", "seed=3", "ab" * 32, "ef" * 32, "test", 20, SETTINGS, code="cd" * 32)
OPTIONAL = {one.name for one in (*fields(RunSpec), *fields(MethodSettings)) if "None" in str(one.type)} - {"dataset"}


def changed(**changes: Any) -> RunSpec:
    return RunSpec.from_json(SPEC.as_json() | changes)


def others(name: str) -> list[Any]:
    """Two other values of a field: a near one, and None or an empty value."""
    value = SPEC.as_json()[name]
    near = value + "x" if isinstance(value, str) else value + 1
    return [near, None] if name in OPTIONAL else [near, ""] if isinstance(value, str) else [near, 0]


def test_every_field_changes_the_key_and_the_map_key_leaves_the_scoring_out() -> None:
    scoring = {"frame", "uncovered", "mask", "protocol", "protocol_version", "schema", "split", "limit", "smooth"}
    scoring |= {"dataset_version", "samples_sha256", "images_sha256", "control"}  # these are in each map's own name
    assert set(FIELDS) - set(MAP_FIELDS) == scoring
    for name in FIELDS:
        specs = [SPEC, *(changed(**{name: value}) for value in others(name))]
        assert len({spec.key for spec in specs}) == 3, name
        assert len({spec.map_key for spec in specs}) == (1 if name in scoring else 3), name


def test_a_spec_comes_back_from_json() -> None:
    values = SPEC.as_json()
    read = RunSpec.from_json(json.loads(json.dumps(dict(reversed(values.items())))))
    assert read == SPEC
    assert read.key == SPEC.key
    assert re.fullmatch(r"[0-9a-f]{12}", SPEC.key)
    with pytest.raises(DataError):
        RunSpec.from_json(values | {"unheard": 1})
    with pytest.raises(DataError):
        RunSpec.from_json({name: value for name, value in values.items() if name != "split"})


def test_a_change_of_the_key_is_deliberate() -> None:
    """Any change makes every stored run another one: bump SCHEMA, and say so."""
    assert SPEC.key == "2e9497d41d3d"


def test_values_are_not_confused_with_one_another() -> None:
    assert changed(steps=40, last_steps=50).key != SPEC.key
    assert changed(tokens="none", bbm="lexical").key != SPEC.key
    assert changed(limit=None).key != changed(limit=0).key
    assert changed(weights=None).key != changed(weights="None").key
    assert changed(guidance=16) == SPEC
    assert changed(guidance=16).key == SPEC.key


def test_where_a_method_runs_is_not_part_of_the_description() -> None:
    moved = replace(SPEC, settings=replace(SETTINGS, device="cuda", dataset="elsewhere"))
    assert moved == SPEC
    assert moved.key == SPEC.key


def test_what_differs_is_named_weights_first() -> None:
    assert differing([SPEC, changed(steps=8, weights="mine", weights_version="0", samples_sha256="x")]) == [
        "weights",
        "steps",
    ]
    assert differing([SPEC, changed(samples_sha256="x")]) == ["samples_sha256"]
    assert differing([SPEC, SPEC]) == []
    assert {"method", "weights", "seed", "control"} <= set(COLUMNS)


NEW_SETTING = """
import sys, types
from pathlib import Path
import gtg_bench

path = Path(gtg_bench.__path__[0], "benchmark", "api", "settings.py")
source, line = path.read_text(encoding="utf-8"), "    last_steps: int | None = _option("
assert source.count(line) == 1
source = source.replace(line, '    sharpness: float | None = _option("Exponent.")\\n' + line)
name = "gtg_bench.benchmark.api.settings"
sys.modules[name] = types.ModuleType(name)  # in the place of the module, before anything has imported it
exec(compile(source, path, "exec"), sys.modules[name].__dict__)

from typer.testing import CliRunner
from gtg_bench.benchmark.api import Frame, GroundingMap, METHODS
from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import MethodCard
from gtg_bench.benchmark.cli import app

class Sharp:
    def __init__(self, settings): self.power = settings.sharpness or 1.0
    def ground(self, image, text): return GroundingMap(image ** self.power, Frame.original(image.shape[::-1]))

METHODS.register(MethodEntry("sharp", Sharp, MethodCard("x", "plug-in"), complete=lambda s: s.only("sharpness")))
folder = sys.argv[1]
common = ["run", "-m", "sharp", "--limit", "4"]
common += ["--runs-dir", folder + "/runs", "--leaderboards-dir", folder + "/boards"]
for words in ([], ["--sharpness", "2.5"]):
    done = CliRunner().invoke(app, common + words, env={"COLUMNS": "120"})
    assert done.exit_code == 0, repr(done)
print(done.output)
"""


def test_a_new_setting_reaches_options_key_manifest_csv_and_labels(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NEW_SETTING, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("manifest.json")]
    assert {one["spec"]["sharpness"] for one in manifests} == {None, 2.5}
    assert len({one["key"] for one in manifests}) == 2
    header, *rows = (tmp_path / "boards" / "phantom.csv").read_text().splitlines()
    column = header.split(",").index("sharpness")
    assert sorted(row.split(",")[column] for row in rows) == ["", "2.5"]
    assert "sharpness 2.5" in done.stdout
