"""Complete the settings of BioViL and its relatives, and build them. `complete` imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.weights import Weights, find_weights

if TYPE_CHECKING:
    from gtg_bench.methods.biovil.method import BiovilMethod


def complete(wanted: MethodSettings) -> MethodSettings:
    """Locate the weights, and drop the options of sampling, which do not apply.

    Raises:
        UsageError: the weights are unknown.
        DataError: their files are missing, or belong to another kind of model.
    """
    weights = _find(wanted)
    return MethodSettings(
        wanted.method,
        weights=weights.name,
        weights_version=weights.version,
        seed=wanted.seed,
        dataset=wanted.dataset,
        device=wanted.device,
    )


def build(settings: MethodSettings) -> BiovilMethod:
    """Load the method's weights on `settings.device`. Raises DataError where a file is missing or does not fit."""
    import torch

    from gtg_bench.methods.biovil.method import load

    return load(_find(settings), torch.device(settings.device))


def _find(settings: MethodSettings) -> Weights:
    """The located weights. Raises DataError where the plan lacks one of the two encoders."""
    weights = find_weights(settings.method, settings.weights)
    if missing := [name for name in ("image_encoder", "text_encoder") if getattr(weights.plan, name) is None]:
        raise DataError(
            f"weights {weights.name} do not name {' and '.join(missing)}: {settings.method} needs the checkpoint of an "
            "image encoder and the folder of a CXR-BERT; name both in a YAML file"
        )
    return weights
