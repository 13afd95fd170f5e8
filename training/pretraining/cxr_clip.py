"""CXR-CLIP (You et al. 2023): global contrast of radiographs and reports, on a BERT's end token.

Of the original's other losses, between two images or two texts of a study, nothing is left: a phantom study has one
image and one report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from gtg_bench.training.pretraining.clip import ContrastObjective, contrast_stage
from gtg_bench.training.pretraining.pairs import Material, Tokens
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.saving import halved
from gtg_bench.training.pretraining.stage import Stage
from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer

FILE = "phantom.tar"
_PREFIX = "text_encoder.text_encoder."
"""Of the names of BERT's weights in CXR-CLIP's checkpoints."""


class EndTower(nn.Module):
    """A BERT and a linear projection of the state of a text's last token."""

    def __init__(self, bert: Any, width: int) -> None:
        super().__init__()
        self.bert = bert
        self.project = nn.Linear(bert.config.hidden_size, width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.project(states[torch.arange(len(ids)), mask.sum(1) - 1])


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """The pretraining of a BertModel on (radiograph, report) pairs."""
    torch.manual_seed(seed)
    tokenizer = word_piece_tokenizer(material.train.texts, recipe.vocab_size, recipe.max_length)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    tower = EndTower(BertModel(config, add_pooling_layer=False), config.hidden_size)

    def save(folder: Path) -> dict[str, Any]:
        """A checkpoint as CXR-CLIP's are, and beside it configuration and vocabulary as Bio_ClinicalBERT's are."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            f"{_PREFIX}{name}": value for name, value in halved(tower.bert, recipe.save_precision).state_dict().items()
        }
        torch.save({"model": weights}, folder / FILE)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {"family": recipe.family, "max_length": recipe.max_length, "file": FILE}

    return contrast_stage(
        ContrastObjective(tower, _embedding, config.hidden_size),
        lambda texts: Tokens.of(tokenizer, texts, recipe.max_length),
        material,
        seed,
        save,
    )


def _embedding(text: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    return text(ids, mask)
