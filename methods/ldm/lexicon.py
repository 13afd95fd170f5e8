"""Which words of a phrase carry lexical meaning (paper, section 2.2: ADJ, NOUN and VERB by ScispaCy).

ScispaCy's models are not on the package index, so they may be absent: then its tokenizer, which needs no model, cuts
the words, and a list of closed-class words tells which of them carry no meaning. `lexicon` names what is used here;
the name is part of a run's key.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

Span = tuple[int, int]
"""A half-open character range."""


class Word(NamedTuple):
    """A word or a punctuation mark of a text: its half-open character range, and what kind it is."""

    start: int
    end: int
    lexical: bool
    punctuation: bool


Lexicon = Callable[[str], list[Word]]
"""Cuts a text into words."""

MODELS = ("en_core_sci_scibert", "en_core_sci_sm")
"""ScispaCy's models, best first; the released code uses the first."""

LEXICAL_TAGS = frozenset({"ADJ", "NOUN", "VERB"})

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those there here it its which who whose what some any no not nor neither either both
    each all and or but if than then as so because while whereas though although without with within in into of on
    onto over under above below at by for from to through throughout between among along across against about
    around toward towards up down out off per via is are was were be been being am has have had do does did may
    might can could will would shall should must very also only again further since after before during until
    s t n re ve ll d m i you he she we they
    """.split()
)
"""Closed-class English words and what is left of them after an apostrophe."""

_PIECE = re.compile(r"[^\W_]+")


def installed_lexicon() -> str:
    """The name and version of what tells lexical words on this machine. Imports nothing heavy."""
    for name in MODELS:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return f"rule 1 (scispacy {version('scispacy')})"


@lru_cache(maxsize=2)
def load_lexicon(name: str) -> Lexicon:
    """The lexicon of a name as `installed_lexicon` gives it."""
    model = name.partition(" ")[0]
    return _tagged(model) if model in MODELS else _ruled()


def _tagged(model: str) -> Lexicon:
    """Words by a ScispaCy model's part-of-speech tags."""
    import spacy

    pipeline = spacy.load(model)
    return lambda text: [_word(token, token.pos_ in LEXICAL_TAGS) for token in pipeline(text)]


def _ruled() -> Lexicon:
    """Words by ScispaCy's tokenizer and the closed-class list."""
    import spacy
    from scispacy.custom_tokenizer import combined_rule_tokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # one of its patterns holds "[["
        tokenizer = combined_rule_tokenizer(spacy.blank("en"))
    return lambda text: [_word(token, is_lexical(token.text)) for token in tokenizer(text)]


def _word(token: Any, lexical: bool) -> Word:
    return Word(token.idx, token.idx + len(token.text), lexical, token.is_punct)


def lexical_words(text: str, lexicon: Lexicon) -> list[Span]:
    """The character ranges of the words that carry meaning."""
    return [(word.start, word.end) for word in lexicon(text) if word.lexical]


def is_lexical(word: str) -> bool:
    """Whether any part of a word ("new/worsening", "5-cm") is neither a closed-class word nor a number."""
    return any(piece.lower() not in FUNCTION_WORDS and not piece.isdigit() for piece in _PIECE.findall(word))
