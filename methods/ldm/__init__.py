"""Latent diffusion methods: cross-attention maps of a text-to-image model. Imports no torch."""

from __future__ import annotations

from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.settings import SAMPLINGS
from gtg_bench.benchmark.api.types import MethodCard

__all__ = ["ldm_entry", "register_ldm"]

CARD_OF = "gtg_bench.methods.weights.find:card_of"


def ldm_entry(name: str, summary: str, **card: str) -> MethodEntry:
    """The registry entry of a latent diffusion method. One builder serves all; their weights name the text encoder.

    Args:
        name: the method's name on the command line.
        summary: one line for `gtg-bench list`.
        card: other fields of `MethodCard`: paper, weights, revision, licence, training_data.
    """
    build = "gtg_bench.methods.ldm.build"
    found = MethodCard(summary=summary, kind="ldm", **card)
    return MethodEntry(name, f"{build}:build", found, SAMPLINGS, f"{build}:complete", card_of=CARD_OF)


def register_ldm(name: str, summary: str, **card: str) -> None:
    """Register a latent diffusion method from a plug-in; arguments as for `ldm_entry`.

    Example:
        >>> register_ldm("distilbert-ldm", "latent diffusion with a frozen DistilBERT text encoder")

    Raises:
        UsageError: the name is taken.
    """
    METHODS.register(ldm_entry(name, summary, **card))
