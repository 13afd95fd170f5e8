"""Frozen text encoders, one class per family."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.text_encoders.base import TextEncoder

FAMILIES = {
    "cxr-bert": "gtg_bench.methods.text_encoders.cxr_bert:CxrBertTextEncoder",
    "clip": "gtg_bench.methods.text_encoders.clip:ClipTextEncoder",
}


def load_text_encoder(folder: Path, device: str | torch.device = "cpu") -> TextEncoder:
    """The text encoder of a folder, by the family and length that its card names."""
    card = read_card(folder)
    if card.get("family") not in FAMILIES:
        raise DataError(f"{folder}/card.json: family {card.get('family')!r} is none of {', '.join(FAMILIES)}")
    module, _, name = FAMILIES[card["family"]].partition(":")
    family = getattr(importlib.import_module(module), name)
    return family.load(folder, card["max_length"], device)
