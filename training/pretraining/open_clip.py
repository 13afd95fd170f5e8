"""OpenCLIP (Ilharco et al. 2021): CLIP's pretraining again, with open_clip's tower, on other pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.methods.text_encoders.open_clip import CONFIG, VOCABULARY, WEIGHTS
from gtg_bench.methods.text_encoders.open_clip_tokens import tokenize
from gtg_bench.training.pretraining.clip import ContrastObjective, contrast_stage
from gtg_bench.training.pretraining.pairs import Material, Tokens
from gtg_bench.training.pretraining.recipe import TextRecipe
from gtg_bench.training.pretraining.saving import halved
from gtg_bench.training.pretraining.stage import Stage
from gtg_bench.training.pretraining.tokenizers import byte_pair_file, simple_tokenizer


def stage(recipe: TextRecipe, material: Material, seed: int) -> Stage:
    """The pretraining of an open_clip TextTransformer on captioned pictures."""
    torch.manual_seed(seed)
    tokenizer = simple_tokenizer(recipe.vocab_size)
    sizes = {"context_length": recipe.max_length, "vocab_size": tokenizer.vocab_size, **recipe.config}
    tower = TextTransformer(**sizes, output_dim=sizes["width"])

    def save(folder: Path) -> dict[str, Any]:
        """As open_clip's models lie on the hub, without the image tower, with the vocabulary beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        model = {"embed_dim": sizes["width"], "text_cfg": sizes}
        (folder / CONFIG).write_text(json.dumps({"model_cfg": model}, indent=1) + "\n")
        weights = {
            name: value.contiguous() for name, value in halved(tower, recipe.save_precision).state_dict().items()
        }
        save_file(weights, folder / WEIGHTS[0])
        (folder / VOCABULARY).write_bytes(byte_pair_file(recipe.vocab_size))
        return {"family": recipe.family, "max_length": recipe.max_length}

    return contrast_stage(
        ContrastObjective(tower, _embedding, sizes["width"]),
        lambda texts: _tokens(tokenizer, texts, recipe.max_length),
        material,
        seed,
        save,
    )


def _tokens(tokenizer: SimpleTokenizer, texts: list[str], max_length: int) -> Tokens:
    """Cut as the method's encoder does; padded with token 0."""
    ids, mask = torch.zeros((2, len(texts), max_length), dtype=torch.int64)
    for row, text in enumerate(texts):
        found = tokenize(tokenizer, text, max_length).ids
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = 1
    return Tokens(ids, mask)


def _embedding(text: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The tower's causal mask is of its whole length, and so must the texts be."""
    return text(F.pad(ids, (0, text.context_length - ids.shape[1])))
