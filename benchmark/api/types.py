"""The types that flow through the harness, from the files of a data set to a row of a leaderboard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gtg_bench.benchmark.api.geometry import FloatArray, Frame, Mask, Size, boxes_to_mask
from gtg_bench.benchmark.api.settings import MethodSettings as MethodSettings

_PICTURE = 256
"""Longer side of the picture of a box answer, in pixels."""

Box = tuple[float, float, float, float]
Status = Literal["ok", "unscorable", "failed"]


@dataclass(frozen=True, slots=True)
class PhraseSample:
    """One phrase on one image, with the region that it names."""

    sample_id: str
    """Derived from image, category and phrase, see `sample_id`; unique in its data set."""
    image_id: str
    """Name of the image in its data set."""
    patient_id: str
    """The patient: the unit of every split and of the bootstrap."""
    image_path: Path | None
    """File of the image; None if the data set generates its images."""
    phrase: str
    """The text that the method gets."""
    category: str
    """The finding, as the data set spells it."""
    boxes: tuple[Box, ...]
    """Float xyxy, half open, in original image pixels; empty if the region is a mask."""
    image_size: Size
    """(width, height) of the original image in pixels."""
    mask: Mask | None = None
    """The region, if it is not a set of boxes; `api.geometry.region_in` handles both."""
    traits: tuple[tuple[str, str], ...] = ()
    """What is known of patient and image, by which subgroups are formed: sex (female, male), age in years, view."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxAnswer:
    """The boxes with which a method answers, if it returns boxes instead of a map; none is an answer too, a miss."""

    boxes: NDArray[np.float64]
    """float64 [N, 4], xyxy, half open, in pixels of the original image."""
    scores: NDArray[np.float64]
    """float64 [N], finite, higher is more confident; all equal if the method gives none."""

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.scores), 4) or self.scores.ndim != 1:
            raise ValueError(f"boxes must be [N, 4] and scores [N], not {self.boxes.shape} and {self.scores.shape}")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")
        if len(wrong := self.boxes[(self.boxes[:, 2:] <= self.boxes[:, :2]).any(axis=1)]):
            raise ValueError(
                f"box {wrong[0].tolist()} has no area: boxes are [x1, y1, x2, y2] with x1 < x2 and y1 < y2"
            )


@dataclass(frozen=True, slots=True)
class GroundingMap:
    """Where a method locates a phrase."""

    values: FloatArray
    """float32 [h, w], finite, higher is more relevant; the grid divides the frame's window evenly."""
    frame: Frame
    """The part of the image that the method saw. Pixels outside it are "not covered", never NaN inside `values`."""
    note: str = ""
    """Anything unusual about this map, for its record."""
    answer: BoxAnswer | None = None
    """The boxes of a method that returns boxes, see `of_boxes`; `values` is then only a picture of them."""
    steps_used: int | None = None
    """Denoising steps that this map took, where the method decides that for each sample."""

    @classmethod
    def of_boxes(cls, boxes: ArrayLike, image_size: Size, scores: ArrayLike | None = None, note: str = "") -> Self:
        """The answer of a method that returns boxes. Metrics that need a map are not defined for it.

        Args:
            boxes: float xyxy [N, 4], half open, in pixels of the original image, clipped to it; [] is a miss.
            image_size: (width, height) of the original image in pixels.
            scores: float [N], higher is more confident; None if the method gives none.
            note: anything unusual, for its record.

        Raises:
            ValueError: a box without area or outside the image, a value that is not finite, or not one score per box.
        """
        found = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        BoxAnswer(found, np.zeros(len(found)))
        clipped = np.clip(found, 0, np.array([*image_size, *image_size]))
        answer = BoxAnswer(clipped, np.zeros(len(found)) if scores is None else np.asarray(scores, dtype=np.float64))
        shrunk = min(1.0, _PICTURE / max(image_size))
        grid = max(round(image_size[0] * shrunk), 1), max(round(image_size[1] * shrunk), 1)
        drawn = boxes_to_mask(Frame.stretch(image_size, grid).boxes_from_image(clipped), grid)
        return cls(drawn.astype(np.float32), Frame.original(image_size), note, answer)

    @property
    def sha256(self) -> str:
        """Fingerprint of the values, or of the boxes and scores that they are a picture of."""
        if self.answer is None:
            return fingerprint(self.values)
        return fingerprint(np.column_stack([self.answer.boxes, self.answer.scores]))

    def __post_init__(self) -> None:
        if not isinstance(self.values, np.ndarray) or isinstance(self.values, np.ma.MaskedArray):
            fixes = {"detach": "values.detach().float().cpu().numpy()", "filled": "values.filled(VALUE)"}
            fix = next((fix for name, fix in fixes.items() if hasattr(self.values, name)), "np.array(values)")
            raise TypeError(f"a grounding map needs a numpy array, not {type(self.values).__name__}; give it {fix}")
        if self.values.dtype.kind not in "fiub":
            raise TypeError(f"a grounding map needs numbers, not {self.values.dtype}; give it float32")
        if self.values.ndim != 2 or self.values.size == 0:
            raise ValueError(f"a grounding map must be a 2-D array, not one of shape {self.values.shape}")
        if not np.isfinite(self.values).all():
            raise ValueError("a grounding map must be finite; exclude what is not covered from the frame")

    def on_image(self) -> FloatArray:
        """The map in the image's own pixels, float32 [H, W]; NaN where the method's frame does not cover the image."""
        values, covered = self.frame.carry(self.values, Frame.original(self.frame.image_size))
        return np.where(covered, values, np.float32(np.nan)).astype(np.float32)


