"""Prior tables: what a training split's regions and images look like on average. One table a data set.

A table is an npz of `keys` (JSON: a list of [category, side, zone, size], null for "any"), `maps` float16
[K, 64, 64] (mean region over the image, in [0, 1]) and `mean_image` uint8 [S, S]. Packaged tables have a card beside
them; those that a user fitted (`gtg-bench data priors`) lie in the cache and say in `about` (JSON) what they are of.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame, region_in
from gtg_bench.benchmark.api.phrases import PhraseFacts, read_phrase
from gtg_bench.benchmark.api.types import PhraseSample
from gtg_bench.benchmark.paths import cache_dir

TABLES = Path(__file__).parent / "zoo" / "priors"
GRID = 64
MIN_COUNT = 5
"""A key that fewer training phrases share is left out: the next coarser key stands in for it."""

Key = tuple[str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class PriorTable:
    """A loaded table.

    Attributes:
        maps: key -> float32 [64, 64] over the whole image.
        mean_image: float32 [S, S] in [0, 1].
        sha256: of its file.
        split: that it was fitted on.
        name: as a run records it: of which split it is, or the path of a file that was named.
    """

    maps: dict[Key, FloatArray]
    mean_image: FloatArray
    sha256: str
    split: str = "train"
    name: str = ""

    def lookup(self, facts: PhraseFacts, depth: int) -> FloatArray:
        """The map of the finest known key that agrees with the first `depth` facts; that of all boxes at worst."""
        for known in range(depth, -1, -1):
            key = _general(facts.key, known)
            if key in self.maps:
                return self.maps[key]
        raise AssertionError("a table always holds the key of all boxes")


def fit(samples: Iterable[PhraseSample], images: Iterable[FloatArray]) -> tuple[dict[Key, FloatArray], FloatArray]:
    """Mean regions by key, and the mean image, of a training split.

    Args:
        samples: at least one; one without a region is left out.
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
    maps = {
        key: (sums[key] / counts[key]).astype(np.float32) for key in sums if counts[key] >= MIN_COUNT or not any(key)
    }
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
    """Write a table; `about`, plain JSON values, says what it is of."""
    keys = sorted(maps, key=lambda key: [part or "" for part in key])
    noted = {} if about is None else {"about": _json(dict(about))}
    np.savez_compressed(
        path,
        keys=_json(keys),
        maps=np.stack([maps[key] for key in keys]).astype(np.float16),
        mean_image=np.round(mean_image * 255).astype(np.uint8),
        **noted,
    )


def _json(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def fitted(dataset: str | None) -> Path:
    """Where the table lies that a user fits for a data set."""
    return cache_dir() / "priors" / f"{dataset}.npz"


def packaged(dataset: str | None) -> bool:
    """Whether a data set's table comes with the package; it then counts, whatever a user fitted."""
    return (TABLES / f"{dataset}.npz").is_file()


def find(dataset: str | None, weights: str | None) -> PriorTable:
    """The table of an npz file, where `weights` names one; else the one of the data set.

    Raises:
        UsageError: there is no such table.
        DataError: it cannot be read.
    """
    if not weights or not weights.endswith(".npz"):
        return load(dataset)
    path = Path(weights).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"--weights {weights}: there is no such file; `gtg-bench data priors` writes one")
    return replace(_read(path), name=str(path))


def load(dataset: str | None) -> PriorTable:
    """The table of a data set: the packaged one, else the one that a user fitted.

    Raises:
        UsageError: there is none.
        DataError: it cannot be read.
    """
    path = next((path for path in (TABLES / f"{dataset}.npz", fitted(dataset)) if path.is_file()), None)
    if path is None:
        tables = [*TABLES.glob("*.npz"), *fitted(dataset).parent.glob("*.npz")]
        known = ", ".join(sorted({table.stem for table in tables})) or "none"
        raise UsageError(
            f"there is no prior table for data set {dataset!r} (there is one for: {known}): a prior needs boxes of "
            f"a training split of the same data set; fit it with `gtg-bench data priors {dataset or 'NAME'}`, name a "
            "table with --weights TABLE.npz, or leave this method out"
        )
    table = _read(path)
    return replace(table, name=f"{dataset} {'training' if table.split == 'train' else table.split} split")


def _read(path: Path) -> PriorTable:
    """The table of a file. Raises DataError."""
    try:
        with np.load(path) as archive:
            keys = [tuple(key) for key in json.loads(archive["keys"].tobytes())]
            maps = dict(zip(keys, archive["maps"].astype(np.float32), strict=True))
            mean_image = archive["mean_image"].astype(np.float32) / 255
            about = json.loads(archive["about"].tobytes()) if "about" in archive else {}
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no prior table ({error}); fit it again with `gtg-bench data priors`") from error
    return PriorTable(maps, mean_image, hashlib.sha256(path.read_bytes()).hexdigest(), about.get("split", "train"))
