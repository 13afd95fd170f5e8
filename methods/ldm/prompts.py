"""Encode a phrase for a latent diffusion model: text states, and the weight of each token."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.methods.ldm.tokens import start_token
from gtg_bench.methods.text_encoders.base import TextEncoder, TextEncoding

Choose = Callable[[TextEncoding, str], tuple[Tensor, str]]
"""(encoding of one text, category) -> token weights, float32 [L], and a note."""


@dataclass(frozen=True)
class Prompt:
    """An encoded phrase.

    Attributes:
        text: the phrase.
        states: float32 [L, D].
        chosen: float32 [L], token weights; they sum to 1.
        start: float32 [L], 1 for the start token.
        note: anything unusual about the choice of tokens, or "".
    """

    text: str
    states: Tensor
    chosen: Tensor
    start: Tensor
    note: str

    @property
    def key(self) -> Hashable:
        """Equal for equal phrases with equal token weights."""
        return self.text, tuple(self.chosen.tolist())


class PromptEncoder:
    """Encodes phrases; the last few hundred are cached."""

    def __init__(self, encoder: TextEncoder, choose: Choose, device: torch.device) -> None:
        self.encoder = encoder
        self.choose = choose
        self.device = device
        self._cached = lru_cache(256)(self._encode)

    def __call__(self, text: str, category: str) -> Prompt:
        """Encode a phrase about a finding. Raises SampleError for a text that is empty or has no token."""
        return self._cached(text, category)

    def _encode(self, text: str, category: str) -> Prompt:
        if not text.strip():
            raise SampleError("the phrase is empty")
        encoding = self.encoder.encode([text])
        weights, note = self.choose(encoding, category)
        if not weights.any():
            raise SampleError(f"the text encoder's tokenizer finds no token in the phrase {text!r}")
        chosen, start = weights / weights.sum(), start_token(encoding.mask[0].cpu()).float()
        return Prompt(text, encoding.states[0].to(self.device), chosen.to(self.device), start.to(self.device), note)
