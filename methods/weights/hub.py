"""Find a part on this machine or in the Hugging Face cache, download it, or name the command that does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.weights.files import WEIGHT_SUFFIXES, choose, damage, gap, is_exact
from gtg_bench.methods.weights.plan import Part

TIMEOUT = 4
"""Seconds to wait for the hub's first answer, so that a machine without a network does not hang."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_EXCLUDED = ("*.fp16.*", "*non_ema*", "*.msgpack", "*.h5")
"""Patterns that `hf download` skips if the file names are unknown: other precisions and other frameworks."""


def look(part: Part, root: Path) -> tuple[Path | None, str]:
    """Look for a part on this machine, without using the network.

    Args:
        part: the part.
        root: the folder that relative places start from.

    Returns:
        The folder or file, or where it was expected (None for a repository that was never downloaded); and what is
        missing or damaged, "" if the part can be loaded.
    """
    local = root / Path(part.place).expanduser()
    place: Path | None = local
    if not local.exists():
        if not is_hub_id(part):
            return local, "no such file or folder"
        place = _snapshot(part)
    if place is None:
        return None, "not downloaded"
    found = place / part.path
    if not found.exists():
        return place, f"{part.path} missing"
    try:
        return found, gap(found, part.files) if found.is_dir() else damage(found)
    except OSError as error:
        return found, f"cannot be read ({error.strerror})"


def locate(part: Part, root: Path) -> Path:
    """Return the folder or file of a part, downloading it from the hub if necessary.

    Raises:
        DataError: the part is missing or damaged and cannot be downloaded; names the command that downloads it.
    """
    (place, why), local = look(part, root), root / Path(part.place).expanduser()
    if why and is_hub_id(part) and not local.exists():
        if reason := _download(part):
            name = f"{part.place}, {part.path}" if part.path else part.place
            raise DataError(f"{name}: {why}, and {reason}. To download it: {fetch_command(part)}")
        place, why = look(part, root)
    if why or place is None:
        advice = f". To download it: {fetch_command(part)}" if part.url else ""
        raise DataError(f"{place or local}: {why}{advice}")
    return place


def is_hub_id(part: Part) -> bool:
    """Whether a place that does not exist on this machine can be a repository on the hub."""
    return not part.url and not part.place.startswith((".", "~", "/")) and bool(_HUB_ID.fullmatch(part.place))


def fetch_command(part: Part) -> str:
    """The shell command that downloads a part."""
    if part.url:
        return f"curl -L --fail --create-dirs -o {shlex.quote(part.place)} {shlex.quote(part.url)}"
    prefix = f"{part.path}/" if part.path else ""
    if part.path.endswith(WEIGHT_SUFFIXES):
        selection = [part.path]
    elif part.files and all(map(is_exact, part.files)):
        selection = [prefix + name for name in part.files]
    else:
        excluded = () if part.files else _EXCLUDED
        selection = [word for pattern in part.files or ("*",) for word in ("--include", prefix + pattern)]
        selection += [word for pattern in excluded for word in ("--exclude", pattern)]
    revision = ["--revision", part.revision] if part.revision else []
    return shlex.join(["hf", "download", part.place, *selection, *revision])


def _snapshot(part: Part) -> Path | None:
    """The folder of a repository's revision in the hub's cache, or None."""
    from huggingface_hub import snapshot_download

    try:  # no pattern: any snapshot is found, and `gap` decides whether it is complete
        return Path(snapshot_download(part.place, revision=part.revision, local_files_only=True, allow_patterns=[]))
    except (OSError, ValueError):  # LocalEntryNotFoundError, HFValidationError, an unreadable reference
        return None


def _download(part: Part) -> str:
    """Download the files of a part into the hub's cache. Returns the reason where that fails, else ""."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi().model_info(part.place, revision=part.revision, timeout=TIMEOUT)
        names = _selected([file.rfilename for file in info.siblings or ()], part)
        if not names:
            return f"the repository has no {part.path or 'weights'}"
        snapshot_download(part.place, revision=part.revision, allow_patterns=names)
    except OfflineModeIsEnabled:
        return "downloads are switched off (HF_HUB_OFFLINE)"
    except GatedRepoError:
        return f"it is gated: accept its terms at https://huggingface.co/{part.place}, then run `hf auth login`"
    except RevisionNotFoundError:
        return f"the repository has no revision {part.revision}"
    except RepositoryNotFoundError:
        return "the repository does not exist, or is private (then run `hf auth login`)"
    except Exception as error:  # no network, a full disk, or any other error of the hub's client
        return f"the download failed ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    return ""


def _selected(names: list[str], part: Part) -> list[str]:
    """The names in a repository that a part is loaded from."""
    if part.path in names:
        return [part.path]
    prefix = f"{part.path}/" if part.path else ""
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [prefix + name for name in choose(inside, part.files)]
