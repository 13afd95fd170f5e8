"""Find the lexical words of a phrase (paper, section 2.2: ADJ, NOUN and VERB by ScispaCy).

ScispaCy's models are not on PyPI. Without one, ScispaCy's tokenizer, which needs no model, finds the words, and a list
of closed-class words rules out those without lexical meaning. `installed_lexicon` names what is used on this machine;
the name is part of a run's key.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

Span = tuple[int, int]
"""A half-open character range."""


class Word(NamedTuple):
    """A word or punctuation mark of a text, with its half-open character range."""

    start: int
    end: int
    lexical: bool
    punctuation: bool


Lexicon = Callable[[str], list[Word]]
"""Splits a text into words."""

MODELS = ("en_core_sci_scibert", "en_core_sci_sm")
"""ScispaCy's models, in order of preference; the released code uses the first."""

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
"""Closed-class English words, and what a tokenizer leaves of them after an apostrophe."""


def installed_lexicon() -> str:
    """Name and version of the lexicon on this machine. Imports nothing heavy."""
    for name in MODELS:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return f"rule 1 (scispacy {version('scispacy')})"


@lru_cache(maxsize=2)
def load_lexicon(name: str) -> Lexicon:
    """The lexicon of a name from `installed_lexicon`: a ScispaCy model's tags, or the closed-class list."""
    import spacy

    model = name.partition(" ")[0]
    if model in MODELS:
        split = spacy.load(model)
    else:
        from scispacy.custom_tokenizer import combined_rule_tokenizer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # one of its patterns holds "[["
            split = combined_rule_tokenizer(spacy.blank("en"))

    def words(text: str) -> list[Word]:
        return [
            Word(
                token.idx,
                token.idx + len(token.text),
                token.pos_ in LEXICAL_TAGS if model in MODELS else is_lexical(token.text),
                token.is_punct,
            )
            for token in split(text)
        ]

    return words


def lexical_words(text: str, lexicon: Lexicon) -> list[Span]:
    """The character ranges of the lexical words."""
    return [(word.start, word.end) for word in lexicon(text) if word.lexical]


def is_lexical(word: str) -> bool:
    """Whether any part of a word ("new/worsening", "5-cm") is neither a closed-class word nor a number."""
    parts = re.findall(r"[^\W_]+", word)
    return any(part.lower() not in FUNCTION_WORDS and not part.isdigit() for part in parts)
