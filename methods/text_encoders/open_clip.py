"""OpenCLIP's text tower (Ilharco et al. 2021) as Stable Diffusion 2 uses it: the penultimate layer.

The states are the output of the second-last block, with the tower's final layer norm applied. Attention is causal;
padding is not masked and has token id 0, as in OpenCLIP and Stable Diffusion 2.
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
from gtg_bench.methods.text_encoders.base import TextEncoding, TextTokens, encode
from gtg_bench.methods.text_encoders.open_clip_tokens import tokenize

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Weights of a published folder; the first file that exists is read."""

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
"""Optional vocabulary in the folder, in the format of open_clip_torch's file of this name."""

_BLOCKS = "transformer.resblocks."
_SHAPE = ("context_length", "vocab_size", "width", "heads", "layers")
_OPTIONAL = ("mlp_ratio", "ls_init_value")
_HEAD = ("pool_type", "proj_type", "proj_bias", "output_tokens", "eos_id", "pad_id")
"""Settings without effect on the hidden states of a causal tower."""


class OpenClipTextEncoder:
    """States of OpenCLIP's text tower at its penultimate layer; the last block and the image tower are not built."""

    def __init__(self, tower: TextTransformer, tokenizer: SimpleTokenizer, max_length: int) -> None:
        self.tower = tower.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def load(cls, place: Path, tokenizer: Path, max_length: int, device: str | torch.device = "cpu") -> Self:
        """Load a published folder; the vocabulary is OpenCLIP's, unless the folder `tokenizer` has another.

        Raises:
            DataError: a file is missing or belongs to another kind of model.
        """
        settings, activation = _settings(place / CONFIG)
        vocabulary = tokenizer / VOCABULARY
        try:
            loaded = SimpleTokenizer(str(vocabulary)) if vocabulary.is_file() else SimpleTokenizer()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(f"{vocabulary}: {reason(error)}") from error
        if loaded.vocab_size > settings["vocab_size"]:
            raise DataError(f"{place}/{CONFIG}: vocab_size {settings['vocab_size']} is less than {loaded.vocab_size}")
        if max_length > (longest := settings["context_length"]):
            raise DataError(f"{place}: max_length {max_length} is more than the {longest} tokens of the model")
        weights = _weights(place, settings["layers"])
        if "positional_embedding" in weights:
            weights["positional_embedding"] = weights["positional_embedding"][:max_length]
        with torch.device("meta"):  # without the last block, the projection, and weights
            tower = TextTransformer(
                **settings | {"context_length": max_length, "layers": settings["layers"] - 1},
                output_dim=None,
                act_layer=activation,
                pool_type="none",
                output_tokens=True,
            )
        tower.register_buffer("attn_mask", tower.build_causal_mask(), persistent=False)
        fill(tower, weights, place)
        return cls(tower.to(device), loaded, max_length)

    @property
    def module(self) -> nn.Module:
        """See `TrainableTextEncoder`."""
        return self.tower

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """See `TextEncoder.encode`."""
        return encode(self, texts)

    def tokens(self, texts: Sequence[str]) -> TextTokens:
        """See `TrainableTextEncoder`."""
        tokenized = [tokenize(self.tokenizer, text, self.max_length) for text in texts]
        ids = torch.zeros(len(texts), self.max_length, dtype=torch.int64)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        offsets = torch.zeros(*ids.shape, 2, dtype=torch.int64)
        for row, found in enumerate(tokenized):
            length = len(found.ids)
            ids[row, :length] = torch.tensor(found.ids)
            mask[row, :length] = True
            offsets[row, :length] = torch.tensor(found.offsets)
        return TextTokens(ids, mask, offsets, tuple(found.text for found in tokenized))

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States [B, L, D] of tokens int64 [B, L]; the mask is ignored."""
        _, states = self.tower(ids)
        return states


def _settings(path: Path) -> tuple[dict[str, Any], type[nn.Module]]:
    """The text tower's sizes and its activation. Raises DataError for another kind of tower."""
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        text = model["text_cfg"]
        sizes = {name: int(text[name]) for name in _SHAPE}
        sizes |= {name: text[name] for name in _OPTIONAL if text.get(name) is not None}
    except FileNotFoundError as error:
        raise DataError(f"{path.parent} is not a folder of OpenCLIP: {path.name} is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: {reason(error)}") from error
    if strange := sorted(name for name in text.keys() - {*_SHAPE, *_OPTIONAL, *_HEAD} if text[name]):
        raise DataError(f"{path}: text_cfg sets {', '.join(strange)}; only plain causal text towers are supported")
    if sizes["layers"] < 2:
        raise DataError(f"{path}: a tower with {sizes['layers']} layer has no penultimate layer")
    return sizes, QuickGELU if model.get("quick_gelu") else nn.GELU


def _weights(place: Path, layers: int) -> dict[str, Tensor]:
    """Read the weights of the text tower's first `layers` - 1 blocks, and nothing else."""
    file = next((place / name for name in WEIGHTS if (place / name).is_file()), None)
    if file is None:
        raise DataError(f"{place} holds none of {', '.join(WEIGHTS)}")
    if file.suffix == ".bin":
        state = read_pickle(file)
        state = state.get("state_dict", state) if isinstance(state, dict) else {}
        return {own: state[name] for own, name in _names(list(state), file, layers).items()}
    try:
        stored = safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file}: {reason(error)}") from error
    return {own: stored.get_tensor(name) for own, name in _names(list(stored.keys()), file, layers).items()}


def _names(names: list[str], file: Path, layers: int) -> dict[str, str]:
    """Name of each needed weight in the tower -> its name in the file, where all may share the prefix `text.`"""
    prefix = "text." if "text.token_embedding.weight" in names else ""
    owned = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    blocks = {own.removeprefix(_BLOCKS).partition(".")[0] for own in owned if own.startswith(_BLOCKS)}
    if blocks != set(map(str, range(layers))):
        raise DataError(f"{file} holds {len(blocks)} blocks of a text tower, but {CONFIG} says {layers}")
    wanted = [f"{_BLOCKS}{block}." for block in range(layers - 1)]
    wanted += ["token_embedding.", "positional_embedding", "ln_final."]
    return {own: name for own, name in owned.items() if own.startswith(tuple(wanted))}
