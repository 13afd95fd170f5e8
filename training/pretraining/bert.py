"""Text encoders pretrained as masked language models on reports: RadBERT and CXR-BERT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.loop.trainer import Draws
from gtg_bench.training.pretraining.losses import INITIAL_LOG_SCALE, ImageTower, contrast, language_loss, local_contrast
from gtg_bench.training.pretraining.material import Material, Pairs
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.samples import MaskedDraws, PairDraws, Tokens, in_turn, pictures, trimmed
from gtg_bench.training.pretraining.stage import Stage, masked_accuracy, retrieval, save_transformers
from gtg_bench.training.pretraining.tokenizers import word_piece_tokenizer


class LanguageObjective(nn.Module):
    """The loss of a masked language model, for batches with `masked`, `mask` and `targets`."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        batch = trimmed(batch)
        return language_loss(self.text(batch["masked"], attention_mask=batch["mask"]).logits, batch["targets"])


def radbert_stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """RadBERT (Chambon et al. 2022): a BertForMaskedLM on the texts of `material`; images are not used."""
    torch.manual_seed(seed)
    train, held_out = material.train.texts, material.held_out.texts
    tokenizer = word_piece_tokenizer(train, recipe.vocab_size, recipe.max_length)
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config))

    def draws(texts: list[str], order: Callable[[int], int]) -> MaskedDraws:
        return MaskedDraws(PairDraws(Tokens.of(tokenizer, texts, recipe.max_length), order), tokenizer, seed)

    return Stage(
        LanguageObjective(model),
        draws(train, EpochOrder(len(train), seed)),
        lambda folder: save_transformers(model, tokenizer, recipe, folder),
        lambda: masked_accuracy(model, draws(held_out, in_turn), len(held_out)),
    )


@dataclass(frozen=True)
class PhaseDraws:
    """The samples of `draws` with `joint` bool []: whether the images are used, true from position `first` on."""

    draws: Draws
    first: int

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return self.draws[position] | {"joint": torch.tensor(position >= self.first)}


class CxrBertObjective(nn.Module):
    """The loss of the language model; in `joint` batches plus the global and the local contrast.

    A batch holds `pixels`, `ids`, `mask`, `masked`, `targets` and `joint`.
    """

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text = text
        self.image = ImageTower(text.config.projection_size)
        self.scales = nn.Parameter(torch.full((2,), INITIAL_LOG_SCALE))

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


def cxr_bert_stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """CXR-BERT (Boecking et al. 2022): a CXRBertModel on (radiograph, report) pairs.

    It starts as a masked language model; global and local contrast with images follow. The projection head is applied
    to [CLS] for the global and to every token for the local contrast, as in BioViL-L.
    """
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    torch.manual_seed(seed)
    tokenizer = word_piece_tokenizer(material.train.texts, recipe.vocab_size, recipe.max_length)
    config = CXRBertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    objective = CxrBertObjective(CXRBertModel(config))

    def draws(pairs: Pairs, order: Callable[[int], int]) -> MaskedDraws:
        tokens = Tokens.of(tokenizer, pairs.texts, recipe.max_length)
        return MaskedDraws(PairDraws(tokens, order, pairs.pixels), tokenizer, seed)

    def results() -> dict[str, float]:
        texts, known = material.held_out.texts, draws(material.held_out, in_turn)
        return masked_accuracy(objective.text, known, len(texts)) | retrieval(objective.embed, known, texts)

    order, first = EpochOrder(len(material.train.texts), seed), recipe.language_steps * recipe.schedule.batch_size
    return Stage(
        objective,
        PhaseDraws(draws(material.train, order), first),
        lambda folder: save_transformers(objective.text, tokenizer, recipe, folder),
        results,
    )
