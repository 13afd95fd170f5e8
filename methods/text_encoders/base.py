"""The text encoder interface, and its implementation for transformers models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.pretrained import load_pretrained, reason

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_SPECIAL = ("bos", "eos", "cls", "sep", "pad", "mask")


@dataclass(frozen=True)
class TextTokens:
    """Tokenized texts, on the CPU.

    Attributes:
        ids: int64 [B, L], padded to the encoder's fixed length.
        mask, offsets, texts: as in `TextEncoding`.
    """

    ids: Tensor
    mask: Tensor
    offsets: Tensor
    texts: tuple[str, ...]


@dataclass(frozen=True)
class TextEncoding:
    """Encoded texts.

    Attributes:
        states: float32 [B, L, D], last hidden states, padded to the encoder's fixed length; the U-Net does not mask
            padding (paper, section 2.2: the softmax runs over all keys).
        mask: bool [B, L], True for tokens, False for padding.
        offsets: int64 [B, L, 2], half-open character range of each token in its text; (0, 0) for special tokens
            (start and end included) and padding.
        texts: the B texts that were tokenized: the phrases themselves, unless the encoder rewrites them.
    """

    states: Tensor
    mask: Tensor
    offsets: Tensor
    texts: tuple[str, ...]


class TextEncoder(Protocol):
    """A frozen text encoder."""

    @property
    def max_length(self) -> int:
        """Number of tokens that texts are truncated and padded to."""
        ...

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """Encode texts, truncated and padded to `max_length` tokens."""
        ...


@runtime_checkable
class TrainableTextEncoder(TextEncoder, Protocol):
    """A text encoder that can be trained with: it tokenizes and encodes in separate steps."""

    @property
    def module(self) -> nn.Module:
        """The network."""
        ...

    def tokens(self, texts: Sequence[str]) -> TextTokens:
        """Tokenize texts, truncated and padded to `max_length`."""
        ...

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States [B, L, D] of tokens [B, L] on the network's device, with gradients where they are enabled."""
        ...


def encode(encoder: TrainableTextEncoder, texts: Sequence[str]) -> TextEncoding:
    """Tokenize texts and compute their states, in float32 on the network's device."""
    tokens = encoder.tokens(texts)
    device = next(encoder.module.parameters()).device
    with torch.inference_mode():
        states = encoder.states(tokens.ids.to(device), tokens.mask.to(device))
    return TextEncoding(states.float(), tokens.mask, tokens.offsets, tokens.texts)


class HuggingFaceTextEncoder:
    """Last hidden states of a transformers model, with the attention mask.

    A subclass names the class of its model, and overrides what differs.

    Attributes:
        model_class: class of the model.
        tokenizer_class: name of transformers' tokenizer class, for folders without tokenizer.json.
        unused: prefixes of weights that do not contribute to the hidden states and may be missing.
        options: further arguments of `model_class.from_pretrained`.
    """

    model_class: ClassVar[Any]
    tokenizer_class: ClassVar[str] = "AutoTokenizer"
    unused: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: Any, tokenizer: Any, max_length: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length
        special = {getattr(tokenizer, f"{name}_token_id") for name in _SPECIAL} - {None}
        self._special = torch.tensor(sorted(special))

    @classmethod
    def load(cls, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu") -> Self:
        """Load the folders of model and tokenizer. Raises DataError if one cannot be loaded, or they do not match."""
        loaded = load_tokenizer(tokenizer, cls.tokenizer_class)
        model = cls.load_model(place, tokenizer)
        known = model.get_input_embeddings().num_embeddings
        if len(loaded) > known:
            raise DataError(
                f"{tokenizer}: the tokenizer knows {len(loaded)} tokens, but the model {place} only {known}"
            )
        longest = getattr(model.config, "max_position_embeddings", max_length)
        if max_length > longest:
            raise DataError(f"{place}: max_length {max_length} is more than the {longest} tokens of the model")
        return cls(model.to(device), loaded, max_length)

    @classmethod
    def load_model(cls, place: Path, tokenizer: Path) -> Any:
        """Load the model in float32, on the CPU; `tokenizer` is the tokenizer's folder."""
        return load_pretrained(cls.model_class, place, cls.unused, dtype=torch.float32, **cls.options)

    def rewrite(self, text: str) -> str:
        """The text that is tokenized instead of the phrase; by default the phrase."""
        return text

    @property
    def module(self) -> nn.Module:
        """See `TrainableTextEncoder`."""
        return self.model

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See `TextEncoder.encode`."""
        return encode(self, texts)

    def tokens(self, texts: Sequence[str]) -> TextTokens:
        """See `TrainableTextEncoder`."""
        rewritten = tuple(map(self.rewrite, texts))
        encoded = self.tokenizer(
            list(rewritten),
            padding="max_length",
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        ids = encoded["input_ids"]
        offsets = encoded["offset_mapping"].masked_fill(torch.isin(ids, self._special)[..., None], 0)
        return TextTokens(ids, encoded["attention_mask"].bool(), offsets, rewritten)

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [B, L, D] of tokens int64 [B, L] with mask bool [B, L]."""
        return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state


def load_tokenizer(place: Path, kind: str) -> Any:
    """Load a tokenizer from its folder: from tokenizer.json, else with the transformers class named `kind`.

    Raises:
        DataError: the folder has no tokenizer, or one that needs custom code.
    """
    import transformers

    if not any(file.is_file() for pattern in _TOKENIZER_FILES for file in place.glob(pattern)):
        raise DataError(f"{place} has no tokenizer ({', '.join(_TOKENIZER_FILES)}); name its folder with `tokenizer:`")
    whole = (place / "tokenizer.json").is_file()
    kind = "PreTrainedTokenizerFast" if whole else kind
    try:
        tokenizer = getattr(transformers, kind).from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises many kinds
        raise DataError(f"{place}: cannot load a tokenizer: {reason(error)}") from error
    needed = {name for use, name in tokenizer.vocab_files_names.items() if use != "tokenizer_file"}
    if absent := sorted(name for name in needed if not whole and not (place / name).is_file()):
        # transformers would make up a vocabulary
        raise DataError(f"{place}: a {type(tokenizer).__name__} needs {', '.join(absent)}")
    return tokenizer
