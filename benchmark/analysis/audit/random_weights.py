"""Random weights: a method's torch modules, and the method with part of their layers randomised.

Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (cascading randomisation); Arun et al., Assessing
the Trustworthiness of Saliency Maps for Localizing Abnormalities in Medical Imaging, Radiology: AI, 2021.
"""

from __future__ import annotations

import sys
from typing import Any

from gtg_bench.benchmark.api.types import Method

_DEPTH = 4
_SEED = 4200


def modules_of(method: object) -> list[Any]:
    """The outermost torch modules that a method's attributes hold, directly or inside other objects, each once."""
    torch = sys.modules.get("torch")
    found: dict[int, Any] = {}
    seen: set[int] = set()

    def visit(value: object, depth: int) -> None:
        if torch is None or depth > _DEPTH or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            found[id(value)] = value
        elif isinstance(value, dict):
            for part in value.values():
                visit(part, depth + 1)
        elif isinstance(value, (list, tuple)):
            for part in value:
                visit(part, depth + 1)
        elif type(value).__module__.partition(".")[0] not in ("builtins", "torch", "numpy", "re"):
            for part in (getattr(value, "__dict__", None) or {}).values():
                visit(part, depth + 1)

    visit(method, 0)
    inner = {id(part) for module in found.values() for part in list(module.modules())[1:]}
    return [module for key, module in found.items() if key not in inner]


def scrambled(method: Method, share: float) -> Method:
    """The method after the values of each parameter were shuffled in the last `share` of each module's layers.

    Shuffling keeps a layer's scale and destroys what it learned. The method itself is changed.

    Args:
        method: freshly built: what it has computed from its weights so far would survive.
        share: of the layers, in (0, 1], from the output on.
    """
    import torch

    random = torch.Generator().manual_seed(_SEED)
    for module in modules_of(method):
        layers = [layer for layer in module.modules() if any(True for _ in layer.parameters(recurse=False))]
        with torch.no_grad():
            for layer in layers[round(len(layers) * (1 - share)) :]:
                for weights in layer.parameters(recurse=False):
                    order = torch.randperm(weights.numel(), generator=random).to(weights.device)
                    weights.copy_(weights.flatten()[order].reshape(weights.shape))
    return method
