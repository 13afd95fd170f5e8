"""The command that repeats a run, from its description."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path

from gtg_bench.benchmark.api.settings import BOXES, DEFAULTS, OPTIONS
from gtg_bench.benchmark.datasets import DATASETS
from gtg_bench.benchmark.metrics.named_masks import rule_of
from gtg_bench.benchmark.runs.external_maps import WEIGHTS
from gtg_bench.benchmark.runs.runner import RunRequest
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import REGION_CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL, RULES, protocol_of

_DEFAULTS = {one.name: one.default for one in fields(RunRequest) if one.default is not MISSING}
_SETTINGS = dict.fromkeys(OPTIONS) | dict(DEFAULTS) | {"weights": "phantom", "seed": 4200}
"""Values of options that are not given; settings whose default comes from a card are always written out."""

_OBJECT = "object "
"""Start of the code of a method that exists in one Python process only, see `python_api.evaluate`."""

_EXTERNAL = {WEIGHTS: ("--maps", "DIR"), BOXES: ("--boxes", "FILE")}
"""Value of `weights` -> the option of `gtg-bench score`."""

_ELSEWHERE = ("dataset_options", "control", "data_root")


def run_command(spec: RunSpec, runs_dir: Path, *more: str) -> str:
    """`gtg-bench run ...`, or `score --maps ...` or `score --boxes ...` for external answers, quoted for a shell.

    DIR and FILE are placeholders for what a description does not contain.

    Args:
        spec: the run; its control is left out.
        runs_dir: folder of the runs.
        more: further words, such as "--all-controls".
    """
    words = ["gtg-bench", "run", "--method", spec.method]
    rules, values = protocol_of(spec.protocol), spec.as_json()
    usual = _DEFAULTS | _SETTINGS | {part: getattr(rules, part) for part in RULES}
    if option := _EXTERNAL.get(values["weights"] or ""):
        words = ["gtg-bench", "score", *option, "--name", spec.method, "--dataset", spec.dataset]
        usual["protocol"] = BOXES if values["weights"] == BOXES else PROTOCOL
        values = {name: values[name] for name in ("split", "limit", "protocol", *RULES)}
    values["smooth"] = rule_of(values["smooth"])  # it is chosen again
    if (values.get("weights") or "").endswith(" training split"):  # priors take theirs from the data set
        usual["weights"] = values["weights"]
    for name, value in values.items():
        if name in usual and name not in _ELSEWHERE and value not in (None, usual[name]):
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    for option in filter(None, re.split(r" (?=[\w-]+=)", spec.dataset_options)):
        words += ["--dataset-option", option]
    words += ["--data-root", "DIR"] if spec.dataset in DATASETS and DATASETS[spec.dataset].needs_data_root else []
    words += ["--plugin", "FILE"] if spec.code and re.fullmatch("[0-9a-f]{64}", spec.code) else []
    words += [] if runs_dir == Path("runs") else ["--runs-dir", str(runs_dir)]
    return shlex.join([*words, *more])


def possible_controls(spec: RunSpec, controls: Sequence[str]) -> tuple[str, ...]:
    """Those of the controls that can be run for a run: external answers allow no other phrases."""
    return tuple(one for one in controls if spec.settings.weights not in _EXTERNAL or one in REGION_CONTROLS)


def controls_command(spec: RunSpec, runs_dir: Path, missing: Sequence[str]) -> str:
    """The command that runs the missing controls of a run; "" if no command can, because its method is an object."""
    if (spec.code or "").startswith(_OBJECT):
        return ""
    if spec.settings.weights in _EXTERNAL:
        return "; ".join(run_command(spec, runs_dir, "--control", control) for control in missing)
    return run_command(spec, runs_dir, "--all-controls")
