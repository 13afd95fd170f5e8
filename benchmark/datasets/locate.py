"""Find a data set's files: the annotation file and image folders that the options name, and each image in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from gtg_bench.benchmark.api.errors import UsageError


def is_within(name: str) -> bool:
    """Whether a name or path from an annotation file names a file and stays inside the folder it is relative to."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and not {"..", "\0"} & {*parts, *name} and not name.endswith("/")


def existing(folders: Iterable[Path]) -> list[Path]:
    """The folders that exist. A folder without read permission counts, but a folder inside it does not."""
    return [folder for folder in folders if os.path.isdir(folder)]


def image_bases(name: str, root: Path, chosen: str | None) -> list[Path]:
    """The folders that the option `images` names, relative to the data root or else to the working folder.

    Args:
        name: the data set's name, for the message.
        root: the data root; the only base if `chosen` is None.
        chosen: one folder, or several separated by colons (semicolons on Windows).

    Raises:
        UsageError: one of them is not a folder.
    """
    if chosen is None:
        return [root]
    bases = []
    for part in chosen.split(os.pathsep):
        base = next(iter(existing([root / part, Path(part)])), None)
        if base is None or not part:
            raise UsageError(f"{name}: images={part}: folder not found, neither in {root} nor in the working folder")
        bases.append(base)
    return bases


def chosen_file(name: str, root: Path, chosen: str) -> Path:
    """The file that the option `annotations` names, relative to the data root or else to the working folder.

    Raises:
        UsageError: it does not exist.
    """
    found = next((path for path in (root / chosen, Path(chosen)) if os.path.exists(path)), None)
    if found is None:
        raise UsageError(f"{name}: annotations={chosen}: file not found, neither in {root} nor in the working folder")
    return found


def find_image(names: Iterable[str], folders: Sequence[Path]) -> tuple[Path | None, str]:
    """Look for several possible file names, folder by folder, each also in Unicode's composed and decomposed form.

    Returns:
        The path of the first that is a file, and ""; or None, and why it could not be read ("" if it is just missing).
    """
    reason = ""
    forms = ((name, normalize("NFC", name), normalize("NFD", name)) for name in names)
    names = list(dict.fromkeys(chain.from_iterable(forms)))
    for path in (folder / name for folder in folders for name in names):
        try:
            if stat.S_ISREG(os.stat(path).st_mode):
                return path, ""
            reason = reason or f"{path} is not a file"
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            reason = reason or f"{path}: {error.strerror}"
        except ValueError as error:
            reason = reason or str(error)
    return None, reason
