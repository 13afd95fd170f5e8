"""Files that others wrote, read within bounds: nothing in them decides how much memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

MAX_BYTES = 2**29
"""Bytes of the largest array that is read, after unpacking: float64 of the largest image that is accepted."""

_MAX_YAML = 2**20


def plain_yaml(text: str) -> Any:
    """The values in a YAML text of at most 1 MiB, without references: a few nested ones fill any memory.

    Raises:
        ValueError, yaml.YAMLError: and other kinds that PyYAML lets through.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark, what = self.peek_event().start_mark, "references (*name) are not supported: repeat the value"
                raise yaml.MarkedYAMLError(problem=what, problem_mark=mark)
            return super().compose_node(parent, index)

    if len(text) > _MAX_YAML:
        raise ValueError(f"it has more than {_MAX_YAML:,} characters")
    return yaml.load(text, Plain)


def check_regular(path: Path) -> None:
    """Raise ValueError if there is a folder, device or pipe instead of a file, which could be read forever."""
    if path.exists() and not path.is_file():
        raise ValueError("it is a folder" if path.is_dir() else "it is not a regular file")


def npz_array(archive: NpzFile, name: str) -> NDArray[Any]:
    """One array of an npz file.

    Raises:
        ValueError: it takes more than MAX_BYTES when unpacked, or is not an array. Damage raises many other kinds.
    """
    member = f"{name}.npy" if f"{name}.npy" in archive.zip.namelist() else name
    if (size := archive.zip.getinfo(member).file_size) > MAX_BYTES:
        raise ValueError(f"its array {name} takes {size:,} bytes when unpacked; the most are {MAX_BYTES:,}")
    found = archive[name]
    if not isinstance(found, np.ndarray):
        raise ValueError(f"its part {name} is not an array")
    return found
