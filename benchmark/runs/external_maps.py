"""External maps: a folder of npy, npz or PNG files with an index.csv, scored as a run of its own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.files import npz_array
from gtg_bench.benchmark.api.geometry import FloatArray, Frame, Size
from gtg_bench.benchmark.api.mask_codes import MAX_PIXELS
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.types import Box, Dataset, GroundingMap, KnowsAbsence, MethodSettings, PhraseSample
from gtg_bench.benchmark.datasets import DATASETS, open_dataset
from gtg_bench.benchmark.datasets.grey_range import check_pixels
from gtg_bench.benchmark.runs.external_index import Index, check_place, read_index
from gtg_bench.benchmark.runs.runner import PreparedRun, RunRequest, planned
from gtg_bench.benchmark.runs.sources import Fail
from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS, plan
from gtg_bench.benchmark.scoring.score_map import check_sample
from gtg_bench.benchmark.scoring.trial import Trial

WEIGHTS = "maps"
"""Value of the setting `weights`; `weights_version` is 12 hex digits over the maps."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FULL_SCALE = {"L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535}
_PARTS = 16
"""Rectangles with fractional sides are rounded to a sixteenth of a pixel."""


def prepare_maps(folder: Path, request: RunRequest) -> tuple[PreparedRun, Index]:
    """A run on a folder's maps. All files are read for the run's key, but none is decoded yet.

    Args:
        folder: the maps and their index, see `external_index.read_index`.
        request: names the maps as its method, which must not be a registered one; its control must leave the maps
            unchanged.

    Raises:
        UsageError: an invalid name or option.
        DataError: an invalid index or data set.
    """
    check_request(request)
    if not folder.is_dir():
        raise UsageError(f"--maps {folder} is not a folder; it must contain an index.csv and the maps")
    dataset = open_dataset(request.dataset, request.data_root, request.dataset_options)
    samples = dataset.samples(request.split)
    index = read_index(folder, samples, lambda: other_samples(dataset, request))
    version = maps_version(index, plan(samples, request.control, request.limit))
    settings = MethodSettings(request.settings.method, WEIGHTS, version, seed=0)
    prepared = planned(request, settings, dataset, FileSource(index), code=None)
    return replace(prepared, facts=prepared.facts | {"maps_from": str(folder.resolve())}), index


def check_request(request: RunRequest) -> None:
    """Raise UsageError unless the request names a new method and, at most, a control that leaves answers unchanged."""
    name = request.settings.method
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r}: use letters, digits, dots, dashes and underscores")
    if name in METHODS.names():
        raise UsageError(f"--name {name} is a method of gtg-bench; choose another name")
    if request.control not in (CONTROLS[0], *REGION_CONTROLS):
        raise UsageError(
            f"--control {request.control} changes the phrases, which needs new answers; "
            f"stored ones support {CONTROLS[0]} and {', '.join(REGION_CONTROLS)}"
        )


def other_samples(dataset: Dataset, request: RunRequest) -> list[PhraseSample]:
    """The samples of the other splits, and the phrases of absent findings of all splits."""
    found: list[PhraseSample] = []
    for split in DATASETS[request.dataset].splits:
        try:
            found += dataset.samples(split) if split != request.split else ()
            found += dataset.absent_samples(split) if isinstance(dataset, KnowsAbsence) else ()
        except UsageError:  # older releases of some data sets have fewer splits
            continue
    return found


def maps_version(index: Index, trials: Sequence[Trial]) -> str:
    """12 hex digits of sha256 over each sample's map: its bytes and its rectangle, or its absence."""
    parts = []
    for name in sorted(trial.sample.sample_id for trial in trials):
        if (entry := index.entries.get(name)) is not None:
            try:
                check_place(entry.file, index.path.parent)
                with entry.file.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except (OSError, ValueError, RuntimeError):  # a loop of links is a RuntimeError
                digest = None
            parts.append([name, entry.span, digest])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


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
                try:
                    frame = span_frame(trial.sample.image_size, entry.span)
                    values, frame = without_border(read_map(entry.file, self.index.path.parent), frame)
                except SampleError as error:
                    raise DataError(f"{self.index.path}, row {entry.row}: {error}") from error
            except (SampleError, DataError) as error:
                fail(trial, error)
            else:
                yield trial, GroundingMap(values, frame)


