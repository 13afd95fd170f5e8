"""A phrase as the entity text that Med-KEBERT is fed with: "ENTITY PRESENCE ENTITY PRESENCE [SEP] ...".

The paper's released code takes the entities from ScispaCy's UMLS linker (findings and diseases), calls them "absent" in
a sentence with "no", "normal" or "none" and "present" in any other, puts RadGraph's label of the whole report in the
place of that word where there is one, and ends every sentence with [SEP]. A phrase alone has no RadGraph labels, and
the linker's knowledge base is not at hand here, so entities are the findings that `read_phrase` knows, under their
plain names: side, zone and size are not part of an entity, as they are not in the released code.
"""

from __future__ import annotations

import re

from gtg_bench.benchmark.api.phrases import read_phrase

END = "[SEP]"
_SENTENCES = re.compile(r"(?<=[.!?;])\s+")
_CLAUSES = re.compile(r"[,;:/()]|\b(?:and|or|with|without|but|versus|vs)\b", re.IGNORECASE)
_ABSENT = re.compile(r"\b(?:no|normal|none)\b", re.IGNORECASE)


def entity_text(phrase: str) -> str:
    """The entity text of a phrase; the phrase itself where it names no finding.

    Example:
        >>> entity_text("Small left pleural effusion and edema. No pneumothorax.")
        'pleural effusion present edema present [SEP] pneumothorax absent [SEP]'
    """
    parts: list[str] = []
    for sentence in _SENTENCES.split(phrase):
        presence = "absent" if _ABSENT.search(sentence) else "present"
        if entities := _entities(sentence):
            parts += [*(f"{entity} {presence}" for entity in entities), END]
    return " ".join(parts) or phrase


def _entities(sentence: str) -> list[str]:
    """The findings of a sentence, each once, in order; of every clause the one that `read_phrase` finds."""
    found = (read_phrase(clause).category for clause in _CLAUSES.split(sentence))
    return list(dict.fromkeys(category.lower() for category in found if category))
