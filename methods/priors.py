"""Prior tables: the mean region of a training split's phrases, and its mean image. One table per data set.

A table is an npz file of `keys` (JSON: a list of [category, side, zone, size], null for "any"), `maps` float16
[K, 64, 64] (mean region over the image, in [0, 1]) and `mean_image` uint8 [S, S]. Packaged tables have a card;
tables fitted by the user (`gtg-bench data priors`) are stored in the cache and describe themselves in `about` (JSON).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.files import npz_array
from gtg_bench.benchmark.api.geometry import FloatArray, Frame, region_in
from gtg_bench.benchmark.api.phrases import PhraseFacts, read_phrase
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.paths import cache_dir
from gtg_bench.benchmark.state import one_line

TABLES = Path(__file__).parent / "zoo" / "priors"
GRID = 64
MIN_COUNT = 5
"""Keys of fewer training phrases are dropped; the next coarser key replaces them."""

Key = tuple[str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class PriorTable:
    """A loaded table.

    Attributes:
        maps: key -> float32 [64, 64] over the whole image.
        mean_image: float32 [S, S] in [0, 1].
        sha256: of its file.
        split: the split it was fitted on.
        name: how a run records it: its data set and split, or the path of a file given by the user.
    """

    maps: dict[Key, FloatArray]
    mean_image: FloatArray
    sha256: str
    split: str = "train"
    name: str = ""

    def lookup(self, facts: PhraseFacts, depth: int) -> FloatArray:
        """The map of the finest known key that agrees with the first `depth` facts; in the end, of all regions."""
        keys = (_general(facts.key, known) for known in range(depth, -1, -1))
        return next(self.maps[key] for key in keys if key in self.maps)


def fit(samples: Iterable[PhraseSample], images: Iterable[FloatArray]) -> tuple[dict[Key, FloatArray], FloatArray]:
    """Compute the mean regions by key, and the mean image, of a training split.

    Args:
        samples: at least one; samples without a region are skipped.
        images: at least one, float [S, S] in [0, 1], all of one size.
    """
    sums: dict[Key, NDArray[np.float64]] = {}
    counts: dict[Key, int] = {}
    for sample in samples:
        if not sample.boxes and sample.mask is None:
            continue
        mask = region_in(sample, Frame.stretch(sample.image_size, (GRID, GRID)))
        facts = read_phrase(sample.phrase).key
        for key in {_general(facts, known) for known in range(5)}:
            sums[key] = sums.get(key, np.zeros((GRID, GRID))) + mask
            counts[key] = counts.get(key, 0) + 1
    kept = [key for key in sums if counts[key] >= MIN_COUNT or not any(key)]
    maps = {key: (sums[key] / counts[key]).astype(np.float32) for key in kept}
    total, number = np.zeros(1), 0
    for image in images:
        total, number = total + image, number + 1
    return maps, (total / number).astype(np.float32)


def _general(key: Key, known: int) -> Key:
    """The key with only its first `known` facts."""
    category, side, zone, size = (part if i < known else None for i, part in enumerate(key))
    return category, side, zone, size


def save(
    path: Path, maps: dict[Key, FloatArray], mean_image: FloatArray, about: Mapping[str, Any] | None = None
) -> None:
    """Write a table; `about` describes it in plain JSON values."""

    def encoded(value: Any) -> NDArray[np.uint8]:
        return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)

    keys = sorted(maps, key=lambda key: [part or "" for part in key])
    described = {} if about is None else {"about": encoded(dict(about))}
    np.savez_compressed(
        path,
        keys=encoded(keys),
        maps=np.stack([maps[key] for key in keys]).astype(np.float16),
        mean_image=np.round(mean_image * 255).astype(np.uint8),
        **described,
    )


def fitted(dataset: str | None) -> Path:
    """The path of the table that the user fits for a data set."""
    return cache_dir() / "priors" / f"{dataset}.npz"


def packaged(dataset: str | None) -> bool:
    """Whether a data set's table is packaged; it takes precedence over the user's."""
    return (TABLES / f"{dataset}.npz").is_file()


def find(dataset: str | None, weights: str | None) -> PriorTable:
    """Load the npz file that `weights` names, if any, else the data set's table.

    Raises:
        UsageError: the file or table does not exist.
        DataError: it cannot be read.
    """
    if not weights or not weights.endswith(".npz"):
        return load(dataset)
    path = Path(weights).expanduser().resolve()
    if not path.is_file():
        raise UsageError(
            f"--weights {weights}: file not found; `gtg-bench data priors NAME --out TABLE.npz` writes such a table"
        )
    return replace(_read(path), name=str(path))


def load(dataset: str | None) -> PriorTable:
    """Load a data set's table: the packaged one, else the user's.

    Raises:
        UsageError: the data set has no table.
        DataError: it cannot be read.
    """
    path = next((path for path in (TABLES / f"{dataset}.npz", fitted(dataset)) if path.is_file()), None)
    if path is None:
        tables = [*TABLES.glob("*.npz"), *fitted(dataset).parent.glob("*.npz")]
        known = ", ".join(sorted({table.stem for table in tables})) or "none"
        raise UsageError(
            f"data set {dataset!r} has no prior table (tables exist for: {known}): leave this method out, or fit a "
            "table on a data set with a training split (`gtg-bench data priors NAME --data-root DIR --out TABLE.npz`) "
            "and name it with --weights TABLE.npz"
        )
    table = _read(path)
    return replace(table, name=f"{dataset} {'training' if table.split == 'train' else table.split} split")


def _read(path: Path) -> PriorTable:
    """Read a table. Raises DataError."""
    try:
        with np.load(path) as archive:
            keys = [tuple(key) for key in json.loads(npz_array(archive, "keys").tobytes())]
            maps = dict(zip(keys, npz_array(archive, "maps").astype(np.float32), strict=True))
            mean_image = npz_array(archive, "mean_image").astype(np.float32) / 255
            about = json.loads(npz_array(archive, "about").tobytes()) if "about" in archive else {}
        if (None,) * 4 not in maps or maps[(None,) * 4].shape != (GRID, GRID) or mean_image.ndim != 2:
            raise ValueError("its maps are not those of phrases")
        if not all(np.isfinite(found).all() for found in (*maps.values(), mean_image)):
            raise ValueError("it contains NaN")
    except Exception as error:  # numpy, zipfile and zlib raise many kinds
        reason = one_line(str(error)) or type(error).__name__
        raise DataError(
            f"{path} is not a prior table ({reason}); fit it again with `gtg-bench data priors NAME --out TABLE.npz`"
        ) from error
    return PriorTable(maps, mean_image, hashlib.sha256(path.read_bytes()).hexdigest(), str(about.get("split", "train")))
