"""RadBERT (Chambon et al. 2022): a masked language model on reports, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.masking import MaskedDraws, Vocabulary, language_loss
from gtg_bench.training.pretraining.measures import masked_accuracy
from gtg_bench.training.pretraining.pairs import Material, TextDraws, Tokens, in_turn, trimmed
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.saving import save_transformers
from gtg_bench.training.pretraining.stage import Stage
from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer


class LanguageObjective(nn.Module):
    """The loss of a masked language model on a batch of `masked`, `mask` and `targets`."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        batch = trimmed(batch)
        return language_loss(self.text(batch["masked"], attention_mask=batch["mask"]).logits, batch["targets"])


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """The pretraining of a BertForMaskedLM on the texts of `material`; its images are not looked at."""
    torch.manual_seed(seed)
    train, held_out = material.train.texts, material.held_out.texts
    tokenizer = word_piece_tokenizer(train, recipe.vocab_size, recipe.max_length)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    model, vocabulary = BertForMaskedLM(config), Vocabulary.of(tokenizer)

    def draws(texts: list[str], order: Callable[[int], int]) -> MaskedDraws:
        return MaskedDraws(TextDraws(Tokens.of(tokenizer, texts, recipe.max_length), order), vocabulary, seed)

    def save(folder: Path) -> dict[str, Any]:
        return save_transformers(model, tokenizer, recipe, folder)

    def results() -> dict[str, float]:
        return masked_accuracy(model, draws(held_out, in_turn), len(held_out))

    return Stage(LanguageObjective(model), draws(train, EpochOrder(len(train), seed)), save, results)
