"""A phrase as a latent diffusion model reads it: text states, and how much each token counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.methods.ldm.tokens import start_token
from gtg_bench.methods.text_encoders.base import TextEncoder, TextEncoding

T = TypeVar("T")
_CACHED = 256

Choose = Callable[[TextEncoding, str], tuple[Tensor, str]]
"""(encoding of one text, category) -> how much each token counts, float32 [L], and a note."""


@dataclass(frozen=True)
class Prompt:
    """One phrase.

    Attributes:
        text: the phrase.
        states: float32 [L, D].
        chosen: float32 [L], how much each token counts; they sum to one.
        start: float32 [L], the start token alone.
        note: anything unusual about the choice.
    """

    text: str
    states: Tensor
    chosen: Tensor
    start: Tensor
    note: str

    @property
    def key(self) -> Hashable:
        """Equal for equal phrases of which the same tokens count."""
        return self.text, tuple(self.chosen.tolist())


class Prompts:
    """Encodes phrases, each one once as long as it is among the last few hundred."""

    def __init__(self, encoder: TextEncoder, choose: Choose, device: torch.device) -> None:
        self.encoder = encoder
        self.choose = choose
        self.device = device
        self._known: OrderedDict[Hashable, Prompt] = OrderedDict()

    def __call__(self, text: str, category: str) -> Prompt:
        """The prompt. Raises SampleError where the text is empty or has no token."""
        return cached(self._known, (text, category), lambda: self._read(text, category))

    def _read(self, text: str, category: str) -> Prompt:
        if not text.strip():
            raise SampleError("the phrase is empty")
        encoding = self.encoder.encode([text])
        weights, note = self.choose(encoding, category)
        if not weights.any():
            raise SampleError(f"the text encoder's tokenizer finds no token in the phrase {text!r}")
        chosen, start = weights / weights.sum(), start_token(encoding.mask[0].cpu()).float()
        return Prompt(text, encoding.states[0].to(self.device), chosen.to(self.device), start.to(self.device), note)


def cached(cache: OrderedDict[Hashable, T], key: Hashable, make: Callable[[], T]) -> T:
    """The value of `key`, made if it is not among the last few hundred."""
    if key not in cache:
        cache[key] = make()
        if len(cache) > _CACHED:
            cache.popitem(last=False)
    return cache[key]
