"""Small, reproducible vocabularies of the kinds that the published text encoders use."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from functools import cache
from tempfile import NamedTemporaryFile
from typing import Any

from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode, default_bpe
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CLIP = ("<|startoftext|>", "<|endoftext|>")


def word_piece_tokenizer(texts: Iterable[str], size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A lower-casing BERT WordPiece tokenizer: the characters of `texts`, then their most frequent words.

    The WordPiece trainer of `tokenizers` is not used because its result differs from run to run.

    Args:
        texts: source of the vocabulary.
        size: maximum number of tokens.
        max_length: maximum length of a text in tokens.
    """
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    normal = map(raw.normalizer.normalize_str, texts)
    words = Counter(word for text in normal for word, _ in raw.pre_tokenizer.pre_tokenize_str(text))
    characters = sorted({character for word in words for character in word})
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*_BERT, *characters, *(f"##{c}" for c in characters), *frequent])
    vocabulary = {piece: number for number, piece in enumerate(list(pieces)[:size])}
    raw.model = models.WordPiece(vocabulary, unk_token="[UNK]")
    raw.add_special_tokens(list(_BERT))
    ends = [(name, raw.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_pair_tokenizer(size: int, max_length: int) -> Any:
    """CLIP's tokenizer reduced to its first merges: all bytes, common syllables and the most common words.

    Args:
        size: number of tokens: 512 bytes, 2 special tokens, and one per merge.
        max_length: maximum length of a text in tokens.
    """
    merges = _merges(size)
    symbols = list(bytes_to_unicode().values())
    pieces = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *map("".join, merges), *_CLIP]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def simple_tokenizer(size: int) -> SimpleTokenizer:
    """open_clip's tokenizer with the vocabulary of `byte_pair_tokenizer`."""
    with NamedTemporaryFile(suffix=".txt.gz") as file:
        file.write(byte_pair_file(size))
        file.flush()
        return SimpleTokenizer(file.name)


def byte_pair_file(size: int) -> bytes:
    """The same vocabulary as a file for open_clip's SimpleTokenizer: a comment and one merge per line, gzipped."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in _merges(size))]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


@cache
def _merges(size: int) -> list[tuple[str, str]]:
    """CLIP's first byte-pair merges (Radford et al. 2021), from open_clip_torch, for a vocabulary of `size` tokens.

    Each byte takes two tokens: inside and at the end of a word.
    """
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        pairs = [line.split(" ") for line in file.read().split("\n")[1:] if line]
    count = max(0, size - 2 * len(bytes_to_unicode()) - len(_CLIP))
    return [(left, right) for left, right in pairs[:count]]
