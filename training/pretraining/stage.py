"""One pretraining: what is trained on what, how it is saved, and what is measured when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.loop.trainer import Curve, Draws, Trainer
from gtg_bench.training.recipe import Schedule


@dataclass(frozen=True)
class Stage:
    """A pretraining that is about to run.

    Attributes:
        objective: what is trained, see `engine.Trainer`.
        draws: on what.
        save: writes the trained model's files into a folder; returns what the card says of them.
        results: measures on held-out data what was learned.
    """

    objective: nn.Module
    draws: Draws
    save: Callable[[Path], dict[str, Any]]
    results: Callable[[], dict[str, float]]

    def train(
        self,
        name: str,
        schedule: Schedule,
        seed: int,
        work: Path,
        about: dict[str, Any],
        stop: StopRequest | None = None,
    ) -> Curve:
        """Train to the last step, from the last checkpoint in `work` if there is one; return the loss curve.

        On the CPU, as all of the zoo: what is learned does not depend on the machine, and the models are too small to
        gain from a GPU.

        Raises:
            Stopped: a stop was requested; the same call resumes.
            UsageError: the checkpoint is of another recipe or seed.
        """
        return Trainer(
            name=name,
            objective=self.objective,
            draws=self.draws,
            schedule=schedule,
            seed=seed,
            work=work,
            about=about,
            accelerator=Accelerator(cpu=True),
            stop=stop,
        ).run()
