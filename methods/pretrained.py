"""Load pretrained weights from local files: completely or not at all, never running code, never downloading."""

from __future__ import annotations

import logging
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError


def silence_libraries() -> None:
    """Let transformers, diffusers and accelerate log errors only, without progress bars or import warnings."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="timm")
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    import diffusers
    import transformers

    for library in (transformers, diffusers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()


def load_pretrained(kind: Any, place: Path, unused: tuple[str, ...] = (), **options: Any) -> Any:
    """Load a model of a transformers or diffusers class from its folder.

    Both libraries read pickled weights (`.bin`) with `weights_only`, and a concrete class never runs code from the
    folder. Half-precision files (`*.fp16.*`) are read if the folder has no others.

    Args:
        kind: the model class.
        place: a folder with config.json and weights.
        unused: prefixes of weights that are not used here and may be missing.
        options: further arguments of `kind.from_pretrained`, such as the precision.

    Raises:
        DataError: the folder cannot be loaded, or lacks weights (which the libraries would initialise at random).
    """
    files = [file.name for file in place.glob("*") if file.suffix in (".safetensors", ".bin")]
    variant = "fp16" if files and all(".fp16" in name for name in files) else None
    try:
        model, info = kind.from_pretrained(
            place, local_files_only=True, output_loading_info=True, variant=variant, **options
        )
    except Exception as error:  # the libraries raise many kinds
        raise DataError(f"{place}: cannot load a {kind.__name__}: {reason(error)}") from error
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith(unused)):
        raise DataError(f"{place}: not a {kind.__name__}: its weights lack {abridged(missing)}")
    return model


def read_pickle(path: Path) -> Any:
    """Read a file saved by torch that holds tensors and plain values only. Zip files are memory-mapped.

    Raises:
        DataError: the file cannot be read, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged files fail in many ways
        raise DataError(f"{path}: {reason(error)}") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file. Raises DataError if it cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: {reason(error)}") from error


def fill(model: torch.nn.Module, weights: dict[str, Tensor], place: Path) -> None:
    """Load all weights of a module, in float32. Raises DataError if one is missing, unexpected or misshapen."""
    wanted = model.state_dict()
    if missing := sorted(wanted.keys() - weights.keys()):
        raise DataError(f"{place}: its weights lack {abridged(missing)}")
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise DataError(f"{place}: its weights hold {abridged(unknown)}, which the configuration does not have")
    if wrong := [name for name in wanted if wanted[name].shape != weights[name].shape]:
        shapes = f"{tuple(weights[wrong[0]].shape)}, but the configuration says {tuple(wanted[wrong[0]].shape)}"
        raise DataError(f"{place}: {abridged(wrong)} has shape {shapes}")
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)


def reason(error: Exception) -> str:
    """An exception as one short line; a refused pickle in plain words."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, pickle.UnpicklingError) and "Weights only" in str(cause) for cause in causes):
        return (
            "the pickle holds more than tensors and plain values, and could run code; if you trust its source, save "
            "its tensors alone (a state dict) and use that file"
        )
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def abridged(names: list[str]) -> str:
    """The first three names of a list, and how many there are."""
    return ", ".join(names[:3]) + (f" ... ({len(names)})" if len(names) > 3 else "")
