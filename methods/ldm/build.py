"""Complete the settings of a latent diffusion method, and build it. `complete` imports no torch."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object
from gtg_bench.benchmark.api.settings import CHOICES, DEFAULTS
from gtg_bench.benchmark.api.sharing import shared
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.lexicon import installed_lexicon
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
    steps = int(defaults.get("steps", 50)) if wanted.steps is None else wanted.steps
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--steps must be between 1 and {MOST_STEPS}, not {steps}")
    last_steps = wanted.last_steps
    if last_steps is None and chosen["profile"] == "released":
        last_steps = min(RELEASED_LAST_STEPS, steps)
    if last_steps is not None and not 1 <= last_steps <= steps:
        raise UsageError(f"--last-steps must be between 1 and --steps ({steps}), not {last_steps}")
    return replace(
        wanted,
        weights=weights.name,
        weights_version=weights.version,
        steps=steps,
        last_steps=None if last_steps == steps else last_steps,
        guidance=wanted.guidance if wanted.guidance is not None else float(defaults.get("guidance", 16.0)),
        layers=_layers(wanted.layers or defaults.get("layers", "all")),
        lexicon=installed_lexicon() if chosen["tokens"] == "lexical" else None,
        **chosen,
    )


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
