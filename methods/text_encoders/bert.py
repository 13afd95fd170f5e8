"""BERT (Devlin et al. 2019), for plain BERT encoders such as RadBERT (Chambon et al. 2022)."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import BertModel

from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder


class BertTextEncoder(HuggingFaceTextEncoder):
    """Last hidden states of BERT, with the attention mask."""

    model_class = BertModel
    tokenizer_class = "BertTokenizer"
    options: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}
