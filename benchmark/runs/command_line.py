"""The command that makes a run, from the run's description."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

from gtg_bench.benchmark.api.choices import DEFAULTS
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.runs.runner import RunRequest
from gtg_bench.benchmark.runs.spec import RunSpec

_ELSEWHERE = ("method", "dataset_options", "control", "weights")
_USUAL = {field.name: field.default for field in fields(RunRequest)} | DEFAULTS | {"weights": "phantom"}
"""What the command takes where an option is not given. What a card decides is always said."""


def run_command(spec: RunSpec, runs_dir: Path, *more: str) -> str:
    """`gtg-bench run ...` as a shell takes it, for the same run; DIR and FILE stand for what no description holds.

    Args:
        spec: the run; its control is left out.
        runs_dir: where runs are kept.
        more: further words, such as "--all-controls".
    """
    words = ["gtg-bench", "run", "--method", spec.method]
    rules = protocol_of(spec.protocol)
    usual = _USUAL | {"frame": rules.frame, "uncovered": rules.uncovered, "mask": rules.mask}
    names = [name for name in RunSpec.__dataclass_fields__ if name in _USUAL and name not in _ELSEWHERE]
    of_data = (spec.weights or "").endswith(" training split")
    for name in names if of_data else (*names, "weights"):
        value = getattr(spec, name)
        if value is not None and value != usual[name]:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    for option in filter(None, re.split(r" (?=[\w-]+=)", spec.dataset_options)):
        words += ["--dataset-option", option]
    words += ["--data-root", "DIR"] if spec.dataset in DATASETS and DATASETS[spec.dataset].needs_data_root else []
    words += ["--plugin", "FILE"] if spec.code and re.fullmatch("[0-9a-f]{64}", spec.code) else []
    words += [] if runs_dir == Path("runs") else ["--runs-dir", str(runs_dir)]
    return shlex.join([*words, *more])
