"""CXR-CLIP's text encoder (You et al. 2023): a Bio_ClinicalBERT whose weights lie in CXR-CLIP's checkpoint.

The checkpoint (`r50_mcc.tar`, a torch pickle in spite of its name) holds no configuration and no vocabulary: both
come from the folder of emilyalsentzer/Bio_ClinicalBERT, which the weights name as their tokenizer.
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

_TOWER = "text_encoder."
_FIRST = "embeddings.word_embeddings.weight"
_NEEDLESS = ("pooler.", "embeddings.position_ids")
"""The pooler is no part of the hidden states; the positions are a list of 0 to 511 that older versions saved."""


class CxrClipTextEncoder(BertTextEncoder):
    """Last hidden states of CXR-CLIP's BERT, with the attention mask."""

    @classmethod
    def load(cls, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu") -> Self:
        """From a checkpoint file, and the folder of Bio_ClinicalBERT. Raises DataError where either is none."""
        if not place.is_file():
            raise DataError(f"{place}: CXR-CLIP's text encoder is a file such as r50_mcc.tar; name it with `path:`")
        if not (tokenizer / "config.json").is_file():
            raise DataError(f"{tokenizer} holds no config.json; name the folder of Bio_ClinicalBERT with `tokenizer:`")
        return super().load(place, tokenizer, max_length, device)

    @classmethod
    def load_model(cls, place: Path, tokenizer: Path) -> Any:
        """The BERT of checkpoint file `place`, configured by folder `tokenizer`."""
        try:
            config = BertConfig.from_pretrained(tokenizer, local_files_only=True)
        except Exception as error:
            raise DataError(f"{tokenizer}/config.json: {reason(error)}") from error
        model = BertModel(config, add_pooling_layer=False)
        fill(model, text_weights(read_pickle(place), place), place)
        return model


def text_weights(checkpoint: Any, place: Path) -> dict[str, Tensor]:
    """BERT's weights by BERT's own names, out of a checkpoint.

    The weights are looked for under "model" (as CXR-CLIP saves them), "state_dict", or the checkpoint itself. There the
    names of BERT stand behind one prefix that ends in `text_encoder.`, perhaps followed by the name of the BERT inside
    (`text_encoder.text_encoder.` in CXR-CLIP).

    Raises:
        DataError: there is no such prefix, or more than one.
    """
    for key in ("model", "state_dict"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    names = [name for name in checkpoint if isinstance(name, str)] if isinstance(checkpoint, dict) else []
    prefixes = [name.removesuffix(_FIRST) for name in names if _TOWER in name and name.endswith(_FIRST)]
    if len(prefixes) != 1:
        found = f"{len(prefixes)} text encoders" if prefixes else f"no weights under `{_TOWER}`"
        raise DataError(f"{place}: is no checkpoint of CXR-CLIP: it holds {found}")
    own = {name.removeprefix(prefixes[0]): checkpoint[name] for name in names if name.startswith(prefixes[0])}
    return {name: weights for name, weights in own.items() if not name.startswith(_NEEDLESS)}
