"""CXR-CLIP's text encoder (You et al. 2023): a Bio_ClinicalBERT with weights from CXR-CLIP's checkpoint.

The checkpoint (`r50_mcc.tar`, a torch pickle despite its name) has no configuration and no vocabulary. Both come from
the folder of emilyalsentzer/Bio_ClinicalBERT, which the weights name as their tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.pretrained import fill, read_pickle, reason
from gtg_bench.methods.text_encoders.bert import BertTextEncoder

_PREFIX = "text_encoder."
_FIRST = "embeddings.word_embeddings.weight"
_UNUSED = ("pooler.", "embeddings.position_ids")
"""The pooler does not contribute to the hidden states; older versions saved the position ids, a list of 0 to 511."""


class CxrClipTextEncoder(BertTextEncoder):
    """Last hidden states of CXR-CLIP's BERT, with the attention mask."""

    @classmethod
    def load(cls, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu") -> Self:
        """Load a checkpoint file, and the folder of Bio_ClinicalBERT. Raises DataError if either is missing."""
        if not place.is_file():
            raise DataError(f"{place}: CXR-CLIP's text encoder is a file such as r50_mcc.tar; name it with `path:`")
        if not (tokenizer / "config.json").is_file():
            raise DataError(f"{tokenizer} has no config.json; name the folder of Bio_ClinicalBERT with `tokenizer:`")
        return super().load(place, tokenizer, max_length, device)

    @classmethod
    def load_model(cls, place: Path, tokenizer: Path) -> Any:
        """Load the BERT of checkpoint file `place`, configured by folder `tokenizer`."""
        try:
            config = BertConfig.from_pretrained(tokenizer, local_files_only=True)
        except Exception as error:
            raise DataError(f"{tokenizer}/config.json: {reason(error)}") from error
        model = BertModel(config, add_pooling_layer=False)
        fill(model, text_weights(read_pickle(place), place), place)
        return model


def text_weights(checkpoint: Any, place: Path) -> dict[str, Tensor]:
    """BERT's weights in a checkpoint, by BERT's own names.

    The weights are under "model" (as CXR-CLIP saves them), under "state_dict", or the checkpoint itself. Names of
    BERT's weights share one prefix that contains `text_encoder.`, perhaps twice (as in CXR-CLIP).

    Raises:
        DataError: no prefix fits, or more than one.
    """
    for key in ("model", "state_dict"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    names = [name for name in checkpoint if isinstance(name, str)] if isinstance(checkpoint, dict) else []
    prefixes = [name.removesuffix(_FIRST) for name in names if _PREFIX in name and name.endswith(_FIRST)]
    if len(prefixes) != 1:
        found = f"{len(prefixes)} text encoders" if prefixes else f"no weights under `{_PREFIX}`"
        raise DataError(f"{place}: not a checkpoint of CXR-CLIP: it holds {found}")
    own = {name.removeprefix(prefixes[0]): checkpoint[name] for name in names if name.startswith(prefixes[0])}
    return {name: weights for name, weights in own.items() if not name.startswith(_UNUSED)}