def read_map(path: Path, within: Path | None = None) -> FloatArray:
    """Read a map, float32 [h, w], which may contain NaN.

    Args:
        path: npy; npz with one array, or with one named `map`; or a grey PNG of 8 or 16 bit, which is divided by 255
            or 65535.
        within: the folder that must contain the file, after links are followed.

    Raises:
        SampleError: the file is missing, damaged, too large, elsewhere, or not a map; names the file and the fix.
    """
    try:
        check_place(path, within or path.parent)
    except (OSError, ValueError, RuntimeError) as error:
        if not isinstance(error, FileNotFoundError):
            raise SampleError(f"{path} cannot be read: {error}") from error
    try:
        with np.errstate(over="ignore"):  # a shape beyond all numbers
            values = _array(path)
    except FileNotFoundError as error:
        raise SampleError(f"{path} does not exist; write it, or correct the row") from error
    except Exception as error:  # damaged files fail in many ways
        raise SampleError(f"{path} cannot be read ({' '.join(str(error).split())}); write it again") from error
    if values.ndim != 2 or not values.size:
        raise SampleError(f"{path} has shape {list(values.shape)}; a map must be [height, width]")
    if values.size > MAX_PIXELS:
        raise SampleError(f"{path} has {values.size:,} values; a map has {MAX_PIXELS:,} at most")
    if values.dtype.kind not in "fiub":
        raise SampleError(f"{path} contains {values.dtype}, not numbers; save it as float32")
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32)


def _array(path: Path) -> NDArray[Any]:
    kind = path.suffix.lower()
    if kind == ".png":
        with Image.open(path, formats=["PNG"]) as image:
            check_pixels(path, *image.size)
            if image.mode not in _FULL_SCALE:
                raise ValueError(f"a PNG of mode {image.mode}, not a grey one of 8 or 16 bit")
            return np.asarray(image).astype(np.float32) / np.float32(_FULL_SCALE[image.mode])
    if kind not in (".npy", ".npz"):
        raise ValueError("a map must be .npy, .npz or .png")
    found = np.load(path, mmap_mode="r", allow_pickle=False)  # npy: nothing is read before its shape is checked
    if isinstance(found, np.ndarray):
        return found
    with found:
        names = list(found.files)
        if "map" not in names and len(names) != 1:
            raise ValueError(f"it contains the arrays {', '.join(names[:9]) or 'none'}; name one of them map")
        return npz_array(found, "map" if "map" in names else names[0])


def span_frame(image_size: Size, span: Box | None) -> Frame:
    """The frame of a rectangle of the original image.

    Args:
        image_size: (width, height) in pixels.
        span: xyxy in these pixels, which may extend beyond the image; None for the whole image.

    Raises:
        SampleError: the rectangle is outside the image.
    """
    if span is None:
        return Frame.original(image_size)
    left, top, right, bottom = span
    width, height = image_size
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise SampleError(f"its rectangle is outside the image of {width} x {height} pixels; correct the row")
    parts = 1 if all(side == int(side) for side in span) else _PARTS
    x0, y0, x1, y1 = (round(side * parts) for side in span)
    return Frame(image_size, (width * parts, height * parts), (x0, y0, max(x1 - x0, 1), max(y1 - y0, 1)))


def without_border(values: FloatArray, frame: Frame) -> tuple[FloatArray, Frame]:
    """Remove the rows and columns of NaN at a map's edges, which its method did not cover.

    Args:
        values: float32 [h, w].
        frame: the part of the image that the map covers, with the border.

    Returns:
        The inner values, and the part of the image that they cover.

    Raises:
        SampleError: NaN or infinity elsewhere, or NaN everywhere.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values, frame
    rows, columns = finite.any(axis=1).nonzero()[0], finite.any(axis=0).nonzero()[0]
    if not rows.size:
        raise SampleError("the map contains only NaN; remove its row if the method has no map")
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if not finite[y0:y1, x0:x1].all() or np.isinf(values).any():
        raise SampleError(
            "the map contains NaN or infinity between its values; only whole rows or columns at its edges may be NaN"
        )
    height, width = values.shape
    left, top, w, h = frame.window
    cut = left * width + x0 * w, top * height + y0 * h, (x1 - x0) * w, (y1 - y0) * h
    resized = frame.resized[0] * width, frame.resized[1] * height
    return values[y0:y1, x0:x1], Frame(frame.image_size, resized, cut)
