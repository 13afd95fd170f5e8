"""Digests of what the images contain. Those of files are cached by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from gtg_bench.benchmark.api.types import Dataset, PhraseSample, fingerprint
from gtg_bench.benchmark.paths import PlaceError, atomic, cache_dir

_NAME = "image-digests.json"
_DIGITS = 32
_SETTLED = 2.0
"""Seconds after which a file's times tell a further change: the coarsest clock of common file systems."""

_READERS = 4

Make = partial[str]
"""Computes a digest."""

Stamp = list[int]
"""Size, time of modification and time of the last change of any kind, in ns."""


def image_digests(dataset: Dataset, samples: Sequence[PhraseSample]) -> list[str]:
    """A digest of each sample's image: 32 hex digits of sha256.

    Args:
        dataset: its `image` is called for samples without a file of their own. If it has `shared_file(sample)`, that is
            the file from which the image is read together with others, and their digests are cached, too.
        samples: some of its samples.

    Returns:
        the digest of the image file's bytes, or of its pixels if it has no file of its own; "" if it cannot be read.
    """
    shared = getattr(dataset, "shared_file", lambda sample: None)
    images: dict[str, tuple[Path | None, Make]] = {}
    names = []
    for number, sample in enumerate(samples):
        if (own := sample.image_path) is not None:
            names.append(str(own.absolute()))
            images[names[-1]] = own, partial(_of_file, own)
        else:
            path = shared(sample)
            names.append(f"{path.absolute()}#{sample.image_id}" if path else f"#{number}")
            images[names[-1]] = path, partial(_of_pixels, dataset, sample)
    found = _digests(images)
    return [found[name] for name in names]


def _digests(images: Mapping[str, tuple[Path | None, Make]]) -> dict[str, str]:
    """The digest of each image by its name; computed again if the size or one of the times of its file has changed.

    Args:
        images: name -> (file, or None if no file tells of a change; computes the digest).
    """
    stamps = {path: _stamp(path) for path in {path for path, _ in images.values()} if path}
    known = _cached() if stamps else {}
    found, unread = {}, []
    for name, (path, make) in images.items():
        stamp, digest = known.get(name, [None, ""])
        if path and not stamps[path] and make.func is _of_file:
            found[name] = ""  # missing, a folder, or a pipe, which could be read forever
        elif path and digest and stamp == stamps[path]:
            found[name] = digest
        else:
            unread.append(name)
    if unread:
        files = [name for name in unread if images[name][1].func is _of_file]
        with ThreadPoolExecutor(_READERS) as readers:
            found |= dict(zip(files, readers.map(lambda name: images[name][1](), files), strict=True))
        found |= {name: images[name][1]() for name in unread if name not in found}
        new = {
            name: [stamps[path], found[name]] for name in unread if (path := images[name][0]) and _settled(stamps[path])
        }
        with suppress(PlaceError), atomic(cache_dir() / _NAME) as part:  # without a cache they are read every time
            part.write_text(json.dumps(_cached() | new), encoding="utf-8")
    return found


def _settled(stamp: Stamp) -> bool:
    """Whether a further change of the file would change one of its times."""
    return bool(stamp) and max(stamp[1:]) < time.time_ns() - int(_SETTLED * 1e9)


def _stamp(path: Path) -> Stamp:
    """What changes with a file; empty if it is not a readable regular file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns] if path.is_file() else []


def _of_pixels(dataset: Dataset, sample: PhraseSample) -> str:
    try:
        return fingerprint(dataset.image(sample))[:_DIGITS]
    except Exception:  # the sample fails with its reason when it is grounded
        return ""


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
