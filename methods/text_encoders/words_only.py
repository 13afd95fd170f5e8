"""A text encoder whose words alone carry the text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gtg_bench.methods.text_encoders.base import TextEncoding, TextTokens, TrainableTextEncoder, encode


class WordsOnly:
    """Another text encoder, with the empty text's states for the start, the end and the padding.

    These tokens otherwise hold a summary of the text, and a U-Net can read it there instead of at the words, whose
    maps are what a phrase is grounded by. They stay in the softmax (paper, section 2.2), but carry no information about
    the text. An end token inside a text, as Med-KEBERT's, counts as padding.
    """

    def __init__(self, encoder: TrainableTextEncoder) -> None:
        self.encoder = encoder

    @property
    def max_length(self) -> int:
        """See `TextEncoder`."""
        return self.encoder.max_length

    @property
    def module(self) -> nn.Module:
        """See `TrainableTextEncoder`."""
        return self.encoder.module

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See `TextEncoder.encode`."""
        return encode(self, texts)

    def tokens(self, texts: Sequence[str]) -> TextTokens:
        """See `TrainableTextEncoder`."""
        return self.encoder.tokens(texts)

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States [B, L, D] of tokens int64 [B, L] with mask bool [B, L]."""
        empty = self.tokens([""])
        blank_ids, blank_mask = empty.ids.to(ids.device), empty.mask.to(ids.device)
        found = self.encoder.states(torch.cat([ids, blank_ids]), torch.cat([mask, blank_mask]))
        place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        ends = place == mask.sum(1, keepdim=True) - 1
        blank = found[-1][torch.where(ends, blank_mask.sum() - 1, place)]
        return torch.where(words(ids, mask, empty)[..., None], found[:-1], blank)


def words(ids: Tensor, mask: Tensor, empty: TextTokens) -> Tensor:
    """bool [B, L]: which tokens int64 [B, L] are neither padding nor the empty text's own, start and end."""
    special = empty.ids[empty.mask].to(ids.device)
    return mask & ~torch.isin(ids, special)
