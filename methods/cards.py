"""Read the card.json of a folder of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.state import read_state, shown


class Card(BaseModel):
    """The entries of a card that are read; it has others, which only people read."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    components: dict[str, str | dict[str, Any]] = Field({}, description="part -> its folder or its entry of a plan")
    defaults: dict[str, Any] = Field({}, description="default settings of the method with these weights")
    family: str = Field("", description="of a text encoder")
    max_length: int = Field(77, gt=0, lt=2**20, description="tokens that a text encoder takes")
    words_only: bool = Field(False, description="of a text encoder, see `TextPart`")
    file: str = Field("", description="checkpoint of a text encoder, in its folder")
    recipe_name: str | None = None
    variant: str = Field("", description="method that the weights are for, if the folder has another name")
    sha256: dict[str, str] = Field({}, description="file -> hash")


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a folder of weights. Raises DataError if it is missing or damaged."""
    path = folder / "card.json"
    if not path.exists():
        raise DataError(f"{folder} is not a folder of weights: card.json is missing")
    return read_state(path, Card, "copy the folder again, or train the weights again")


def part_of(card: dict[str, Any], folder: Path, name: str) -> Path:
    """The folder of a component that a card names. Raises DataError if it is not named or does not exist."""
    place = card.get("components", {}).get(name)
    if not isinstance(place, str):
        raise DataError(f"{folder}/card.json names no {name} under components; is this the folder of a whole model?")
    part = folder / place
    if not part.is_dir():
        raise DataError(f"{folder}/card.json names {shown(place)} as its {name}, but that folder does not exist")
    return part
