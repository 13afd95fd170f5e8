"""Model cards of trained weights: what they are, how they were made, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import torch

from gtg_bench.benchmark.paths import write_text
from gtg_bench.methods.cards import read_card

NOTICE = (
    "Trained on the phantom, a generated chest X-ray data set. Not a published model and not a diagnostic tool: "
    "it knows nothing of real radiographs."
)


def write_card(folder: Path, **facts: Any) -> None:
    """Write card.json into a folder of finished weights, with the sha256 of each of its files."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "card.json")
    hashes = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    card = {
        "notice": NOTICE,
        **facts,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "sha256": hashes,
    }
    write_text(folder / "card.json", json.dumps(card, indent=1) + "\n")


def update_card(folder: Path, **facts: Any) -> None:
    """Replace some facts of a card and keep the others."""
    path = folder / "card.json"
    card = read_card(folder) | facts
    write_text(path, json.dumps(card, indent=1) + "\n")
