"""A phrase with left and right changed places, for those phrases where that makes sense.

The image is seen as radiographs are: left is the patient's. Only words are changed; nothing is known of the image.
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
_UNCLEAR = re.compile(r"\b([LR][tT]?|[lr]t)\b|\b[LR]\d")
"""What may be a side, or a vertebra, a lead, a therapist."""

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
"""Categories that have no other side to lie on."""


def mirrored(phrase: str, category: str = "") -> str | None:
    """The phrase with the other side in its words; None where it has no mirror image.

    There is none where the phrase names no side, both, or a place that the other side lacks (right middle lobe,
    lingula, heart and great vessels, retrocardiac, minor fissure); where an L, R, Lt or Rt may be something else than a
    side; and for categories of the midline, such as cardiomegaly.

    "left", "left-sided", "leftward" change in every spelling, capitals are kept; so do LUL, LLL, RUL and RLL, and L, R,
    Lt or Rt before a place that has two sides ("R lung base").

    Args:
        phrase: English.
        category: of the finding, as the data set spells it; "" where nobody knows.
    """
    if _MIDLINE.search(category) or _BOTH.search(phrase) or _ONE_SIDE_ONLY.search(phrase):
        return None
    patterns = (_WORDS, _LOBES, _LETTER)
    rest = phrase
    sides = set()
    for pattern in patterns:
        sides |= {match[0][0].lower() for match in pattern.finditer(phrase)}
        rest = pattern.sub("", rest)
    if len(sides) != 1 or _UNCLEAR.search(rest) or read_phrase(phrase).side == "bilateral":
        return None
    for pattern in patterns:
        phrase = pattern.sub(lambda match: _in_the_case_of(match[0], _MIRROR[match[0].lower()]), phrase)
    return phrase


def _in_the_case_of(model: str, word: str) -> str:
    """The word in capitals, with one, or without, as the model is."""
    return word.upper() if model.isupper() else word.capitalize() if model[0].isupper() else word
