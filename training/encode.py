"""What a training run encodes once: an image's posterior under the autoencoder, a text's tokens.

`LatentMaker` and `TokenMaker` are called by `training.cache.fill` with item numbers; an item that cannot be made is an
exception in its place. `latent_facts` and `token_facts` are what decides the encoded values.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.datasets.training import TrainingSet
from gtg_bench.methods.text_encoders.base import TrainableTextEncoder
from gtg_bench.methods.weights.files import files_of, sha256_of
from gtg_bench.methods.weights.plan import Part
from gtg_bench.training.cache import Item

_AHEAD = 2
"""Batches of images that are read while another one is encoded."""


class LatentMaker:
    """Posteriors of images: `mean` and `std`, float16 [C, h, w], times the autoencoder's scaling factor.

    An image is prepared as a method does for its evaluation (`LdmMethod.frame`): shorter side to `image_size`, centre
    crop, [0, 1] to [-1, 1], as many equal channels as the autoencoder takes. Every batch has the same size, even if
    some images cannot be read, so that an item's values do not depend on the rest of its batch.

    Args:
        vae: a diffusers AutoencoderKL in evaluation mode, on its device.
        training_set: whose images are encoded.
        image_size: side in pixels.
        batch_size: images a forward.
        threads: that read images meanwhile; None: as many as there are cores, 8 at most.
    """

    def __init__(
        self, vae: Any, training_set: TrainingSet, image_size: int, batch_size: int = 8, threads: int | None = None
    ) -> None:
        self.vae, self.training_set, self.image_size, self.batch_size = vae, training_set, image_size, batch_size
        self.threads = threads or min(8, os.cpu_count() or 1)
        len(training_set)  # some sets load what they need now, which threads should not do at once

    def name(self, number: int) -> str:
        """The image's name in its data set."""
        return self.training_set[number].image_id

    def __call__(self, numbers: Sequence[int]) -> dict[int, Item | Exception]:
        """The posteriors of these items; an image that cannot be read is an exception in its place."""
        results: dict[int, Item | Exception] = {}
        for batch in _batches(self._images(numbers), self.batch_size, results):
            results |= zip(batch, self._encode(list(batch.values())), strict=True)
        return results

    def pixels(self, number: int) -> Tensor:
        """float32 [1, S, S] in [-1, 1]: the image as the autoencoder sees it. Raises DataError if it cannot be read."""
        image = self.training_set[number].pixels()
        height, width = image.shape
        return torch.from_numpy(Frame.center_crop((width, height), self.image_size).apply(image))[None] * 2 - 1

    def _images(self, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor | Exception]]:
        """Images in order, read by threads a little ahead."""
        waiting: deque[tuple[int, Future[Tensor]]] = deque()
        with ThreadPoolExecutor(self.threads, "images") as pool:
            for number in numbers:
                waiting.append((number, pool.submit(self.pixels, number)))
                if len(waiting) > _AHEAD * self.batch_size:
                    yield _settled(*waiting.popleft())
            while waiting:
                yield _settled(*waiting.popleft())

    @torch.inference_mode()
    def _encode(self, images: list[Tensor]) -> list[Item | Exception]:
        full = torch.stack(images + images[-1:] * (self.batch_size - len(images)))
        full = full.expand(-1, self.vae.config.in_channels, -1, -1).to(self.vae.device, self.vae.dtype)
        posterior = self.vae.encode(full).latent_dist
        scaled = (part * self.vae.config.scaling_factor for part in (posterior.mean, posterior.std))
        mean, std = (part.half().cpu()[: len(images)] for part in scaled)
        return [_checked({"mean": m, "std": s}) for m, s in zip(mean, std, strict=True)]


class TokenMaker:
    """Tokens of texts: `ids` int32 [L] and `mask` bool [L], as the text encoder cuts them.

    Args:
        encoder: a text encoder that is trained with.
        training_set: whose texts are cut.
    """

    def __init__(self, encoder: TrainableTextEncoder, training_set: TrainingSet) -> None:
        self.encoder, self.training_set = encoder, training_set

    def name(self, number: int) -> str:
        """The image's name in its data set."""
        return self.training_set[number].image_id

    def __call__(self, numbers: Sequence[int]) -> dict[int, Item | Exception]:
        """The tokens of these items; a text that cannot be cut is an exception in its place."""
        try:
            return dict(zip(numbers, self._cut(numbers), strict=True))
        except Exception as error:  # of one text of them, or of the tokenizer
            if len(numbers) == 1:
                return {numbers[0]: error}
            return {number: result for one in numbers for number, result in self([one]).items()}

    def _cut(self, numbers: Sequence[int]) -> list[Item]:
        tokens = self.encoder.tokens([self.training_set[number].text for number in numbers])
        pairs = zip(tokens.ids.int(), tokens.mask, strict=True)
        return [{"ids": ids, "mask": mask} for ids, mask in pairs]


def _settled(number: int, image: Future[Tensor]) -> tuple[int, Tensor | Exception]:
    error = image.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return number, error or image.result()


def _batches(
    images: Iterator[tuple[int, Tensor | Exception]], size: int, failed: dict[int, Item | Exception]
) -> Iterator[dict[int, Tensor]]:
    """Batches of `size` images that could be read, the last one smaller; the others go to `failed`."""
    batch: dict[int, Tensor] = {}
    for number, image in images:
        if isinstance(image, Exception):
            failed[number] = image
            continue
        batch[number] = image
        if len(batch) == size:
            yield batch
            batch = {}
    if batch:
        yield batch


def _checked(item: Item) -> Item | Exception:
    if all(bool(tensor.isfinite().all()) for tensor in item.values()):
        return item
    return DataError("its posterior is not finite in half precision")


ENCODING = 1
"""Changes when `training.encode` makes other values of the same files."""

_TOKENIZER = ("tokenizer*.json", "vocab*", "merges.txt", "*.model", "added_tokens.json", "special_tokens_map.json")
_LOOKED_AT = 3
_TRIED = 64
_ODD_TEXT = "No acute PNEUMO-thorax; 3.5 cm opacity (R>L), naïve “quotes” isn't 100% [SEP] µ"


def latent_facts(vae: Path, image_size: int, training_set: TrainingSet) -> dict[str, Any]:
    """What decides the posteriors of a training set's images.

    The set's fingerprint does not include image files, so the bytes of its first few readable images are added:
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

    Besides the tokenizer's files this includes the tokens of an odd text and of the set's first texts: some families
    rewrite texts before tokenization, and some bring their own vocabulary.

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
