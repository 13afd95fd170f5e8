"""OpenCLIP's byte-pair tokenizer with what it does not give itself: the character range of every token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Span = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """A text cut into tokens.

    Attributes:
        text: what was cut: the phrase with its encoding mended, entities such as &amp; read, white space made single.
        ids: one number a token; start and end token included, padding not.
        offsets: half-open character range of each token in `text`; (0, 0) for special tokens.
    """

    text: str
    ids: list[int]
    offsets: list[Span]


def cut(tokenizer: Any, phrase: str, max_length: int) -> Cut:
    """Cut a phrase as `open_clip.tokenizer.SimpleTokenizer` does, to at most `max_length` tokens, the end token kept.

    The tokenizer lower-cases before it cuts, and works on UTF-8 bytes: a token that holds a part of a character covers
    the whole of it.
    """
    from open_clip.tokenizer import basic_clean, whitespace_clean

    text = whitespace_clean(basic_clean(phrase))
    tokens = list(_tokens(tokenizer, text))[: max_length - 2]
    framed = [(tokenizer.sot_token_id, (0, 0)), *tokens, (tokenizer.eot_token_id, (0, 0))]
    special = set(tokenizer.all_special_ids)
    return Cut(
        text, [number for number, _ in framed], [(0, 0) if number in special else span for number, span in framed]
    )


def _tokens(tokenizer: Any, text: str) -> Iterator[tuple[int, Span]]:
    """Numbers and character ranges of all tokens."""
    lowered = text.lower()
    origin = [place for place, character in enumerate(text) for _ in character.lower()]
    for word in tokenizer.pat.finditer(lowered):
        encoded = [(byte, origin[place]) for place in range(*word.span()) for byte in lowered[place].encode()]
        owners = [owner for _, owner in encoded]
        first = 0
        for piece in tokenizer.bpe("".join(tokenizer.byte_encoder[byte] for byte, _ in encoded)).split(" "):
            last = first + len(piece.removesuffix("</w>")) - 1
            yield tokenizer.encoder[piece], (owners[first], owners[last] + 1)
            first = last + 1
