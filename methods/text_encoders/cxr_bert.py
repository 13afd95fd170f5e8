"""CXR-BERT (Boecking et al. 2022), with health_multimodal's model class instead of code from the hub."""

from __future__ import annotations

from health_multimodal.text.model import CXRBertModel
from torch import Tensor

from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder


class CxrBertTextEncoder(HuggingFaceTextEncoder):
    """Last hidden states of CXR-BERT, with the attention mask."""

    model_class = CXRBertModel
    tokenizer_class = "BertTokenizer"
    unused = ("cls.", "cls_projection_head.")

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [B, L, D]."""
        return self.model(ids, mask.long(), return_dict=True).last_hidden_state
