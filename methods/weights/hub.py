"""The Hugging Face hub: what its cache on this machine holds, fetching what it does not, and the command for that."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.weights.files import WEIGHT_SUFFIXES, choose, is_exact
from gtg_bench.methods.weights.plan import Part

PATIENCE = 4
"""Seconds that the hub has for its first answer: a machine without a network must not wait for long."""

_OTHERS = ("*.fp16.*", "*non_ema*", "*.msgpack", "*.h5")
"""What a command for a repository of unknown files leaves out: other precisions and other libraries."""

_REASONS = {
    "GatedRepoError": "it is gated: accept its terms at https://huggingface.co/{place}, then `hf auth login`",
    "RevisionNotFoundError": "it has no revision {revision}",
    "RepositoryNotFoundError": "there is no such repository, or it is private (then `hf auth login`)",
}


def snapshot(part: Part) -> Path | None:
    """The folder of a repository's revision in the hub's cache; None where it is not there. Asks no network."""
    home = hub_cache() / f"models--{part.place.replace('/', '--')}"
    wanted = part.revision or "main"
    reference = home / "refs" / wanted
    try:
        commit = reference.read_text().strip() if reference.is_file() else wanted
    except (OSError, UnicodeDecodeError):
        return None
    found = home / "snapshots" / commit
    return found if commit and found.is_dir() else None


def hub_cache() -> Path:
    """The hub's cache folder, by the same variables that huggingface_hub reads."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    place = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(place)).expanduser()


def is_offline() -> bool:
    """Whether the user has switched the hub off."""
    switch = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return switch.upper() in ("1", "ON", "YES", "TRUE")


def fetch(part: Part) -> None:
    """Download the files of a part into the hub's cache. Raises DataError with the reason if that cannot be."""
    if is_offline():
        raise DataError("the hub is switched off (HF_HUB_OFFLINE)")
    from huggingface_hub import HfApi, snapshot_download

    try:
        found = HfApi().model_info(part.place, revision=part.revision, timeout=PATIENCE)
        names = wanted_of([file.rfilename for file in found.siblings or ()], part)
        if names:
            snapshot_download(part.place, revision=part.revision, allow_patterns=names, cache_dir=hub_cache())
    except Exception as error:  # the hub's own errors are many: offline, gated, gone, a full disk
        raise DataError(_reason(error, part)) from error
    if not names:
        raise DataError(f"the repository has no {part.path or 'weights'}")


def wanted_of(names: list[str], part: Part) -> list[str]:
    """Of all the names in a repository, those that a part is loaded from."""
    if part.path in names:
        return [part.path]
    start = f"{part.path}/" if part.path else ""
    inside = [name.removeprefix(start) for name in names if name.startswith(start)]
    return [start + name for name in choose(inside, part.files)]


def fetch_command(part: Part) -> str:
    """What a person types to fetch a part, where there is a network."""
    if part.url:
        return f"curl -L --fail --create-dirs -o {shlex.quote(part.place)} {shlex.quote(part.url)}"
    revision = ["--revision", part.revision] if part.revision else []
    return shlex.join(["hf", "download", part.place, *_selection(part), *revision])


def _selection(part: Part) -> list[str]:
    """How `hf download` is told which files: by their names where all are known, else by patterns."""
    start = f"{part.path}/" if part.path else ""
    if part.path.endswith(WEIGHT_SUFFIXES):
        return [part.path]
    if part.files and all(map(is_exact, part.files)):
        return [start + name for name in part.files]
    wanted = [start + pattern for pattern in part.files or ["*"]]
    needless = () if part.files else _OTHERS
    return [
        *(word for pattern in wanted for word in ("--include", pattern)),
        *(word for pattern in needless for word in ("--exclude", pattern)),
    ]


def _reason(error: Exception, part: Part) -> str:
    """One line for an error of the hub, most particular first."""
    for name in (kind.__name__ for kind in type(error).__mro__):
        if name in _REASONS:
            return _REASONS[name].format(place=part.place, revision=part.revision)
    return f"no answer from the hub ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
