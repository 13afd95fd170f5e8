"""Identities of caches: hex digits that change with whatever changes a cached value, and the facts behind them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.datasets.training import TrainingSet
from gtg_bench.methods.text_encoders.base import TrainableTextEncoder
from gtg_bench.methods.weights.files import files_of, sha256_of
from gtg_bench.methods.weights.plan import Part
from gtg_bench.training.shards import ShardCache

ENCODING = 1
"""Changes when `training.encode` makes other values of the same files."""

_TOKENIZER = ("tokenizer*.json", "vocab*", "merges.txt", "*.model", "added_tokens.json", "special_tokens_map.json")
_LOOKED_AT = 3
_TRIED = 64
_ODD_TEXT = "No acute PNEUMO-thorax; 3.5 cm opacity (R>L), naïve “quotes” isn't 100% [SEP] µ"


def latent_facts(vae: Path, image_size: int, training_set: TrainingSet) -> dict[str, Any]:
    """What decides the posteriors of a training set's images.

    The set's fingerprint does not look at image files, so the bytes of its first few readable images stand beside it:
    smaller copies under the same names are other images.

    Args:
        vae: the autoencoder's folder: weights and config.json with the scaling factor.
        image_size: side in pixels.
        training_set: whose images are encoded.
    """
    images = list(islice(_image_digests(training_set), _LOOKED_AT))
    made_of = {"vae": _digests(vae), "image_size": image_size, "images": images}
    return {"kind": "latents", "encoding": ENCODING} | made_of | _set_facts(training_set)


def token_facts(encoder: TrainableTextEncoder, tokenizer: Path, training_set: TrainingSet) -> dict[str, Any]:
    """What decides the tokens of a training set's texts.

    Beside the tokenizer's files it is what the encoder really makes of an odd text and of the set's first texts: some
    families rewrite texts before they are cut, and some bring their vocabulary along.

    Args:
        encoder: the text encoder.
        tokenizer: the folder of its tokenizer.
        training_set: whose texts are cut.
    """
    texts = ["", _ODD_TEXT, *(training_set[number].text for number in range(min(_TRIED, len(training_set))))]
    tokens = encoder.tokens(texts)
    trial = hashlib.sha256(json.dumps([tokens.ids.tolist(), tokens.mask.tolist()]).encode()).hexdigest()
    made_of = {"tokenizer": _digests(tokenizer, _TOKENIZER), "max_length": encoder.max_length, "trial": trial}
    return {"kind": "tokens", "encoding": ENCODING} | made_of | _set_facts(training_set)


def identity_of(facts: Mapping[str, Any]) -> str:
    """64 hex digits over facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def open_cache(folder: Path, facts: Mapping[str, Any], verify: bool = True) -> ShardCache:
    """The cache of these facts below `folder`; they stand in its cache.json. Raises DataError as `ShardCache`."""
    return ShardCache(folder, identity_of(facts), verify, facts)


def _set_facts(training_set: TrainingSet) -> dict[str, Any]:
    return {"set": training_set.name, "split": training_set.split, "pairs": training_set.fingerprint}


def _digests(place: Path, patterns: tuple[str, ...] = ()) -> dict[str, str]:
    """File name -> sha256 of what is loaded from a folder."""
    return {file.name: sha256_of(file) for file in files_of(place, Part(place=str(place), files=patterns))}


def _image_digests(training_set: TrainingSet) -> Iterator[str]:
    """sha256 of the images that can be read among the first ones of a set, in order."""
    for number in range(min(_TRIED, len(training_set))):
        image = training_set[number].image
        try:
            yield sha256_of(image) if isinstance(image, Path) else hashlib.sha256(image.tobytes()).hexdigest()
        except OSError:
            continue
