"""What decides the phantom zoo, as validated data. Imports no torch."""

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

AUTOENCODER = "autoencoder"
PRIORS = "priors"
GENERIC = "generic-ldm"
Kind = Literal["autoencoder", "priors", "text encoder", "image encoder", "generic", "variant"]

Precision = Literal["float32", "float16"]
SAVED: Any = Field("float32", description="of the saved weights")


class AutoencoderRecipe(Strict):
    """A diffusers AutoencoderKL on grey images."""

    schedule: Schedule
    config: dict[str, Any] = Field(description="arguments of diffusers.AutoencoderKL")
    kl_weight: float = Field(1e-6, ge=0, description="weight of the KL term beside L1")
    crop: int | None = Field(None, description="train on random crops of this side; None: whole images")


class TextRecipe(Strict):
    """A text encoder, pretrained in the manner of its original at toy scale."""

    schedule: Schedule
    family: Literal["cxr-bert", "clip", "open-clip", "bert", "cxr-clip", "med-kebert"] = Field(
        description="which text encoder, and with it which pretraining: see training.pretraining.families"
    )
    data: Literal["reports", "shapes", "scenes", "definitions"] = Field(
        description="the phantom's images with their reports, generic captioned pictures, or a table of definitions"
    )
    config: dict[str, Any] = Field(description="arguments of the model's configuration")
    vocab_size: int = Field(gt=0, description="size of the vocabulary, at most")
    max_length: int = Field(gt=2, description="tokens, padded and truncated to this length")
    language_steps: int = Field(0, ge=0, description="cxr-bert: first steps, of the masked language model alone")
    save_precision: Precision = SAVED


class ImageRecipe(Strict):
    """BioViL's image encoder, trained against a frozen CXR-BERT."""

    schedule: Schedule
    text_encoder: str = Field(description="the CXR-BERT's name in text_encoders")
    local: bool = Field(False, description="whether words and patches are contrasted too (BioViL-L)")
    resize: int = Field(gt=0, description="the shorter side is resized to this, in pixels")
    crop: int = Field(gt=0, description="then cropped to this: at random in training, the centre in evaluation")
    save_precision: Precision = SAVED


class ZooRecipe(Strict):
    """The phantom zoo without its latent diffusion models, which have their own recipes."""

    name: str
    seed: int = Field(description="of everything that is pretrained, and of the generic pictures")
    world: int = Field(description="phantom world whose training split is used")
    pictures: int = Field(gt=0, description="how many generic pictures there are of each kind")
    autoencoder: AutoencoderRecipe
    text_encoders: dict[str, TextRecipe] = Field(description="by the names that the variants know them by")
    image_encoders: dict[str, ImageRecipe] = Field({}, description="by the names of the methods that they are for")
    variants: tuple[str, ...] = Field(description="the latent diffusion models")
    again: dict[str, tuple[int, ...]] = Field(
        {}, description="variants that are trained once more by each of these seeds"
    )
    generic_like: str = Field("clip-ldm", description="variant that generic-ldm is built like, on generic pictures")

    @cached_property
    def members(self) -> dict[str, Kind]:
        """Name -> kind of everything that the zoo holds, in the order in which it is trained."""
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
        """The names, all members' if there are none. Raises UsageError with the near names if one is unknown."""
        for name in names:
            if name not in self.members:
                raise UsageError(unknown("member of the zoo", name, self.members))
        return list(names or self.members)


def split_name(member: str) -> tuple[str, int | None]:
    """A member's method, and its seed where it is not the recipe's first: "clip-ldm@1759" is ("clip-ldm", 1759)."""
    name, _, seed = member.partition("@")
    return name, int(seed) if seed else None


def folder_name(member: str) -> str:
    """The name of a member's folder."""
    return member.replace("@", "-seed")


def load_zoo_recipe(changes: Path | None = None) -> ZooRecipe:
    """The packaged recipe with the changes that a YAML file makes. Raises UsageError that names file and field."""
    values = read_recipe("zoo")
    if changes is None:
        return validated(ZooRecipe, values, recipe_path("zoo"))
    return validated(ZooRecipe, merged(values, read_yaml(changes)), changes)
