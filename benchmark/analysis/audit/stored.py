"""The last complete audit of a run, kept in the run's folder for reports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gtg_bench.benchmark.analysis.audit.audit import QUESTIONS, Page
from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import write_text
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.state import Strict, problem, read_state, warn

NAME = "audit.json"
VERSION = 2
"""Increases whenever a question's figures or rules change; pages of another version are not shown."""


class _File(Strict):
    version: int
    page: dict[str, object]


def keep(runs_dir: Path, spec: RunSpec, page: Page) -> None:
    """Store the page of a run, unless it leaves out questions. Raises PlaceError if it cannot be written."""
    if len(page.questions) == len(QUESTIONS):
        write_text(RunFolder(runs_dir, spec).path / NAME, json.dumps({"version": VERSION, "page": asdict(page)}) + "\n")


def find(runs_dir: Path, spec: RunSpec) -> Page | None:
    """The stored page of a run; None if there is none of this version. A damaged file is left out with a warning."""
    path = RunFolder(runs_dir, spec).path / NAME
    if not path.exists():
        return None
    try:
        found = read_state(path, _File, "run `gtg-bench audit` again")
        return TypeAdapter(Page).validate_python(found["page"]) if found["version"] == VERSION else None
    except (DataError, ValidationError) as error:
        text = f"{path} is damaged ({problem(error)})" if isinstance(error, ValidationError) else str(error)
        warn(f"{text}. This audit is left out.")
        return None
