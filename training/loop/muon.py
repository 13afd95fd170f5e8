"""Muon: steps of the matrices between hidden features have all directions equally long (Jordan et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that makes a matrix nearly orthogonal."""

ITERATIONS = 5
MOMENTUM = 0.95

_OUTER = ("conv_in", "conv_out", "embed")
"""Parts of the names of parameters that read inputs or write outputs; these are left to AdamW."""


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels between hidden features, AdamW for all other parameters.

    torch.optim.Muon takes matrices only; here a kernel [out, in, h, w] counts as a matrix [out, in h w], and one
    learning rate serves both: Muon's is scaled so that its steps are as long as AdamW's (Liu et al. 2025).
    """

    def __init__(
        self,
        module: nn.Module,
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
    ) -> None:
        """Args:
        module: its parameters that require gradients are trained.
        learning_rate, betas, epsilon, weight_decay: of AdamW; `learning_rate` and `weight_decay` are Muon's too.
        """
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        inner = [p for name, p in named if p.ndim >= 2 and not any(part in name for part in _OUTER)]
        known = {id(p) for p in inner}
        rest = [p for _, p in named if id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": inner, "muon": True}, {"params": rest}]
        defaults = {"lr": learning_rate, "betas": betas, "eps": epsilon, "weight_decay": weight_decay, "muon": False}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            update = _muon if group["muon"] else _adamw
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state |= {
                        name: torch.zeros_like(parameter)
                        for name in (("mean",) if group["muon"] else ("mean", "square"))
                    }
                state["step"] += 1
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(group["lr"] * update(parameter.grad, state, group))


def _muon(gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    state["mean"].lerp_(gradient, 1 - MOMENTUM)
    matrix = gradient.lerp(state["mean"], MOMENTUM).flatten(1)  # Nesterov's momentum
    return orthogonalised(matrix).view_as(gradient) * (0.2 * max(matrix.shape) ** 0.5)


def _adamw(gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
    (first, second), steps = group["betas"], state["step"].item()
    mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first**steps)
    square = state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second) / (1 - second**steps)
    return mean / (square.sqrt_() + group["eps"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix [m, n] with all singular values near 1 (0.7 to 1.2), by Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    found = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = found @ found.mT
        found = a * found + (b * gram + c * gram @ gram) @ found
    return found.mT if matrix.shape[0] > matrix.shape[1] else found
