"""Encodes the images and texts that a training run needs, once, for all its processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from gtg_bench.benchmark.datasets.training import TrainingSet
from gtg_bench.benchmark.report.terminal import counting
from gtg_bench.methods.weights import Weights
from gtg_bench.training.cache import TensorCache, fill
from gtg_bench.training.encode import LatentMaker, TokenMaker, latent_facts, token_facts
from gtg_bench.training.ldm.examples import Usable
from gtg_bench.training.ldm.models import TrainableLdm
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.loop.progress import console
from gtg_bench.training.loop.signals import StopRequest


@dataclass(frozen=True)
class Encoder:
    """Encodes what a run needs.

    Attributes:
        models: autoencoder and text encoder.
        weights: their files.
        folder: of the cache.
        accelerator: the run's processes and device.
        stop: ends the work between two parts.
    """

    models: TrainableLdm
    weights: Weights
    folder: Path
    accelerator: Accelerator
    stop: StopRequest

    def encode(
        self, pairs: TrainingSet, positions: Sequence[int], seed: int
    ) -> tuple[TensorCache, TensorCache, Usable]:
        """Encode the items that a run of `seed` uses at `positions`, and nothing else.

        Returns:
            images (`mean`, `std`), texts (`ids`, `mask`), and position -> item, without items that cannot be read.

        Raises:
            Stopped: a stop was requested; what was encoded is kept.
        """
        images = LatentMaker(self.models.vae.to(self.accelerator.device), pairs, self.models.image_size)
        latents = TensorCache(self.folder, latent_facts(self.weights.places["vae"], self.models.image_size, pairs))
        place = self.weights.places.get("tokenizer", self.weights.places["text_encoder"])
        texts = TensorCache(self.folder, token_facts(self.models.text_encoder, place, pairs))
        item = Usable(EpochOrder(len(pairs), seed), len(pairs))
        tokens = TokenMaker(self.models.text_encoder, pairs)
        while True:
            numbers = list(dict.fromkeys(item(position) for position in positions))
            skipped = self._fill(f"images of {pairs.name}", latents, numbers, images)
            skipped |= self._fill(f"texts of {pairs.name}", texts, [n for n in numbers if n not in skipped], tokens)
            if not skipped:
                return latents, texts, item
            item = Usable(item.order, len(pairs), skipped | set(item.unusable))

    def _fill(self, what: str, cache: TensorCache, numbers: list[int], make: LatentMaker | TokenMaker) -> set[int]:
        """Fill a cache; return the items that cannot be made."""
        main, todo, started = self.accelerator.is_main_process, len(cache.missing(numbers)), time.monotonic()
        total = -(-todo // self.accelerator.num_processes)
        with counting(console, f"encoding {what}", silent=not main) as count:

            def show(done: int) -> None:
                self.stop.check()
                count(done, total)

            skipped = fill(cache, numbers, make, make.name, self.accelerator, show)
        if main and todo:
            seconds = time.monotonic() - started
            console.print(f"{what}: {todo - len(skipped)} encoded in {seconds:.1f} s, {len(numbers) - todo} cached")
        if main and skipped:
            log = cache.path / "skipped.jsonl"
            console.say(f"{what}: {len(skipped)} cannot be used, see {log}")
        return skipped
