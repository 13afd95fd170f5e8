"""From a method's name and settings to a latent diffusion model. `complete` imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.cards import part_of, read_card
from gtg_bench.methods.ldm.modes import BUILT, TOKEN_CHOICES

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.method import LdmMethod

MOST_STEPS = 999
"""Stable Diffusion's schedule has 1000 timesteps and starts one late (steps_offset 1)."""

ZOO = Path(__file__).parents[1] / "zoo"


def weights_folder(name: str, weights: str) -> Path:
    """Where a method's weights lie: packaged (`phantom`) or a folder of one's own."""
    if weights == "phantom":
        return ZOO / name
    if weights == "paper":
        raise UsageError("--weights paper: loading the published weights is not built yet; use phantom or a folder")
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        raise UsageError(f"--weights {weights}: neither 'phantom' nor a folder")
    return folder


def complete(wanted: MethodSettings) -> MethodSettings:
    """Fill what the user left open from the weights' card, and refuse what cannot be run."""
    sampling = wanted.sampling or BUILT[-1]
    if sampling not in BUILT:
        raise UsageError(
            f"--sampling {sampling} is not built yet for {wanted.method}; it runs: {', '.join(BUILT)} "
            "(nothing is approximated by another mode)"
        )
    for name, known in (("tokens", TOKEN_CHOICES), ("bbm", ("none",))):
        if (value := getattr(wanted, name)) not in (None, *known):
            raise UsageError(f"{name} {value!r} is not built yet for {wanted.method}; there is: {', '.join(known)}")
    weights = wanted.weights or "phantom"
    folder = weights_folder(wanted.method, weights)
    card = read_card(folder)
    defaults = card.get("defaults", {})
    steps = int(defaults.get("steps", 50)) if wanted.steps is None else wanted.steps
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"--steps must lie between 1 and {MOST_STEPS}, not {steps}")
    if wanted.last_steps is not None and not 1 <= wanted.last_steps <= steps:
        raise UsageError(f"--last-steps must lie between 1 and --steps ({steps}), not {wanted.last_steps}")
    return replace(
        wanted,
        sampling=sampling,
        weights=weights if weights == "phantom" else str(folder.resolve()),
        weights_version=fingerprint(folder),
        steps=steps,
        last_steps=None if wanted.last_steps == steps else wanted.last_steps,
        guidance=wanted.guidance if wanted.guidance is not None else float(defaults.get("guidance", 16.0)),
        layers=_layers(wanted.layers or defaults.get("layers", "all")),
        tokens=wanted.tokens or "lexical",
        bbm=wanted.bbm or "none",
    )


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


def fingerprint(folder: Path) -> str:
    """12 hex digits over every file of the weights and how texts are cut, autoencoder and text encoder included."""
    card = read_card(folder)
    cards = [card, *(read_card(part_of(card, folder, name)) for name in ("vae", "text_encoder"))]
    facts = [{name: part.get(name) for name in ("sha256", "family", "max_length")} for part in cards]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def build(settings: MethodSettings) -> LdmMethod:
    """The method, its weights loaded on `settings.device`."""
    import torch

    from gtg_bench.methods.ldm.components import load_components
    from gtg_bench.methods.ldm.method import LdmMethod

    folder = weights_folder(settings.method, settings.weights or "phantom")
    return LdmMethod(load_components(folder, torch.device(settings.device)), settings)
