"""Runs that differ only in their number of denoising steps, or in how many of the last steps are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.analysis.seeds import mean_of
from gtg_bench.benchmark.analysis.sensitivity import PLAIN
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.report.plots.selection import names_of, usual_specs
from gtg_bench.benchmark.runs.lookup import FinishedRun, read_run
from gtg_bench.benchmark.runs.spec import RunSpec

OVER = ("steps", "last_steps")
"""The settings."""


@dataclass(frozen=True)
class Swept:
    """Runs of one method that differ in one setting.

    Attributes:
        over: the setting, one of OVER.
        name: what the method is called.
        label: what the setting means.
        runs: value of the setting -> its run, a mean over noise seeds if there are several.
    """

    over: str
    name: str
    label: str
    runs: dict[int, FinishedRun]


def sweeps(runs_dir: Path, names: Sequence[str] = (), dataset: str | None = None) -> list[Swept]:
    """All groups of at least two runs that differ in `steps` alone, or in `last_steps` alone.

    Args:
        runs_dir: folder of the runs.
        names: METHOD[:SETTING=VALUE ...]; only runs of these methods with these settings. Empty takes all.
        dataset: only runs on this data set.

    Raises:
        UsageError: no such group exists; the message has commands that make one.
    """
    specs = [s for s in usual_specs(runs_dir, dataset) if s.control == PLAIN and isinstance(s.settings.steps, int)]
    if names:
        specs = [spec for spec in specs if any(_fits(spec, name) for name in names)]
    found = [(over, group) for over in OVER for group in _groups(specs, over)]
    if not found:
        raise UsageError(_advice(runs_dir, names))
    return [_swept(over, group, runs_dir, [group for _, group in found]) for over, group in found]


def _groups(specs: Sequence[RunSpec], over: str) -> list[list[RunSpec]]:
    """The runs that differ in a setting, and in nothing else but the noise seed."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        if over == "last_steps" or spec.settings.last_steps is None:
            groups.setdefault(repr(_others(spec, over)), []).append(spec)
    return [group for group in groups.values() if len({_value(spec, over) for spec in group}) > 1]


def _advice(runs_dir: Path, names: Sequence[str]) -> str:
    """What to run if no runs differ in their steps."""
    method = names[0].partition(":")[0] if names else "cxrbert-ldm"
    if method not in METHODS.names() or not METHODS.get(method).samplings:
        return f"{method} has no denoising steps; name a latent diffusion model such as cxrbert-ldm"
    where = "" if runs_dir == Path("runs") else f" --runs-dir {runs_dir}"
    return (
        f"{runs_dir} has no runs of {method} that differ only in their number of steps; make some: "
        f"`gtg-bench run --method {method}{where} --steps 5`, and with other numbers"
    )


def _swept(over: str, group: Sequence[RunSpec], runs_dir: Path, groups: Sequence[Sequence[RunSpec]]) -> Swept:
    values: dict[int, list[RunSpec]] = {}
    for spec in group:
        values.setdefault(_value(spec, over), []).append(spec)
    runs = {value: mean_of([read_run(runs_dir, one) for one in alike]) for value, alike in sorted(values.items())}
    firsts = {id(one): FinishedRun(one[0], ()) for one in groups}
    named = dict(zip(firsts, names_of(list(firsts.values())), strict=True))[id(group)]
    parts = [part for part in named.split(", ") if not part.startswith(tuple(f"{name} " for name in OVER))]
    label = "Denoising steps" if over == "steps" else f"Last n of {group[0].settings.steps} steps"
    return Swept(over, ", ".join(parts), label, runs)


def _value(spec: RunSpec, over: str) -> int:
    """The setting; without last_steps, all steps are averaged."""
    return int(getattr(spec.settings, over) or spec.settings.steps or 0)


def _others(spec: RunSpec, over: str) -> dict[str, Any]:
    """Everything but the setting and the noise seed."""
    return {name: value for name, value in spec.as_json().items() if name not in (over, "seed")}


def _fits(spec: RunSpec, name: str) -> bool:
    """Whether a name, METHOD[:SETTING=VALUE ...] or a key, describes a run; unnamed settings do not matter."""
    method, *settings = name.split(":")
    values = {key: str(value) for key, value in spec.as_json().items()}
    pairs = (text.partition("=") for text in settings)
    return name == spec.key or (spec.method == method and all(values.get(key) == value for key, _, value in pairs))
