"""The description of a model's weights, as a user writes it in YAML and as the packaged table holds it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.registry import unknown

NEEDED = {
    "ldm": ("unet", "vae", "scheduler", "text_encoder"),
    "discriminative": ("text_encoder", "image_encoder"),
}
"""The parts that a method cannot do without, by its kind (see `MethodCard`)."""

SETTINGS: dict[str, Any] = {"steps": int, "guidance": (int, float), "layers": (int, str)}
"""What weights may choose where the user names nothing, and of which types."""

_PARTS = ("unet", "vae", "scheduler", "adapter", "text_encoder", "tokenizer", "image_encoder")
_OF_BASE = ("unet", "vae", "scheduler")
_NO_WEIGHTS = {"scheduler": ("scheduler_config.json",), "tokenizer": ("*.json", "*.txt", "*.model")}
"""The files of parts that hold no weights."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """One piece of a model: a local folder or file, or a repository on the Hugging Face hub."""

    place: str = Field(min_length=1, description="a local folder or file, or a hub id such as owner/name")
    revision: str | None = Field(None, description="hub only: a commit or tag; leave it out and `main` is taken")
    path: str = Field("", description="a folder or file inside the place")
    files: tuple[str, ...] = Field(
        (), description="names or glob patterns of the files in that folder that are needed; none: the usual ones"
    )
    url: str = Field("", description="where a file that is on no hub is downloaded from, by hand")
    sha256: dict[str, str] = Field({}, description="file name to sha256, where it is known")
    licence: str = Field("", description="under which terms it may be used")
    size: int | None = Field(None, description="bytes of what is fetched, rounded, where known")
    note: str = Field("", description="anything a reader should know")

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{value!r} does not lie inside the place")
        return "" if value == "." else value.rstrip("/")


class TextPart(Part):
    """A text encoder."""

    family: str = Field(description="a registered family, see gtg_bench.methods.text_encoders")
    max_length: int = Field(77, gt=0, description="texts are truncated and padded to so many tokens")


class ImagePart(Part):
    """BioViL's image encoder: a checkpoint file of its own kind."""

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
    defaults: dict[str, Any] = Field({}, description="steps, guidance, layers, where the user names none")
    note: str = ""

    @field_validator("base")
    @classmethod
    def _whole(cls, value: Part | None) -> Part | None:
        """Which files of a whole folder are needed depends on the part."""
        if value is not None and (value.files or value.sha256):
            raise ValueError("files and sha256 belong to the parts: name unet, vae and scheduler each for itself")
        return value

    @field_validator("base", *_PARTS, mode="before")
    @classmethod
    def _plain_place(cls, value: Any) -> Any:
        """A bare string is a place."""
        return {"place": value} if isinstance(value, str) else value

    @field_validator("defaults")
    @classmethod
    def _known_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Settings that weights can choose, of the type that is computed with; one layer may stand as a number."""
        for name, value in values.items():
            if name not in SETTINGS:
                raise ValueError(unknown("setting", name, SETTINGS))
            if isinstance(value, bool) or not isinstance(value, SETTINGS[name]):
                raise ValueError(f"{name} cannot be {value!r}")
        return values | ({"layers": str(values["layers"])} if "layers" in values else {})

    def parts(self) -> dict[str, Part]:
        """The pieces that are loaded, by name; what `base` gives stands under its own name."""
        found: dict[str, Part] = {}
        for name in _PARTS:
            part = getattr(self, name)
            if part is None and self.base is not None and name in _OF_BASE:
                part = self._of_base(name)
            if part is not None and name in _NO_WEIGHTS and not part.files:
                part = part.model_copy(update={"files": _NO_WEIGHTS[name]})
            if part is not None:
                found[name] = part
        return found

    def _of_base(self, name: str) -> Part:
        assert self.base is not None
        path = f"{self.base.path}/{name}" if self.base.path else name
        return self.base.model_copy(update={"path": path, "size": None})

    def unnamed(self, besides: Collection[str] = (), kind: str | None = None) -> list[str]:
        """The parts that a method cannot do without, and that neither the plan names nor `besides`.

        Args:
            besides: names that are accounted for otherwise.
            kind: the method's kind; None: what the named parts look like.
        """
        named = {*self.parts(), *besides}
        needed = NEEDED[kind or ("discriminative" if "image_encoder" in named else "ldm")]
        return [name for name in needed if name not in named]


def read_plan(path: Path) -> WeightsPlan:
    """The plan in a YAML file. Raises DataError that names the file and the field."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}") from error
    return parse_plan(values, path)


def parse_plan(values: Any, path: Path) -> WeightsPlan:
    """The plan of what a YAML file holds. Raises DataError that names the file and the field."""
    if not isinstance(values, dict):
        raise DataError(f"{path}: the file must name parts, for instance `unet: FOLDER`; it holds {values!r:.60}")
    try:
        return WeightsPlan.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, with the field that it is about."""
    first = error.errors()[0]
    place = [str(step) for step in first["loc"]]
    if first["type"] != "extra_forbidden":
        return f"{'.'.join(place)}: {first['msg']}"
    owners: dict[str, type[BaseModel]] = {"text_encoder": TextPart, "image_encoder": ImagePart}
    owner = owners.get(place[0], Part) if len(place) > 1 else WeightsPlan
    return f"{'.'.join(place)}: {unknown('field', place[-1], owner.model_fields)}"
