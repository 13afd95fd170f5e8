"""From a method's name and settings to an image-text model without diffusion. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.weights import Weights, find_weights

if TYPE_CHECKING:
    from gtg_bench.methods.biovil import BiovilMethod


def complete(wanted: MethodSettings) -> MethodSettings:
    """Locate the weights; whatever belongs to sampling is left out, since nothing is sampled.

    Raises:
        UsageError: there are no such weights.
        DataError: the weights' files are missing, or they are those of another kind of model.
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
    """The method, its weights loaded on `settings.device`."""
    import torch

    from gtg_bench.methods.biovil import load

    return load(_find(settings), torch.device(settings.device))


def _find(settings: MethodSettings) -> Weights:
    """The located weights. Raises DataError where the plan lacks one of the two encoders."""
    weights = find_weights(settings.method, settings.weights)
    if missing := [name for name in ("image_encoder", "text_encoder") if getattr(weights.plan, name) is None]:
        raise DataError(
            f"weights {weights.name} name no {' and no '.join(missing)}: {settings.method} needs the checkpoint of an "
            "image encoder and the folder of a CXR-BERT; name both in a YAML file"
        )
    return weights
