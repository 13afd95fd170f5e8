"""Read the card.json of a folder of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a folder of weights. Raises DataError if it is missing or not a JSON object."""
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{folder} is not a folder of weights: card.json is missing") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error
    if not isinstance(card, dict):
        raise DataError(f"{path}: a card must be a JSON object")
    return card


def part_of(card: dict[str, Any], folder: Path, name: str) -> Path:
    """The folder of a component that a card names. Raises DataError if it is not named or does not exist."""
    place = card.get("components", {}).get(name)
    if place is None:
        raise DataError(f"{folder}/card.json names no {name} under components; is this the folder of a whole model?")
    part = folder / place
    if not part.is_dir():
        raise DataError(f"{folder}/card.json names {place} as its {name}, but that folder does not exist")
    return part
