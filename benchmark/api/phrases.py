"""Category, side, zone and size of a phrase, by keywords of radiology English.

For the priors, controls and subgroups: a deliberately simple rule, not a report parser. Keywords for findings follow
the query words of Dombrowski et al. (2024).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_CATEGORIES = (
    ("Pneumothorax", r"pneumothora(x|ces)"),
    ("Pleural Effusion", r"effusions?|pleural fluid"),
    ("Cardiomegaly", r"cardiomegaly|cardiac|heart"),
    ("Atelectasis", r"atelecta(sis|tic)"),
    ("Edema", r"o?edema"),
    ("Pneumonia", r"pneumonias?"),
    ("Consolidation", r"consolidati(on|ons|ve)"),
    ("Lung Opacity", r"opacity|opacities|opacification|infiltrat(e|es|ion)"),
)
_BILATERAL = r"bilateral(ly)?|bibasilar|bibasal|both|biapical"
_ZONES = (
    ("upper", r"upper|apical|apex|apices|biapical"),
    ("mid", r"mid|middle|lingular?"),
    ("lower", r"lower|bases?|basal|basilar|bibasilar|bibasal|costophrenic"),
)
_SIZES = (
    ("small", r"small|tiny|minimal|mild(ly)?|slight(ly)?|trace|subtle"),
    ("moderate", r"moderate(ly)?"),
    ("large", r"large|extensive|severe(ly)?|marked(ly)?|massive"),
)


@dataclass(frozen=True, slots=True)
class PhraseFacts:
    """What a phrase mentions; None if it does not. side: left, right or bilateral."""

    category: str | None
    side: str | None
    zone: str | None
    size: str | None

    @property
    def key(self) -> tuple[str | None, str | None, str | None, str | None]:
        """The facts as a tuple, the most general first."""
        return self.category, self.side, self.zone, self.size


@lru_cache(maxsize=65536)
def read_phrase(phrase: str) -> PhraseFacts:
    """Read a phrase. If it has several findings, sizes or zones, the first in the tables above counts."""
    text = phrase.lower()
    left, right = _has(text, "left"), _has(text, "right")
    side = "bilateral" if _has(text, _BILATERAL) or (left and right) else "left" if left else "right" if right else None
    return PhraseFacts(_first(text, _CATEGORIES), side, _first(text, _ZONES), _first(text, _SIZES))


def _has(text: str, words: str) -> bool:
    return re.search(rf"\b(?:{words})\b", text) is not None


def _first(text: str, table: tuple[tuple[str, str], ...]) -> str | None:
    return next((name for name, words in table if _has(text, words)), None)
