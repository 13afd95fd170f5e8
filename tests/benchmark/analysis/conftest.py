"""The folder of the runs that `finished` makes, and the commands that read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.cli import app


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Folder of the runs that `finished` makes."""
    return tmp_path / "runs"


@pytest.fixture
def call(runs: Path) -> Callable[..., Any]:
    """Calls a command on these runs: what it prints, parsed with `--json`, or its error message if `code` is not 0."""

    def invoke(*words: object, code: int = 0) -> Any:
        done = CliRunner().invoke(app, [*map(str, words), "--runs-dir", str(runs)], env={"COLUMNS": "80"})
        assert done.exit_code == code, done.output
        return done.stderr if code else json.loads(done.stdout) if "--json" in words else done.stdout

    return invoke
