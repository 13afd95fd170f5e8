"""The parts of a model and where each one comes from, as a YAML file or the packaged table describes them.

A YAML file for `--weights`:

    base: stable-diffusion-v1-5/stable-diffusion-v1-5  # provides the unet, vae and scheduler that are not named below
    unet: {place: trained/checkpoint-30000, path: unet_ema}
    text_encoder: {place: StanfordAIMI/RadBERT, family: bert, max_length: 77}
    tokenizer: FOLDER  # only if the text encoder's folder has none
    adapter: FOLDER  # a LoRA adapter of the U-Net, as PEFT or diffusers saves it
    defaults: {steps: 50, guidance: 16.0, layers: all}
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.state import Strict, one_line, problem, read_yaml, shown

NEEDED = {
    "ldm": ("unet", "vae", "scheduler", "text_encoder"),
    "discriminative": ("text_encoder", "image_encoder"),
}
"""The parts that a method requires, by its kind (see `MethodCard`)."""

SETTINGS: dict[str, Any] = {"steps": int, "last_steps": int, "guidance": (int, float), "layers": (int, str)}
"""Settings for which weights may give a default, and their types."""

_PARTS = ("unet", "vae", "scheduler", "adapter", "text_encoder", "tokenizer", "image_encoder")
_IN_BASE = ("unet", "vae", "scheduler")
_CONFIG_FILES = {"scheduler": ("scheduler_config.json",), "tokenizer": ("*.json", "*.txt", "*.model")}
"""The files of parts that have no weights."""


class Part(Strict):
    """One part of a model: a local folder or file, or a repository on the Hugging Face hub."""

    place: str = Field(min_length=1, description="a local folder or file, or a hub id such as owner/name")
    revision: str | None = Field(None, description="hub only: a commit or tag; default: the `main` branch")
    path: str = Field("", description="a folder or file inside the place")
    files: tuple[str, ...] = Field(
        (), description="names or glob patterns of the files to load from that folder; default: config and weights"
    )
    url: str = Field("", description="download address of a file that is not on the hub")
    sha256: dict[str, str] = Field({}, description="file name to sha256, where it is known")
    licence: str = Field("", description="the licence of the weights")
    size: int | None = Field(None, description="approximate download size in bytes, where it is known")
    note: str = Field("", description="anything else a reader should know")

    @field_validator("place", "path")
    @classmethod
    def _plain(cls, value: str) -> str:
        try:
            Path(value).expanduser()
        except RuntimeError as error:
            raise ValueError(f"{shown(value)}: {error}") from error
        if not value.isprintable() or len(value) > 4000 or any(len(part.encode()) > 255 for part in Path(value).parts):
            raise ValueError(f"{shown(value)} is not a path")
        return value

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{value!r} is outside the place")
        return "" if value == "." else value.rstrip("/")


class TextPart(Part):
    """A text encoder."""

    family: str = Field(description="a registered family, see gtg_bench.methods.text_encoders")
    max_length: int = Field(77, gt=0, description="texts are truncated and padded to this many tokens")
    words_only: bool = Field(False, description="start, end and padding have the states of the empty text")


class ImagePart(Part):
    """BioViL's image encoder: a checkpoint file."""

    encoder: str = Field(
        "resnet50", description="health_multimodal's name of the encoder; or small, see methods.biovil.image_model"
    )
    resize: int = Field(512, gt=0, description="the shorter side is resized to this, in pixels")
    crop: int = Field(480, gt=0, description="then the centre is cropped to this, in pixels")
    size_of_projection: int = Field(128, gt=0, description="width of the joint image-text space")

    @model_validator(mode="after")
    def _crop_fits(self) -> ImagePart:
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")
        return self


class WeightsPlan(Strict):
    """Every part that a model is loaded from. A bare string is short for `place: STRING`."""

    base: Part | None = Field(None, description="a Stable Diffusion folder; provides the parts not named below")
    unet: Part | None = None
    vae: Part | None = None
    scheduler: Part | None = None
    adapter: Part | None = Field(None, description="a PEFT adapter, merged into the U-Net")
    text_encoder: TextPart | None = None
    tokenizer: Part | None = Field(None, description="only if the text encoder's folder has none")
    image_encoder: ImagePart | None = None
    defaults: dict[str, Any] = Field({}, description="default steps, last_steps, guidance and layers for these weights")
    note: str = ""
    unpublished: tuple[str, ...] = Field((), description="published table only: parts that are not released")

    @field_validator("base")
    @classmethod
    def _whole(cls, value: Part | None) -> Part | None:
        """Reject file lists on a whole pipeline: each part needs its own."""
        if value is not None and (value.files or value.sha256):
            raise ValueError("files and sha256 belong to a single part: list unet, vae and scheduler separately")
        return value

    @field_validator("base", *_PARTS, mode="before")
    @classmethod
    def _plain_place(cls, value: Any) -> Any:
        return {"place": value} if isinstance(value, str) else value

    @field_validator("defaults")
    @classmethod
    def _known_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Check names and types of the settings; a single layer may be written as a number."""
        for name, value in values.items():
            if name not in SETTINGS:
                raise ValueError(unknown("setting", name, SETTINGS))
            if isinstance(value, bool) or not isinstance(value, SETTINGS[name]):
                raise ValueError(f"{name} cannot be {shown(value)}")
        return values | ({"layers": str(values["layers"])} if "layers" in values else {})

    @model_validator(mode="after")
    def _words_of_a_unet(self) -> WeightsPlan:
        if self.image_encoder is not None and self.text_encoder is not None and self.text_encoder.words_only:
            raise ValueError("text_encoder.words_only is for latent diffusion models; remove it")
        return self

    def parts(self) -> dict[str, Part]:
        """The parts to load, by name, including those that `base` provides."""
        found: dict[str, Part] = {}
        for name in _PARTS:
            part = getattr(self, name)
            if part is None and self.base is not None and name in _IN_BASE:
                path = str(PurePosixPath(self.base.path, name))
                part = self.base.model_copy(update={"path": path, "size": None})
            if part is not None and name in _CONFIG_FILES and not part.files:
                part = part.model_copy(update={"files": _CONFIG_FILES[name]})
            if part is not None:
                found[name] = part
        return found

    def unnamed(self, kind: str | None = None) -> list[str]:
        """The required parts that the plan does not name.

        Args:
            kind: the method's kind; None: inferred from the parts that the plan names.
        """
        named = {*self.parts(), *self.unpublished}
        needed = NEEDED[kind or ("discriminative" if "image_encoder" in named else "ldm")]
        return [name for name in needed if name not in named]


def read_plan(path: Path) -> WeightsPlan:
    """Read a plan from a YAML file. Raises DataError that names the file and the field."""
    return parse_plan(read_yaml(path, "a mapping of parts such as `unet: FOLDER`"), path)


def parse_plan(values: dict[str, Any], path: Path) -> WeightsPlan:
    """Validate the content of a YAML file or card. Raises DataError that names the file and the field."""
    try:
        return WeightsPlan.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where, message = [str(step) for step in first["loc"]], problem(error)
        if first["type"] == "extra_forbidden":
            models: dict[str, type[BaseModel]] = {"text_encoder": TextPart, "image_encoder": ImagePart}
            model = models.get(where[0], Part) if len(where) > 1 else WeightsPlan
            message = one_line(f"{'.'.join(where)}: {unknown('field', where[-1], model.model_fields)}")
        raise DataError(f"{path}: {message}") from error
