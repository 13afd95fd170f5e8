"""The training loop, on Hugging Face Accelerate: every stage gives it an objective and draws.

All randomness comes from the draws and from seeds of (seed, step): a resumed run equals an uninterrupted one, and
several processes that share a batch equal a single one.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from gtg_bench.benchmark.api.errors import GtgError
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.training.loop import checkpoints
from gtg_bench.training.loop.muon import Muon
from gtg_bench.training.loop.progress import Monitor
from gtg_bench.training.loop.signals import SIGNALS, Stopped, StopRequest
from gtg_bench.training.recipe import EmaRecipe, Schedule

Batch = dict[str, Tensor]
Curve = list[tuple[int, float]]
"""(step, mean loss since the last point)"""

MOST_SKIPPED = 50
"""Optimiser steps in a row that half precision may skip for an overflow before that counts as a failure."""


class Draws(Protocol):
    """What is trained on: one sample a position, counted over the whole run.

    Everything that is random about a sample is drawn here, from a generator that is seeded with the run's seed and the
    position.
    """

    def __getitem__(self, position: int) -> Batch: ...


@dataclass(frozen=True)
class Watch:
    """Validation during training.

    Attributes:
        every: steps between validations; the last step is always validated.
        look: step -> numbers by name; called on the main process while the parameters hold the moving average.
    """

    every: int
    look: Callable[[int], Mapping[str, float]]


@dataclass
class Trainer:
    """A training run.

    Attributes:
        name: for logs, and part of every seed.
        objective: forward(batch) gives the scalar mean loss; its parameters that require gradients are trained.
        draws: see `Draws`.
        schedule: steps, batch and learning rate.
        seed: of the whole run.
        work: folder of checkpoints, curve and logs.
        about: what else decides the result; checkpoints of other runs are refused.
        ema: moving average of the trained parameters; None: there is none.
        accelerator: devices, processes, precision and trackers, which the caller ends; None: as the environment says.
        watch: validation during training.
        workers: data loading processes; 0 loads in this one.
        resume: whether to go on from the last checkpoint; if not, those that are there are removed.
        stop: a request to stop early.
        explain: positions -> a description of their samples, for error messages.
    """

    name: str
    objective: nn.Module
    draws: Draws
    schedule: Schedule
    seed: int
    work: Path
    about: Mapping[str, Any] = field(default_factory=dict)
    ema: EmaRecipe | None = None
    accelerator: Accelerator | None = None
    watch: Watch | None = None
    workers: int = 0
    resume: bool = True
    stop: StopRequest | None = None
    explain: Callable[[Sequence[int]], str] = lambda positions: f"samples {positions[0]} to {positions[-1]}"

    def run(self) -> Curve:
        """Train to the last step; return the loss curve. Afterwards the parameters hold the moving average.

        Raises:
            Stopped: a stop was requested; the state is saved.
            UsageError: a checkpoint is of another run, the disk is too full, the batch cannot be shared out, or another
                run has the same `work`.
            GtgError: the loss or the gradient is not finite; says where, and what to try.
        """
        return _Run(self).run()

    @property
    def identity(self) -> str:
        """What a checkpoint must agree on."""
        shapes = [list(p.shape) for p in self.objective.parameters() if p.requires_grad]
        ema = None if self.ema is None else self.ema.model_dump()
        parts = [self.name, self.seed, self.schedule.deciding(), ema, dict(self.about), shapes]
        return json.dumps(parts, sort_keys=True, default=str)


class _Run:
    """One call of `Trainer.run`: the state that changes."""

    def __init__(self, plan: Trainer) -> None:
        self.plan, self.schedule = plan, plan.schedule
        self.accelerator = plan.accelerator or Accelerator()
        self.batch, accumulated = self.schedule.split(self.accelerator.num_processes)
        self.accelerator.gradient_accumulation_steps = accumulated
        self.folder = plan.work / "checkpoints"
        self.trained = [p for p in plan.objective.parameters() if p.requires_grad]
        self.average = _average(plan.ema, self.trained, self.accelerator.device)
        self.step, self.skipped, self.curve, self.window = 0, 0, list[tuple[int, float]](), list[float]()
        self.norm: Any = None
        needed = checkpoints.bytes_needed(plan.objective, plan.ema is not None, self.schedule.keep_checkpoints)
        checkpoints.check_space(plan.work, needed, "checkpoints")

    def run(self) -> Curve:
        with checkpoints.alone(self.plan.work, self.accelerator.is_main_process):
            if self.accelerator.is_main_process:
                checkpoints.tidy(self.folder, keep=self.plan.resume)
            self.accelerator.wait_for_everyone()
            return self._train()

    def _train(self) -> Curve:
        s = self.schedule
        settings = (s.learning_rate, s.betas, s.epsilon, s.weight_decay)
        optimizer: torch.optim.Optimizer
        if s.optimizer == "muon":
            optimizer = Muon(self.plan.objective, *settings)
        else:
            fused = self.accelerator.scaler is None  # Accelerate cannot see a fused step that an overflow skipped
            optimizer = torch.optim.AdamW(self.trained, *settings, fused=fused)
        self.scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=s.warmup_steps, num_training_steps=s.steps)
        self.model, self.optimizer = self.accelerator.prepare(self.plan.objective, optimizer)
        self._resume()
        self.model.train()
        about = json.dumps(self.plan.about, default=str)
        facts = {"seed": str(self.plan.seed), "schedule": s.model_dump_json(), "about": about}
        self.monitor = Monitor(
            self.plan.name, s.steps, s.batch_size, self.plan.work, facts, self.accelerator, self.step
        )
        with self.monitor:
            self._steps()
        if self.average is not None:
            self.average.copy_to(self.trained)
        self.plan.objective.eval()
        return self.curve

    def _steps(self) -> None:
        losses: list[Tensor] = []
        for batch in self._batches():
            losses.append(self._backward(batch, len(losses)))
            if not self.accelerator.sync_gradients:
                continue
            self._end_step(self._checked(torch.stack(losses).mean()))
            losses = []

    def _batches(self) -> Iterator[Batch]:
        positions = range(self.step * self.schedule.batch_size, self.schedule.steps * self.schedule.batch_size)
        dataset: Dataset[Batch] = self.plan.draws  # type: ignore[assignment]
        workers = self.plan.workers
        loader = DataLoader(
            dataset,
            self.batch,
            sampler=_Positions(positions),
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_let_the_main_process_hear,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return iter(self.accelerator.prepare(loader)) if len(positions) else iter(())

    def _backward(self, batch: Batch, number: int) -> Tensor:
        rank = self.accelerator.process_index
        torch.manual_seed(seed_for(self.plan.seed, self.plan.name, self.step, number, rank))
        with self.accelerator.accumulate(self.model):
            loss: Tensor = self.model(batch)
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                self.norm = self.accelerator.clip_grad_norm_(self.trained, self.schedule.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach().float()

    def _checked(self, loss: Tensor) -> float:
        """The step's loss over all processes. Raises GtgError if it or the gradient is not finite."""
        value = float(self.accelerator.reduce(loss, "mean"))
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value}")
        self.skipped = self.skipped + 1 if self.accelerator.optimizer_step_was_skipped else 0
        norm = None if self.norm is None else float(self.norm)
        if norm is not None and not math.isfinite(norm) and not self.skipped:
            raise self._diverged(f"the gradient's norm is {norm}")
        if self.skipped > MOST_SKIPPED:
            raise self._diverged(f"half precision overflowed in {self.skipped} steps in a row; try --precision bf16")
        return value

    def _end_step(self, loss: float) -> None:
        s, plan = self.schedule, self.plan
        if not self.skipped:
            self.scheduler.step()
            if self.average is not None:
                self.average.step(self.trained)
        self.step += 1
        last = self.step == s.steps
        self.window.append(loss)
        self.monitor.step(self.step, loss, self.scheduler.get_last_lr()[0])
        if self.step % s.log_every == 0 or last:
            self.curve.append((self.step, round(sum(self.window) / len(self.window), 6)))
            self.window = []
            self.monitor.point(self.step, self.curve)
        if plan.watch is not None and (self.step % plan.watch.every == 0 or last):
            self._look(plan.watch)
        stopped = self._asked_to_stop()
        if stopped or last or self.step % s.checkpoint_every == 0:
            self._save()
        if stopped and not last:
            raise Stopped(f"{plan.name}: stopped, saved at step {self.step} of {s.steps}")

    def _look(self, watch: Watch) -> None:
        if self.accelerator.is_main_process:
            if self.average is not None:
                self.average.store(self.trained)
                self.average.copy_to(self.trained)
            self.plan.objective.eval()
            try:
                self.monitor.seen(self.step, watch.look(self.step))
            finally:
                self.plan.objective.train()
                if self.average is not None:
                    self.average.restore(self.trained)
        self.accelerator.wait_for_everyone()

    def _asked_to_stop(self) -> bool:
        """Whether any process was asked: all of them end after the same step."""
        asked = self.plan.stop is not None and self.plan.stop.asked
        if self.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _save(self) -> None:
        extra = {
            "step": self.step,
            "curve": self.curve,
            "window": self.window,
            "scheduler": self.scheduler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }
        keep = self.schedule.keep_checkpoints
        checkpoints.save(self.accelerator, self.folder, self.step, keep, self.plan.identity, extra)

    def _resume(self) -> None:
        found = checkpoints.checkpoints(self.folder)
        if not found:
            return
        extra = checkpoints.load(self.accelerator, found[-1], self.plan.identity)
        self.scheduler.load_state_dict(extra["scheduler"])
        if self.average is not None:
            self.average.load_state_dict(extra["average"])
            self.average.to(self.accelerator.device)
        self.step, self.window = extra["step"], list(extra["window"])
        self.curve = [(step, loss) for step, loss in extra["curve"]]

    def _diverged(self, what: str) -> GtgError:
        first = self.step * self.schedule.batch_size
        rate = self.scheduler.get_last_lr()[0]
        known = checkpoints.checkpoints(self.folder)
        last = f"the last good state is {known[-1].path}" if known else "no checkpoint was saved"
        samples = self.plan.explain(range(first, first + self.schedule.batch_size))
        return GtgError(
            f"{self.plan.name}: {what} at step {self.step} (learning rate {rate:.3g}, precision "
            f"{self.accelerator.mixed_precision}; {samples}); "
            f"{last}. Lower the learning rate ({self.schedule.learning_rate:g}) or look at those samples"
        )


def _let_the_main_process_hear(worker: int) -> None:
    """A signal to all processes must not end those that make the draws before a checkpoint is saved."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _Positions(Sampler[int]):
    """Positions in their order."""

    def __init__(self, positions: range) -> None:
        self.positions = positions

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)


def _average(recipe: EmaRecipe | None, trained: list[nn.Parameter], device: torch.device) -> EMAModel | None:
    if recipe is None:
        return None
    average = EMAModel(trained, decay=recipe.decay, use_ema_warmup=True, power=recipe.power)
    average.to(device)
    return average
