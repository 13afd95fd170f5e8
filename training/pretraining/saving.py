"""Writing pretrained text encoders in the layouts of their originals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from gtg_bench.training.pretraining.recipe import Precision, TextRecipe


def save_transformers(model: Any, tokenizer: Any, recipe: TextRecipe, folder: Path) -> dict[str, Any]:
    """A model and a tokenizer of transformers; returns what the card says of the folder."""
    halved(model, recipe.save_precision).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"family": recipe.family, "max_length": recipe.max_length}


def halved(model: Any, precision: Precision) -> Any:
    """The model in the precision that it is saved in; itself where it is in it."""
    dtype = getattr(torch, precision)
    return model if next(model.parameters()).dtype == dtype else copy.deepcopy(model).to(dtype)
