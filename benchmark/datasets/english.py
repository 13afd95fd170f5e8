"""Whether a phrase looks like English: a plain rule for `data check`, which only warns."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = "µªº"
"""Signs that Unicode counts as letters."""

_OTHERS = frozenset(
    "und oder der das ein eine mit ohne kein keine nicht im vom zum bei links rechts beidseits oberlappen unterlappen "
    "erguss pleuraerguss lunge herz verschattung infiltrat stauung "
    "le la les du des une et avec sans dans droite droit gauche poumon épanchement foyer opacité "
    "el los las del con una y sin derecho derecha izquierdo izquierda derrame pulmón pulmon corazón cardiomegalia "
    "il lo gli della del nel con destro destra sinistro sinistra versamento polmone addensamento "
    "em com sem direito direita esquerdo esquerda pulmão opacidade opacidad "
    "het een van met zonder linker rechter longkwab "
    "po lewej prawej płuco".split()
)
_ENGLISH = frozenset(
    "the a an of in at on and or with without is are there no left right lung lobe lower upper middle mid base apex "
    "small large mild moderate severe effusion opacity heart enlarged".split()
)


def looks_foreign(phrase: str) -> str:
    """Why a phrase does not look like English, in a few words; "" where it does."""
    if not any(character.isalpha() for character in phrase):
        return "has no letters"
    odd = [c for c in phrase if c.isalpha() and not c.isascii() and c not in _SIGNS]
    if odd:
        name = unicodedata.name(odd[0], "a letter").lower()
        return f"has the letter {odd[0]!r} ({name})"
    words = re.findall(r"[a-z]+", phrase.lower())
    foreign = [word for word in words if word in _OTHERS]
    if foreign and not _ENGLISH.intersection(words):
        return f"has the word {foreign[0]!r}"
    return ""
