"""Which tokens' maps are averaged (paper, section 2.2, Appendix B and Table 3).

Words are found in the text and aligned to sub-tokens by character offsets: every sub-token of a chosen word counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
"""The words that stand for a finding (released code; Table 3, disease filtering), by category in small letters.

The released code has the eight findings of MS-CXR; another category stands for itself.
"""

_WORD = re.compile(r"[^\W_]+(?:[-/'’][^\W_]+)*")


def disease_words(text: str, category: str) -> list[Span]:
    """The words that contain a query word of the category; of any category where none is named."""
    known = category.strip().lower().replace("_", " ")
    queries = QUERY_WORDS.get(known, (known,)) if known else [word for words in QUERY_WORDS.values() for word in words]
    found = _WORD.finditer(text)
    return [match.span() for match in found if any(query in match.group().lower() for query in queries)]


def covered(spans: Sequence[Span], offsets: Tensor) -> Tensor:
    """bool [L]: the tokens whose character range (int64 [L, 2]) shares a character with one of the spans."""
    chosen = torch.zeros(len(offsets), dtype=torch.bool)
    for start, end in spans:
        chosen |= (offsets[:, 1] > offsets[:, 0]) & (offsets[:, 0] < end) & (offsets[:, 1] > start)
    return chosen


def choose_tokens(
    text: str, offsets: Tensor, mask: Tensor, choice: str, lexicon: Lexicon, category: str = ""
) -> tuple[Tensor, str]:
    """Which tokens of a text are averaged.

    Args:
        text: what was cut into tokens.
        offsets: int64 [L, 2], each token's character range in it, (0, 0) for start, end and padding.
        mask: bool [L], True for tokens, False for padding.
        choice: "lexical", "disease", "all", "start" or "end".
        lexicon: cuts the text into words; only asked for "lexical".
        category: the finding whose words count for "disease".

    Returns:
        bool [L], and a note where the choice kept no token and all are taken instead. Start, end and padding are
        chosen by "start" and "end" alone (Appendix B). All False only for a text without tokens.
    """
    inside = offsets[:, 1] > offsets[:, 0]
    if choice == "all":
        return inside, ""
    if choice in ("start", "end"):
        return _only(_bounds(mask)[choice == "end"], len(mask)), ""
    spans = lexical_words(text, lexicon) if choice == "lexical" else disease_words(text, category)
    chosen = covered(spans, offsets)
    return (chosen, "") if chosen.any() else (inside, f"no {choice} word in the phrase: all tokens were averaged")


def start_token(mask: Tensor) -> Tensor:
    """bool [L]: the start token alone (the image bias, section 2.3)."""
    return _only(_bounds(mask)[0], len(mask))


def _bounds(mask: Tensor) -> tuple[int, int]:
    """The first and the last token's place."""
    places = mask.nonzero()[:, 0]
    return int(places[0]), int(places[-1])


def _only(place: int, length: int) -> Tensor:
    return torch.arange(length) == place
