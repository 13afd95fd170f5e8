"""Finding one part's files on this machine, or fetching them, and hashing them once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import atomic, cache_dir
from gtg_bench.methods.weights import hub
from gtg_bench.methods.weights.files import choose, damage, gap
from gtg_bench.methods.weights.hub import fetch_command
from gtg_bench.methods.weights.plan import Part

__all__ = ["Found", "cached", "fetch_command", "files_of", "locate", "look", "sha256_of"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NOTED_FROM = 2**24
"""Bytes; smaller files are read as fast as a note about them."""

_SETTLED = 2.0
"""Seconds since a file's last change from which on a further change must show in its times."""


@dataclass(frozen=True)
class Found:
    """What of a part is on this machine.

    Attributes:
        place: the folder or file, or where a local one would have to be; None for a repository that is not in the
            hub's cache.
        gap: what is missing or damaged; "" where the part can be loaded.
    """

    place: Path | None
    gap: str


def look(part: Part, root: Path) -> Found:
    """What of a part is on this machine. Asks no network.

    Args:
        part: the part.
        root: the folder that relative places start from.
    """
    local = root / Path(part.place).expanduser()
    if local.exists():
        return _inside(local, part)
    if not is_hub_id(part):
        return Found(local, "there is no such folder or file")
    folder = hub.snapshot(part)
    return Found(None, "not on this machine") if folder is None else _inside(folder, part)


def locate(part: Part, root: Path) -> Path:
    """The folder or file of a part; fetched from the hub if it is not here and there is a network.

    Raises:
        DataError: it is not here and cannot be fetched; names the command that fetches it.
    """
    found = look(part, root)
    local = root / Path(part.place).expanduser()
    if found.gap and is_hub_id(part) and not local.exists():
        try:
            hub.fetch(part)
        except DataError as error:
            raise DataError(_missing(part, local, found.gap, str(error))) from error
        found = look(part, root)
    if found.gap or found.place is None:
        raise DataError(_missing(part, found.place or local, found.gap))
    return found.place


def cached(part: Part, root: Path) -> Path | None:
    """As `locate`, but never fetches: None where it is not here, or not whole."""
    found = look(part, root)
    return None if found.gap else found.place


def is_hub_id(part: Part) -> bool:
    """Whether a place that is not on this machine can be a repository on the hub."""
    return not part.url and not part.place.startswith((".", "~", "/")) and bool(_HUB_ID.fullmatch(part.place))


def files_of(place: Path, part: Part) -> list[Path]:
    """The files that a located part is loaded from, sorted."""
    if place.is_file():
        return [place]
    return [place / name for name in choose((file.name for file in place.iterdir() if file.is_file()), part.files)]


def sha256_of(file: Path) -> str:
    """The file's sha256. A large file is not read again as long as it is the same one, unchanged."""
    real = file.resolve()
    before = real.stat()
    if before.st_size < _NOTED_FROM:
        return _read(real)
    if known := _noted(real, before):
        return known
    digest = _read(real)
    settled = time.time() - max(before.st_mtime, before.st_ctime) > _SETTLED
    if settled and _state(real, real.stat()) == _state(real, before):
        _note_down(real, before, digest)
    return digest


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _state(file: Path, state: os.stat_result) -> str:
    """What changes when a file does; nobody can set the time of change back."""
    return f"{file}:{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def _note(state: str) -> Path:
    return cache_dir() / "sha256" / f"{hashlib.sha256(state.encode()).hexdigest()}.json"


def _noted(file: Path, stat: os.stat_result) -> str | None:
    """The hash that was noted for a file in this very state, or None."""
    state = _state(file, stat)
    try:
        note = json.loads(_note(state).read_text())
        digest = note["sha256"] if note["state"] == state else ""
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) else None


def _note_down(file: Path, stat: os.stat_result, digest: str) -> None:
    state = _state(file, stat)
    try:
        with atomic(_note(state)) as part:
            part.write_text(json.dumps({"state": state, "sha256": digest}))
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else


def _inside(place: Path, part: Part) -> Found:
    """The piece of a folder that a part names."""
    found = place / part.path if part.path else place
    if not found.exists():
        return Found(place, f"{part.path} missing")
    try:
        return Found(found, gap(found, part.files) if found.is_dir() else damage(found))
    except OSError as error:
        return Found(found, f"cannot be read ({error.strerror})")


def _missing(part: Part, place: Path, why: str, reason: str = "") -> str:
    """Why a part cannot be had, and what to do about it."""
    if part.url:
        return f"{place}: {why}. It is on no hub; download it: {fetch_command(part)}"
    if not is_hub_id(part):
        return f"{place}: {why} (and {part.place!r} is no hub id owner/name)"
    if not reason:
        return f"{place}: {why}"
    name = f"{part.place}, {part.path}" if part.path else part.place
    return (
        f"{name}: {why} (looked for a folder, and in the hub's cache); it cannot be fetched: {reason}. "
        f"Where there is a network: {fetch_command(part)}"
    )
