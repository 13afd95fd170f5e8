"""From a method's name and settings to a latent diffusion model. `complete` imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.cards import read_card
from gtg_bench.methods.ldm.modes import BUILT

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.method import LdmMethod

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
    weights = wanted.weights or "phantom"
    folder = weights_folder(wanted.method, weights)
    card = read_card(folder)
    defaults = card.get("defaults", {})
    steps = wanted.steps or int(defaults.get("steps", 50))
    if not 1 <= steps <= 1000:
        raise UsageError(f"--steps must lie between 1 and 1000, not {steps}")
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
        layers=wanted.layers or defaults.get("layers", "all"),
        tokens=wanted.tokens or "lexical",
        bbm=wanted.bbm or "none",
    )


def fingerprint(folder: Path) -> str:
    """12 hex digits over the hashes of every file of the weights, autoencoder and text encoder included."""
    card = read_card(folder)
    hashes = [card["sha256"], *(read_card(folder / part)["sha256"] for part in card["components"].values())]
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]


def build(settings: MethodSettings) -> LdmMethod:
    """The method, its weights loaded on `settings.device`."""
    import torch

    from gtg_bench.methods.ldm.components import load_components
    from gtg_bench.methods.ldm.method import LdmMethod

    folder = weights_folder(settings.method, settings.weights or "phantom")
    return LdmMethod(load_components(folder, torch.device(settings.device)), settings)
