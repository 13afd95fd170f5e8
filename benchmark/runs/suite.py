"""Suites: lists of runs as data, such as all cells of a table of the paper.

A YAML file describes a suite: its title, what it ends with, and groups of runs. Every value of a group may be a list;
the group stands for all combinations. benchmark/README.md has an example.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, create_model

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, unknown
from gtg_bench.benchmark.api.settings import CHOICES, DEFAULTS, OPTIONS, MethodSettings
from gtg_bench.benchmark.runs.labels import label
from gtg_bench.benchmark.runs.runner import RunRequest
from gtg_bench.benchmark.runs.spec import differing
from gtg_bench.benchmark.runs.step_sweep import of_one_pass
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import FRAMES, NONE, PROTOCOL, PROTOCOLS, RULES, UNCOVERED, find_protocol
from gtg_bench.benchmark.state import Strict, problem, read_yaml

PACKAGED = Path(__file__).with_name("suites.yaml")
"""The packaged suites by name."""

ALL = "all"
"""Stands for every control, plain included."""


def _several(kind: Any) -> Any:
    """One value of a type, or a list of at least one."""
    as_list = BeforeValidator(lambda value: value if isinstance(value, list) else [value])
    return Annotated[tuple[kind, ...], Field(min_length=1), as_list]


def _kind_of(setting: str) -> Any:
    """The type of a setting's values."""
    if setting in CHOICES:
        return Literal[CHOICES[setting]]
    hint = get_type_hints(MethodSettings)[setting]
    return reduce(or_, [kind for kind in get_args(hint) or (hint,) if kind is not type(None)])


