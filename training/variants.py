"""The latent diffusion models that can be trained, as data: what tells one from another."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.state import Strict, read_yaml
from gtg_bench.training.recipe import validated

VARIANTS = Path(__file__).parent / "variants.yaml"


class Variant(Strict):
    """One variant; it carries the name of the method that its weights are for."""

    text_encoder: str = Field(description="the phantom's text encoder; the published one goes by the variant's name")
    trains: tuple[Literal["unet", "text_encoder", "adapter"], ...] = Field(
        ("unet",), min_length=1, description="what is optimised; everything else is frozen"
    )
    rank: int | None = Field(
        None, ge=1, description="of the low-rank adapter on the U-Net's attention (paper, Fig. 6: 4 to 256)"
    )
    phantom_start: str | None = Field(
        None, description="the phantom U-Net that training starts from; None: from scratch"
    )

    @model_validator(mode="after")
    def _adapters_have_a_rank(self) -> Self:
        if ("adapter" in self.trains) != (self.rank is not None):
            raise ValueError("a rank belongs to an adapter, and an adapter needs one")
        return self

    def of_rank(self, rank: int | None) -> Variant:
        """The variant with another adapter rank; None keeps its own. Raises UsageError if it has no adapter."""
        if rank is None:
            return self
        if self.rank is None:
            raise UsageError(
                f"--rank {rank}: only variants that train a low-rank adapter have one, such as clip-ldm-lora"
            )
        return self.model_copy(update={"rank": rank})


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
