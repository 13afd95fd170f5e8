"""OpenCLIP's byte-pair tokenizer, extended by the character range of every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_clip.tokenizer import basic_clean, whitespace_clean


@dataclass(frozen=True)
class Tokenized:
    """A tokenized text.

    Attributes:
        text: the text after OpenCLIP's cleaning: encoding repaired, HTML entities decoded, white space collapsed.
        ids: token ids, with start and end token, without padding.
        offsets: half-open character range of each token in `text`; (0, 0) for special tokens.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


def tokenize(tokenizer: Any, phrase: str, max_length: int) -> Tokenized:
    """Tokenize as `open_clip.tokenizer.SimpleTokenizer` does, truncated to `max_length` tokens with the end token.

    The tokenizer lower-cases the text and works on UTF-8 bytes; a token with part of a character's bytes covers the
    whole character.
    """
    text = whitespace_clean(basic_clean(phrase))
    lowered = text.lower()
    origin = [place for place, character in enumerate(text) for _ in character.lower()]
    ids: list[int] = [tokenizer.sot_token_id]
    offsets = [(0, 0)]
    for word in tokenizer.pat.finditer(lowered):
        encoded = [(byte, origin[place]) for place in range(*word.span()) for byte in lowered[place].encode()]
        owners = [owner for _, owner in encoded]
        first = 0
        for piece in tokenizer.bpe("".join(tokenizer.byte_encoder[byte] for byte, _ in encoded)).split(" "):
            last = first + len(piece.removesuffix("</w>")) - 1
            ids.append(tokenizer.encoder[piece])
            offsets.append((owners[first], owners[last] + 1))
            first = last + 1
    ids = [*ids[: max_length - 1], tokenizer.eot_token_id]
    offsets = [*offsets[: max_length - 1], (0, 0)]
    special = set(tokenizer.all_special_ids)
    return Tokenized(text, ids, [(0, 0) if i in special else span for i, span in zip(ids, offsets, strict=True)])
