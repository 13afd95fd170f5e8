"""Complete the settings of a latent diffusion method, and build it. `complete` imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object
from gtg_bench.benchmark.api.settings import AUTO, CHOICES, DEFAULTS
from gtg_bench.benchmark.api.sharing import shared
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.lexicon import installed_lexicon
from gtg_bench.methods.ldm.settled import SCHEDULE
from gtg_bench.methods.weights import find_weights

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.method import LdmMethod

MOST_STEPS = 999
"""Stable Diffusion's schedule has 1000 timesteps and starts at the second (steps_offset 1)."""

RELEASED_LAST_STEPS = 40
"""The released code averages the last 40 steps (`rev_diff_steps`)."""

CLASSES = {
    "paper": "gtg_bench.methods.ldm.method:LdmMethod",
    "released": "gtg_bench.methods.ldm.released:ReleasedLdmMethod",
}
"""Profile -> the class that implements it."""


def complete(wanted: MethodSettings) -> MethodSettings:
    """Fill unset options from the weights' card.

    Raises:
        UsageError: an option has an unknown value or is out of range, or the weights are unknown.
        DataError: the weights' card cannot be read.
    """
    chosen: dict[str, Any] = {}
    for name, known in CHOICES.items():
        value = getattr(wanted, name)
        chosen[name] = DEFAULTS[name] if value is None else value
        if chosen[name] not in known:
            raise UsageError(f"--{name} {value}: choose from {', '.join(known)}")
    weights = find_weights(wanted.method, wanted.weights)
    defaults = weights.plan.defaults
    usual = int(defaults.get("steps", SCHEDULE))
    last_steps = wanted.last_steps
    if wanted.steps is None and last_steps is None and chosen["profile"] == "paper":
        last_steps = defaults.get("last_steps")  # chosen together with the number of steps
    steps, last_steps = _steps(usual if wanted.steps is None else wanted.steps, last_steps, chosen)
    return replace(
        wanted,
        weights=weights.name,
        weights_version=weights.version,
        steps=steps,
        last_steps=last_steps,
        guidance=wanted.guidance if wanted.guidance is not None else float(defaults.get("guidance", 16.0)),
        layers=_layers(wanted.layers or defaults.get("layers", "all")),
        lexicon=installed_lexicon() if chosen["tokens"] == "lexical" else None,
        **chosen,
    )


def _steps(
    steps: int | str, last_steps: int | None, chosen: Mapping[str, Any]
) -> tuple[int | Literal["auto"], int | None]:
    """Check `steps` and `last_steps`; the latter is None where all steps are averaged."""
    if isinstance(steps, str):
        if steps != AUTO:
            raise UsageError(f"--steps must be a whole number or {AUTO!r}, not {steps!r}")
        if chosen["sampling"] != "gt-cfg":
            why = "in other modes each step starts from the one before, so none can be left out"
            raise UsageError(f"--steps {AUTO} needs --sampling gt-cfg: {why}")
        if chosen["bbm"] != "none":
            why = "its text bias comes from a denoising run, which needs every step"
            raise UsageError(f"--steps {AUTO} cannot be used with --bbm: {why}; give a number of steps")
        if last_steps is not None or chosen["profile"] == "released":
            option = "--profile released" if last_steps is None else "--last-steps"
            why = "averages the last steps of a fixed schedule"
            raise UsageError(f"--steps {AUTO} cannot be used with {option}, which {why}; give a number of steps")
        return "auto", None
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--steps must be between 1 and {MOST_STEPS}, not {steps}")
    if last_steps is None and chosen["profile"] == "released":
        last_steps = min(RELEASED_LAST_STEPS, steps)
    if last_steps is not None and not 1 <= last_steps <= steps:
        raise UsageError(f"--last-steps must be between 1 and --steps ({steps}), not {last_steps}")
    return steps, None if last_steps == steps else last_steps


def _layers(text: str) -> str:
    """Normalise the option: "all", or distinct indices in order, then resolutions, such as "3,4,16x16"."""
    if text == "all":
        return text
    parts = [part.strip().lower() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]+(x[0-9]+)?", part) for part in parts):
        raise UsageError(f"--layers {text!r}: expected 'all', indices such as 3,4,5, or resolutions such as 16x16,8x8")
    chosen = sorted({tuple(map(int, part.split("x"))) for part in parts}, key=lambda one: (len(one), one))
    return ",".join("x".join(map(str, one)) for one in chosen)


def build(settings: MethodSettings) -> LdmMethod:
    """Load the method's weights on `settings.device`. Raises DataError where a file is missing or does not fit.

    Inside `api.sharing.sharing`, methods with the same weights and precision share the loaded model.
    """
    import torch

    from gtg_bench.methods.ldm.components import LdmComponents, load_components

    weights, precision = find_weights(settings.method, settings.weights), settings.precision or "float32"

    def load() -> LdmComponents:
        found = load_components(weights, torch.device(settings.device))
        layout = torch.channels_last if found.device.type == "cuda" else torch.contiguous_format
        found.unet.to(dtype=getattr(torch, precision), memory_format=layout)
        return found

    components = shared("diffusion model", (weights.version, settings.device, precision), load)
    return load_object(CLASSES[settings.profile or "paper"])(components, settings)
