"""What a pretrained encoder has learned, on held-out data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from gtg_bench.training.loop.trainer import Draws
from gtg_bench.training.pretraining.masking import IGNORED

_BATCH = 64


def batches(draws: Draws, count: int) -> Iterator[dict[str, Tensor]]:
    """The samples at positions 0 to `count` - 1, some at a time."""
    for first in range(0, count, _BATCH):
        yield default_collate([draws[position] for position in range(first, min(first + _BATCH, count))])


@torch.no_grad()
def retrieval(
    embed: Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]], draws: Draws, texts: list[str]
) -> dict[str, float]:
    """Share of images whose most similar text, of all distinct ones, is their own; and of texts likewise.

    Args:
        embed: batch -> embeddings [B, D] of texts and of images.
        draws: of the held-out pairs, in their order.
        texts: the pairs' texts.

    Returns:
        image_to_text_r1, text_to_image_r1, and retrieval_chance, what a blind choice of the text would give.
    """
    found = [embed(batch) for batch in batches(draws, len(texts))]
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
    """Share of masked tokens that a language model finds; and that the most frequent of them would be.

    Args:
        model: (ids, mask) -> an output with logits [B, L, V].
        draws: of held-out texts, masked.
        count: of the texts.
    """
    guesses, wanted = [], []
    for batch in batches(draws, count):
        chosen = batch["targets"] != IGNORED
        guesses.append(model(batch["masked"], attention_mask=batch["mask"]).logits.argmax(-1)[chosen])
        wanted.append(batch["targets"][chosen])
    guess, want = torch.cat(guesses), torch.cat(wanted)
    return {
        "masked_token_accuracy": round(float((guess == want).float().mean()), 4),
        "masked_token_chance": round(float(want.bincount().max() / len(want)), 4),
    }
