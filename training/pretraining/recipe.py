"""The recipe of the phantom zoo as validated data. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.state import Strict, read_yaml
from gtg_bench.training.recipe import Schedule, merged, read_recipe, recipe_path, validated

DEFINITIONS = Path(__file__).parent / "definitions.yaml"
"""Med-KEBERT's training data; cards record its sha256."""

AUTOENCODER = "autoencoder"
PRIORS = "priors"
GENERIC = "generic-ldm"
Kind = Literal["autoencoder", "priors", "text encoder", "image encoder", "generic", "variant"]

Precision = Literal["float32", "float16"]
SAVED: Any = Field("float32", description="precision of the saved weights")


class AutoencoderRecipe(Strict):
    """A diffusers AutoencoderKL for grey images."""

    schedule: Schedule
    config: dict[str, Any] = Field(description="arguments of diffusers.AutoencoderKL")
    kl_weight: float = Field(1e-6, ge=0, description="weight of the KL term; L1 has weight 1")
    crop: int | None = Field(None, description="side of random training crops in pixels; None for whole images")


class TextRecipe(Strict):
    """A text encoder, pretrained like its original but much smaller."""

    schedule: Schedule
    family: Literal["cxr-bert", "clip", "open-clip", "bert", "cxr-clip", "med-kebert"] = Field(
        description="kind of text encoder; it selects the pretraining, see training.pretraining.stage"
    )
    data: Literal["reports", "shapes", "scenes", "definitions"] = Field(
        description="the phantom's images with their reports, generic captioned pictures, or a table of definitions"
    )
    config: dict[str, Any] = Field(description="arguments of the model's configuration")
    vocab_size: int = Field(gt=0, description="maximum size of the vocabulary")
    max_length: int = Field(gt=2, description="number of tokens to which texts are padded and truncated")
    language_steps: int = Field(
        0, ge=0, description="cxr-bert only: initial steps with the masked language model alone"
    )
    save_precision: Precision = SAVED


class ImageRecipe(Strict):
    """BioViL's image encoder, trained against a frozen CXR-BERT."""

    schedule: Schedule
    text_encoder: str = Field(description="name of the CXR-BERT in text_encoders")
    local: bool = Field(False, description="also contrast words with patches (BioViL-L)")
    resize: int = Field(gt=0, description="length of the shorter side after resizing, in pixels")
    crop: int = Field(gt=0, description="side of the crop in pixels; random in training, central in evaluation")
    save_precision: Precision = SAVED


class ZooRecipe(Strict):
    """The phantom zoo: its pretrained parts and its members. Latent diffusion models have separate recipes."""

    name: str
    seed: int = Field(description="seed of all pretraining and of the generic pictures")
    world: int = Field(description="seed of the phantom world whose training split is used")
    pictures: int = Field(gt=0, description="number of generic pictures of each kind")
    autoencoder: AutoencoderRecipe
    text_encoders: dict[str, TextRecipe] = Field(description="text encoders by the name that variants use")
    image_encoders: dict[str, ImageRecipe] = Field({}, description="image encoders by the name of their method")
    variants: tuple[str, ...] = Field(description="variants to train")
    again: dict[str, tuple[int, ...]] = Field({}, description="variants to train again, with their further seeds")
    generic_like: str = Field(
        "clip-ldm", description="variant whose architecture generic-ldm has; it is trained on generic pictures"
    )

    @cached_property
    def members(self) -> dict[str, Kind]:
        """Name -> kind of all members of the zoo, in training order."""
        again = [f"{name}@{seed}" for name, seeds in self.again.items() for seed in seeds]
        groups: list[tuple[Iterable[str], Kind]] = [
            ([AUTOENCODER], "autoencoder"),
            ([PRIORS], "priors"),
            (self.text_encoders, "text encoder"),
            (self.image_encoders, "image encoder"),
            ([GENERIC], "generic"),
            ([*self.variants, *again], "variant"),
        ]
        return {name: kind for names, kind in groups for name in names}

    def checked(self, names: Sequence[str]) -> list[str]:
        """The names, or all members if empty. Raises UsageError, with similar names, if one is unknown."""
        for name in names:
            if name not in self.members:
                raise UsageError(unknown("member of the zoo", name, self.members))
        return list(names or self.members)


def split_name(member: str) -> tuple[str, int | None]:
    """Split a member's name into method and seed: "clip-ldm@1759" is ("clip-ldm", 1759), "clip-ldm" has seed None."""
    name, _, seed = member.partition("@")
    return name, int(seed) if seed else None


def folder_name(member: str) -> str:
    """The name of a member's folder."""
    return member.replace("@", "-seed")


def load_zoo_recipe(changes: Path | None = None) -> ZooRecipe:
    """Load the packaged recipe, changed by a YAML file. Raises UsageError that names file and field."""
    values = read_recipe("zoo")
    if changes is None:
        return validated(ZooRecipe, values, recipe_path("zoo"))
    return validated(ZooRecipe, merged(values, read_yaml(changes)), changes)
