"""What a training step costs, beside the loop of diffusers' text-to-image training script on the same models.

python -m gtg_bench.training.bench_steps [--variant NAME] [--steps N] [--rounds N] [--threads N]

That script (examples/text_to_image/train_text_to_image.py) is no part of the diffusers package; its loop is written
out here: images are read from files and go through the autoencoder in every step, texts through the text encoder. Both
train the same U-Net by the same Accelerate, optimiser, clipping and moving average, on the same pairs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from gtg_bench.benchmark.datasets.training import TrainingSet, open_training_set
from gtg_bench.methods.weights import Weights
from gtg_bench.training.ldm.encoded import Encoder
from gtg_bench.training.ldm.examples import LatentDraws
from gtg_bench.training.ldm.models import Models, load_models, locate_parts
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.loop.trainer import Batch, Trainer
from gtg_bench.training.recipe import LdmRecipe, load_recipe
from gtg_bench.training.variants import Variant, variant_of

WARM_UP = 3
"""Steps before the clock starts."""


@dataclass(frozen=True)
class Setting:
    """What both loops train.

    Attributes:
        weights, models: where training starts.
        variant: what is trained.
        recipe: schedule, moving average and loss.
        pairs: images and texts; the first `schedule.batch_size` times `steps` of them are used, in turn.
        steps: that are measured.
        folder: an empty one.
    """

    weights: Weights
    models: Models
    variant: Variant
    recipe: LdmRecipe
    pairs: TrainingSet
    steps: int
    folder: Path

    @property
    def batch(self) -> int:
        """Samples a step."""
        return self.recipe.schedule.batch_size

    @property
    def samples(self) -> int:
        """Samples of the whole run; one step more than is measured, so that its end is seen."""
        return self.batch * (WARM_UP + self.steps + 1)


@dataclass
class Clock:
    """Draws that note when the first sample of a step is asked for."""

    draws: Any
    batch: int
    times: list[float] = field(default_factory=list)

    def __getitem__(self, position: int) -> Any:
        if position % self.batch == 0:
            self.times.append(time.perf_counter())
        return self.draws[position]

    def seconds(self, steps: int) -> float:
        """Mean seconds a step, over `steps` steps after the warm-up."""
        return (self.times[WARM_UP + steps] - self.times[WARM_UP]) / steps


def ours(setting: Setting) -> float:
    """Seconds a step of `engine.Trainer`; images and texts were encoded before."""
    s, m = setting, setting.models
    encoder = Encoder(m, s.weights, s.folder / "cache", torch.device("cpu"), StopRequest(), shows=False)
    latents, texts, item = encoder.encode(s.pairs, range(s.samples), seed=0)
    empty = m.encoder.tokens([""])
    draws = LatentDraws(
        latents, texts, {"ids": empty.ids[0], "mask": empty.mask[0]}, item, s.recipe.caption_dropout, seed=0
    )
    clock = Clock(draws, s.batch)
    Trainer(
        name="bench",
        objective=NoiseObjective(m.unet, m.scheduler, m.encoder, "text_encoder" in s.variant.trains, 512),
        draws=clock,
        schedule=s.recipe.schedule.model_copy(update={"steps": s.samples // s.batch}),
        seed=0,
        work=s.folder / "work",
        ema=s.recipe.ema,
        accelerator=Accelerator(cpu=True),
    ).run()
    return clock.seconds(s.steps)


class _Files(Dataset[Batch]):
    """Images from PNG files and tokens of their texts, as the script's data set gives them."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        side = setting.models.image_size
        self.cut = transforms.Compose(
            [
                transforms.Resize(side, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.CenterCrop(side),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )
        for number in range(min(setting.samples, len(setting.pairs))):
            pixels = (setting.pairs[number].pixels() * 255).round().astype("uint8")
            Image.fromarray(pixels).save(setting.folder / f"{number}.png")

    def __len__(self) -> int:
        return self.setting.samples

    def __getitem__(self, position: int) -> Batch:
        number = position % len(self.setting.pairs)
        with Image.open(self.setting.folder / f"{number}.png") as image:
            pixels = self.cut(image.convert("L"))
        tokens = self.setting.models.encoder.tokens([self.setting.pairs[number].text])
        channels = self.setting.models.vae.config.in_channels
        return {"pixels": pixels.expand(channels, -1, -1), "ids": tokens.ids[0], "mask": tokens.mask[0]}


def theirs(setting: Setting) -> float:
    """Seconds a step of the script's loop."""
    m, schedule = setting.models, setting.recipe.schedule
    accelerator = Accelerator(cpu=True)
    trained = list(m.unet.parameters())
    optimizer = torch.optim.AdamW(
        trained, schedule.learning_rate, schedule.betas, schedule.epsilon, schedule.weight_decay, fused=True
    )
    clock = Clock(_Files(setting), setting.batch)
    loader: Any = DataLoader(clock, setting.batch, sampler=range(setting.samples))  # type: ignore[arg-type]
    steps = setting.samples // setting.batch
    rate: Any = get_scheduler("cosine", optimizer, num_warmup_steps=1, num_training_steps=steps)
    unet, optimizer, loader, rate = accelerator.prepare(m.unet, optimizer, loader, rate)
    average = EMAModel(trained)
    unet.train()
    for batch in loader:
        with accelerator.accumulate(unet):
            loss = _their_loss(m, unet, batch)
            accelerator.gather(loss.repeat(setting.batch)).mean().item()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, schedule.max_grad_norm)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        average.step(trained)
    return clock.seconds(setting.steps)


def _their_loss(models: Models, unet: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        latents = models.vae.encode(batch["pixels"]).latent_dist.sample() * models.vae.config.scaling_factor
        states = models.encoder.states(batch["ids"], batch["mask"])
    noise = torch.randn_like(latents)
    timesteps = torch.randint(0, models.scheduler.config.num_train_timesteps, (len(latents),))
    noisy = models.scheduler.add_noise(latents, noise, timesteps)
    return F.mse_loss(unet(noisy, timesteps, states, return_dict=False)[0].float(), noise)


WAYS: dict[str, Callable[[Setting], float]] = {"ours": ours, "diffusers' loop": theirs}


def measure(way: str, setting: Setting) -> dict[str, float]:
    """Seconds a step, and the peak memory of this process in MiB: measure each way in a process of its own."""
    seconds = WAYS[way](setting)
    return {"seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def show(rows: list[tuple[str, dict[str, float]]]) -> Table:
    """A row a way: medians over the rounds, and the ratio of ours to theirs, round by round."""
    table = Table(title="a training step")
    for column in ("loop", "s a step", "steps a second", "peak MiB"):
        table.add_column(column, justify="left" if column == "loop" else "right")
    found = {way: [row for name, row in rows if name == way] for way in WAYS}
    for way, each in found.items():
        seconds, peak = (statistics.median(row[name] for row in each) for name in ("seconds", "peak_mib"))
        table.add_row(way, f"{seconds:.3f}", f"{1 / seconds:.2f}", f"{peak:.0f}")
    first, second = found.values()
    ratios = [
        statistics.median(a[name] / b[name] for a, b in zip(first, second, strict=True))
        for name in ("seconds", "peak_mib")
    ]
    table.add_row("ratio, median over rounds", f"{ratios[0]:.2f}", "", f"{ratios[1]:.2f}", style="bold")
    return table


def main() -> None:
    """Measure both ways in turns, each in a process of its own, and print."""
    parser = argparse.ArgumentParser(description="what a training step costs, beside diffusers' loop")
    parser.add_argument("--variant", default="clip-ldm", help="one with a frozen text encoder")
    parser.add_argument("--recipe", default="phantom")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way is not None:
        torch.set_num_threads(asked.threads)
        print(json.dumps(_one(asked)))
        return
    rows = []
    for _ in range(asked.rounds):
        for way in WAYS:
            line = [sys.executable, "-m", "gtg_bench.training.bench_steps", *sys.argv[1:], "--way", way]
            done = subprocess.run(line, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            rows.append((way, json.loads(done.stdout.splitlines()[-1])))
    Console().print(show(rows))


def _one(asked: argparse.Namespace) -> dict[str, float]:
    variant, recipe = variant_of(asked.variant), load_recipe(asked.recipe)
    weights = locate_parts(asked.variant, variant, recipe)
    models, pairs = load_models(weights, variant, recipe, seed=0), open_training_set(recipe.data, None, {}, "train")
    with TemporaryDirectory() as folder:
        return measure(asked.way, Setting(weights, models, variant, recipe, pairs, asked.steps, Path(folder)))


if __name__ == "__main__":
    main()
