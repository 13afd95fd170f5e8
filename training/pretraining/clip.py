"""Text encoders pretrained by global image-text contrast: CLIP, OpenCLIP and CXR-CLIP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModelWithProjection

from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.pretraining.losses import INITIAL_LOG_SCALE, ImageTower, contrast
from gtg_bench.training.pretraining.material import Material
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.samples import PairDraws, Tokens, in_turn, pictures, trimmed
from gtg_bench.training.pretraining.stage import Stage, retrieval, save_transformers, weights_in
from gtg_bench.training.pretraining.tokenizers import (
    byte_pair_file,
    byte_pair_tokenizer,
    simple_tokenizer,
    word_piece_tokenizer,
)

CXR_CLIP_FILE = "phantom.tar"

Embed = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(text tower, ids, mask) -> embeddings [B, D]"""


class ContrastObjective(nn.Module):
    """Contrast of texts and images, for batches with `pixels`, `ids` and `mask`."""

    def __init__(self, text: nn.Module, embed: Embed, width: int) -> None:
        """Combine a text tower with a new image tower.

        Args:
            text: the text tower.
            embed: applies the text tower to tokens.
            width: width D of the joint space.
        """
        super().__init__()
        self.text = text
        self.image = ImageTower(width)
        self.scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
        self._embed = embed

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return contrast(*self.embed(batch), self.scale)

    def embed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D] of texts and images in the joint space."""
        batch = trimmed(batch)
        return self._embed(self.text, batch["ids"], batch["mask"]), self.image(pictures(batch["pixels"])).mean(1)


def _stage(
    objective: ContrastObjective,
    tokenize: Callable[[list[str]], Tokens],
    material: Material,
    seed: int,
    save: Callable[[Path], dict[str, Any]],
) -> Stage:
    train, held_out = material.train, material.held_out

    def results() -> dict[str, float]:
        draws = PairDraws(tokenize(held_out.texts), in_turn, held_out.pixels)
        return retrieval(objective.embed, draws, held_out.texts)

    draws = PairDraws(tokenize(train.texts), EpochOrder(len(train.texts), seed), train.pixels)
    return Stage(objective, draws, save, results)


def clip_stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """CLIP (Radford et al. 2021): a CLIPTextModelWithProjection on captioned pictures."""
    torch.manual_seed(seed)
    tokenizer = byte_pair_tokenizer(recipe.vocab_size, recipe.max_length)
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("bos", "eos", "pad")}
    model = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=len(tokenizer), **ends, **recipe.config))
    return _stage(
        ContrastObjective(
            model, lambda text, ids, mask: text(ids, attention_mask=mask).text_embeds, model.config.projection_dim
        ),
        lambda texts: Tokens.of(tokenizer, texts, recipe.max_length),
        material,
        seed,
        lambda folder: save_transformers(model, tokenizer, recipe, folder),
    )


def open_clip_stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """OpenCLIP (Ilharco et al. 2021): CLIP's pretraining with open_clip's TextTransformer on other pictures."""
    from open_clip.transformer import TextTransformer

    from gtg_bench.methods.text_encoders.open_clip import CONFIG, VOCABULARY, WEIGHTS
    from gtg_bench.methods.text_encoders.open_clip_tokens import tokenize

    torch.manual_seed(seed)
    tokenizer = simple_tokenizer(recipe.vocab_size)
    sizes = {"context_length": recipe.max_length, "vocab_size": tokenizer.vocab_size, **recipe.config}
    tower = TextTransformer(**sizes, output_dim=sizes["width"])

    def tokens(texts: list[str]) -> Tokens:
        """Tokenize as the method's encoder does; padded with token 0."""
        ids, mask = torch.zeros((2, len(texts), recipe.max_length), dtype=torch.int64)
        for row, text in enumerate(texts):
            found = tokenize(tokenizer, text, recipe.max_length).ids
            ids[row, : len(found)] = torch.tensor(found)
            mask[row, : len(found)] = 1
        return Tokens(ids, mask)

    def embed(text: Any, ids: Tensor, mask: Tensor) -> Tensor:
        return text(F.pad(ids, (0, text.context_length - ids.shape[1])))  # its causal mask has a fixed length

    def save(folder: Path) -> dict[str, Any]:
        """Use the layout of open_clip's models on the hub, without the image tower and with the vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        model = {"embed_dim": sizes["width"], "text_cfg": sizes}
        (folder / CONFIG).write_text(json.dumps({"model_cfg": model}, indent=1) + "\n")
        save_file(weights_in(tower, recipe.save_precision), folder / WEIGHTS[0])
        (folder / VOCABULARY).write_bytes(byte_pair_file(recipe.vocab_size))
        return {"family": recipe.family, "max_length": recipe.max_length}

    return _stage(ContrastObjective(tower, embed, sizes["width"]), tokens, material, seed, save)


class EndTower(nn.Module):
    """A BERT and a linear projection of the state of a text's last token."""

    def __init__(self, bert: Any, width: int) -> None:
        super().__init__()
        self.bert = bert
        self.project = nn.Linear(bert.config.hidden_size, width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.project(states[torch.arange(len(ids)), mask.sum(1) - 1])


def cxr_clip_stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """CXR-CLIP (You et al. 2023): a BertModel on (radiograph, report) pairs.

    The original's other losses compare two images or two texts of a study; a phantom study has one of each.
    """
    torch.manual_seed(seed)
    tokenizer = word_piece_tokenizer(material.train.texts, recipe.vocab_size, recipe.max_length)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    tower = EndTower(BertModel(config, add_pooling_layer=False), config.hidden_size)

    def save(folder: Path) -> dict[str, Any]:
        """Use the layout of CXR-CLIP's checkpoints, with configuration and vocabulary as in Bio_ClinicalBERT."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = weights_in(tower.bert, recipe.save_precision, "text_encoder.text_encoder.")
        torch.save({"model": weights}, folder / CXR_CLIP_FILE)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {"family": recipe.family, "max_length": recipe.max_length, "file": CXR_CLIP_FILE}

    return _stage(
        ContrastObjective(tower, lambda text, ids, mask: text(ids, mask), config.hidden_size),
        lambda texts: Tokens.of(tokenizer, texts, recipe.max_length),
        material,
        seed,
        save,
    )
