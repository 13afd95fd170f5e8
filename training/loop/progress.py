"""Progress of a training run: a bar or log lines, the loss curve on disk, and Accelerate's trackers."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from accelerate import Accelerator
from pydantic import TypeAdapter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gtg_bench.benchmark.paths import atomic
from gtg_bench.benchmark.report.terminal import Terminal
from gtg_bench.benchmark.report.training_files import CURVE, SEEN
from gtg_bench.benchmark.state import read_lines

console = Terminal(stderr=True, highlight=False)
_ROWS = TypeAdapter(dict[str, int | float])


class Monitor:
    """Shows and logs the progress of one run; on all processes but the main one it does nothing.

    Args:
        name: name of the run.
        steps: optimiser steps of the whole run.
        batch_size: samples per step.
        work: folder of the curve and the validation log.
        facts: what trackers record about the run.
        accelerator: the run's processes and trackers.
        first: steps that were done before.
    """

    def __init__(
        self,
        name: str,
        steps: int,
        batch_size: int,
        work: Path,
        facts: Mapping[str, str],
        accelerator: Accelerator,
        first: int,
    ) -> None:
        self.name, self.steps, self.batch_size, self.work, self.facts = name, steps, batch_size, work, dict(facts)
        self.accelerator, self.first, self.started = accelerator, first, time.monotonic()
        self.main = accelerator.is_main_process
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not (self.main and console.is_terminal),
        )
        self.task = self.bar.add_task(name, total=steps, completed=first, facts="")

    def __enter__(self) -> Self:
        if self.first:
            self.tell(f"{self.name}: resumed at step {self.first}")
        if self.main:
            _forget(self.work, self.first)
        if self.accelerator.log_with:
            self.accelerator.init_trackers(self.name, self.facts)
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []  # a second part of the training starts its own

    def tell(self, text: str) -> None:
        """Print a line above the bar."""
        if self.main:
            console.say(text)

    def step(self, step: int, loss: float, rate: float) -> None:
        """After every step: the bar and the trackers."""
        speed = self._steps_per_second(step) * self.batch_size
        self.bar.update(self.task, completed=step, facts=f"loss {loss:.4f}  lr {rate:.1e}  {speed:.1f} images/s")
        if self.accelerator.log_with:
            self.accelerator.log({"loss": loss, "learning_rate": rate, "images_per_second": speed}, step=step)

    def point(self, step: int, curve: list[tuple[int, float]]) -> None:
        """At a point of the curve: write the file, and a log line if there is no bar."""
        if not self.main:
            return
        with atomic(self.work / CURVE) as part, part.open("w", newline="") as file:
            csv.writer(file).writerows([("step", "loss"), *curve])
        if not console.is_terminal:
            speed, steps = self._steps_per_second(step), self.steps
            left = (steps - step) / speed / 60
            self.tell(
                f"{self.name}: step {step}/{steps}  loss {curve[-1][1]:.4f}  {1 / speed:.2f} s/step  "
                f"{speed * self.batch_size:.1f} images/s  {left:.0f} min left"
            )

    def seen(self, step: int, numbers: Mapping[str, float]) -> None:
        """After a validation: its numbers, into the file, the trackers and a line."""
        with (self.work / SEEN).open("a") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        if self.accelerator.log_with:
            self.accelerator.log({f"validation/{name}": value for name, value in numbers.items()}, step=step)
        numbers_text = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        self.tell(f"{self.name}: step {step}  validation  {numbers_text}")

    def _steps_per_second(self, step: int) -> float:
        return (step - self.first) / max(time.monotonic() - self.started, 1e-9)


def seen(work: Path) -> list[dict[str, Any]]:
    """The validations of a run so far, each with its step; damaged lines are skipped."""
    path = work / SEEN
    rows = read_lines(path, _ROWS)[0] if path.exists() else []
    return [row for row in rows if "step" in row]


def _forget(work: Path, step: int) -> None:
    """Drop what was seen after a step: those steps are made again."""
    if (path := work / SEEN).exists():
        kept = [row for row in seen(work) if row["step"] <= step]
        with atomic(path) as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
