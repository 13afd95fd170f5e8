"""Med-KEBERT (Zhang et al. 2023): a BERT trained with UMLS, which reads entities instead of sentences."""

from __future__ import annotations

import re

from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.methods.text_encoders.bert import BertTextEncoder

END = "[SEP]"
_SENTENCES = re.compile(r"(?<=[.!?;])\s+")
_CLAUSES = re.compile(r"[,;:/()]|\b(?:and|or|with|without|but|versus|vs)\b", re.IGNORECASE)
_ABSENT = re.compile(r"\b(?:no|normal|none)\b", re.IGNORECASE)


class MedKebertTextEncoder(BertTextEncoder):
    """Last hidden states of Med-KEBERT for the phrase's entity text; offsets refer to that text."""

    def rewrite(self, text: str) -> str:
        """See `entity_text`."""
        return entity_text(text)


def entity_text(phrase: str) -> str:
    """The entities of a phrase, each as "ENTITY PRESENCE", with [SEP] after each sentence.

    The paper's released code takes findings and diseases from ScispaCy's UMLS linker as entities. It calls them
    "absent" in a sentence with "no", "normal" or "none", else "present", and prefers RadGraph's label of the whole
    report where one exists. A phrase alone has no RadGraph labels, and the linker's knowledge base is a large
    download; so here the entities are the findings that `read_phrase` knows, by their plain names. As in the released
    code, side, zone and size are left out.

    Returns:
        The entity text, or the phrase itself if it names no finding.

    Example:
        >>> entity_text("Small left pleural effusion and edema. No pneumothorax.")
        'pleural effusion present edema present [SEP] pneumothorax absent [SEP]'
    """
    parts: list[str] = []
    for sentence in _SENTENCES.split(phrase):
        presence = "absent" if _ABSENT.search(sentence) else "present"
        found = (read_phrase(clause).category for clause in _CLAUSES.split(sentence))
        if entities := dict.fromkeys(category.lower() for category in found if category):  # each once, in order
            parts += [*(f"{entity} {presence}" for entity in entities), END]
    return " ".join(parts) or phrase
