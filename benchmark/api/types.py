"""The types that flow through the harness, from a data set's files to a leaderboard's row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.geometry import FloatArray, Frame, Mask, Size
from gtg_bench.benchmark.api.settings import MethodSettings as MethodSettings

Box = tuple[float, float, float, float]
Status = Literal["ok", "unscorable", "failed"]


@dataclass(frozen=True, slots=True)
class PhraseSample:
    """One phrase on one image, with the region that it names.

    Attributes:
        sample_id: a function of image, category and phrase (see `sample_id`); unique in its data set.
        image_id: the image's name in its data set.
        patient_id: the patient; the unit of every split and of the bootstrap.
        image_path: the image's file, or None where the data set makes its images itself.
        phrase: the text that the method gets.
        category: the finding, as the data set spells it.
        boxes: float xyxy, half open, in original image pixels; none where there is a mask.
        image_size: (width, height) of the original image in pixels.
        mask: the region, where it is not a set of boxes; see `api.geometry.region_in` for either.
    """

    sample_id: str
    image_id: str
    patient_id: str
    image_path: Path | None
    phrase: str
    category: str
    boxes: tuple[Box, ...]
    image_size: Size
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class GroundingMap:
    """Where a phrase is, as a method sees it.

    Attributes:
        values: float32 [h, w], finite, higher is more relevant; the grid divides the frame's window evenly.
        frame: what the method saw of the image. What lies outside is "not covered", never NaN inside `values`.
        note: anything unusual about this map that belongs in its record; "" if there is nothing.
    """

    values: FloatArray
    frame: Frame
    note: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.size == 0:
            raise ValueError(f"a grounding map is a 2-D array, not of shape {self.values.shape}")
        if not np.isfinite(self.values).all():
            raise ValueError("a grounding map must be finite; leave out of the frame what is not covered")

    def on_image(self) -> FloatArray:
        """The map in the image's own pixels, float32 [H, W]; NaN where the method's frame does not cover the image."""
        values, covered = self.frame.carry(self.values, Frame.original(self.frame.image_size))
        return np.where(covered, values, np.float32(np.nan)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Query:
    """What a method gets for one sample.

    Attributes:
        image: float32 [H, W] in [0, 1], grey, bright is dense, as a radiologist would see it.
        text: the phrase.
        seed: for the generator of this sample alone; a function of the run's seed and the sample's id, so
            results depend on neither batch, nor order, nor worker.
        category: the finding that the phrase is about, as the data set spells it; "" where nobody knows.
    """

    image: FloatArray
    text: str
    seed: int = 0
    category: str = ""


class Method(Protocol):
    """Anything with `ground(image, text)`.

    A method that can work on several queries at once, or that draws random numbers, also has
    `ground_batch(queries)`, which must give the same maps whatever the batch.
    """

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The map of `text` on `image` (float32 [H, W] in [0, 1])."""
        ...


@runtime_checkable
class BatchMethod(Protocol):
    """A method that grounds several queries at once."""

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map a query, in the same order."""
        ...


class Dataset(Protocol):
    """A loaded data set: its samples and their images.

    Attributes:
        name: the registry's name.
        version: changes whenever the samples or pixels of the same options change.
        options: what was chosen with --dataset-option, as strings.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def options(self) -> Mapping[str, str]: ...

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """The samples of a split, in a fixed order. Raises UsageError for an unknown split."""
        ...

    def image(self, sample: PhraseSample) -> FloatArray:
        """The sample's image, float32 [H, W] in [0, 1], bright is dense. Raises DataError if unreadable."""
        ...


@dataclass(frozen=True, slots=True)
class MethodCard:
    """Where a method comes from: what a reader must know before trusting its number."""

    summary: str
    kind: Literal["ldm", "discriminative", "prior", "baseline", "plug-in"]
    paper: str = ""
    weights: str = ""
    revision: str = ""
    licence: str = ""
    training_data: str = ""


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One line of a run's record.

    Attributes:
        metrics: name -> value; a metric that is undefined for this sample is absent, never 0 or NaN.
        error: why the sample is not ok; "" if it is.
        note: the method's note on its map; "" if it has none.
        seconds: wall time of the sample: its share of a batch.
        map_sha256: fingerprint of the map's values; "" if there is no map.
        facts: what subgroups are made of, see `scoring.score_map.facts_of`.
        phrase: the text that the method was given; under a control not the sample's own.
        boxes: the region that was scored, float xyxy in pixels of its image; empty if it is a mask.
    """

    sample_id: str
    image_id: str
    patient_id: str
    category: str
    status: Status
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    note: str = ""
    seconds: float = 0.0
    map_sha256: str = ""
    facts: dict[str, float | str] = field(default_factory=dict)
    phrase: str = ""
    boxes: tuple[Box, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, in a fixed order."""
        return {name: getattr(self, name) for name in self.__slots__}


def sample_id(image_id: str, category: str, phrase: str) -> str:
    """The id of (image, category, phrase)."""
    digest = hashlib.sha256("\x1f".join((image_id, category, phrase)).encode()).hexdigest()[:12]
    return f"{image_id}-{digest}"


def seed_for(*parts: object) -> int:
    """A 63-bit seed from sha256 of `parts`: the same on every machine, in every order, in every batch."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fingerprint(values: NDArray[Any]) -> str:
    """sha256 over dtype, shape and bytes of an array."""
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
