"""Med-KEBERT (Zhang et al. 2023): a BERT taught with UMLS, fed with entities instead of sentences."""

from __future__ import annotations

from gtg_bench.methods.text_encoders.bert import BertTextEncoder
from gtg_bench.methods.text_encoders.entity_text import entity_text


class MedKebertTextEncoder(BertTextEncoder):
    """Last hidden states of Med-KEBERT on the phrase's entity text; offsets are characters of that text."""

    def rewrite(self, text: str) -> str:
        """See `entity_text`."""
        return entity_text(text)
