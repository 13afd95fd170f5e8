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
        words_only: whether only words say anything of the text, see `words_only.WordsOnly`.

    Raises:
        DataError: the family is unknown, the files do not belong to it, or it cannot tell words from other tokens.
    """
    if max_length < 3:
        raise DataError(f"{place}: max_length {max_length} leaves no room for a word between start and end token")
    try:
        kind = TEXT_ENCODERS.get(family)
    except UsageError as error:
        raise DataError(f"{place}: {error}") from error
    encoder: TextEncoder = kind.load(place, tokenizer, max_length, device)
    return _words_only(encoder, family) if words_only else encoder


def _words_only(encoder: TextEncoder, family: str) -> TextEncoder:
    from gtg_bench.methods.text_encoders.base import TrainableTextEncoder
    from gtg_bench.methods.text_encoders.words_only import WordsOnly

    if not isinstance(encoder, TrainableTextEncoder):
        raise DataError(f"words_only needs tokens() and states(), which text encoders of family {family} lack")
    return WordsOnly(encoder)
