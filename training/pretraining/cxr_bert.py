"""CXR-BERT (Boecking et al. 2022): masked language model on reports, then global and local contrast with images too.

The model's projection head takes [CLS] for the global and every word for the local contrast, as BioViL-L's does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from health_multimodal.text.model import CXRBertConfig, CXRBertModel
from torch import Tensor, nn

from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.loop.trainer import Draws
from gtg_bench.training.pretraining.contrast import START, ImageTower, contrast, local_contrast
from gtg_bench.training.pretraining.masking import MaskedDraws, Vocabulary, language_loss
from gtg_bench.training.pretraining.measures import masked_accuracy, retrieval
from gtg_bench.training.pretraining.pairs import Material, PairDraws, Pairs, Tokens, in_turn, pictures, trimmed
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.saving import save_transformers
from gtg_bench.training.pretraining.stage import Stage
from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer


@dataclass(frozen=True)
class PhaseDraws:
    """The samples of `draws` with `joint` bool []: whether images are looked at, as they are from a position on."""

    draws: Draws
    first: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return self.draws[position] | {"joint": torch.tensor(position >= self.first)}


class CxrBertObjective(nn.Module):
    """The language model's loss, and the two contrasts' beside it where a batch is `joint`.

    A batch holds `pixels`, `ids`, `mask`, `masked`, `targets` and `joint`.
    """

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text
        self.image = ImageTower(text.config.projection_size)
        self.scales = nn.Parameter(torch.full((2,), START))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        batch = trimmed(batch)
        language = language_loss(self.text(batch["masked"], batch["mask"]).logits, batch["targets"])
        if not batch["joint"].any():
            return language
        patches = self.image(pictures(batch["pixels"]))
        words = self._words(batch)
        whole = contrast(words[:, 0], patches.mean(1), self.scales[0])
        local = local_contrast(words, batch["mask"], patches, self.scales[1])
        return language + whole + local

    def embed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D] of texts and images in the joint space."""
        batch = trimmed(batch)
        return self._words(batch)[:, 0], self.image(pictures(batch["pixels"])).mean(1)

    def _words(self, batch: dict[str, Tensor]) -> Tensor:
        states = self.text(batch["ids"], batch["mask"], return_dict=True).last_hidden_state
        return self.text.cls_projection_head(states)


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """The pretraining of a CXRBertModel on (radiograph, report) pairs."""
    torch.manual_seed(seed)
    tokenizer = word_piece_tokenizer(material.train.texts, recipe.vocab_size, recipe.max_length)
    config = CXRBertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    objective = CxrBertObjective(CXRBertModel(config))
    vocabulary = Vocabulary.of(tokenizer)

    def draws(pairs: Pairs, order: Callable[[int], int]) -> MaskedDraws:
        tokens = Tokens.of(tokenizer, pairs.texts, recipe.max_length)
        return MaskedDraws(PairDraws(pairs, tokens, order), vocabulary, seed)

    def save(folder: Path) -> dict[str, Any]:
        return save_transformers(objective.text, tokenizer, recipe, folder)

    def results() -> dict[str, float]:
        texts, known = material.held_out.texts, draws(material.held_out, in_turn)
        return masked_accuracy(objective.text, known, len(texts)) | retrieval(objective.embed, known, texts)

    order, first = EpochOrder(len(material.train.texts), seed), recipe.language_steps * recipe.schedule.batch_size
    return Stage(objective, PhaseDraws(draws(material.train, order), first), save, results)
