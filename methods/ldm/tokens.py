"""Which tokens' maps are averaged (paper, section 2.2 and Appendix B).

Words are found in the text and aligned to sub-tokens by character offsets: every sub-token of a chosen word counts.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those there here it its which who whose what some any no not nor neither either both
    each all and or but if than then as so because while whereas though although without with within in into of on
    onto over under above below at by for from to through throughout between among along across against about
    around toward towards up down out off per via is are was were be been being am has have had do does did may
    might can could will would shall should must very also only again further since after before during until
    """.split()
)
"""Closed-class English words: they carry no lexical meaning, and no place in an image corresponds to them."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words(text: str) -> list[tuple[int, int]]:
    """Half-open character ranges of the words of a text; punctuation, hyphens and slashes part words."""
    return [match.span() for match in _WORD.finditer(text)]


def lexical_words(text: str) -> list[tuple[int, int]]:
    """The words that are not function words and not bare numbers."""
    return [span for span in words(text) if _is_lexical(text[span[0] : span[1]])]


def _is_lexical(word: str) -> bool:
    return word.lower() not in FUNCTION_WORDS and not word.isdigit()


def choose_tokens(text: str, offsets: Tensor, choice: str) -> Tensor:
    """Which tokens of a text are averaged.

    Args:
        text: what was encoded.
        offsets: int64 [L, 2], each token's character range, (0, 0) for start, end and padding.
        choice: one of `modes.TOKEN_CHOICES`.

    Returns:
        bool [L]; start, end and padding are never chosen. All tokens of the text if the choice keeps none;
        all False only for an empty text.
    """
    inside = offsets[:, 1] > offsets[:, 0]
    if choice == "all":
        return inside
    chosen = torch.zeros_like(inside)
    for start, end in lexical_words(text):
        chosen |= inside & (offsets[:, 0] < end) & (offsets[:, 1] > start)
    return chosen if chosen.any() else inside
