"""The files of a model folder: which of them are loaded, whether they are complete, and their sha256."""

from __future__ import annotations

import hashlib
import re
import time
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from pydantic import BaseModel
from safetensors import SafetensorError, safe_open

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import atomic, cache_dir
from gtg_bench.benchmark.state import read_state
from gtg_bench.methods.weights.plan import Part

WEIGHTS = ((".safetensors",), (".bin",), (".pt", ".pth", ".tar", ".ckpt"))
"""Suffixes of weight files in order of preference; a loader takes the first kind that a folder has."""

WEIGHT_SUFFIXES = tuple(suffix for kind in WEIGHTS for suffix in kind)
_TEXT_SUFFIXES = (".json", ".txt", ".txt.gz", ".model")
_HALF = ("*.fp16.*",)
_IGNORED = (*_HALF, "*.bf16.*", "*non_ema*", "flax_*", "tf_*", "rust_*", "optimizer*", "training_args*")
"""Other precisions, other frameworks, and training state. Half precision is the fallback where nothing else exists."""

_INDEX = ".index.json"
_CACHED_FROM = 2**24
"""File size in bytes from which a sha256 is cached."""

_SETTLED = 2.0
"""Seconds after which a change to a file is sure to change its timestamps."""


class _Index(BaseModel):
    """Which file of sharded weights has which tensor."""

    weight_map: dict[str, str]


def choose(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names in a folder that a part is loaded from, sorted.

    Args:
        names: every file name in the folder; card.json and names with a slash are skipped.
        patterns: names or globs to take. None given: text files and the preferred kind of weights.
    """
    known = sorted(name for name in names if name != "card.json" and "/" not in name)
    if patterns:
        return [name for name in known if _matches(name, patterns)]
    regular = [name for name in known if not _matches(name, _IGNORED)]
    half = [name for name in known if _matches(name, _HALF)]
    kinds = ([name for name in names if name.endswith(kind)] for names in (regular, half) for kind in WEIGHTS)
    return sorted([name for name in regular if name.endswith(_TEXT_SUFFIXES)] + next(filter(None, kinds), []))


def files_of(place: Path, part: Part) -> list[Path]:
    """The files that a located part is loaded from, sorted."""
    return [place] if place.is_file() else [place / name for name in choose(_names(place), part.files)]


def gap(folder: Path, patterns: Sequence[str]) -> str:
    """Describe what is missing or damaged among the files of a part; "" if the folder is complete."""
    names = choose(_names(folder), patterns)
    required = [pattern for pattern in patterns if is_exact(pattern) or pattern.endswith(WEIGHT_SUFFIXES)]
    if lost := [pattern for pattern in required if not any(fnmatchcase(name, pattern) for name in names)]:
        return f"{', '.join(lost)} missing"
    if not names:
        return f"{', '.join(patterns) or 'config.json and weights'} missing"
    if not patterns and not any(name.endswith(WEIGHT_SUFFIXES) for name in names):
        return "weights missing"
    if shards := sorted(_shards(folder, names) - set(names)):
        return f"{', '.join(shards)} missing"
    return next((f"{name} {why}" for name in names if (why := damage(folder / name))), "")


def is_exact(pattern: str) -> bool:
    """Whether a pattern is a plain file name."""
    return not any(sign in pattern for sign in "*?[")


def damage(file: Path) -> str:
    """Why a file cannot be loaded ("is empty", "is truncated"...), judged by its first and last bytes; "" if it can."""
    with file.open("rb") as stream:
        head = stream.read(64)
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is only a Git LFS pointer: run `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not weights: download it again"
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="np"):
                return ""
        except SafetensorError as error:
            return f"is truncated or damaged ({error})"
    if file.name.endswith(WEIGHT_SUFFIXES) and head.startswith(b"PK") and not zipfile.is_zipfile(file):
        return "is truncated: download it again"
    return ""


def sha256_of(file: Path) -> str:
    """The sha256 of a file, as 64 hex digits. A large file is hashed again only after it has changed."""
    real = file.resolve()
    state = _state(real)
    if real.stat().st_size < _CACHED_FROM:
        return _hash(real)
    note: Path | None = None
    with suppress(OSError, UnicodeDecodeError):  # an unusable cache costs time, nothing else
        note = cache_dir() / "sha256" / hashlib.sha256(state.encode()).hexdigest()
        if re.fullmatch(r"[0-9a-f]{64}", known := note.read_text()):
            return known
    digest, stat = _hash(real), real.stat()
    settled = time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED
    if note is not None and settled and _state(real) == state:
        with suppress(OSError), atomic(note) as partial:
            partial.write_text(digest)
    return digest


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _state(file: Path) -> str:
    """A fingerprint that changes with the file; ctime cannot be set back by hand."""
    stat = file.stat()
    return f"{file}:{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.is_file()]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _shards(folder: Path, names: Sequence[str]) -> set[str]:
    """The weight files that the indices of sharded weights list."""
    kinds = {PurePath(name).suffix for name in names if name.endswith(WEIGHT_SUFFIXES)}
    found: set[str] = set()
    for name in names:
        if name.endswith(_INDEX) and PurePath(name.removesuffix(_INDEX)).suffix in kinds:
            with suppress(DataError):  # another index: its loader will complain
                found |= set(read_state(folder / name, _Index, "")["weight_map"].values())
    return found
