"""Pretraining of the phantom's text encoders, each in the manner of its original at toy scale.

`cxr-bert` (Boecking et al. 2022): masked language model on reports, global image-text contrast on the
projected [CLS], and a local word-region contrast. `clip` (Radford et al. 2021): global contrast alone, on
generic captioned pictures. The image towers serve the pretraining only and are thrown away.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from health_multimodal.text.model import CXRBertConfig, CXRBertModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from gtg_bench.training.loop import Fit, batch_indices
from gtg_bench.training.recipe import TextRecipe


@dataclass(frozen=True)
class Pairs:
    """Images (uint8 [N, S, S]) and one text each."""

    pixels: Tensor
    texts: list[str]


class ImageTower(nn.Module):
    """A small convolutional image encoder: [B, 1, 64, 64] to patch embeddings [B, 64, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inner, outer, 3, 2, 1), nn.BatchNorm2d(outer), nn.ReLU()]
            layers += [nn.Conv2d(outer, outer, 3, 1, 1), nn.BatchNorm2d(outer), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.project = nn.Conv2d(64, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.project(self.body(images)).flatten(2).transpose(1, 2)


def train_cxr_bert(recipe: TextRecipe, pairs: Pairs, seed: int, workdir: Path) -> tuple[Any, Any, list]:
    """Train tokenizer and CXRBertModel on (radiograph, report) pairs; return (model, tokenizer, loss curve)."""
    torch.manual_seed(seed)
    tokenizer = word_piece_tokenizer(pairs.texts, recipe)
    config = CXRBertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **recipe.config)
    model = CXRBertModel(config)
    towers = nn.ModuleDict({"text": model, "image": ImageTower(config.projection_size)})
    towers["local"] = nn.Linear(config.hidden_size, config.projection_size)
    scales = nn.Parameter(torch.tensor([2.3, 2.3]))
    towers.register_parameter("scales", scales)
    tokens = tokenize(tokenizer, pairs.texts, recipe.max_length)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = batch_indices(len(pairs.texts), recipe.schedule.batch_size, step, seed)
        ids, mask = trim(tokens["input_ids"][chosen], tokens["attention_mask"][chosen])
        patches = towers["image"](_images(pairs.pixels[chosen]))
        masked, targets = mask_tokens(ids, mask, tokenizer, generator)
        logits = model(masked, mask).logits
        language = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        text = model(ids, mask, output_cls_projected_embedding=True)
        whole = contrast(text.cls_projected_embedding, patches.mean(1), scales[0])
        words = local_contrast(towers["local"](text.last_hidden_state), mask, patches, scales[1])
        return language + whole + words

    curve = Fit("cxr-bert", towers, loss, recipe.schedule, seed, workdir, about=recipe.model_dump()).run()
    return model, tokenizer, curve


def train_clip(recipe: TextRecipe, pairs: Pairs, seed: int, workdir: Path) -> tuple[Any, Any, list]:
    """Train tokenizer and CLIPTextModelWithProjection on captioned pictures; (model, tokenizer, loss curve)."""
    torch.manual_seed(seed)
    tokenizer = byte_pair_tokenizer(pairs.texts, recipe)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **recipe.config,
    )
    model = CLIPTextModelWithProjection(config)
    towers = nn.ModuleDict({"text": model, "image": ImageTower(config.projection_dim)})
    scale = nn.Parameter(torch.tensor(2.3))
    towers.register_parameter("scale", scale)
    tokens = tokenize(tokenizer, pairs.texts, recipe.max_length)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        chosen = batch_indices(len(pairs.texts), recipe.schedule.batch_size, step, seed)
        ids, mask = trim(tokens["input_ids"][chosen], tokens["attention_mask"][chosen])
        patches = towers["image"](_images(pairs.pixels[chosen]))
        return contrast(model(ids, attention_mask=mask).text_embeds, patches.mean(1), scale)

    curve = Fit("clip", towers, loss, recipe.schedule, seed, workdir, about=recipe.model_dump()).run()
    return model, tokenizer, curve


