"""From a method's name and settings to a latent diffusion model. `complete` imports no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.modes import BBM, BUILT, LATENTS, PRECISIONS, PROFILES, TOKEN_CHOICES
from gtg_bench.methods.weights import find_weights

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.method import LdmMethod

MOST_STEPS = 999
"""Stable Diffusion's schedule has 1000 timesteps and starts one late (steps_offset 1)."""

_CHOICES = {"latent": LATENTS, "tokens": TOKEN_CHOICES, "bbm": BBM, "profile": PROFILES, "precision": PRECISIONS}
"""Settings with a fixed choice; the first is the default."""


def complete(wanted: MethodSettings) -> MethodSettings:
    """Fill what the user left open from the weights' card, and refuse what cannot be run."""
    chosen: dict[str, Any] = {name: _choose(name, getattr(wanted, name), known) for name, known in _CHOICES.items()}
    sampling = _choose("sampling", wanted.sampling or BUILT[-1], BUILT)
    weights = find_weights(wanted.method, wanted.weights)
    defaults = weights.plan.defaults
    steps = int(defaults.get("steps", 50)) if wanted.steps is None else wanted.steps
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--steps must lie between 1 and {MOST_STEPS}, not {steps}")
    if wanted.last_steps is not None and not 1 <= wanted.last_steps <= steps:
        raise UsageError(f"--last-steps must lie between 1 and --steps ({steps}), not {wanted.last_steps}")
    return replace(
        wanted,
        sampling=sampling,
        weights=weights.name,
        weights_version=weights.version,
        steps=steps,
        last_steps=None if wanted.last_steps == steps else wanted.last_steps,
        guidance=wanted.guidance if wanted.guidance is not None else float(defaults.get("guidance", 16.0)),
        layers=_layers(wanted.layers or defaults.get("layers", "all")),
        **chosen,
    )


def _choose(name: str, value: str | None, known: tuple[str, ...]) -> str:
    """The value, or the first of the known ones. Raises UsageError for any other."""
    if value is None:
        return known[0]
    if value not in known:
        raise UsageError(f"--{name} {value}: there is {', '.join(known)}")
    return value


def _layers(text: str) -> str:
    """ "all", or sorted distinct indices joined by commas."""
    if text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(
            f"--layers {text!r} is neither 'all' nor indices such as 3,4,5 (resolutions are not built yet)"
        )
    return ",".join(map(str, sorted({int(part) for part in parts})))


def build(settings: MethodSettings) -> LdmMethod:
    """The method, its weights loaded on `settings.device`."""
    import torch

    from gtg_bench.methods.ldm.components import load_components
    from gtg_bench.methods.ldm.method import LdmMethod

    weights = find_weights(settings.method, settings.weights)
    return LdmMethod(load_components(weights, torch.device(settings.device)), settings)
