"""From a method's name and settings to a latent diffusion model. `complete` imports no torch."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gtg_bench.benchmark.api.choices import CHOICES, DEFAULTS
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.lexicon import installed_lexicon
from gtg_bench.methods.weights import find_weights

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.method import LdmMethod

MOST_STEPS = 999
"""Stable Diffusion's schedule has 1000 timesteps and starts one late (steps_offset 1)."""

RELEASED_LAST_STEPS = 40
"""How many of the last steps the released code averages (`rev_diff_steps`)."""

CLASSES = {
    "paper": "gtg_bench.methods.ldm.method:LdmMethod",
    "released": "gtg_bench.methods.ldm.released:ReleasedLdmMethod",
}
"""Profile -> the class that keeps to it."""


def complete(wanted: MethodSettings) -> MethodSettings:
    """Fill what the user left open from the weights' card, and refuse what cannot be run."""
    chosen: dict[str, Any] = {name: _choose(name, getattr(wanted, name)) for name in CHOICES}
    weights = find_weights(wanted.method, wanted.weights)
    defaults = weights.plan.defaults
    steps = int(defaults.get("steps", 50)) if wanted.steps is None else wanted.steps
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--steps must lie between 1 and {MOST_STEPS}, not {steps}")
    last_steps = wanted.last_steps
    if last_steps is None and chosen["profile"] == "released":
        last_steps = min(RELEASED_LAST_STEPS, steps)
    if last_steps is not None and not 1 <= last_steps <= steps:
        raise UsageError(f"--last-steps must lie between 1 and --steps ({steps}), not {last_steps}")
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


def _choose(name: str, value: str | None) -> str:
    """The value, or the default. Raises UsageError for one that there is not."""
    if value is None:
        return DEFAULTS[name]
    if value not in CHOICES[name]:
        raise UsageError(f"--{name} {value}: there is {', '.join(CHOICES[name])}")
    return value


def _layers(text: str) -> str:
    """ "all", or distinct indices in order and then resolutions, joined by commas: "3,4,16x16"."""
    if text == "all":
        return text
    parts = [part.strip().lower() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]+(x[0-9]+)?", part) for part in parts):
        raise UsageError(
            f"--layers {text!r} is neither 'all', indices such as 3,4,5, nor resolutions such as 16x16,8x8"
        )
    chosen = sorted({tuple(map(int, part.split("x"))) for part in parts}, key=lambda one: (len(one), one))
    return ",".join("x".join(map(str, one)) for one in chosen)


def build(settings: MethodSettings) -> LdmMethod:
    """The method, its weights loaded on `settings.device`."""
    import torch

    from gtg_bench.methods.ldm.components import load_components

    weights = find_weights(settings.method, settings.weights)
    components = load_components(weights, torch.device(settings.device))
    layout = torch.channels_last if components.device.type == "cuda" else torch.contiguous_format
    components.unet.to(dtype=getattr(torch, settings.precision or "float32"), memory_format=layout)
    return load_object(CLASSES[settings.profile or "paper"])(components, settings)
