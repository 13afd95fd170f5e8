"""A folder of generated images: PNG files, index.csv with one row per image, and generation.json, which describes them.

`generation.json` is written first. A folder whose index has fewer rows than its `images` is unfinished.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gtg_bench.benchmark.api.text import csv_cell
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Row, iter_rows
from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.runs.external_index import check_place
from gtg_bench.benchmark.state import read_state

GENERATION = "generation.json"
INDEX = "index.csv"
_AGAIN = "rerun the same `gtg-bench generate`, or remove the folder"


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One image, and what it was generated from."""

    file: str
    """Name of the PNG file in its folder, 8-bit grey."""
    phrase: str
    """The prompt."""
    sample_id: str = ""
    """The sample that the phrase is from; "" for phrases that are not of a data set, as in the next three fields."""
    image_id: str = ""
    """The sample's real image."""
    patient_id: str = ""
    """The patient of that image."""
    category: str = ""
    """The finding."""
    copy: int = 0
    """Number of this image among those of the same sample or phrase, from 0."""
    seed: int = 0
    """Seed of its noise."""


COLUMNS = tuple(one.name for one in fields(GeneratedImage))
"""The columns of an index, in order."""


class Generation(BaseModel):
    """The fields of generation.json that programs read; it has others, which only people read."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    key: str = Field(description="12 hex digits over everything that changes an image")
    method: str
    weights: str | None
    weights_version: str | None
    steps: int
    guidance: float
    seed: int
    dataset: str | None = Field(description="data set of the phrases; null if they are from a file")
    split: str | None
    limit: int | None
    per_phrase: int
    images: int = Field(description="number of images when the folder is complete")


def read_generation(folder: Path) -> dict[str, Any]:
    """The values of generation.json, see `Generation`. Raises DataError if it is missing or damaged."""
    return read_state(folder / GENERATION, Generation, _AGAIN)


def write_index(folder: Path, images: Iterable[GeneratedImage]) -> None:
    """Write the index of a folder. Raises PlaceError if it cannot be written."""
    with atomic(folder / INDEX) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in asdict(image).items()} for image in images)


def read_generated(folder: Path) -> list[GeneratedImage]:
    """The images that a folder's index lists, in its order.

    Folders of other programs can be read, too: only the columns `file` and `phrase` are needed.

    Args:
        folder: contains index.csv; files are named relative to it.

    Raises:
        DataError: the index is missing, damaged or empty, or a file is missing or outside the folder; names file, row
            and fix.
    """
    images: dict[str, GeneratedImage] = {}
    for row in iter_rows(folder / INDEX, ["file", "phrase"]):
        if row.broken:
            raise row.fault(row.broken.what, row.broken.fix)
        image = _image(row)
        if image.file in images:
            raise row.fault(f"names {image.file} a second time", _AGAIN)
        try:
            check_place(folder / image.file, folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise fault(row.file, f"{image.file} cannot be read ({reason})", _AGAIN, row.row) from error
        images[image.file] = image
    if not images:
        raise fault(folder / INDEX, "lists no image", _AGAIN)
    return list(images.values())


def _image(row: Row) -> GeneratedImage:
    if not row.has("file"):
        raise row.fault("names no file", _AGAIN)
    texts = {name: row.text(name) for name in COLUMNS if name not in ("copy", "seed")}
    return GeneratedImage(**texts, copy=_whole(row, "copy"), seed=_whole(row, "seed"))


def _whole(row: Row, name: str) -> int:
    """A whole number of at most 64 bits, which a float cannot hold; 0 if absent."""
    text = row.text(name)
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise row.fault(f"{name} is {text[:40]!r}, not a whole number", _AGAIN)
    return int(text)
