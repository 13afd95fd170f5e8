"""Pictures of samples for a web page: small images, maps on their own grids, regions and masks."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray, Frame, region_in
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, PhraseSample
from gtg_bench.benchmark.runs.identity import digest_of_samples
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.rescore import Place, Rules, open_data
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import plan
from gtg_bench.benchmark.scoring.protocols import RULES, Protocol
from gtg_bench.benchmark.scoring.score_map import evaluation_frame, view
from gtg_bench.benchmark.scoring.trial import Trial

IMAGE_SIDE, MAP_SIDE, OUTLINE_SIDE = 384, 64, 128
"""Longest sides, in pixels, of a stored image, map, and region or mask."""

Json = dict[str, Any]


@dataclass
class Album:
    """Images and maps of a page; each distinct one is stored once.

    Attributes:
        images: {"src": data URL, "w", "h": of the original in pixels}; None if the image cannot be read.
        maps: {"w", "h", "data": base64 of uint8 [h, w], from the map's minimum (0) to its maximum (255)}.
        problems: why pictures are missing, one reason for each.
    """

    images: list[Json | None] = field(default_factory=list)
    maps: list[Json] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _known: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def image(self, dataset: Dataset, sample: PhraseSample) -> int:
        """Index of a sample's image."""
        return self._once(("image", sample.image_id), lambda: self._image(dataset, sample))

    def _image(self, dataset: Dataset, sample: PhraseSample) -> int:
        try:
            pixels = dataset.image(sample)
        except (GtgError, OSError) as error:
            self.missing(str(error))
            self.images.append(None)
            return len(self.images) - 1
        image = Image.fromarray(np.uint8(np.clip(pixels, 0, 1) * 255 + 0.5))
        image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80, optimize=True)
        source = f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
        self.images.append({"src": source, "w": sample.image_size[0], "h": sample.image_size[1]})
        return len(self.images) - 1

    def heat(self, grounding: GroundingMap, trial: Trial, rules: Protocol) -> Json:
        """A map and what the protocol makes of it.

        Returns:
            map: index of the map. at: its rectangle. low, high: its range. mask: outline as `outlined` returns it.
            peak: the maximum in the evaluation frame, None for a constant map; the centre of the best box of an answer.
            All places are [x, y] or [left, top, width, height] as shares of the image's width and height.
        """
        key = (grounding.sha256, grounding.frame, *(getattr(rules, part) for part in RULES))
        return self._once(key, lambda: self._heat(grounding, trial, rules))

    def _heat(self, grounding: GroundingMap, trial: Trial, rules: Protocol) -> Json:
        values, frame = grounding.values, grounding.frame
        small = np.asarray(values, dtype=np.float32)
        if max(values.shape) > MAP_SIDE:
            image = Image.fromarray(small)
            image.thumbnail((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX)
            small = np.asarray(image)
        low, high = float(small.min()), float(small.max())
        grey = ((small - low) * (255 / ((high - low) or 1)) + 0.5).astype(np.uint8)
        stored = self._once(("map", grey.shape, grey.tobytes()), lambda: self._map(grey))
        scene = view(grounding, trial, rules).scene
        seen = _seen(grounding, trial, rules)
        row, column = np.unravel_index(int(scene.values.argmax()), scene.values.shape) if scene.values.size else (0, 0)
        if scene.answer is not None and len(scene.answer.boxes):
            best = scene.answer.boxes[scene.answer.scores.argmax()]
            row, column = (best[1] + best[3] - 1) / 2, (best[0] + best[2] - 1) / 2
        x, y, width, height = seen
        peak = [x + width * (column + 0.5) / scene.values.shape[1], y + height * (row + 0.5) / scene.values.shape[0]]
        found: Json = {"map": stored, "at": _shares(frame, (0, 0, *frame.size)), "low": low, "high": high}
        found["peak"] = [round(float(part), 4) for part in peak] if low < high else None
        return found | {"mask": outlined(scene.mask, seen)}

    def _map(self, grey: NDArray[np.uint8]) -> int:
        height, width = grey.shape
        self.maps.append({"w": width, "h": height, "data": b64encode(grey.tobytes()).decode()})
        return len(self.maps) - 1

    def missing(self, reason: str) -> None:
        """Note that a picture is missing."""
        self.problems.append(reason)

    def _once(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _shares(frame: Frame, box: Sequence[float]) -> list[float]:
    """A rectangle (xyxy) of a frame as [left, top, width, height] in shares of the image."""
    x0, y0, x1, y1 = frame.boxes_to_image([box])[0] / (frame.image_size * 2)
    return [round(float(part), 5) for part in (x0, y0, x1 - x0, y1 - y0)]


def _seen(grounding: GroundingMap, trial: Trial, rules: Protocol) -> list[float]:
    """The part of the image that `scoring.score_map.view` keeps, see `_shares`."""
    frame = evaluation_frame(trial.sample.image_size, rules.frame)
    if rules.uncovered != "exclude":
        return _shares(frame, (0, 0, *frame.size))
    covered = grounding.frame.carry(np.zeros((1, 1)), frame)[1]
    rows, columns = covered.any(1).nonzero()[0], covered.any(0).nonzero()[0]
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows.size and columns.size else (0, 0, 1, 1)
    return _shares(frame, box)


def outlined(mask: BoolArray, at: Sequence[float]) -> Json | None:
    """A mask, bool [H, W], on a grid of at most OUTLINE_SIDE cells a side; None if it is empty.

    Returns:
        w, h: of the grid. runs: lengths of runs in row order, False first. at: its rectangle in shares of the image.
    """
    if not mask.any():
        return None
    height, width = (min(side, OUTLINE_SIDE) for side in mask.shape)
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip((height, width), mask.shape, strict=True)
    )
    cells = mask[np.ix_(rows, columns)].ravel()
    starts = np.flatnonzero(np.diff(cells, prepend=False))
    runs = np.diff(starts, prepend=0, append=cells.size)
    return {"w": width, "h": height, "runs": runs.tolist(), "at": list(at)}


def region_of(sample: PhraseSample) -> Json:
    """A sample's region: `boxes`, [left, top, width, height] in shares of the image, or an outlined `mask`."""
    if sample.mask is None:
        frame = Frame.original(sample.image_size)
        return {"boxes": [_shares(frame, box) for box in sample.boxes]}
    scale = min(1.0, OUTLINE_SIDE / max(sample.image_size))
    width, height = (max(1, round(side * scale)) for side in sample.image_size)
    cells = region_in(sample, Frame.stretch(sample.image_size, (width, height)))
    return {"mask": outlined(cells, (0, 0, 1, 1))}


@dataclass(frozen=True)
class Stored:
    """A run's trials and maps."""

    dataset: Dataset
    rules: Protocol
    trials: Mapping[str, Trial]
    """Sample id -> trial."""
    maps: MapStore

    def load(self, sample_id: str) -> GroundingMap | None:
        """A sample's map; None if it has none."""
        try:
            return self.maps.load(sample_id)
        except GtgError:
            return None


def stored(runs_dir: Path, spec: RunSpec, place: Place) -> Stored:
    """What is stored of a run.

    Raises:
        UsageError, DataError: its data set cannot be opened, or has other samples now.
    """
    dataset, _ = open_data(runs_dir, spec, place)
    trials = plan(dataset.samples(spec.split), spec.control, spec.limit)
    if dataset.version != spec.dataset_version or digest_of_samples(trials) != spec.samples_sha256:
        raise GtgError(f"{spec.dataset} has other samples here than in run {spec.key}; give --data-root")
    by_id = {trial.sample.sample_id: trial for trial in trials}
    return Stored(dataset, Rules().applied(spec), by_id, MapStore.of_run(RunFolder(runs_dir, spec).path))


def similarity(one: FloatArray, other: FloatArray) -> float | None:
    """Pearson correlation of two maps [h, w] of one shape; None if either is constant or the shapes differ."""
    if one.shape != other.shape or not np.ptp(one) or not np.ptp(other):
        return None
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def palette() -> str:
    """Colour and opacity of a map's 256 levels, as in overlays, as base64 of uint8 [256, 4]."""
    from gtg_bench.benchmark.report.pictures.drawing import Look

    levels = np.linspace(0, 1, 256, dtype=np.float32)
    return b64encode(Look().paint(levels[None]).tobytes()).decode()
