"""Cost of a training step, relative to the loop of diffusers' text-to-image script on the same models.

    python tests/benchmarks/training_step.py [--variant NAME] [--recipe NAME] [--steps N] [--rounds N] [--threads N]

diffusers' script (examples/text_to_image/train_text_to_image.py) is not part of its package, so its loop is written out
here: in every step images are read from files and go through the autoencoder, and texts through the text encoder. Both
loops train the same U-Net with the same optimiser, clipping and moving average on the same pairs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from gtg_bench.benchmark.datasets.training import open_training_set
from gtg_bench.training.ldm.encoded import Encoder
from gtg_bench.training.ldm.examples import LatentDraws
from gtg_bench.training.ldm.models import load_models, locate_parts
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.loop.trainer import Trainer
from gtg_bench.training.recipe import load_recipe
from gtg_bench.training.variants import variant_of

WARM_UP = 3
"""Steps before the clock starts."""


class Clock(Dataset[Any]):
    """Passes samples on and notes when the first one of each step is asked for."""

    def __init__(self, samples: Any, batch: int, count: int) -> None:
        self.samples, self.batch, self.count, self.times = samples, batch, count, list[float]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Any:
        if position % self.batch == 0:
            self.times.append(time.perf_counter())
        return self.samples[position]

    def seconds(self, steps: int) -> float:
        """Mean seconds per step after the warm-up."""
        return (self.times[WARM_UP + steps] - self.times[WARM_UP]) / steps


class Files:
    """Images from PNG files and tokens of their texts, as diffusers' script reads them."""

    def __init__(self, pairs: Any, models: Any, folder: Path, count: int) -> None:
        side = models.image_size
        steps = [transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()]
        self.prepare = transforms.Compose([*steps, transforms.Normalize([0.5], [0.5])])
        self.pairs, self.models, self.folder, self.count = pairs, models, folder, min(count, len(pairs))
        for number in range(self.count):
            Image.fromarray((pairs[number].pixels() * 255).round().astype("uint8")).save(folder / f"{number}.png")

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        with Image.open(self.folder / f"{position % self.count}.png") as image:
            pixels = self.prepare(image.convert("L")).expand(self.models.vae.config.in_channels, -1, -1)
        tokens = self.models.text_encoder.tokens([self.pairs[position % self.count].text])
        return {"pixels": pixels, "ids": tokens.ids[0], "mask": tokens.mask[0]}


def our_step(models: Any, weights: Any, recipe: Any, pairs: Any, steps: int, folder: Path) -> float:
    """Seconds per step of `Trainer`; images and texts are encoded before."""
    batch = recipe.schedule.batch_size
    count, accelerator = batch * (WARM_UP + steps + 1), Accelerator(cpu=True)
    encoder = Encoder(models, weights, folder / "cache", accelerator, StopRequest())
    latents, texts, item = encoder.encode(pairs, range(count), seed=0)
    empty = models.text_encoder.tokens([""])
    empty_rows = {"ids": empty.ids[0], "mask": empty.mask[0]}
    clock = Clock(LatentDraws(latents, texts, empty_rows, item, recipe.caption_dropout, seed=0), batch, count)
    Trainer(
        name="benchmark",
        objective=NoiseObjective(models.unet, models.scheduler, models.text_encoder, False, 512),
        draws=clock,
        schedule=recipe.schedule.model_copy(update={"steps": count // batch}),
        seed=0,
        work=folder / "work",
        ema=recipe.ema,
        accelerator=accelerator,
    ).run()
    return clock.seconds(steps)


def diffusers_step(models: Any, recipe: Any, pairs: Any, steps: int, folder: Path) -> float:
    """Seconds per step of diffusers' loop."""
    schedule, accelerator = recipe.schedule, Accelerator(cpu=True)
    batch, trained = schedule.batch_size, list(models.unet.parameters())
    optimizer: Any = torch.optim.AdamW(trained, schedule.learning_rate, schedule.betas, schedule.epsilon, fused=True)
    count = batch * (WARM_UP + steps + 1)
    clock = Clock(Files(pairs, models, folder, count), batch, count)
    rate: Any = get_scheduler("cosine", optimizer, num_warmup_steps=1, num_training_steps=count // batch)
    unet, optimizer, loader, rate = accelerator.prepare(models.unet, optimizer, DataLoader(clock, batch), rate)
    average = EMAModel(trained)
    unet.train()
    for rows in loader:
        with accelerator.accumulate(unet):
            with torch.no_grad():
                latents = models.vae.encode(rows["pixels"]).latent_dist.sample() * models.vae.config.scaling_factor
                states = models.text_encoder.states(rows["ids"], rows["mask"])
            noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, (len(latents),))
            noisy = models.scheduler.add_noise(latents, noise, timesteps)
            loss = F.mse_loss(unet(noisy, timesteps, states, return_dict=False)[0].float(), noise)
            accelerator.gather(loss.repeat(batch)).mean().item()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, schedule.max_grad_norm)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        average.step(trained)
    return clock.seconds(steps)


def main() -> None:
    """Measure both loops in turns and print the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="clip-ldm", help="a variant with a frozen text encoder")
    parser.add_argument("--recipe", default="phantom")
    for name, default in (("steps", 30), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    variant, recipe = variant_of(asked.variant), load_recipe(asked.recipe)
    weights, pairs = locate_parts(asked.variant, variant, recipe), open_training_set(recipe.data, None, {}, "train")
    ratios = []
    for _ in range(asked.rounds):
        with TemporaryDirectory() as one, TemporaryDirectory() as other:
            ours = our_step(load_models(weights, variant, recipe, 0), weights, recipe, pairs, asked.steps, Path(one))
            theirs = diffusers_step(load_models(weights, variant, recipe, 0), recipe, pairs, asked.steps, Path(other))
        ratios.append(ours / theirs)
        print(f"gtg-bench {ours:.3f} s per step, diffusers {theirs:.3f} s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
