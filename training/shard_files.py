"""One shard of a cache on disk: a safetensors file with the tensors of some items, and its index, written after it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gtg_bench.benchmark.paths import atomic

TENSORS = ".safetensors"
DAMAGED = ".damaged"
Layout = dict[str, tuple[str, tuple[int, ...]]]
"""Name -> (kind of numbers as safetensors names it, shape of one item)."""

_KINDS = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}


@dataclass(frozen=True)
class Shard:
    """The index of a shard.

    Attributes:
        stem: the name of both files without their ends.
        numbers: the items, in the order of the rows.
        layout: what one item is made of.
        bytes: length of the file with the tensors.
        sha256: of that file.
        writer: who wrote it.
        seconds: what making its items took.
    """

    stem: str
    numbers: tuple[int, ...]
    layout: Layout
    bytes: int
    sha256: str
    writer: str
    seconds: float

    @property
    def stacked(self) -> Layout:
        """The layout of all items of the shard together: one row an item."""
        return {name: (kind, (len(self.numbers), *shape)) for name, (kind, shape) in self.layout.items()}

    def damage(self, folder: Path) -> str:
        """What is wrong with the bytes of the file with the tensors, or ""."""
        try:
            with (folder / f"{self.stem}{TENSORS}").open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return "is gone"
        return "" if found == self.sha256 else f"is damaged: its sha256 is {found[:12]}, not {self.sha256[:12]}"


def layout_of(item: Mapping[str, Tensor]) -> Layout:
    """The layout of one item. Raises ValueError for kinds of numbers that are not kept."""
    if strange := [str(tensor.dtype) for tensor in item.values() if tensor.dtype not in _KINDS]:
        raise ValueError(f"tensors of {strange[0]} cannot be kept")
    return {name: (_KINDS[tensor.dtype], tuple(tensor.shape)) for name, tensor in item.items()}


def write_shard(
    folder: Path, stem: str, items: Mapping[int, Mapping[str, Tensor]], writer: str, seconds: float
) -> Shard:
    """Write the tensors, then the index; each takes its place whole."""
    first = next(iter(items.values()))
    content = save({name: torch.stack([item[name].cpu() for item in items.values()]) for name in first})
    with atomic(folder / f"{stem}{TENSORS}") as part:
        part.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    shard = Shard(stem, tuple(items), layout_of(first), len(content), digest, writer, round(seconds, 3))
    facts = asdict(shard) | {"made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    with atomic(folder / f"{stem}.json") as part:
        part.write_text(json.dumps(facts, separators=(",", ":")) + "\n")
    return shard


def read_index(folder: Path, stem: str) -> Shard:
    """A shard's index, after a look at the length and the header of the file with the tensors.

    Raises:
        FileNotFoundError: there is no such index.
        ValueError: index or tensors are damaged; the text says what is wrong, to be put after the file's name.
    """
    text = (folder / f"{stem}.json").read_bytes()
    try:
        shard = _shard(stem, json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"has a damaged index ({error})") from error
    file = folder / f"{stem}{TENSORS}"
    if not file.is_file():
        raise ValueError("is gone")
    if (length := file.stat().st_size) != shard.bytes:
        raise ValueError(f"is cut short or damaged: {length} of {shard.bytes} bytes")
    if (found := _header(file)) != shard.stacked:
        raise ValueError(f"holds {found}, which is not what its index says")
    return shard


def _shard(stem: str, facts: dict[str, Any]) -> Shard:
    layout = {name: (kind, tuple(shape)) for name, (kind, shape) in facts["layout"].items()}
    numbers = tuple(map(int, facts["numbers"]))
    length, digest = int(facts["bytes"]), str(facts["sha256"])
    return Shard(stem, numbers, layout, length, digest, str(facts["writer"]), float(facts["seconds"]))


def _header(file: Path) -> Layout:
    try:
        with safe_open(file, framework="pt") as stored:
            parts = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118
            return {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in parts.items()}
    except SafetensorError as error:
        raise ValueError(f"is damaged ({error})") from error
