"""The published weights, by method: `paper.yaml` beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.paths import cache_dir
from gtg_bench.methods.weights.plan import WeightsPlan, parse_plan

PAPER = Path(__file__).parent / "paper.yaml"

_CALLED = {
    "unet": "the U-Net",
    "text_encoder": "the text encoder",
    "adapter": "the adapter",
    "image_encoder": "the image encoder",
}


@dataclass(frozen=True)
class Published:
    """What is published of a method.

    Attributes:
        plan: the published parts.
        unpublished: the parts that it needs and nobody has published; empty where `plan` is a whole model.
    """

    plan: WeightsPlan
    unpublished: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why `plan` is no whole model, in words; "" where it is."""
        if not self.unpublished:
            return ""
        words = " and ".join(_CALLED.get(name, name) for name in self.unpublished)
        return f"{words} {'are' if len(self.unpublished) > 1 else 'is'} not published"


def names() -> list[str]:
    """The methods that the table speaks of, in its order."""
    return [name for name in _table() if not name.startswith("_")]


def known(method: str) -> Published:
    """What is published of a method. Raises UsageError if the table does not speak of it."""
    if method not in names():
        raise UsageError(f"--weights paper: nothing is known of published weights of {method}")
    entry = dict(_table()[method])
    unpublished = tuple(entry.pop("unpublished", ()))
    return Published(_placed(parse_plan(entry, PAPER)), unpublished)


def published(method: str) -> WeightsPlan:
    """The published weights of a method. Raises UsageError with the reason where they are no whole model."""
    found = known(method)
    if found.reason:
        raise UsageError(
            f"--weights paper: of {method}, {found.reason}; train one, or name yours in a YAML file "
            f"(`gtg-bench weights check {method} --weights paper` prints one to fill in)"
        )
    return found.plan


def downloads() -> Path:
    """Where files that are on no hub are expected."""
    return cache_dir() / "weights"


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load(PAPER.read_text(encoding="utf-8"))


def _placed(plan: WeightsPlan) -> WeightsPlan:
    """The plan with the place of every file that is downloaded by hand spelt out."""
    byhand = {name: part for name, part in plan.parts().items() if part.url}
    placed = {name: part.model_copy(update={"place": str(downloads() / part.place)}) for name, part in byhand.items()}
    return plan.model_copy(update=placed)