class _Group(Strict):
    """Runs with all combinations of some choices; the settings are added below."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    method: _several(str)  # type: ignore[valid-type]
    protocol: _several(Literal[tuple(PROTOCOLS)]) = ()  # type: ignore[valid-type]
    control: _several(Literal[(ALL, *CONTROLS)]) = ()  # type: ignore[valid-type]
    frame: _several(Literal[FRAMES]) = ()  # type: ignore[valid-type]
    uncovered: _several(Literal[UNCOVERED]) = ()  # type: ignore[valid-type]
    mask: _several(str) = ()  # type: ignore[valid-type]
    smooth: _several(str) = ()  # type: ignore[valid-type]


_SETTINGS: dict[str, Any] = {name: (_several(_kind_of(name)), ()) for name in OPTIONS}
Group: Any = create_model("Group", __base__=_Group, **_SETTINGS)
"""A group with an optional field for every setting of a method."""


class Suite(Strict):
    """A list of runs, and what it ends with."""

    title: str = ""
    table: Literal[1, 2, 3, 4] | None = None
    """Table of the paper that is shown at the end."""
    figure: Literal[4, 5] | None = None
    """Figure of the paper that can be drawn at the end."""
    runs: tuple[Group, ...] = Field(min_length=1)

    def requests(self, chosen: Mapping[str, Sequence[Any]], **common: Any) -> list[RunRequest]:
        """Its runs, those of one method with the same weights one after the other.

        Args:
            chosen: method, protocol, control, RULES or settings -> values that replace those of every group that
                names them; what no group names is added to all. A mask is for protocols whose metrics use one.
            common: fields of each `RunRequest`, such as the data set.

        Raises:
            UsageError: an invalid option.
        """
        groups = [{name: list(values) for name, values in group if values} for group in self.runs]
        for name, values in chosen.items():
            named = [group for group in groups if name in group] or groups
            for group in named:
                group[name] = list(values)
        for group in groups:
            if ALL in group.get("control", ()):
                group["control"] = list(CONTROLS)
        runs = [one for group in groups for one in combinations(group)]
        if "mask" in chosen and any(map(_has_mask, runs)):
            runs = [one if _has_mask(one) else {k: v for k, v in one.items() if k != "mask"} for one in runs]
        return in_order([RunRequest.of(**common, **one) for one in runs])


def _has_mask(run: Mapping[str, Any]) -> bool:
    """Whether the protocol of a run, as field -> value, has a metric that uses a mask."""
    return find_protocol(run.get("protocol", PROTOCOL)).mask != NONE


def find_suite(name: str) -> Suite:
    """The packaged suite of this name, or the one in a YAML file.

    Raises:
        UsageError: neither exists.
        DataError: the file is not a suite; names the field.
    """
    packaged = read_yaml(PACKAGED)
    if name in packaged:
        return _parsed(packaged[name], f"{PACKAGED}: {name}")
    if not name.endswith((".yaml", ".yml")):
        raise UsageError(f"{unknown('suite', name, packaged)} Or name a YAML file.")
    return _parsed(read_yaml(Path(name), "a suite with a list of `runs`"), name)


def packaged_suites() -> dict[str, Suite]:
    """All packaged suites by name."""
    return {name: find_suite(name) for name in read_yaml(PACKAGED)}


def _parsed(values: Any, where: str) -> Suite:
    try:
        return Suite.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        said = problem(error)
        if first["type"] == "extra_forbidden":
            steps = [str(step) for step in first["loc"]]
            known = Group.model_fields if len(steps) > 1 else Suite.model_fields
            said = f"{'.'.join(steps)}: {unknown('field', steps[-1], known)}"
        raise DataError(f"{where}: {said}") from error


def combinations(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of some choices, as name -> value; the last name varies fastest. One empty one for no names."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def in_order(requests: Sequence[RunRequest]) -> list[RunRequest]:
    """The requests without repetitions, those of a method with the same weights together, else in their order."""
    models: dict[tuple[str, str | None], list[RunRequest]] = {}
    for one in requests:
        same = models.setdefault((one.settings.method, one.settings.weights), [])
        if one not in same:
            same.append(one)
    return [one for same in models.values() for one in same]


def passes(requests: Sequence[RunRequest]) -> Callable[[RunRequest], MethodEntry | None]:
    """Which entry makes a run's maps: one pass of the model for runs that differ only in how many steps they average.

    Returns:
        The function from a request to its entry; None for the registry's.
    """
    found: dict[str, MethodEntry] = {}

    def alike(one: RunRequest) -> str:
        return repr(replace(one, settings=replace(one.settings, last_steps=None), protocol=PROTOCOL))

    for first in requests:
        same = {one.settings.last_steps for one in requests if alike(one) == alike(first)}
        numbers = sorted(n for n in same if n)
        if len(numbers) > 1 and first.settings.bbm in (None, "none"):
            entry = METHODS.get(first.settings.method)
            if entry.samplings and alike(first) not in found:
                found |= {f"{alike(first)}{n}": made for n, made in of_one_pass(entry, numbers).items()}
                found[alike(first)] = entry
    return lambda one: found.get(f"{alike(one)}{one.settings.last_steps}")


def varying(requests: Sequence[RunRequest]) -> set[str]:
    """The names of the choices in which requests differ."""
    rows = [_described(one) for one in requests]
    return set(differing([row | {name: row[name] or usual for name, usual in DEFAULTS.items()} for row in rows]))


def name_of(request: RunRequest, names: Collection[str]) -> str:
    """A run's method with those of the named choices that it has."""
    row = _described(request)
    words = label(row | {"sampling": row["sampling"] if "sampling" in names else None}, names)
    words += [f"protocol {row['protocol']}"] if "protocol" in names and row["protocol"] != PROTOCOL else []
    words += [f"{part} {row[part]}" for part in RULES if part in names and row[part] is not None]
    words += [f"control {row['control']}"] if "control" in names and row["control"] != CONTROLS[0] else []
    return ", ".join(words)


def _described(request: RunRequest) -> dict[str, Any]:
    rules = {part: getattr(request, part) for part in RULES}
    return request.settings.as_json() | rules | {"protocol": request.protocol, "control": request.control}