def is_transposed(grounding: GroundingMap) -> bool:
    """Whether the values of a map that is not square are [width, height], at its frame's own resolution."""
    width, height = grounding.frame.size
    return width != height and grounding.values.shape == (width, height)


@dataclass(frozen=True, slots=True)
class Query:
    """What a method gets for one sample."""

    image: FloatArray
    """float32 [H, W] in [0, 1], grey; bright is dense, as radiologists read it."""
    text: str
    """The phrase."""
    seed: int = 0
    """Seed of this sample's own generator, from the run's seed and the sample's id: results depend on neither batch,
    nor order, nor worker."""
    category: str = ""
    """The finding that the phrase names, as the data set spells it; "" if unknown."""


class Method(Protocol):
    """Anything with `ground(image, text)`.

    A method that can work on several queries at once, or that draws random numbers, also has
    `ground_batch(queries)`, which must give the same maps for any batch.
    """

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The map of the phrase `text` on `image`, float32 [H, W] in [0, 1]."""
        ...


@runtime_checkable
class BatchMethod(Protocol):
    """A method that grounds several queries at once."""

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map per query, in the same order."""
        ...


PLACES = ("images", "annotations")
"""Options of data sets that say only where files are; what these contain is part of a run's key, not their place."""


class Dataset(Protocol):
    """A loaded data set: its samples and their images."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the samples or pixels that the same options select change."""
        ...

    @property
    def options(self) -> Mapping[str, str]:
        """The options of --dataset-option."""
        ...

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """The samples of a split, in a fixed order. Raises UsageError for an unknown split."""
        ...

    def image(self, sample: PhraseSample) -> FloatArray:
        """The sample's image, float32 [H, W] in [0, 1], bright is dense. Raises DataError if unreadable."""
        ...


NO_MODEL = ("prior", "baseline", "ceiling")
"""Kinds of methods without a model; nothing that they find is to their credit."""


@runtime_checkable
class KnowsAbsence(Protocol):
    """A data set that also knows phrases whose finding its images do not show."""

    def absent_samples(self, split: str) -> Sequence[PhraseSample]:
        """Phrases of absent findings ("left pneumothorax") and denials ("no pneumothorax") on a split's images.

        They have no region, never appear in `samples`, and take part in no mean. Raises UsageError for an unknown
        split.
        """
        ...


@dataclass(frozen=True, slots=True)
class MethodCard:
    """Where a method comes from: what a reader must know before trusting its numbers."""

    summary: str
    """What the method is, in one line."""
    kind: Literal["ldm", "discriminative", "prior", "baseline", "ceiling", "plug-in"]
    """What sort of method it is; those of `NO_MODEL` have no model."""
    paper: str = ""
    """Publication that describes it."""
    weights: str = ""
    """Where its weights come from."""
    revision: str = ""
    """Pinned revision of the weights."""
    licence: str = ""
    """Licence of the weights."""
    training_data: str = ""
    """Data that the weights were trained on."""


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One line of a run's record."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    sample_id: str
    """Id of the sample."""
    image_id: str
    """Name of its image."""
    patient_id: str
    """Its patient."""
    category: str
    """Its finding."""
    status: Status
    """Whether it was scored; only samples that failed are tried again."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Name -> value; a metric that is undefined for this sample is absent, never 0 or NaN."""
    error: str = ""
    """Why the sample is not ok."""
    note: str = ""
    """The method's note on its map."""
    seconds: float = 0.0
    """Wall time of the sample: its share of a batch."""
    map_sha256: str = ""
    """Fingerprint of the map's values; "" without a map."""
    facts: dict[str, int | float | str] = field(default_factory=dict)
    """Facts by which subgroups are formed, see `scoring.score_map.facts_of`."""
    phrase: str = ""
    """The text that the method was given; under a control it is not the sample's own."""
    boxes: tuple[Box, ...] = ()
    """The region that was scored, float xyxy in pixels of its image; empty if it is a mask."""
    image_sha256: str = ""
    """Digest of the image, see `datasets.digests`; "" if the maps come from files and no image was read."""
    map_name: str = ""
    """Name of the map's file, see `scoring.trial.Trial.map_name`."""
    steps_used: int | None = None
    """Denoising steps that the map took, where the method decides that for each sample (`--steps auto`)."""

    def as_json(self) -> dict[str, Any]:
        """The record as plain JSON values, in a fixed order."""
        return {name: getattr(self, name) for name in self.__slots__}


def sample_id(image_id: str, category: str, phrase: str) -> str:
    """The id of a sample: the image's name and 12 hex digits of sha256 over image, category and phrase."""
    digest = hashlib.sha256("\x1f".join((image_id, category, phrase)).encode()).hexdigest()[:12]
    return f"{image_id}-{digest}"


def seed_for(*parts: object) -> int:
    """A 63-bit seed from sha256 of `parts`: the same on every machine, in every order, in every batch."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fingerprint(values: NDArray[Any]) -> str:
    """sha256 of an array's dtype, shape and bytes."""
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
