"""A latent diffusion method as the registry knows it: one builder for all of them. Imports no torch."""

from __future__ import annotations

from gtg_bench.benchmark.api.choices import SAMPLINGS
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.types import MethodCard

_BUILD = "gtg_bench.methods.ldm.build"
CARD_OF = "gtg_bench.methods.weights.find:card_of"


def ldm_entry(name: str, summary: str, **card: str) -> MethodEntry:
    """The entry of a latent diffusion method.

    Args:
        name: what a user types; which text encoder it has is said by its weights.
        summary: one line for `gtg-bench list`.
        card: other fields of `MethodCard`: paper, weights, revision, licence, training_data.
    """
    found = MethodCard(summary=summary, kind="ldm", **card)
    return MethodEntry(
        name, f"{_BUILD}:build", found, samplings=SAMPLINGS, complete=f"{_BUILD}:complete", card_of=CARD_OF
    )


def register_ldm(name: str, summary: str, **card: str) -> None:
    """Register a latent diffusion method from a plug-in; arguments as for `ldm_entry`.

    Example:
        >>> register_ldm("distilbert-ldm", "latent diffusion with a frozen DistilBERT text encoder")

    Raises:
        UsageError: the name is taken.
    """
    METHODS.register(ldm_entry(name, summary, **card))