def word_piece_tokenizer(texts: list[str], recipe: TextRecipe) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer: the characters of `texts`, then their most frequent words.

    The library's own WordPiece trainer gives another vocabulary every time.
    """
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    normal = map(raw.normalizer.normalize_str, texts)
    words = Counter(word for text in normal for word, _ in raw.pre_tokenizer.pre_tokenize_str(text))
    characters = sorted({character for word in words for character in word})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*special, *characters, *(f"##{c}" for c in characters), *frequent])
    vocabulary = {piece: number for number, piece in enumerate(list(pieces)[: recipe.vocab_size])}
    raw.model = models.WordPiece(vocabulary, unk_token="[UNK]")
    raw.add_special_tokens(special)
    ends = [(name, raw.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=recipe.max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_pair_tokenizer(texts: list[str], recipe: TextRecipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in CLIP's manner, trained on `texts`: it knows any byte, and few words."""
    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    start, end = "<|startoftext|>", "<|endoftext|>"
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[start, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    ends = [(name, raw.token_to_id(name)) for name in (start, end)]
    raw.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=recipe.max_length, bos_token=start, eos_token=end, pad_token=end
    )


def tokenize(tokenizer: Any, texts: list[str], max_length: int) -> dict[str, Tensor]:
    """input_ids and attention_mask, int64 [N, max_length]."""
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=max_length, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def trim(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the padding that no text of the batch needs."""
    longest = int(mask.sum(1).max())
    return ids[:, :longest], mask[:, :longest]


def mask_tokens(ids: Tensor, mask: Tensor, tokenizer: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """BERT's masking: of 15 % chosen tokens 80 % become [MASK], 10 % random, 10 % stay; targets, else -100."""
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    chosen = (torch.rand(ids.shape, generator=generator) < 0.15) & ~special & mask.bool()
    action = torch.rand(ids.shape, generator=generator)
    random = torch.randint(len(tokenizer), ids.shape, generator=generator)
    masked = torch.where(chosen & (action < 0.8), torch.tensor(tokenizer.mask_token_id), ids)
    masked = torch.where(chosen & (action > 0.9), random, masked)
    targets = torch.where(chosen, ids, torch.tensor(-100))
    targets[0, 1] = ids[0, 1] if not chosen.any() else targets[0, 1]
    return masked, targets


def contrast(text: Tensor, image: Tensor, log_scale: Tensor) -> Tensor:
    """The symmetric InfoNCE loss of two [B, D] embeddings."""
    logits = F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T * log_scale.exp().clamp(max=100)
    targets = torch.arange(len(text))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def local_contrast(tokens: Tensor, mask: Tensor, patches: Tensor, log_scale: Tensor, focus: float = 5.0) -> Tensor:
    """Word-region contrast: a text fits an image when each of its words finds its patch.

    Args:
        tokens: [B, L, D] word embeddings; the first and the last of a text are its end tokens and left out.
        mask: [B, L], 1 where there is a token.
        patches: [B, P, D] patch embeddings.
    """
    words = mask.clone()
    words[:, 0] = 0
    words[torch.arange(len(mask)), mask.sum(1) - 1] = 0
    tokens, patches = F.normalize(tokens, dim=-1), F.normalize(patches, dim=-1)
    similarity = torch.einsum("ald,bpd->ablp", tokens, patches)
    attention = (focus * similarity).softmax(-1)
    context = F.normalize(torch.einsum("ablp,bpd->abld", attention, patches), dim=-1)
    fit = torch.einsum("ald,abld->abl", tokens, context)
    logits = (fit * words[:, None]).sum(-1) / words.sum(1).clamp(min=1)[:, None] * log_scale.exp().clamp(max=100)
    targets = torch.arange(len(tokens))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def _images(pixels: Tensor) -> Tensor:
    """uint8 [B, S, S] to float [B, 1, 64, 64] in [-1, 1]."""
    images = pixels[:, None].float() / 127.5 - 1
    return F.adaptive_avg_pool2d(images, 64)
