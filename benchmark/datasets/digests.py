"""Digests of what the images contain. Those of files are cached by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from gtg_bench.benchmark.api.types import Dataset, PhraseSample, fingerprint
from gtg_bench.benchmark.paths import PlaceError, atomic, cache_dir

_NAME = "image-digests.json"
_DIGITS = 32
_SETTLED = 2.0
"""Seconds after which a file's times tell a further change: the coarsest clock of common file systems."""

_READERS = 4

Stamp = list[int]
"""Size, time of modification and time of the last change of any kind, in ns."""


def image_digests(dataset: Dataset, samples: Sequence[PhraseSample]) -> list[str]:
    """A digest of each sample's image: 32 hex digits of sha256.

    Args:
        dataset: its `image` is called for samples without a file.
        samples: some of its samples.

    Returns:
        the digest of the image file's bytes, or of its pixels if it has no file; "" if it cannot be read.
    """
    files = file_digests(sample.image_path for sample in samples if sample.image_path)
    return [files[sample.image_path] if sample.image_path else _of_pixels(dataset, sample) for sample in samples]


def _of_pixels(dataset: Dataset, sample: PhraseSample) -> str:
    try:
        return fingerprint(dataset.image(sample))[:_DIGITS]
    except Exception:  # the sample fails with its reason when it is grounded
        return ""


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """The digest of each file's bytes: 32 hex digits of sha256; "" for a file that cannot be read.

    A file is read again if its size or one of its times has changed since.
    """
    stamps = {path: _stamp(path) for path in dict.fromkeys(paths)}
    known = _cached() if any(stamps.values()) else {}
    old = {path: known.get(str(path.absolute()), [None, ""]) for path in stamps}
    found = {path: old[path][1] if stamp and old[path][0] == stamp else "" for path, stamp in stamps.items()}
    unread = [path for path, stamp in stamps.items() if stamp and not found[path]]
    if unread:
        with ThreadPoolExecutor(_READERS) as readers:
            found |= dict(zip(unread, readers.map(_of_file, unread), strict=True))
        settled = time.time_ns() - int(_SETTLED * 1e9)
        new = {str(path.absolute()): [stamps[path], found[path]] for path in unread if max(stamps[path][1:]) < settled}
        with suppress(PlaceError), atomic(cache_dir() / _NAME) as part:  # without a cache they are read every time
            part.write_text(json.dumps(_cached() | new), encoding="utf-8")
    return found


def _stamp(path: Path) -> Stamp:
    """What changes with a file; empty if it is not a readable regular file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns] if path.is_file() else []


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except OSError:
        return ""


def _cached() -> dict[str, list]:
    """Absolute path -> [stamp, digest]; entries of another form are left out."""
    try:
        found = json.loads((cache_dir() / _NAME).read_text(encoding="utf-8"))
        return {path: entry for path, entry in found.items() if len(entry) == 2 and isinstance(entry[1], str)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
