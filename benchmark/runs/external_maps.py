"""Score anybody's maps: a folder of npy, npz or PNG files with an index.csv, as a run of its own."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame, Size
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import Box, GroundingMap, MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets import DATASETS, open_dataset
from gtg_bench.benchmark.runs.external_index import Entry, Index, read_index
from gtg_bench.benchmark.runs.runner import PreparedRun, digest, map_key_of, options_text, origin, with_rules
from gtg_bench.benchmark.runs.sources import Fail
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS, plan
from gtg_bench.benchmark.scoring.protocols import Protocol
from gtg_bench.benchmark.scoring.score_map import check_sample
from gtg_bench.benchmark.scoring.trial import Trial

WEIGHTS = "maps"
"""What stands in a leaderboard's column `weights`; `weights_version` is 12 hex digits over the maps."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FULL_SCALE = {"L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535}
_PARTS = 16
"""Sides of a rectangle that are no whole pixels count to a sixteenth of one."""

_KINDS = ".npy, .npz or .png"
_DAMAGE = (
    *(OSError, ValueError, KeyError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error),
    *(UnidentifiedImageError, Image.DecompressionBombError),
)
"""What reading a damaged file raises; a broken PNG a SyntaxError."""


@dataclass(frozen=True)
class MapsRequest:
    """Whose maps are scored on what.

    Attributes:
        folder: with the index, see `foreign_index.read_index`.
        name: the method's, none that is registered.
        control: one that leaves the maps as they are.
    """

    folder: Path
    name: str
    dataset: str
    split: str = "test"
    limit: int | None = None
    control: str = CONTROLS[0]
    data_root: Path | None = None
    dataset_options: dict[str, str] = field(default_factory=dict)


def prepare_maps(request: MapsRequest, rules: Protocol) -> tuple[PreparedRun, Index]:
    """A run on a folder's maps. No map is unpacked yet, but all are read for the run's key.

    Raises:
        UsageError: a name or option that cannot be.
        DataError: a broken index or data set.
    """
    _check(request)
    dataset = open_dataset(request.dataset, request.data_root, request.dataset_options)
    samples = dataset.samples(request.split)
    trials = plan(samples, request.control, request.limit)
    if not trials:
        raise UsageError(f"split {request.split!r} of {request.dataset} has no sample")
    rest = [split for split in DATASETS[request.dataset].splits if split != request.split]
    index = read_index(request.folder, samples, lambda: _samples_of(dataset, rest))
    spec = with_rules(
        RunSpec(
            dataset=request.dataset,
            dataset_version=dataset.version,
            dataset_options=options_text(dataset.options),
            samples_sha256=digest(trials),
            split=request.split,
            limit=request.limit,
            settings=MethodSettings(request.name, WEIGHTS, maps_version(index, trials), seed=0),
            control=request.control,
        ),
        rules,
    )
    facts = origin(dataset, request.data_root) | {"maps_from": str(request.folder.resolve())}
    return PreparedRun(spec, rules, trials, map_key_of(spec, samples), FileSource(index), facts), index


def _check(request: MapsRequest) -> None:
    if not _NAME.fullmatch(request.name):
        raise UsageError(f"--name {request.name!r}: letters, digits, dots, dashes and underscores make a name")
    if request.name in METHODS.names():
        raise UsageError(f"--name {request.name} is a method that gtg-bench runs itself; give your maps another name")
    if request.control not in (CONTROLS[0], *REGION_CONTROLS):
        raise UsageError(
            f"--control {request.control} changes what a method is told, so its maps would have to be made anew; "
            f"stored maps know {CONTROLS[0]} and {', '.join(REGION_CONTROLS)}"
        )
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be at least 1, not {request.limit}")
    if not request.folder.is_dir():
        raise UsageError(f"--maps {request.folder} is no folder; it holds an index.csv and the maps")


def _samples_of(dataset: Any, splits: Sequence[str]) -> list[PhraseSample]:
    found: list[PhraseSample] = []
    for split in splits:
        try:
            found += dataset.samples(split)
        except UsageError:  # an older release of the data set has fewer splits
            continue
    return found


