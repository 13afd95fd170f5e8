"""The description of a model's weights, as a user writes it in YAML and as the packaged table holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gtg_bench.benchmark.api.errors import DataError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """One piece of a model: a local folder or file, or a repository on the Hugging Face hub."""

    place: str = Field(description="a local folder or file, or a hub id such as owner/name")
    revision: str | None = Field(None, description="hub only: a commit or tag; leave it out and `main` is taken")
    path: str = Field("", description="a folder or file inside the place")
    files: tuple[str, ...] = Field((), description="which files of the folder are needed, as glob patterns")
    licence: str = Field("", description="under which terms it may be used")
    size: int | None = Field(None, description="bytes of what is fetched, where known")
    note: str = Field("", description="anything a reader should know")


class TextPart(Part):
    """A text encoder."""

    family: str = Field(description="a registered family, see gtg_bench.methods.text_encoders")
    max_length: int = Field(77, description="texts are truncated and padded to so many tokens")


class ImagePart(Part):
    """BioViL's image encoder: a checkpoint file of its own kind."""

    encoder: str = Field("resnet50", description="health_multimodal's name of the encoder")
    resize: int = Field(512, description="the shorter side is resized to this, in pixels")
    crop: int = Field(480, description="then the centre is cropped to this, in pixels")
    size_of_projection: int = Field(128, description="width of the joint image-text space")


class WeightsPlan(_Strict):
    """Everything that a model is loaded from."""

    base: Part | None = Field(None, description="a Stable Diffusion folder: gives what is not named below")
    unet: Part | None = None
    vae: Part | None = None
    scheduler: Part | None = None
    adapter: Part | None = Field(None, description="a PEFT adapter on the U-Net, merged into it")
    text_encoder: TextPart | None = None
    tokenizer: Part | None = Field(None, description="where the text encoder's own place has none")
    image_encoder: ImagePart | None = None
    defaults: dict[str, Any] = Field({}, description="steps, guidance, layers ... where the user names none")
    note: str = ""

    @field_validator("base", "unet", "vae", "scheduler", "adapter", "tokenizer", mode="before")
    @classmethod
    def _plain_place(cls, value: Any) -> Any:
        """A bare string is a place."""
        return {"place": value} if isinstance(value, str) else value

    def parts(self) -> dict[str, Part]:
        """The pieces that are loaded, by name; what `base` gives stands under its own name."""
        found: dict[str, Part] = {}
        for name in ("unet", "vae", "scheduler", "adapter", "text_encoder", "tokenizer", "image_encoder"):
            part = getattr(self, name)
            if part is None and self.base is not None and name in ("unet", "vae", "scheduler"):
                path = f"{self.base.path}/{name}" if self.base.path else name
                part = self.base.model_copy(update={"path": path, "size": None})
            if part is not None:
                found[name] = part
        return found


def read_plan(path: Path) -> WeightsPlan:
    """The plan in a YAML file. Raises DataError that names the file and the field."""
    try:
        return parse_plan(yaml.safe_load(path.read_text()), path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: {error}") from error


def parse_plan(values: Any, path: Path) -> WeightsPlan:
    """The plan of what a YAML file holds."""
    try:
        return WeightsPlan.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {field}: {first['msg']}") from error
