"""Which pretraining each kind of encoder had. Imports none of them before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gtg_bench.benchmark.api.registry import load_object
from gtg_bench.training.pretraining.stage import Stage

_HERE = "gtg_bench.training.pretraining"
_STAGES = {
    "cxr-bert": f"{_HERE}.cxr_bert:stage",
    "clip": f"{_HERE}.clip:stage",
    "open-clip": f"{_HERE}.open_clip:stage",
    "bert": f"{_HERE}.radbert:stage",
    "cxr-clip": f"{_HERE}.cxr_clip:stage",
    "med-kebert": f"{_HERE}.med_kebert:stage",
    "biovil": f"{_HERE}.biovil:stage",
}


def pretraining(family: str) -> Callable[..., Stage]:
    """The pretraining of a family of text encoders: (recipe, material, seed) -> its stage; `biovil` see there."""
    stage: Callable[..., Any] = load_object(_STAGES[family])
    return stage
