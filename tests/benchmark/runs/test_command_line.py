"""The command that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.runs.command_line import controls_command, possible_controls, run_command
from gtg_bench.benchmark.runs.runner import RunRequest, prepare
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS

Make = Callable[..., RunSpec]
REQUESTS = [
    RunRequest.of("class-prior"),
    RunRequest.of("class-prior", limit=7, seed=5, dataset_options={"seed": "1"}),
    RunRequest.of("cxrbert-ldm", sampling="cfg", guidance=3.5, tokens="disease", bbm="mixture", last_steps=4),
    RunRequest.of("cxrbert-ldm", precision="float16", latent="mode", layers="3,4", protocol="strict"),
    RunRequest.of("uniform", split="validate", uncovered="exclude", frame="original", mask="0.4"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.settings.method)
def test_a_printed_command_makes_the_same_run(request_: RunRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is parsed, but nothing runs."""
    from gtg_bench.benchmark.runs import runner

    spec = prepare(request_).spec
    words = shlex.split(run_command(spec, Path("runs")))
    seen: list[RunSpec] = []

    def catch(request: RunRequest, **options: Any) -> Any:
        seen.append(prepare(request).spec)
        raise UsageError("caught")

    monkeypatch.setattr(runner, "prepare", catch)
    assert words[0] == "gtg-bench"
    CliRunner().invoke(app, words[1:])
    assert seen == [spec]


def test_a_command_has_placeholders_for_what_a_description_lacks(finished: Make) -> None:
    spec = finished(dataset="ms-cxr", dataset_options="images=a b present-only=true", code="0" * 64, weights="my zoo/w")
    words = shlex.split(run_command(spec, Path("elsewhere"), "--all-controls"))
    assert words[words.index("--data-root") + 1] == "DIR"
    assert words[words.index("--plugin") + 1] == "FILE"
    assert [words[i + 1] for i, word in enumerate(words) if word == "--dataset-option"] == [
        *("images=a b", "present-only=true"),
    ]
    assert words[words.index("--weights") + 1] == "my zoo/w"
    assert words[-3:] == ["--runs-dir", "elsewhere", "--all-controls"]


def test_controls_of_external_maps_and_of_an_object(finished: Make) -> None:
    maps = finished(weights="maps", method="mine", limit=5, seed=0)
    assert possible_controls(maps, CONTROLS[1:]) == ("image-swap",)
    command = controls_command(maps, Path("runs"), ["image-swap"])
    words = "score --maps DIR --name mine --dataset d --limit 5 --control image-swap"
    assert command == f"gtg-bench {words}"
    boxes = finished(weights="boxes", method="mine", limit=5, seed=0)
    assert possible_controls(boxes, CONTROLS[1:]) == ("image-swap",)
    command = controls_command(boxes, Path("runs"), ["image-swap"])
    assert command == f"gtg-bench {words}".replace("--maps DIR", "--boxes FILE").replace("5 ", "5 --protocol gtg ")
    assert controls_command(finished(code="object 1f"), Path("runs"), CONTROLS) == ""
    assert controls_command(finished(), Path("runs"), CONTROLS).endswith(" --all-controls")
