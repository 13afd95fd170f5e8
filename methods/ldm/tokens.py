"""Encoded phrases, and the tokens whose maps are averaged (paper, section 2.2, Appendix B and Table 3).

Words are found in the text and aligned to sub-tokens by character offsets: every sub-token of a chosen word counts.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gtg_bench.methods.ldm.lexicon import Lexicon, Span, lexical_words

QUERY_WORDS = {
    "atelectasis": ("atelectasis", "atelectatic"),
    "cardiomegaly": ("cardiomegaly", "cardiac"),
    "consolidation": ("consolidation", "consolidations", "consolidative"),
    "edema": ("edema",),
    "lung opacity": ("opacity", "opacities", "opacification"),
    "pleural effusion": ("pleural", "effusion", "effusions"),
    "effusion": ("pleural", "effusion", "effusions"),
    "pneumonia": ("pneumonia",),
    "pneumothorax": ("pneumothorax", "pneumothoraces"),
}
"""Lower-case category -> the words that name the finding (released code; Table 3, disease filtering).

The released code has the eight findings of MS-CXR; any other category is its own query word.
"""

_JOINED = re.compile(r"[\w/'’-]+")
_WORD = re.compile(r"[^\W_]+(?:[-/'’][^\W_]+)*")


def disease_words(text: str, category: str) -> list[Span]:
    """The words that contain a query word of the category, or of any category if `category` is empty."""
    known = category.strip().lower().replace("_", " ")
    queries = QUERY_WORDS.get(known, (known,)) if known else [word for words in QUERY_WORDS.values() for word in words]
    words = _WORD.finditer(text)
    return [match.span() for match in words if any(query in match.group().lower() for query in queries)]


def covered(spans: Sequence[Span], offsets: Tensor) -> Tensor:
    """bool [L]: the tokens whose character range (int64 [L, 2]) shares a character with one of the spans."""
    chosen = torch.zeros(len(offsets), dtype=torch.bool)
    for start, end in spans:
        chosen |= (offsets[:, 1] > offsets[:, 0]) & (offsets[:, 0] < end) & (offsets[:, 1] > start)
    return chosen


def choose_tokens(
    text: str, offsets: Tensor, mask: Tensor, choice: str, lexicon: Lexicon, category: str = ""
) -> tuple[Tensor, str]:
    """Choose the tokens of a text that are averaged.

    Args:
        text: the tokenized text.
        offsets: int64 [L, 2], each token's character range; (0, 0) for start, end and padding.
        mask: bool [L], True for tokens, False for padding.
        choice: "lexical", "disease", "all", "start" or "end".
        lexicon: splits the text into words, for "lexical".
        category: the finding, for "disease".

    Returns:
        bool [L], and a note if no word qualified and all tokens are used instead. Only "start" and "end" choose those
        tokens; padding is never chosen (Appendix B). All False only for a text without tokens.
    """
    inside = offsets[:, 1] > offsets[:, 0]
    if choice == "all":
        return inside, ""
    if choice == "start":
        return start_token(mask), ""
    if choice == "end":
        return torch.arange(len(mask)) == mask.nonzero().max(), ""
    spans = lexical_words(text, lexicon) if choice == "lexical" else disease_words(text, category)
    chosen = covered(spans, offsets)
    return (chosen, "") if chosen.any() else (inside, f"no {choice} word in the phrase: all tokens were averaged")


def start_token(mask: Tensor) -> Tensor:
    """bool [L]: the start token alone, for the image bias (section 2.3)."""
    return torch.arange(len(mask)) == mask.nonzero().min()


def word_weights(text: str, offsets: Tensor, mask: Tensor) -> tuple[list[str], Tensor]:
    """The words of a text as the tokenizer splits it, and the weights of each word's tokens.

    Tokens that touch are one word, hyphens included; other punctuation is separate.

    Args:
        text: the tokenized text.
        offsets: int64 [L, 2], each token's character range; (0, 0) for start, end and padding.
        mask: bool [L], True for tokens, False for padding.

    Returns:
        K names, "[start]" first and "[end]" last, and float32 [K, L], each row 1 in all.
    """
    places = mask.nonzero()[:, 0].tolist()
    words: list[tuple[str, list[int]]] = []
    before = -1
    for place in places:
        start, end = offsets[place].tolist()
        start += len(text[start:end]) - len(text[start:end].lstrip())  # byte-level tokens include the space before
        name = text[start:end] if end > start else "[start]" if place == places[0] else "[end]"
        if words and start == before and end > start and _JOINED.fullmatch(words[-1][0] + name):
            words[-1] = words[-1][0] + name, [*words[-1][1], place]
        else:
            words.append((name, [place]))
        before = end if end > start else -1
    weights = torch.zeros(len(words), len(mask))
    for row, (_, tokens) in enumerate(words):
        weights[row, tokens] = 1 / len(tokens)
    return [name for name, _ in words], weights


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
