"""Muon and AdamW in one optimiser, against torch's own of each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gtg_bench.training.loop.muon import Muon, orthogonalised

pytestmark = pytest.mark.usefixtures("torch")
SETTINGS = (0.02, (0.9, 0.99), 1e-8, 0.1)


class Net(nn.Module):
    """A layer that reads the input, a wide and a tall matrix, a convolution kernel, and vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv_in, self.wide, self.tall = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(4, 12)
        self.kernel, self.time_embedding = nn.Conv2d(3, 6, 3), nn.Linear(2, 3)

    def matrices(self) -> list[nn.Parameter]:
        return [self.wide.weight, self.tall.weight, self.kernel.weight]


def gradients(net: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_singular_values_become_nearly_equal() -> None:
    for shape in ((6, 20), (20, 6), (9, 9)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        u, found, v = torch.linalg.svd(orthogonalised(matrix), full_matrices=False)
        assert found.min() > 0.6
        assert found.max() < 1.3
        expected = torch.linalg.svd(matrix, full_matrices=False)
        near = torch.trace((u @ v).mT @ (expected[0] @ expected[2])) / min(shape)
        assert near > 0.999, "the same directions"


def test_steps_equal_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # torch's Muon iterates in half precision
    ours, theirs = Net(), Net()
    mine = Muon(ours, *SETTINGS)
    flat = [nn.Parameter(p.detach().flatten(1).clone()) for p in theirs.matrices()]
    muon = torch.optim.Muon(flat, SETTINGS[0], SETTINGS[3], adjust_lr_fn="match_rms_adamw")
    rest = [p for p in theirs.parameters() if all(p is not q for q in theirs.matrices())]
    adamw = torch.optim.AdamW(rest, *SETTINGS)
    for step in range(4):
        for net in (ours, theirs):
            gradients(net, step)
        for p, kernel in zip(flat, theirs.matrices(), strict=True):
            assert kernel.grad is not None
            p.grad = kernel.grad.flatten(1)
        for optimizer in (mine, muon, adamw):
            optimizer.step()
    for found, expected in zip(ours.matrices(), flat, strict=True):
        torch.testing.assert_close(found.detach().flatten(1), expected.detach(), atol=2e-5, rtol=0)
    known = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        if p.ndim < 2 or name.startswith(("conv_in", "time_embedding")):
            torch.testing.assert_close(p.detach(), known[name].detach())


def test_a_saved_state_goes_on_as_if_it_had_not_been_saved() -> None:
    whole, half, rest = Net(), Net(), Net()
    one, two, three = Muon(whole, *SETTINGS), Muon(half, *SETTINGS), Muon(rest, *SETTINGS)
    for step in range(4):
        gradients(whole, step)
        one.step()
    for step in range(4):
        if step == 2:
            rest.load_state_dict(half.state_dict())
            three.load_state_dict(two.state_dict())
        net, optimizer = (half, two) if step < 2 else (rest, three)
        gradients(net, step)
        optimizer.step()
    for found, expected in zip(rest.parameters(), whole.parameters(), strict=True):
        assert torch.equal(found, expected)
