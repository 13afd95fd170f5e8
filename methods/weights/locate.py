"""Finding one part's files on this machine, or fetching them, and hashing them once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.paths import atomic, cache_dir
from gtg_bench.methods.weights.plan import Part

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LOADED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.pt", "*.pth", "*.tar")
"""What a part without patterns is made of."""


def locate(part: Part, root: Path) -> Path:
    """The folder or file of a part; fetched from the hub if it is not here and there is a network.

    Raises:
        DataError: it is not here and cannot be fetched; names the command that fetches it.
    """
    local = root / Path(part.place).expanduser()
    if local.exists():
        return _inside(local, part)
    if part.place.startswith((".", "~", "/")) or not _HUB_ID.fullmatch(part.place):
        raise DataError(f"{local}: there is no such folder or file (and {part.place!r} is no hub id owner/name)")
    return _inside(_from_hub(part), part)


def cached(part: Part, root: Path) -> Path | None:
    """As `locate`, but never fetches: None where it is not here."""
    local = root / Path(part.place).expanduser()
    try:
        return _inside(local if local.exists() else _snapshot(part, local_files_only=True), part)
    except (DataError, OSError, ValueError):
        return None


def fetch_command(part: Part) -> str:
    """What a person types to fetch a part from the hub."""
    revision = f" --revision {part.revision}" if part.revision else ""
    patterns = "".join(f" --include {pattern!r}" for pattern in _patterns(part))
    return f"hf download {part.place}{revision}{patterns}"


def files_of(place: Path, part: Part) -> list[Path]:
    """The files that a located part is loaded from, sorted."""
    if place.is_file():
        return [place]
    found = {file for pattern in part.files or _LOADED for file in place.glob(pattern) if file.is_file()}
    return sorted(file for file in found if file.name != "card.json")  # a word on a card changes no number


def sha256_of(file: Path) -> str:
    """The file's sha256; known ones are not read again as long as size and time of change stay."""
    real = file.resolve()
    state = real.stat()
    name = f"{real}:{state.st_size}:{state.st_mtime_ns}"
    note = cache_dir() / "sha256" / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
    try:
        return json.loads(note.read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with real.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if state.st_size > 2**24:  # smaller files are read as fast as their notes
        with atomic(note) as part:
            part.write_text(json.dumps({"file": str(real), "sha256": digest}))
    return digest


def _inside(place: Path, part: Part) -> Path:
    found = place / part.path if part.path else place
    if not found.exists():
        raise DataError(f"{place} holds no {part.path}")
    if found.is_dir() and not files_of(found, part):
        raise DataError(f"{found} holds none of the files {', '.join(part.files or _LOADED)}")
    return found


def _patterns(part: Part) -> list[str]:
    """Glob patterns of what is fetched."""
    if part.path and Path(part.path).suffix in (".pt", ".pth", ".tar", ".bin", ".safetensors"):
        return [part.path]
    return [f"{part.path}/{pattern}" if part.path else pattern for pattern in part.files or _LOADED]


def _snapshot(part: Part, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            part.place,
            revision=part.revision,
            allow_patterns=_patterns(part),
            local_files_only=local_files_only,
        )
    )


def _from_hub(part: Part) -> Path:
    """The repository's folder in the hub's cache, fetched if need be."""
    for local_files_only in (True, False):
        try:
            found = _snapshot(part, local_files_only)
            _inside(found, part)
            return found
        except Exception as error:  # the hub's own errors are many: offline, gated, gone, no such revision
            reason = error
    why = "the hub is switched off" if os.environ.get("HF_HUB_OFFLINE") else f"{type(reason).__name__}: {reason}"
    raise DataError(
        f"{part.place} is not on this machine and cannot be fetched ({' '.join(why.split())[:300]}). "
        f"Where there is a network: {fetch_command(part)}"
    )
