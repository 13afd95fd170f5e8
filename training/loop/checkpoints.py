"""Checkpoints: folders that appear whole or not at all; only the last few are kept.

Not Accelerate's `ProjectConfiguration(total_limit)`: it writes in place and removes the oldest checkpoint first, while
here a checkpoint is renamed into place before an old one is removed: a kill never leaves fewer whole ones than before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from torch import nn

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.paths import as_umask

_PREFIX = "step-"
_FACTS = "run.json"
_EXTRA = "extra.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on the disk."""

    path: Path
    step: int


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints in a folder, oldest first."""
    named = [path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    return sorted((Checkpoint(path, int(path.name.removeprefix(_PREFIX))) for path in named), key=lambda c: c.step)


def save(
    accelerator: Accelerator, folder: Path, step: int, keep: int, identity: str, extra: Mapping[str, Any]
) -> Checkpoint:
    """Write a checkpoint and remove all but the last `keep`; called by every process.

    Model, optimiser, gradient scaler and random states are written by Accelerate; `extra` (tensors and plain values)
    and the run's `identity` are saved with them.
    """
    target = folder / f"{_PREFIX}{step:08d}"
    partial = folder / f".{target.name}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        torch.save(dict(extra), partial / _EXTRA)
        (partial / _FACTS).write_text(json.dumps({"identity": identity, "processes": accelerator.num_processes}))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        as_umask(partial)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        prune(folder, keep)
    return Checkpoint(target, step)


def prune(folder: Path, keep: int) -> None:
    """Remove all whole checkpoints but the last `keep`."""
    for old in checkpoints(folder)[:-keep]:
        going = old.path.with_name(f".{old.path.name}")  # first out of sight: half a checkpoint must not be found
        shutil.rmtree(going, ignore_errors=True)
        os.replace(old.path, going)
        shutil.rmtree(going)


def tidy(folder: Path, keep: bool = True) -> None:
    """Remove what a kill left half written or half removed, and whole checkpoints too unless they are to be kept."""
    for path in folder.glob(f".{_PREFIX}*" if keep else "*"):
        shutil.rmtree(path)


@contextmanager
def alone(work: Path, main: bool = True) -> Iterator[None]:
    """Hold the folder of a run inside the block. Raises UsageError where another run has it.

    Args:
        work: the folder.
        main: whether this is the main process of its run; the others rely on it.
    """
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / ".lock", blocking=False)
    try:
        with lock if main else nullcontext():
            yield
    except Timeout as error:
        if error.lock_file != lock.lock_file:
            raise
        raise UsageError(
            f"{work} is in use: another training runs there; wait for it, or choose another --out"
        ) from error


def load(accelerator: Accelerator, found: Checkpoint, identity: str) -> dict[str, Any]:
    """Load a checkpoint into what the accelerator has prepared; return what was saved as `extra`.

    Raises:
        UsageError: it is of a run with another recipe, seed or data.
        DataError: it cannot be read.
    """
    try:
        known = json.loads((found.path / _FACTS).read_text())["identity"]
        extra: dict[str, Any] = torch.load(found.path / _EXTRA, weights_only=True, map_location="cpu")
        if known == identity:
            accelerator.load_state(str(found.path))
    except Exception as error:  # the libraries' errors are many
        raise DataError(
            f"{found.path} cannot be read ({type(error).__name__}: {error}); remove it, and the one before is taken"
        ) from error
    if known != identity:
        raise UsageError(
            f"{found.path} is of a run with another recipe, seed or data; choose another --out, or --resume never "
            "to start again"
        )
    return extra


def bytes_needed(objective: nn.Module, averaged: bool, keep: int) -> int:
    """Bytes of the checkpoints that are on the disk at once: weights, AdamW's two moments, the moving average."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in objective.state_dict().values())
    trained = sum(p.numel() * 4 for p in objective.parameters() if p.requires_grad)
    return (weights + trained * (2 + averaged)) * (keep + 1)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise UsageError where fewer bytes are free than will be needed."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{folder}: {what} need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; choose another --out or "
            "lower keep_checkpoints"
        )
