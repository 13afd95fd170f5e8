"""Which files of a folder a part is loaded from, and whether they are whole. Reads headers, never whole files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

TEXTS = (".json", ".txt", ".txt.gz", ".model")
WEIGHTS = ((".safetensors",), (".bin",), (".pt", ".pth", ".tar", ".ckpt"))
"""Suffixes of weights; loaders take the first kind that a folder has, so the others are not needed."""

WEIGHT_SUFFIXES = tuple(suffix for kind in WEIGHTS for suffix in kind)
HALVES = ("*.fp16.*",)
"""Names of half-precision weights, which are taken where there are no others."""

NEEDLESS = (*HALVES, "*.bf16.*", "*non_ema*", "flax_*", "tf_*", "rust_*", "optimizer*", "training_args*")
"""Names of files that no loader here takes: other precisions, other libraries, and what training leaves."""

_INDEX = ".index.json"
_LONGEST_HEADER = 100_000_000


def choose(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Of the names in a folder, those that a part is loaded from, sorted. A card is never among them."""
    known = sorted(name for name in names if name != "card.json" and "/" not in name)
    if patterns:
        return [name for name in known if _matches(name, patterns)]
    usual = [name for name in known if not _matches(name, NEEDLESS)]
    halves = [name for name in known if _matches(name, HALVES)]
    kinds = ([name for name in names if name.endswith(kind)] for names in (usual, halves) for kind in WEIGHTS)
    return sorted([name for name in usual if name.endswith(TEXTS)] + next(filter(None, kinds), []))


def gap(folder: Path, patterns: Sequence[str]) -> str:
    """What a folder lacks of the files that a part is loaded from; "" where nothing is missing or cut short."""
    names = choose((file.name for file in folder.iterdir() if file.is_file()), patterns)
    needed = [pattern for pattern in patterns if is_exact(pattern) or pattern.endswith(WEIGHT_SUFFIXES)]
    if lost := [pattern for pattern in needed if not any(fnmatchcase(name, pattern) for name in names)]:
        return f"{', '.join(lost)} missing"
    if not names:
        return f"no {', '.join(patterns) or 'config.json and weights'}"
    if not patterns and not any(name.endswith(WEIGHT_SUFFIXES) for name in names):
        return f"no weights, only {', '.join(names[:3])}"
    if shards := sorted(_shards(folder, names) - set(names)):
        return f"{', '.join(shards)} missing"
    return next((f"{name} {why}" for name in names if (why := damage(folder / name))), "")


def is_exact(pattern: str) -> bool:
    """Whether a pattern is a plain name."""
    return not any(sign in pattern for sign in "*?[")


def damage(file: Path) -> str:
    """What is plainly wrong with a file, or "": empty, cut short, or not the file itself but a stand-in."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(64)
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself: run `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the file itself: download it again"
    if file.suffix == ".safetensors":
        whole = _length_of_safetensors(file)
        return "" if whole == size else f"is cut short or damaged: {size} of {whole or 'unknown'} bytes"
    if file.name.endswith(WEIGHT_SUFFIXES) and head.startswith(b"PK") and not zipfile.is_zipfile(file):
        return f"is cut short: {size} bytes and no end of the archive"
    return ""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _shards(folder: Path, names: Sequence[str]) -> set[str]:
    """The files that the indices of split weights name, of the kind that is there."""
    kinds = {PurePath(name).suffix for name in names if name.endswith(WEIGHT_SUFFIXES)}
    found: set[str] = set()
    for name in names:
        if name.endswith(_INDEX) and PurePath(name.removesuffix(_INDEX)).suffix in kinds:
            try:
                found |= set(json.loads((folder / name).read_text())["weight_map"].values())
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # some other index; whoever loads it will say what is wrong
    return found


def _length_of_safetensors(file: Path) -> int:
    """The length that the header announces; 0 where there is no header.

    Source: the format's own description, 8 bytes of length, a JSON header, then the tensors.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _LONGEST_HEADER:
            return 0
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return 0
    return 8 + length + max(ends, default=0)
