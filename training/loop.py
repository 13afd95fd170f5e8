"""The one training loop: every stage hands it modules and a loss, and gets checkpoints, resume and a curve.

What a step does depends only on (seed, step), so a run that was killed and resumed equals one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from rich.console import Console
from torch import Tensor, nn

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.benchmark.paths import atomic
from gtg_bench.training.recipe import Schedule

console = Console(stderr=True)
_CHECKPOINT = "state.pt"
Curve = list[tuple[int, float]]
"""(step, mean loss since the last point)"""


@dataclass
class Fit:
    """A training run in progress.

    Attributes:
        name: for the log.
        modules: what is trained.
        loss: (step, generator) -> scalar loss; draws all its random numbers from the generator.
        schedule: steps, learning rate and the like.
        seed: of the whole run.
        workdir: where checkpoints and the log are kept.
        ema: moving average of the parameters of `modules`, updated after every step.
        about: whatever else decides the result; a checkpoint of something else is refused.
    """

    name: str
    modules: nn.Module
    loss: Callable[[int, torch.Generator], Tensor]
    schedule: Schedule
    seed: int
    workdir: Path
    ema: EMAModel | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Curve:
        """Train to the last step, from the last checkpoint if there is one; return the loss curve."""
        optimizer, scheduler = self._optimizer()
        step, curve, window = self._resume(optimizer, scheduler)
        self.modules.train()
        started, first = time.monotonic(), step
        while step < self.schedule.steps:
            window.append(self._step(step, optimizer, scheduler))
            step += 1
            if step % self.schedule.log_every == 0 or step == self.schedule.steps:
                curve.append((step, round(sum(window) / len(window), 6)))
                window = []
                self._log(step, curve[-1][1], (time.monotonic() - started) / (step - first))
            if step % self.schedule.checkpoint_every == 0 or step == self.schedule.steps:
                self._save(step, curve, window, optimizer, scheduler)
        self.modules.eval()
        return curve

    def _optimizer(self) -> tuple[torch.optim.Optimizer, Any]:
        s = self.schedule
        parameters = [p for p in self.modules.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, s.learning_rate, (0.9, 0.999), 1e-8, s.weight_decay)
        scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=s.warmup_steps, num_training_steps=s.steps)
        return optimizer, scheduler

    def _step(self, step: int, optimizer: torch.optim.Optimizer, scheduler: Any) -> float:
        seed = seed_for(self.seed, self.name, step)
        torch.manual_seed(seed)  # for dropout, which takes no generator
        generator = torch.Generator().manual_seed(seed)
        loss = self.loss(step, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}", step)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.modules.parameters(), self.schedule.max_grad_norm))
        if not math.isfinite(norm):
            raise self._diverged(f"the gradient's norm is {norm}", step)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.step(self.modules.parameters())
        return value

    def _diverged(self, what: str, step: int) -> GtgError:
        return GtgError(
            f"{self.name}: {what} at step {step}; lower the learning rate ({self.schedule.learning_rate}) or look at "
            f"the data of that step; {self.workdir} holds the last state"
        )

    def _save(
        self, step: int, curve: Curve, window: list[float], optimizer: torch.optim.Optimizer, scheduler: Any
    ) -> None:
        state = {
            "step": step,
            "run": self._identity(),
            "curve": curve,
            "window": window,
            "modules": self.modules.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }
        with atomic(self.workdir / _CHECKPOINT) as part:
            torch.save(state, part)
        with atomic(self.workdir / "curve.json") as part:
            part.write_text(json.dumps(curve))

    def _identity(self) -> str:
        """What a checkpoint must agree on: name, seed, schedule, recipe and shapes."""
        shapes = [list(parameter.shape) for parameter in self.modules.parameters()]
        return json.dumps([self.name, self.seed, self.schedule.model_dump(), self.about, shapes])

    def _resume(self, optimizer: torch.optim.Optimizer, scheduler: Any) -> tuple[int, Curve, list[float]]:
        path = self.workdir / _CHECKPOINT
        if not path.exists():
            return 0, [], []
        state = torch.load(path, weights_only=True)
        if state.get("run") != self._identity():
            raise GtgError(f"{path} is of a run with another recipe or seed; choose another --out or move it away")
        self.modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        console.print(f"{self.name}: resumed at step {state['step']}")
        return state["step"], [tuple(point) for point in state["curve"]], list(state["window"])

    def _log(self, step: int, loss: float, seconds: float) -> None:
        left = (self.schedule.steps - step) * seconds / 60
        place = f"{self.name}: step {step}/{self.schedule.steps}"
        console.print(f"{place}  loss {loss:.4f}  {seconds:.2f} s/step  {left:.0f} min left")


def batch_indices(count: int, batch: int, step: int, seed: int) -> Tensor:
    """int64 [batch]: the items of a step; every epoch is a fresh permutation, its remainder is dropped."""
    batch = min(batch, count)
    epoch, position = divmod(step, count // batch)
    generator = torch.Generator().manual_seed(seed_for(seed, "epoch", epoch))
    return torch.randperm(count, generator=generator)[position * batch : (position + 1) * batch]
