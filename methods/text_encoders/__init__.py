"""Frozen text encoders, one class per family."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.text_encoders.base import TextEncoder

FAMILIES = {
    "cxr-bert": "gtg_bench.methods.text_encoders.cxr_bert:CxrBertTextEncoder",
    "clip": "gtg_bench.methods.text_encoders.clip:ClipTextEncoder",
}


def load_text_encoder(
    family: str, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu"
) -> TextEncoder:
    """The text encoder of a registered family.

    Args:
        family: one of FAMILIES.
        place: the folder or file of the model.
        tokenizer: the folder of its tokenizer, often the same.
        max_length: texts are truncated and padded to so many tokens.
        device: where it computes.
    """
    if family not in FAMILIES:
        raise DataError(f"{place}: text encoder family {family!r} is none of {', '.join(FAMILIES)}")
    module, _, name = FAMILIES[family].partition(":")
    return getattr(importlib.import_module(module), name).load(place, tokenizer, max_length, device)
