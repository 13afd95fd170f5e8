"""Names of runs for people: the method, and every setting that a reader needs to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import DEFAULTS, FROM_CARD, OPTIONS, SETTINGS, MethodSettings
from gtg_bench.benchmark.runs.spec import differing

Described = Mapping[str, Any]
"""A run's description as JSON, or its row in a leaderboard."""

_NAMED = tuple(name for name in OPTIONS if name != "sampling")


def labels(described: Sequence[Described]) -> list[list[str]]:
    """For each run its method with the sampling mode, then settings such as "weights mine", "steps 4".

    Named are settings that are not the default, weights that differ between runs of a method, and settings without a
    fixed set of values that differ between runs with the same weights.
    """
    found = []
    for one in described:
        method = [other for other in described if other["method"] == one["method"]]
        weights = [other for other in method if as_text(other.get("weights")) == as_text(one.get("weights"))]
        names = not_default(one) | ({"weights"} & set(differing(method))) | (set(differing(weights)) - set(DEFAULTS))
        found.append(label(one, names))
    texts = [(*items, one.get("control")) for items, one in zip(found, described, strict=True)]
    for i, one in enumerate(described):
        alike = [other for other, text in zip(described, texts, strict=True) if text == texts[i]]
        if len(alike) > 1:  # other weights of the same name, for example
            found[i] = found[i] + [f"{name} {one[name]}" for name in differing(alike) if name in SETTINGS and one[name]]
    return found


def label(one: Described, names: Collection[str]) -> list[str]:
    """A run's method with the sampling mode, then the settings of these names that it has.

    A run with steps, but without `last_steps`, averages all of them.
    """
    head = " ".join(filter(None, [one["method"], one.get("sampling")]))
    texts = {name: as_text(one.get(name)) for name in _NAMED if name in names}
    if "last_steps" in texts and as_text(one.get("steps")):
        texts["last_steps"] = texts["last_steps"] or "all"
    return [head, *(f"{name} {text}" for name, text in texts.items() if text)]


def not_default(one: Described) -> set[str]:
    """The settings of a run that differ from what the method, with these weights, uses by itself."""
    values = {name: as_text(one.get(name)) for name in _NAMED}
    if one["method"] not in METHODS.names():
        return {name for name in DEFAULTS if values.get(name) and values[name] != DEFAULTS[name]}
    own = _completed(one["method"], values["weights"] or None, values["profile"] or None, one["dataset"])
    usual = {name: as_text(getattr(own or MethodSettings(""), name)) for name in _NAMED} | dict(DEFAULTS)
    if own is None:  # the weights are not on this machine
        usual |= {name: values[name] for name in FROM_CARD}
    if values["steps"] != usual["steps"]:  # then all of them count, unless it is said
        usual["last_steps"] = ""
    default = _completed(one["method"], None, None, one["dataset"])
    usual["weights"] = as_text(default and default.weights)
    return {name for name in _NAMED if values[name] != usual[name] and (values[name] or name == "last_steps")}


@cache
def _completed(method: str, weights: str | None, profile: str | None, dataset: str) -> MethodSettings | None:
    """The settings that a method uses by itself; None if its weights are not on this machine."""
    try:
        return METHODS.get(method).completed(MethodSettings(method, weights, profile=profile, dataset=dataset))
    except (GtgError, OSError):
        return None


def as_text(value: object) -> str:
    """A setting's value as leaderboards and tables show it; "" for None."""
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
