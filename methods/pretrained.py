"""Weights from local files: whole or not at all, with no code run from a file, and nothing fetched."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError


def load_pretrained(kind: Any, place: Path, unused: tuple[str, ...] = (), **options: Any) -> Any:
    """A model of a transformers or diffusers class from its folder.

    Both libraries read pickled weights (`.bin`) with `weights_only`, and a concrete class runs no code of the folder.

    Args:
        kind: the class; its `from_pretrained` does the work.
        place: a folder with config.json and weights; half-precision files (`*.fp16.*`) are taken where there is
            nothing else.
        unused: weights whose names start so may be missing: nobody computes with them.
        options: what else `from_pretrained` gets, the precision among it.

    Raises:
        DataError: the folder cannot be loaded, or lacks weights (which the libraries would make up).
    """
    try:
        model, info = kind.from_pretrained(
            place, local_files_only=True, output_loading_info=True, variant=_variant(place), **options
        )
    except Exception as error:  # the libraries' errors are many
        raise DataError(f"{place}: no {kind.__name__} can be loaded from it: {reason(error)}") from error
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith(unused)):
        raise DataError(f"{place}: is no {kind.__name__}: its weights lack {some(missing)}")
    return model


def read_pickle(path: Path) -> Any:
    """What torch saved in a file, tensors and plain values only; a file of zip form stays on disk until it is used.

    Raises:
        DataError: the file cannot be read, or it holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torn files fail in many ways
        raise DataError(f"{path}: {reason(error)}") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises DataError where it cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: {reason(error)}") from error


def fill(model: torch.nn.Module, weights: dict[str, Tensor], place: Path) -> None:
    """Give a module all its weights, in float32. Raises DataError where one is missing, left over, or misshapen."""
    wanted = model.state_dict()
    if missing := sorted(wanted.keys() - weights.keys()):
        raise DataError(f"{place}: its weights lack {some(missing)}")
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise DataError(f"{place}: its weights hold {some(unknown)}, for which the configuration has no place")
    if wrong := [name for name in wanted if wanted[name].shape != weights[name].shape]:
        shapes = f"{tuple(weights[wrong[0]].shape)}, and not {tuple(wanted[wrong[0]].shape)}"
        raise DataError(f"{place}: {some(wrong)} is {shapes} as the configuration says")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)


def reason(error: Exception) -> str:
    """An exception as one short line; a refused pickle in plain words."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, pickle.UnpicklingError) and "Weights only" in str(cause) for cause in causes):
        return (
            "the pickle holds more than tensors and plain values, and could run code; if you trust where it comes "
            "from, save its tensors alone (a state dict) and use that file"
        )
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def some(names: list[str]) -> str:
    """The first names of a list, and how many there are."""
    return ", ".join(names[:3]) + (f" ... ({len(names)})" if len(names) > 3 else "")


def _variant(place: Path) -> str | None:
    """ "fp16" where a folder holds no other weights."""
    weights = [file.name for file in place.glob("*") if file.suffix in (".safetensors", ".bin")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None
