"""Which pretraining a family of text encoders had."""

from __future__ import annotations

from collections.abc import Callable

from gtg_bench.training.pretraining import clip, cxr_bert, cxr_clip, med_kebert, open_clip, radbert
from gtg_bench.training.pretraining.pairs import Material
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.stage import Stage

PRETRAINING: dict[str, Callable[[TextRecipe, Material, int], Stage]] = {
    "cxr-bert": cxr_bert.stage,
    "clip": clip.stage,
    "open-clip": open_clip.stage,
    "bert": radbert.stage,
    "cxr-clip": cxr_clip.stage,
    "med-kebert": med_kebert.stage,
}
"""Family -> (recipe, material, seed) -> its pretraining."""
