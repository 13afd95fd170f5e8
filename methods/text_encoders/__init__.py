"""Frozen text encoders, one class per family. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS, register_text_encoder

if TYPE_CHECKING:
    import torch

    from gtg_bench.methods.text_encoders.base import TextEncoder

__all__ = ["TEXT_ENCODERS", "load_text_encoder", "register_text_encoder"]


def load_text_encoder(
    family: str,
    place: Path,
    tokenizer: Path,
    max_length: int,
    device: str | torch.device = "cpu",
    words_only: bool = False,
) -> TextEncoder:
    """Load a text encoder of a registered family.

    Args:
        family: a name in `TEXT_ENCODERS`.
        place: the folder or file of the model.
        tokenizer: the folder of its tokenizer, often the same.
        max_length: number of tokens that texts are truncated and padded to.
        device: where it computes.
        words_only: give start, end and padding tokens the states of the empty text, see `words_only.WordsOnly`.

    Raises:
        DataError: the family is unknown, the files do not belong to it, or it lacks what `words_only` needs.
    """
    if max_length < 3:
        raise DataError(f"{place}: max_length {max_length} leaves no room for a word between start and end token")
    try:
        kind = TEXT_ENCODERS.get(family)
    except UsageError as error:
        raise DataError(f"{place}: {error}") from error
    encoder: TextEncoder = kind.load(place, tokenizer, max_length, device)
    if not words_only:
        return encoder
    from gtg_bench.methods.text_encoders.base import TrainableTextEncoder
    from gtg_bench.methods.text_encoders.words_only import WordsOnly

    if not isinstance(encoder, TrainableTextEncoder):
        raise DataError(f"{place}: words_only needs tokens() and states(), which encoders of family {family} lack")
    return WordsOnly(encoder)
