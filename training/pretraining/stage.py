"""One pretraining: its objective and samples, how it is saved, and how its result is measured on held-out data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from gtg_bench.benchmark.api.registry import load_object
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.loop.trainer import Curve, Draws, Trainer
from gtg_bench.training.pretraining.recipe import Precision, TextRecipe
from gtg_bench.training.pretraining.samples import IGNORED
from gtg_bench.training.recipe import Schedule

_FAMILIES = {
    "cxr-bert": "bert:cxr_bert_stage",
    "bert": "bert:radbert_stage",
    "clip": "clip:clip_stage",
    "open-clip": "clip:open_clip_stage",
    "cxr-clip": "clip:cxr_clip_stage",
    "med-kebert": "med_kebert:stage",
    "biovil": "biovil:stage",
}
_BATCH = 64


@dataclass(frozen=True)
class Stage:
    """A pretraining that is ready to run.

    Attributes:
        objective: what is trained, see `trainer.Trainer`.
        draws: its samples.
        save: writes the trained model into a folder; returns its facts for the card.
        results: measures the trained model on held-out data.
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
        """Train to the last step, resuming from the last checkpoint in `work`; return the loss curve.

        Always runs on the CPU: the models are too small to gain from a GPU, and the result stays the same everywhere.

        Raises:
            Stopped: `stop` was requested; the same call resumes.
            UsageError: the checkpoint belongs to another recipe or seed.
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


def pretraining(family: str) -> Callable[..., Stage]:
    """The pretraining of a family of text encoders: (recipe, material, seed) -> stage; imported on demand.

    The family "biovil" is an image encoder, see `biovil.stage`.
    """
    stage: Callable[..., Stage] = load_object(f"gtg_bench.training.pretraining.{_FAMILIES[family]}")
    return stage


def save_transformers(model: Any, tokenizer: Any, recipe: TextRecipe, folder: Path) -> dict[str, Any]:
    """Save a transformers model and tokenizer; return the facts for the card."""
    in_precision(model, recipe.save_precision).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"family": recipe.family, "max_length": recipe.max_length}


def in_precision(model: Any, precision: Precision) -> Any:
    """A copy of the model in another precision, or the model itself if it already has that precision."""
    dtype = getattr(torch, precision)
    return model if next(model.parameters()).dtype == dtype else copy.deepcopy(model).to(dtype)


def weights_in(model: nn.Module, precision: Precision, prefix: str = "") -> dict[str, Tensor]:
    """The model's state in a precision, contiguous, with `prefix` before each name."""
    state = in_precision(model, precision).state_dict()
    return {f"{prefix}{name}": value.contiguous() for name, value in state.items()}


@torch.no_grad()
def retrieval(
    embed: Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]], draws: Draws, texts: list[str]
) -> dict[str, float]:
    """Recall at 1 between images and texts; pairs with the same text count as matches.

    Args:
        embed: batch -> embeddings [B, D] of texts and of images.
        draws: the held-out pairs in order.
        texts: their texts.

    Returns:
        image_to_text_r1, text_to_image_r1, and retrieval_chance, the expected share of a random text.
    """
    found = [embed(batch) for batch in _batches(draws, len(texts))]
    text, image = (F.normalize(torch.cat(part), dim=-1) for part in zip(*found, strict=True))
    similarity = image @ text.T
    own = torch.tensor([[one == other for other in texts] for one in texts])
    rows = torch.arange(len(texts))
    return {
        "image_to_text_r1": round(float(own[rows, similarity.argmax(1)].float().mean()), 4),
        "text_to_image_r1": round(float(own[rows, similarity.argmax(0)].float().mean()), 4),
        "retrieval_chance": round(1 / len(set(texts)), 4),
    }


@torch.no_grad()
def masked_accuracy(model: nn.Module, draws: Draws, count: int) -> dict[str, float]:
    """Share of masked tokens that a language model predicts correctly.

    Args:
        model: (ids, mask) -> an output with logits [B, L, V].
        draws: masked held-out texts.
        count: number of texts.

    Returns:
        masked_token_accuracy, and masked_token_chance, the share of the most frequent masked token.
    """
    guesses, wanted = [], []
    for batch in _batches(draws, count):
        chosen = batch["targets"] != IGNORED
        guesses.append(model(batch["masked"], attention_mask=batch["mask"]).logits.argmax(-1)[chosen])
        wanted.append(batch["targets"][chosen])
    guess, want = torch.cat(guesses), torch.cat(wanted)
    return {
        "masked_token_accuracy": round(float((guess == want).float().mean()), 4),
        "masked_token_chance": round(float(want.bincount().max() / len(want)), 4),
    }


def _batches(draws: Draws, count: int) -> Iterator[dict[str, Tensor]]:
    for first in range(0, count, _BATCH):
        yield default_collate([draws[position] for position in range(first, min(first + _BATCH, count))])
