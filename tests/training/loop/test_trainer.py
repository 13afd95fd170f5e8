"""The training engine: resume, moving average, accumulation, two processes, stops and diagnoses."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import DataError, GtgError, UsageError
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.training.loop import checkpoints
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.loop.progress import CURVE, seen
from gtg_bench.training.loop.signals import Stopped, StopRequest
from gtg_bench.training.loop.trainer import Trainer, Watch
from gtg_bench.training.recipe import EmaRecipe, Schedule

pytestmark = pytest.mark.usefixtures("torch")
PLAN = Schedule(
    steps=7, batch_size=4, learning_rate=0.05, warmup_steps=2, log_every=2, checkpoint_every=3, keep_checkpoints=2
)
EMA = EmaRecipe(decay=0.9)


class Killed(BaseException):
    """Ends a run like kill -9: no handler catches it."""


class Points:
    """Points and their sums; the one at position `broken` is NaN."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        x = torch.randn(3, generator=torch.Generator().manual_seed(seed_for("points", position)))
        return {"x": x * (math.nan if position == self.broken else 1.0), "y": x.sum()[None]}


class Line(nn.Module):
    """A line with dropout, whose n-th forward may fail."""

    def __init__(self, fails: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.dropout = nn.Linear(3, 1), nn.Dropout(0.2)
        self.fails, self.calls, self.seconds = fails, 0, 0.0

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        self.calls += 1
        if self.calls == self.fails:
            raise Killed
        return F.mse_loss(self.line(self.dropout(batch["x"])), batch["y"])


def trainer(work: Path, plan: Schedule = PLAN, fails: int | None = None, **options: Any) -> Trainer:
    facts: dict[str, Any] = {"name": "line", "objective": Line(fails), "draws": Points(), "schedule": plan, "seed": 1}
    return Trainer(**facts | {"work": work, "ema": EMA} | options)


def parameters(of: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in of.objective.parameters()])


