"""The encoded images and texts that a training run needs: made once, kept in shards, shared by all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gtg_bench.benchmark.datasets.training import TrainingSet
from gtg_bench.methods.weights import Weights
from gtg_bench.training.encode import LatentMaker, TokenMaker
from gtg_bench.training.filling import FillReport, Make, fill
from gtg_bench.training.identities import latent_facts, open_cache, token_facts
from gtg_bench.training.ldm.examples import Usable
from gtg_bench.training.ldm.models import Models
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.loop.progress import console
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.shards import ShardCache


@dataclass(frozen=True)
class Encoder:
    """Encodes what a run needs.

    Attributes:
        models: autoencoder and text encoder.
        weights: their files.
        folder: of the cache.
        device: where images are encoded.
        stop: ends the work between two chunks.
        shows: whether this process shows what it does.
    """

    models: Models
    weights: Weights
    folder: Path
    device: torch.device
    stop: StopRequest
    shows: bool

    def encode(self, pairs: TrainingSet, positions: Sequence[int], seed: int) -> tuple[ShardCache, ShardCache, Usable]:
        """Encode what a run of `seed` looks at in `positions`, and nothing else.

        Returns:
            images (`mean`, `std`), texts (`ids`, `mask`), and position -> item, items that cannot be read left out.

        Raises:
            Stopped: somebody asked to stop; what was encoded is kept.
        """
        images = LatentMaker(self.models.vae.to(self.device), pairs, self.models.image_size)
        latents = open_cache(self.folder, latent_facts(self.weights.places["vae"], self.models.image_size, pairs))
        place = self.weights.places.get("tokenizer", self.weights.places["text_encoder"])
        texts = open_cache(self.folder, token_facts(self.models.encoder, place, pairs))
        item = Usable(EpochOrder(len(pairs), seed), len(pairs))
        cut = TokenMaker(self.models.encoder, pairs)
        while True:
            numbers = list(dict.fromkeys(item(position) for position in positions))
            skipped = self._fill("images", latents, numbers, images, images.name, pairs.name)
            skipped |= self._fill("texts", texts, [n for n in numbers if n not in skipped], cut, cut.name, pairs.name)
            if not skipped:
                return latents, texts, item
            item = Usable(item.order, len(pairs), skipped | set(item.unusable))

    def _fill(
        self, what: str, cache: ShardCache, numbers: list[int], make: Make, name: Callable[[int], str], of: str
    ) -> set[int]:
        """Fill a cache; the numbers of what cannot be made."""
        bar = Progress(
            TextColumn(f"encoding {what} of {of}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:.0f} a second"),
            TimeRemainingColumn(),
            console=console,
            disable=not (self.shows and console.is_terminal),
        )
        task = bar.add_task(what, total=len(numbers), speed=0.0)

        def show(report: FillReport) -> None:
            self.stop.check()
            bar.update(task, completed=report.done, speed=report.per_second)

        with bar:
            report = fill(cache, numbers, make, progress=show, name=name)
        if self.shows and (report.made or report.skipped):
            console.print(f"{what} of {of}: {report}", soft_wrap=True, markup=False)
        if self.shows and report.skipped:
            console.print(f"what was skipped, and why: {cache.path / 'skipped.jsonl'}", soft_wrap=True, markup=False)
        return set(report.skipped)
