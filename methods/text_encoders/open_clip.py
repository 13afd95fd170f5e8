"""OpenCLIP's text tower (Ilharco et al. 2021) as Stable Diffusion 2 uses it: the penultimate layer.

The states are those after the last block but one, with the tower's final layer norm on top; attention is causal,
padding is not masked, and its token is number 0, as OpenCLIP and Stable Diffusion 2 pad.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, TextTransformer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.pretrained import fill, read_pickle, reason
from gtg_bench.methods.text_encoders.base import TextEncoding, TextTokens, encoding
from gtg_bench.methods.text_encoders.open_clip_cut import cut

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Files of a published folder; the first of the weights that is there is read."""

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
"""A vocabulary of the folder's own, where it has one; as open_clip_torch's file of this name, with fewer merges."""

_BLOCKS = "transformer.resblocks."
_SHAPE = ("context_length", "vocab_size", "width", "heads", "layers")
_OPTIONAL = ("mlp_ratio", "ls_init_value")
_HEAD = ("pool_type", "proj_type", "proj_bias", "output_tokens", "eos_id", "pad_id")
"""What comes after the hidden states, or is not asked for by a causal tower: nobody computes with it here."""


class OpenClipTextEncoder:
    """States of OpenCLIP's text tower at its penultimate layer; the last block and the image tower are never built."""

    def __init__(self, tower: TextTransformer, tokenizer: SimpleTokenizer, max_length: int) -> None:
        self.tower = tower.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def load(cls, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu") -> Self:
        """From a published folder; the vocabulary is OpenCLIP's own, unless the folder `tokenizer` holds another.

        Raises:
            DataError: a file is missing or of another kind of model.
        """
        settings, activation = _settings(place / CONFIG)
        pieces = _vocabulary(tokenizer / VOCABULARY)
        if pieces.vocab_size > settings["vocab_size"]:
            raise DataError(f"{place}/{CONFIG}: vocab_size {settings['vocab_size']} is less than {pieces.vocab_size}")
        if max_length > settings["context_length"]:
            longest = settings["context_length"]
            raise DataError(f"{place}: max_length {max_length} is more than the {longest} tokens that the model takes")
        weights = _weights(place, settings["layers"])
        if "positional_embedding" in weights:
            weights["positional_embedding"] = weights["positional_embedding"][:max_length]
        tower = _penultimate(settings | {"context_length": max_length}, activation)
        fill(tower, weights, place)
        return cls(tower.to(device), pieces, max_length)

    @property
    def module(self) -> nn.Module:
        """See `TrainableTextEncoder`."""
        return self.tower

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See `TextEncoder.encode`."""
        return encoding(self, texts)

    def tokens(self, texts: Sequence[str]) -> TextTokens:
        """See `TrainableTextEncoder`."""
        cuts = [cut(self.tokenizer, text, self.max_length) for text in texts]
        ids = torch.zeros(len(cuts), self.max_length, dtype=torch.int64)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        offsets = torch.zeros(*ids.shape, 2, dtype=torch.int64)
        for row, found in enumerate(cuts):
            length = len(found.ids)
            ids[row, :length] = torch.tensor(found.ids)
            mask[row, :length] = True
            offsets[row, :length] = torch.tensor(found.offsets)
        return TextTokens(ids, mask, offsets, tuple(found.text for found in cuts))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States [B, L, D] of tokens int64 [B, L]; the mask is not looked at."""
        _, states = self.tower(ids)
        return states


def _vocabulary(own: Path) -> SimpleTokenizer:
    """The tokenizer. Raises DataError where the folder's own vocabulary cannot be read."""
    try:
        return SimpleTokenizer(str(own)) if own.is_file() else SimpleTokenizer()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{own}: {reason(error)}") from error


def _settings(path: Path) -> tuple[dict[str, Any], type[nn.Module]]:
    """The text tower's sizes and its activation. Raises DataError for a tower of another kind."""
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        text = model["text_cfg"]
        sizes = {name: int(text[name]) for name in _SHAPE}
        sizes |= {name: text[name] for name in _OPTIONAL if text.get(name) is not None}
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} is no folder of OpenCLIP: {path.name} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {reason(error)}") from error
    if strange := sorted(name for name in text.keys() - {*_SHAPE, *_OPTIONAL, *_HEAD} if text[name]):
        raise DataError(f"{path}: text_cfg sets {', '.join(strange)}; only plain causal text towers are built here")
    if sizes["layers"] < 2:
        raise DataError(f"{path}: a tower of {sizes['layers']} layer has no penultimate one")
    return sizes, QuickGELU if model.get("quick_gelu") else nn.GELU


def _penultimate(settings: dict[str, Any], activation: type[nn.Module]) -> TextTransformer:
    """The tower without its last block and its projection, still without weights."""
    with torch.device("meta"):
        tower = TextTransformer(
            **settings | {"layers": settings["layers"] - 1},
            output_dim=None,
            act_layer=activation,
            pool_type="none",
            output_tokens=True,
        )
    tower.register_buffer("attn_mask", tower.build_causal_mask(), persistent=False)
    return tower


def _weights(place: Path, layers: int) -> dict[str, Tensor]:
    """The weights of the text tower's first `layers` - 1 blocks; nothing else is read from the disk."""
    file = next((place / name for name in WEIGHTS if (place / name).is_file()), None)
    if file is None:
        raise DataError(f"{place} holds none of {', '.join(WEIGHTS)}")
    if file.suffix == ".bin":
        found = read_pickle(file)
        found = found.get("state_dict", found) if isinstance(found, dict) else {}
        return {own: found[name] for own, name in _names(list(found), file, layers).items()}
    try:
        stored = safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: {reason(error)}") from error
    return {own: stored.get_tensor(name) for own, name in _names(list(stored.keys()), file, layers).items()}


def _names(names: list[str], file: Path, layers: int) -> dict[str, str]:
    """The tower's own names of the weights it needs -> their names in the file, where all may stand under `text.`"""
    prefix = "text." if "text.token_embedding.weight" in names else ""
    owned = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    blocks = {own.removeprefix(_BLOCKS).partition(".")[0] for own in owned if own.startswith(_BLOCKS)}
    if blocks != set(map(str, range(layers))):
        raise DataError(f"{file}: holds {len(blocks)} blocks of a text tower, and {CONFIG} says {layers}")
    wanted = [f"{_BLOCKS}{block}." for block in range(layers - 1)]
    wanted += ["token_embedding.", "positional_embedding", "ln_final."]
    return {own: name for own, name in owned.items() if own.startswith(tuple(wanted))}