def maps_version(index: Index, trials: Sequence[Trial]) -> str:
    """12 hex digits of a sha256 over each sample's map: its bytes, the rectangle that it spans, or its absence."""
    parts = []
    for name in sorted(trial.sample.sample_id for trial in trials):
        entry = index.entries.get(name)
        if entry is not None:
            parts.append([name, entry.span, _file_digest(entry.file)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _file_digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


@dataclass(frozen=True)
class FileSource:
    """The maps of an index."""

    index: Index
    device = "cpu"

    def maps(self, trials: Sequence[Trial], fail: Fail) -> Iterator[tuple[Trial, GroundingMap]]:
        """The map of each trial, in order; `fail` is called for a trial whose row or file is missing or damaged."""
        for trial in trials:
            entry = self.index.entries.get(trial.sample.sample_id)
            try:
                check_sample(trial.sample)
                check_sample(trial.scored_on)
                if entry is None:
                    raise SampleError(f"{self.index.path} has no row for this sample; add one")
                grounding = _map(entry, self.index.path, trial.sample.image_size)
            except (SampleError, DataError) as error:
                fail(trial, error)
            else:
                yield trial, grounding


def _map(entry: Entry, index: Path, image_size: Size) -> GroundingMap:
    """The map of a row. Raises DataError that names index, row and fix."""
    try:
        values, frame = without_border(read_map(entry.file), span_frame(image_size, entry.span))
    except SampleError as error:
        raise DataError(f"{index}, row {entry.row}: {error}") from error
    return GroundingMap(values, frame)


def read_map(path: Path) -> FloatArray:
    """A map from a file, float32 [h, w]; NaN stays.

    Args:
        path: npy; npz with one array, or with one named `map`; or a grey PNG, of which 8 and 16 bit are divided by 255
            and 65535.

    Raises:
        SampleError: it is missing, damaged, or no map; the text names it and the fix.
    """
    try:
        values = _array(path)
    except FileNotFoundError as error:
        raise SampleError(f"there is no file {path}; write it, or correct the row") from error
    except _DAMAGE as error:
        raise SampleError(f"{path} cannot be read ({' '.join(str(error).split())}); write it again") from error
    if values.ndim != 2 or not values.size:
        raise SampleError(f"{path} has the shape {list(values.shape)}; a map is [height, width]")
    if values.dtype.kind not in "fiub":
        raise SampleError(f"{path} holds {values.dtype}, not numbers; save it as float32")
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)


def _array(path: Path) -> NDArray[Any]:
    kind = path.suffix.lower()
    if kind == ".png":
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode not in _FULL_SCALE:
                raise ValueError(f"a {image.format} of mode {image.mode}, not a grey PNG of 8 or 16 bit")
            return np.asarray(image, dtype=np.float64) / _FULL_SCALE[image.mode]
    if kind not in (".npy", ".npz"):
        raise ValueError(f"a map is {_KINDS}")
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        names = list(found.files)
        if "map" not in names and len(names) != 1:
            raise ValueError(f"it holds the arrays {', '.join(names) or 'none'}; name one of them map")
        array: NDArray[Any] = found["map" if "map" in names else names[0]]
        return array


def span_frame(image_size: Size, span: Box | None) -> Frame:
    """The frame of a rectangle of the original image.

    Args:
        image_size: (width, height) in pixels.
        span: xyxy in these pixels, which may stick out; None for the whole image.

    Raises:
        SampleError: it does not touch the image.
    """
    if span is None:
        return Frame.original(image_size)
    left, top, right, bottom = span
    width, height = image_size
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise SampleError(f"its rectangle lies outside of the image of {width} x {height} pixels; correct the row")
    parts = 1 if all(side == int(side) for side in span) else _PARTS
    x0, y0, x1, y1 = (round(side * parts) for side in span)
    return Frame(image_size, (width * parts, height * parts), (x0, y0, max(x1 - x0, 1), max(y1 - y0, 1)))


def without_border(values: FloatArray, frame: Frame) -> tuple[FloatArray, Frame]:
    """A map without the rows and columns at its edges that are NaN: what its method did not see.

    Raises:
        SampleError: NaN or infinity elsewhere, or everywhere.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values, frame
    rows, columns = finite.any(axis=1).nonzero()[0], finite.any(axis=0).nonzero()[0]
    if not rows.size:
        raise SampleError("the map holds no number; a method that saw nothing has no map")
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if not finite[y0:y1, x0:x1].all() or np.isinf(values).any():
        raise SampleError(
            "the map holds NaN or infinity among its numbers; only whole rows or columns at its edges may be NaN"
        )
    height, width = values.shape
    left, top, w, h = frame.window
    cut = left * width + x0 * w, top * height + y0 * h, (x1 - x0) * w, (y1 - y0) * h
    resized = frame.resized[0] * width, frame.resized[1] * height
    return values[y0:y1, x0:x1], Frame(frame.image_size, resized, cut)
