"""Files that others wrote, read within bounds: nothing in them decides how much memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError

MAX_BYTES = 2**29
"""Bytes of the largest array that is read, after unpacking: float64 of the largest image that is accepted."""

_MAX_YAML = 2**20


class _Plain(yaml.SafeLoader):
    """YAML without references: a few nested ones describe more values than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(
                problem="references (*name) are not supported: repeat the value", problem_mark=mark
            )
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """The values in a YAML file of at most 1 MiB, without references.

    Raises:
        DataError: the file cannot be read; names it, the line and the fix.
    """
    try:
        check_regular(path)
        if path.stat().st_size > _MAX_YAML:
            raise ValueError(f"it has more than {_MAX_YAML:,} bytes")
        return yaml.load(path.read_text(encoding="utf-8-sig"), _Plain)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error


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
