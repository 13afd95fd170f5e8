"""Where a data set's images lie: folders, names to try in them, and why an image is not found."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gtg_bench.benchmark.api.errors import UsageError


@dataclass(frozen=True)
class Found:
    """An image's path, or why there is none: "" where it simply is not there."""

    path: Path | None
    reason: str = ""


def is_within(name: str) -> bool:
    """Whether a name or path of an annotation file stays in the folder that it is relative to, and names a file."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and not {"..", "\0"} & {*parts, *name} and not name.endswith("/")


def existing(folders: Iterable[Path]) -> list[Path]:
    """Those of the folders that are there; one that may not be looked into is there, one inside of it is not."""
    return [folder for folder in folders if os.path.isdir(folder)]


def image_bases(name: str, root: Path, chosen: str | None) -> list[Path]:
    """The folders that the option `images` names, from the data root or else from the working folder.

    Args:
        name: the data set's, for the message.
        root: the data root, which is the base where nothing is chosen.
        chosen: one folder, or several between colons (semicolons on Windows).

    Raises:
        UsageError: one of them is no folder.
    """
    if chosen is None:
        return [root]
    bases = []
    for part in chosen.split(os.pathsep):
        base = next((place for place in (root / part, Path(part)) if os.path.isdir(place)), None)
        if base is None or not part:
            raise UsageError(f"{name}'s images={part}: no such folder, neither below {root} nor here")
        bases.append(base)
    return bases


def chosen_file(name: str, root: Path, chosen: str) -> Path:
    """The file that the option `annotations` names, from the data root or else from the working folder.

    Raises:
        UsageError: there is none.
    """
    found = next((path for path in (root / chosen, Path(chosen)) if os.path.exists(path)), None)
    if found is None:
        raise UsageError(f"{name}'s annotations={chosen}: no such file, neither in {root} nor here")
    return found


def find_image(names: Iterable[str], folders: Sequence[Path]) -> Found:
    """The first of several names that is a file in one of the folders, folder by folder."""
    reason = ""
    names = list(names)
    for folder in folders:
        for name in names:
            state = _state(folder / name)
            if state is None:
                return Found(folder / name)
            reason = reason or state
    return Found(None, reason)


def _state(path: Path) -> str | None:
    """None for a file, "" for nothing, else what is the matter."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ValueError as error:
        return f"{error}"
    return None if stat.S_ISREG(mode) else f"{path} is no file"