def by_hand(plan: Schedule, steps: int) -> tuple[list[float], Tensor, Tensor]:
    """The first steps of the same run, written out with torch alone: losses, parameters, their moving average."""
    line, points = Line(), Points()
    optimizer = torch.optim.AdamW(line.parameters(), plan.learning_rate, plan.betas, plan.epsilon, plan.weight_decay)
    losses, average = [], [p.detach().clone() for p in line.parameters()]
    for step in range(steps):
        done = (step - plan.warmup_steps) / (plan.steps - plan.warmup_steps)
        factor = step / plan.warmup_steps if step < plan.warmup_steps else 0.5 * (1 + math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = plan.learning_rate * factor
        samples = [points[step * plan.batch_size + k] for k in range(plan.batch_size)]
        torch.manual_seed(seed_for(1, "line", step, 0, 0))
        loss = line({name: torch.stack([sample[name] for sample in samples]) for name in ("x", "y")})
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(line.parameters(), plan.max_grad_norm)
        optimizer.step()
        decay = min(1 - (1 + step) ** -EMA.power, EMA.decay) if step else 0.0
        for kept, p in zip(average, line.parameters(), strict=True):
            kept.sub_((1 - decay) * (kept - p.detach()))
        losses.append(loss.item())
    flat = torch.cat([p.detach().flatten() for p in line.parameters()])
    return losses, flat, torch.cat([p.flatten() for p in average])


def test_a_run_equals_one_written_out_by_hand(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"log_every": 1})
    losses, last, average = by_hand(plan, plan.steps)
    averaged = trainer(tmp_path / "averaged", plan)
    curve = averaged.run()
    assert [step for step, _ in curve] == [1, 2, 3, 4, 5, 6, 7]
    assert [loss for _, loss in curve] == pytest.approx(losses, abs=2e-6)
    torch.testing.assert_close(parameters(averaged), average, atol=1e-6, rtol=0)
    plain = trainer(tmp_path / "plain", plan, ema=None)
    plain.run()
    torch.testing.assert_close(parameters(plain), last, atol=1e-6, rtol=0)
    assert not torch.allclose(average, last)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 7])
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, at: int) -> None:
    whole = trainer(tmp_path / "whole")
    curve = whole.run()
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", fails=at).run()
    resumed = trainer(tmp_path / "killed")
    assert resumed.run() == curve
    torch.testing.assert_close(parameters(resumed), parameters(whole), atol=1e-7, rtol=0)
    assert (tmp_path / "killed" / CURVE).read_text() == (tmp_path / "whole" / CURVE).read_text()
    assert resumed.objective.calls == 7 - 3 * ((at - 1) // 3)  # type: ignore[operator]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    curve = first.run()
    again = trainer(tmp_path, fails=1)
    assert again.run() == curve
    assert torch.equal(parameters(again), parameters(first))
    assert not again.objective.training


def test_a_run_started_anew_ignores_the_older_checkpoints(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    with pytest.raises(Killed):
        trainer(tmp_path, resume=False, fails=5).run()
    assert [found.step for found in checkpoints.checkpoints(tmp_path / "checkpoints")] == [3]
    again = trainer(tmp_path)
    again.run()
    assert again.objective.calls == 4  # type: ignore[operator]


def test_two_runs_in_one_folder_and_a_full_disk_are_refused(tmp_path: Path) -> None:
    with checkpoints.alone(tmp_path), pytest.raises(UsageError, match="in use"):
        trainer(tmp_path).run()
    with pytest.raises(UsageError, match=r"checkpoints need .* GB.*--out"):
        checkpoints.check_space(tmp_path, 10**18, "checkpoints")
    trainer(tmp_path).run()


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-00000003").mkdir(parents=True)
    trainer(tmp_path).run()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-00000006", "step-00000007"}


class Overflowing(Line):
    """A line whose second gradient is infinite, as half precision's are where the scale of the loss is too large."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        loss = super().forward(batch)
        if self.calls == 2:
            loss.register_hook(lambda gradient: gradient * math.inf)
        return loss


def test_a_step_that_half_precision_skips_is_no_failure(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    run = trainer(tmp_path, objective=Overflowing(), accelerator=accelerator)
    run.run()
    assert torch.isfinite(parameters(run)).all()
    assert accelerator.scaler.get_scale() == 2.0


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"plan": PLAN.model_copy(update={"learning_rate": 0.5})},
        {"plan": PLAN.model_copy(update={"steps": 9})},
        {"ema": None},
        {"about": {"data": "other"}},
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    trainer(tmp_path).run()
    with pytest.raises(UsageError, match="step-00000007"):
        trainer(tmp_path, **changes).run()


def test_how_a_run_is_shown_and_kept_may_change(tmp_path: Path) -> None:
    curve = trainer(tmp_path).run()
    plan = PLAN.model_copy(update={"checkpoint_every": 5, "keep_checkpoints": 4, "device_batch": 2})
    assert trainer(tmp_path, plan).run() == curve


def test_accumulated_batches_equal_a_whole_one(tmp_path: Path) -> None:
    lines = [Line(), Line()]
    for line in lines:
        line.dropout = nn.Identity()  # type: ignore[assignment]
    plans = PLAN, PLAN.model_copy(update={"device_batch": 1})
    runs = [trainer(tmp_path / str(k), plans[k], objective=lines[k]) for k in range(2)]
    whole, parts = (run.run() for run in runs)
    assert [loss for _, loss in parts] == pytest.approx([loss for _, loss in whole], abs=2e-6)
    torch.testing.assert_close(parameters(runs[1]), parameters(runs[0]), atol=1e-6, rtol=0)
    assert lines[1].calls == 28


@pytest.mark.parametrize(
    ("batch", "device", "processes", "split"),
    [
        *((256, 16, 8, (16, 2)), (256, 16, 1, (16, 16)), (16, None, 2, (8, 1)), (16, 32, 1, (16, 1))),
        *((4, 2, 4, (1, 1)), (16, None, 3, None), (2, None, 4, None), (12, 5, 1, None)),
    ],
)
def test_batches_are_split_evenly_or_refused(
    batch: int, device: int | None, processes: int, split: tuple[int, int] | None
) -> None:
    plan = Schedule(steps=1, batch_size=batch, device_batch=device, learning_rate=1)
    with nullcontext() if split else pytest.raises(UsageError, match=f"batch_size {batch}"):
        assert plan.split(processes) == split


def test_a_loss_that_is_not_finite_stops_the_run_with_a_diagnosis(tmp_path: Path) -> None:
    broken = trainer(tmp_path, draws=Points(broken=4 * 4 + 1), explain=lambda positions: f"points {list(positions)}")
    text = r"loss .*nan at step 4 .*points \[16, 17, 18, 19\].*step-00000003"
    with pytest.raises(GtgError, match=text):
        broken.run()


def test_only_the_last_checkpoints_are_kept_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    plan, folder = PLAN.model_copy(update={"checkpoint_every": 1}), tmp_path / "checkpoints"
    curve = trainer(tmp_path, plan).run()
    assert [found.step for found in checkpoints.checkpoints(folder)] == [6, 7]
    (folder / "step-00000007").rename(folder / ".step-00000007")  # as a kill leaves it
    again = trainer(tmp_path, plan)
    assert again.run() == curve
    assert again.objective.calls == 1  # type: ignore[operator]
    (folder / "step-00000007" / "extra.pt").write_bytes(b"")
    with pytest.raises(DataError, match=r"step-00000007.*remove it"):
        trainer(tmp_path, plan).run()


def test_what_is_watched_sees_the_moving_average(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    watched: dict[int, Tensor] = {}

    def look(step: int) -> dict[str, float]:
        assert not run.objective.training
        watched[step] = parameters(run)
        return {"first": float(watched[step][0])}

    run.watch = Watch(3, look)
    run.run()
    assert list(watched) == [3, 6, 7]
    assert torch.equal(watched[7], parameters(run))
    assert [row["step"] for row in seen(tmp_path)] == [3, 6, 7]
    _, _, at_three = by_hand(PLAN, 3)
    torch.testing.assert_close(watched[3], at_three, atol=1e-6, rtol=0)


def test_a_stop_saves_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    curve = trainer(tmp_path / "whole").run()
    stop = StopRequest()
    stopped = trainer(tmp_path / "stopped", stop=stop)
    stopped.watch = Watch(2, lambda step: (setattr(stop, "asked", True), {"step": float(step)})[1])
    with pytest.raises(Stopped, match="saved at step 2 of 7"):
        stopped.run()
    resumed = trainer(tmp_path / "stopped")
    assert resumed.run() == curve
    assert resumed.objective.calls == 5  # type: ignore[operator]


def test_signals_are_noted_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(Stopped):
            stop.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_epoch_is_a_permutation() -> None:
    order = EpochOrder(12, seed=5)
    epochs = [[order(12 * epoch + k) for k in range(12)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [EpochOrder(12, 5)(k) for k in range(12)] == epochs[0] != [EpochOrder(12, 6)(k) for k in range(12)]
    with pytest.raises(ValueError, match="nothing to train on"):
        EpochOrder(0, 1)


LONG = Schedule(steps=14, batch_size=8, learning_rate=0.05, warmup_steps=2, log_every=1, checkpoint_every=2)


class Slow(Line):
    """A line without dropout that takes its time."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        time.sleep(self.seconds)
        return F.mse_loss(self.line(batch["x"]), batch["y"])


def train_slowly(
    work: Path, seconds: float, rank: int = 0, processes: int = 1, port: int = 0, workers: int = 0
) -> None:
    """In a process of its own, with a group of its own: train, and write what came out beside the checkpoints."""
    os.setpgrp()
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
    if processes > 1:
        os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    AcceleratorState._reset_state(reset_partial_state=True)
    slow = Slow()
    slow.seconds = seconds
    with StopRequest() as stop:
        run = trainer(work, LONG, objective=slow, accelerator=Accelerator(cpu=True), stop=stop, workers=workers)
        try:
            curve = run.run()
        except Stopped:
            return
    assert run.accelerator is not None
    facts = {"parameters": parameters(run).tolist(), "curve": curve, "processes": run.accelerator.num_processes}
    (work / f"result-{rank}.json").write_text(json.dumps(facts))


def started(work: Path, *arguments: Any) -> Any:
    process = get_context("fork").Process(target=train_slowly, args=(work, *arguments))
    process.start()
    with suppress(OSError):
        os.setpgid(process.pid, process.pid)  # as the process itself does: whoever comes first
    return process


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, torch: Any) -> dict[str, Any]:
    """What one process ends with."""
    work = tmp_path_factory.mktemp("alone")
    started(work, 0.0).join(60)
    return json.loads((work / "result-0.json").read_text())


def test_two_processes_equal_one(tmp_path: Path, alone: dict[str, Any], free_port: int) -> None:
    both = [started(tmp_path, 0.0, rank, 2, free_port) for rank in range(2)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    for rank in range(2):
        found = json.loads((tmp_path / f"result-{rank}.json").read_text())
        assert (found["processes"], alone["processes"]) == (2, 1)
        assert found["parameters"] == pytest.approx(alone["parameters"], abs=1e-6)
        assert [loss for _, loss in found["curve"]] == pytest.approx([loss for _, loss in alone["curve"]], abs=2e-6)


def ended(work: Path, when: Callable[[], bool], number: int, workers: int = 0, seconds: float = 0.03) -> int:
    """Train slowly, send a signal to all its processes as soon as `when` holds, and return the exit code."""
    process = started(work, seconds, 0, 1, 0, workers)
    until = time.monotonic() + 60
    while not when() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.002)
    with suppress(ProcessLookupError):  # it may have ended by itself meanwhile
        os.killpg(process.pid, number)
    process.join(60)
    return int(process.exitcode)


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments_loses_nothing_but_steps(tmp_path: Path, alone: dict[str, Any]) -> None:
    """A step takes 0.1 s and a process lives 0.4 s at most, so 14 steps need at least three kills."""
    random, kills, reached = Random(0), 0, 0
    while kills < 20 and not (tmp_path / "result-0.json").exists():
        moment = time.monotonic() + random.uniform(0.02, 0.4)
        code = ended(tmp_path, lambda moment=moment: time.monotonic() > moment, signal.SIGKILL, seconds=0.1)
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        steps = [found.step for found in checkpoints.checkpoints(tmp_path / "checkpoints")]
        assert max(steps, default=0) >= reached
        reached = max(steps, default=0)
    assert kills >= 3
    started(tmp_path, 0.0).join(60)
    found = json.loads((tmp_path / "result-0.json").read_text())
    assert found["parameters"] == pytest.approx(alone["parameters"], abs=1e-7)
    assert found["curve"] == alone["curve"]


@pytest.mark.parametrize("workers", [0, 1])
def test_sigterm_to_all_processes_saves_and_ends_well(tmp_path: Path, alone: dict[str, Any], workers: int) -> None:
    assert ended(tmp_path, (tmp_path / CURVE).exists, signal.SIGTERM, workers) == 0
    assert checkpoints.checkpoints(tmp_path / "checkpoints")
    assert not (tmp_path / "result-0.json").exists()
    started(tmp_path, 0.0).join(60)
    assert json.loads((tmp_path / "result-0.json").read_text())["curve"] == alone["curve"]
