"""Options that several commands take together: a data set, how runs are computed, and a method's settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from gtg_bench.benchmark.api.settings import AUTO, CHOICES, OPTIONS, MethodSettings
from gtg_bench.benchmark.cli.common import (
    BatchSize,
    ControlOption,
    DataRoot,
    DatasetOption,
    Device,
    FrameOption,
    MaskOption,
    ProtocolOption,
    RunsDir,
    ShardOption,
    SmoothOption,
    UncoveredOption,
    Workers,
    choice,
    key_values,
)
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import PROTOCOL

R = TypeVar("R")

_PANEL = "Method settings"
_REPEATABLE = " (repeatable: all combinations are run)"
_SCORING: dict[str, Any] = {
    "protocol": ProtocolOption,
    "control": ControlOption,
    "frame": FrameOption,
    "uncovered": UncoveredOption,
    "mask": MaskOption,
    "smooth": SmoothOption,
}
"""The options that say what is grounded and how it is scored; `takes_choices` makes them repeatable."""


@dataclass(frozen=True)
class DataOptions:
    """The options that name a split of a data set; see `takes_groups`."""

    dataset: Annotated[str, typer.Option(help="Data set; see `gtg-bench list datasets`.")] = "phantom"
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test"
    data_root: DataRoot = None
    dataset_option: DatasetOption = None

    @property
    def request(self) -> dict[str, Any]:
        """The fields of a `RunRequest`. Raises UsageError for an invalid `--dataset-option`."""
        return {"split": self.split, **self.place}

    @property
    def place(self) -> dict[str, Any]:
        """The data set's name, folder and options. Raises UsageError for an invalid `--dataset-option`."""
        options = key_values(self.dataset_option)
        return {"dataset": self.dataset, "data_root": self.data_root, "dataset_options": options}


@dataclass(frozen=True)
class JobOptions:
    """The options that say how runs are computed, all of them fields of a `RunRequest`; see `takes_groups`."""

    fresh: Annotated[bool, typer.Option("--fresh", help="Compute every map and score anew.")] = False
    shard: ShardOption = None
    batch_size: BatchSize = 16
    workers: Workers = 2
    device: Device = "auto"
    runs_dir: RunsDir = Path("runs")


def takes_groups(command: Callable[..., R]) -> Callable[..., R]:
    """Replace every parameter whose type is a dataclass, such as `DataOptions`, by one option for each field."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    def grouped(**values: Any) -> R:
        made = {name: kind(**{one.name: values.pop(one.name) for one in fields(kind)}) for name, kind in groups.items()}
        return command(**values, **made)

    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if kind := groups.get(parameter.name):
            types = get_type_hints(kind, include_extras=True)
            parameters += [_parameter(one.name, one.default, types[one.name]) for one in fields(kind)]
        else:
            parameters.append(_parameter(parameter.name, parameter.default, hints[parameter.name]))
    return _as_command(grouped, command, parameters)


def takes_settings(command: Callable[..., R]) -> Callable[..., R]:
    """Replace a command's parameter `settings` by one option for every setting of `MethodSettings`.

    The command gets the options that were given as a dictionary. Groups are replaced as by `takes_groups`.
    """
    return _with_options(command, several=False)


def takes_choices(command: Callable[..., R]) -> Callable[..., R]:
    """As `takes_settings`, with the options of scoring too. All are repeatable: the values are distinct, in lists."""
    return _with_options(command, several=True)


def _with_options(command: Callable[..., R], several: bool) -> Callable[..., R]:
    command = takes_groups(command)
    options = {name: _repeatable(name) for name in _SCORING} if several else {}
    options |= {name: _option(name, several) for name in OPTIONS}

    def with_settings(**values: Any) -> R:
        given = {name: values.pop(name) for name in options}
        chosen = {name: value for name, value in given.items() if value not in (None, [])}
        if several:
            chosen = {name: list(dict.fromkeys(value)) for name, value in chosen.items()}
        return command(**values, settings=chosen)

    own = [one for one in inspect.signature(command).parameters.values() if one.name != "settings"]
    added = [_parameter(name, None, option) for name, option in options.items()]
    return _as_command(with_settings, command, [*own, *added])


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _as_command(
    wrapper: Callable[..., R], command: Callable[..., R], parameters: Sequence[inspect.Parameter]
) -> Callable[..., R]:
    """The wrapper under the command's name, with these parameters for typer to read."""
    functools.update_wrapper(wrapper, command)
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
    return wrapper


def _repeatable(name: str) -> Any:
    """The option of a part of scoring, repeatable."""
    (facts,) = map(copy, _SCORING[name].__metadata__)
    facts.rich_help_panel = f"Scoring{_REPEATABLE}"
    if default := {"protocol": PROTOCOL, "control": CONTROLS[0]}.get(name):
        facts.help += f" (default: {default})"
    return Annotated[list[str] | None, facts]


def _option(name: str, several: bool) -> Any:
    """The command-line option of a setting, repeatable if it may have several values."""
    facts, flag = OPTIONS[name], f"--{name.replace('_', '-')}"
    default = "the weights' card" if facts.get("card") else facts["usual"]
    text = f"{facts['help']} (default: {default})" if default else facts["help"]
    kind, panel = get_type_hints(MethodSettings)[name], _PANEL
    if several:
        panel += _REPEATABLE
        kind = list[next(one for one in get_args(kind) or (kind,) if one is not type(None))]  # type: ignore[misc]
    if name in CHOICES:
        option = choice(CHOICES[name], flag, help=text, panel=panel)
    elif name == "steps":
        kind = list[str] if several else str
        option = typer.Option(flag, metavar="[N|auto]", help=text, callback=_numbers, rich_help_panel=panel)
    else:
        option = typer.Option(flag, help=text, rich_help_panel=panel)
    return Annotated[kind | None, option]


def _numbers(value: str | list[str] | None) -> Any:
    """A whole number or "auto", once or, for a list, repeatedly; None stays None."""
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    try:
        return value if value is None or value == AUTO else int(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r} is neither a whole number nor {AUTO!r}") from None
