"""What a text encoder gives to a latent diffusion model, and the one way to make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextEncoding:
    """Encoded texts.

    Attributes:
        states: float32 [B, L, D], last hidden states, padded to the encoder's fixed length; padding is not
            masked in the U-Net (paper, section 2.2; FACTS: softmax over all keys).
        mask: bool [B, L], True for tokens, False for padding.
        offsets: int64 [B, L, 2], half-open character range of each token in its text; (0, 0) for the start
            token, the end token and the padding.
        texts: what was cut into tokens, B strings; the phrases themselves, but for encoders that rewrite them.
    """

    states: Tensor
    mask: Tensor
    offsets: Tensor
    texts: tuple[str, ...]


class TextEncoder(Protocol):
    """A frozen text encoder."""

    max_length: int

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """Encode texts, truncated and padded to `max_length` tokens."""
        ...


class HuggingFaceTextEncoder:
    """A transformers tokenizer and model; a family says in `states` which hidden states it gives."""

    model_class: ClassVar[Any]

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def load(
        cls, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu"
    ) -> HuggingFaceTextEncoder:
        """From transformers' folders of model and tokenizer."""
        from transformers import AutoTokenizer

        pieces = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        model = cls.model_class.from_pretrained(place, dtype=torch.float32, local_files_only=True)
        return cls(model.to(device), pieces, max_length)

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See `TextEncoder.encode`."""
        encoded = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        device = self.model.device
        with torch.inference_mode():
            states = self.states(encoded["input_ids"].to(device), encoded["attention_mask"].to(device))
        return TextEncoding(states.float(), encoded["attention_mask"].bool(), encoded["offset_mapping"], tuple(texts))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [B, L, D]."""
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state
