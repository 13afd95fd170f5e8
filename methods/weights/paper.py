"""The published weights of each method, read from `paper.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.paths import cache_dir
from gtg_bench.methods.weights.plan import WeightsPlan, parse_plan

PAPER = Path(__file__).parent / "paper.yaml"

_LABELS = {
    "unet": "the U-Net",
    "text_encoder": "the text encoder",
    "adapter": "the adapter",
    "image_encoder": "the image encoder",
}


def names() -> list[str]:
    """The methods in the table, in its order."""
    return [name for name in _table() if not name.startswith("_")]


def known(method: str) -> WeightsPlan:
    """The published parts of a method; `unpublished` lists the rest. Raises UsageError if it has no entry."""
    if method not in names():
        raise UsageError(f"--weights paper: no published weights of {method} are known")
    plan = parse_plan(_table()[method], PAPER)
    by_hand = {name: part for name, part in plan.parts().items() if part.url}
    places = {name: part.model_copy(update={"place": str(downloads() / part.place)}) for name, part in by_hand.items()}
    return plan.model_copy(update=places)


def published(method: str) -> WeightsPlan:
    """The published weights of a method. Raises UsageError if they are not a complete model."""
    plan = known(method)
    if why := unpublished(plan):
        raise UsageError(
            f"--weights paper: {why} for {method}. Name your own in a YAML file "
            f"(`gtg-bench weights check {method} --weights paper` prints a template)"
        )
    return plan


def unpublished(plan: WeightsPlan) -> str:
    """Why a plan is not a complete model, such as "the U-Net is not published"; "" if it is."""
    labels = " and ".join(_LABELS.get(name, name) for name in plan.unpublished)
    return labels and f"{labels} {'are' if len(plan.unpublished) > 1 else 'is'} not published"


def downloads() -> Path:
    """The folder for files that are not on the hub and are downloaded by hand."""
    return cache_dir() / "weights"


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load(PAPER.read_text(encoding="utf-8"))
