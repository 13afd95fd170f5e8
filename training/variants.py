"""The latent diffusion models that can be trained, as data: what tells one from another."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.training.recipe import Strict, read_yaml, validated

VARIANTS = Path(__file__).parent / "variants.yaml"


class Variant(Strict):
    """One variant; it carries the name of the method that its weights are for."""

    text_encoder: str = Field(description="the phantom's text encoder; the published one goes by the variant's name")
    trains: tuple[Literal["unet", "text_encoder", "adapter"], ...] = Field(
        ("unet",), min_length=1, description="what is optimised; everything else is frozen"
    )
    rank: int | None = Field(None, ge=1, description="of the low-rank adapter on the U-Net's attention")
    phantom_start: str | None = Field(
        None, description="the phantom U-Net that training starts from; None: from scratch"
    )


class _Variants(Strict):
    variants: dict[str, Variant]


@cache
def variants() -> dict[str, Variant]:
    """All variants by name."""
    return validated(_Variants, {"variants": read_yaml(VARIANTS)}, VARIANTS).variants


def variant_of(name: str) -> Variant:
    """A variant. Raises UsageError with the near names if there is none."""
    if name not in variants():
        raise UsageError(unknown("variant", name, variants()))
    return variants()[name]
