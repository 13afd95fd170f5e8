"""Laterality: swap left and right in a phrase, where that is meaningful.

Sides are the patient's, as in a radiology report. Only the words change; the image plays no part.
"""

from __future__ import annotations

import re

from gtg_bench.benchmark.api.phrases import read_phrase

_MIRROR = {"left": "right", "lt": "rt", "l": "r", "lll": "rll", "lul": "rul"}
_MIRROR |= {mirror: side for side, mirror in _MIRROR.items()}
_WORDS = re.compile(r"\b(left|right)(?=(?:wards?|most|hand|sided?)?\b)", re.IGNORECASE)
_LOBES = re.compile(r"\b(LLL|LUL|RLL|RUL)\b")
_PLACE = r"(?:lungs?|hemithorax|pleural?|lower|upper|mid|bas(?:e|al|ilar)|ap(?:ex|ical)|hil(?:um|ar)|perihilar|sided)"
_LETTER = re.compile(rf"\b([LR][tT]?|[lr]t)\b(?=\.?[ -]{_PLACE}\b)")
_AMBIGUOUS = re.compile(r"\b([LR][tT]?|[lr]t)\b|\b[LR]\d")
"""Possibly a side, possibly a vertebra, a lead or a therapist."""

_BOTH = re.compile(
    r"\b(bi-?(basilar|basal|apical|lateral(ly)?)|both|either|each|contralateral|ipsilateral|opposite|two-sided)\b",
    re.IGNORECASE,
)
_ONE_SIDE_ONLY = re.compile(
    r"\b(middle[ -]lobes?|RML|lingular?|azygos|horizontal fissure|minor fissure|retrocardiac|paratracheal|paraaortic|"
    r"aort(a|ic)|heart|cardiac|ventric(le|ular)|atri(um|al)|stomach|gastric|liver|spleen)\b",
    re.IGNORECASE,
)
_MIDLINE = re.compile(r"cardi|heart|mediastin|aort|trache|spin|vertebr|hernia", re.IGNORECASE)
"""Categories of midline structures, which have no counterpart on the other side."""


def mirrored(phrase: str, category: str = "") -> str | None:
    """Swap left and right in a phrase; None if the phrase has no mirror image.

    A phrase has none if it names no side or both; if it names a structure of one side only (right middle lobe,
    lingula, heart and great vessels, retrocardiac, minor fissure); if an L, R, Lt or Rt may be something other than a
    side; and if its category belongs to the midline, such as cardiomegaly.

    "left", "left-sided" and "leftward" are swapped in any spelling, with their capitals; so are LUL, LLL, RUL and RLL,
    and L, R, Lt or Rt before a structure that both sides have ("R lung base").

    Args:
        phrase: English.
        category: the finding, as the data set spells it; "" if unknown.
    """
    if _MIDLINE.search(category) or _BOTH.search(phrase) or _ONE_SIDE_ONLY.search(phrase):
        return None
    patterns = (_WORDS, _LOBES, _LETTER)
    rest = phrase
    sides = set()
    for pattern in patterns:
        sides |= {match[0][0].lower() for match in pattern.finditer(phrase)}
        rest = pattern.sub("", rest)
    if len(sides) != 1 or _AMBIGUOUS.search(rest) or read_phrase(phrase).side == "bilateral":
        return None
    for pattern in patterns:
        phrase = pattern.sub(_swapped, phrase)
    return phrase


def _swapped(match: re.Match[str]) -> str:
    """The other side, capitalised like the match."""
    word = _MIRROR[match[0].lower()]
    return word.upper() if match[0].isupper() else word.capitalize() if match[0][0].isupper() else word
