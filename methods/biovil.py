"""BioViL's similarity maps (Boecking et al. 2022; BioViL-T: Bannur et al. 2023), by health_multimodal's models.

A map is the cosine between every patch embedding and the phrase's embedding, both projected to the joint space, and
smoothed on the patch grid. It stays on that grid: `Frame.carry` then gives, pixel by pixel, what health_multimodal's
engine gives with interpolation="bilinear" (its own examples' choice). Two things differ from that engine on purpose:

- The image is resized in floating point, not in 8 bits: pixels differ by at most one of 255 grey levels, 0.3 on
  average; with random weights the map moved by less than 1 % of its range (below 1e-7 where nothing is resized).
- The map lies where the crop was cut. The engine rounds the crop's size to whole pixels of the original image and
  pastes it in the middle, up to a pixel of the original or of the resized image away.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from health_multimodal.image.model.model import ImageModel
from health_multimodal.image.model.types import ImageEncoderType
from health_multimodal.text.model import CXRBertModel
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError, SampleError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import GroundingMap, Query, fingerprint
from gtg_bench.methods.biovil_small import SMALL, SmallImageModel
from gtg_bench.methods.pretrained import fill, read_pickle, read_safetensors
from gtg_bench.methods.quiet import hush_libraries
from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder
from gtg_bench.methods.weights import Weights
from gtg_bench.methods.weights.plan import ImagePart

SIGMA = 1.5
"""Of the Gaussian, in patches; scipy's reflecting border, as in health_multimodal."""

_CACHED = 256


class BiovilMethod:
    """Smoothed cosines of patches and phrase. Nothing is random; images and phrases are encoded once."""

    def __init__(self, image_model: Any, text_encoder: JointTextEncoder, image: ImagePart) -> None:
        """Of an image model, health_multimodal's or `SmallImageModel`, and a text encoder of the same joint space."""
        self.image_model = image_model.eval().requires_grad_(False)
        self.text_encoder = text_encoder
        self.resize, self.crop = image.resize, image.crop
        self._patches: OrderedDict[str, Tensor] = OrderedDict()
        self._phrase = lru_cache(_CACHED)(self._encode_text)

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The map of `text` on `image` (float32 [H, W] in [0, 1]): float32 cosines on the patch grid."""
        phrase, note = self._phrase(text)
        similarity = (self._patches_of(image) @ phrase).numpy()
        return GroundingMap(gaussian_filter(similarity, sigma=SIGMA), self._frame(image), note)

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map a query; an image is encoded once for all its phrases, and by itself, so batches do not matter."""
        return [self.ground(query.image, query.text) for query in queries]

    def _frame(self, image: FloatArray) -> Frame:
        return Frame.center_crop((image.shape[1], image.shape[0]), self.resize, self.crop)

    def _patches_of(self, image: FloatArray) -> Tensor:
        """The image's unit embeddings [h, w, D] on the CPU, encoded unless it is among the last few hundred."""
        key = fingerprint(image)
        if key not in self._patches:
            self._patches[key] = self._encode_image(image)
            if len(self._patches) > _CACHED:
                self._patches.popitem(last=False)
        return self._patches[key]

    @torch.inference_mode()
    def _encode_image(self, image: FloatArray) -> Tensor:
        device = next(self.image_model.parameters()).device
        pixels = torch.from_numpy(self._frame(image).apply(eight_bits(image)) / 255).to(device)
        return self.image_model.get_patchwise_projected_embeddings(pixels.expand(1, 3, -1, -1), normalize=True)[0].cpu()

    @torch.inference_mode()
    def _encode_text(self, text: str) -> tuple[Tensor, str]:
        """The phrase's unit embedding [D] on the CPU, and what is to be noted about it."""
        model, tokenizer, most = self.text_encoder.model, self.text_encoder.tokenizer, self.text_encoder.max_length
        prompt = prompt_of(text, tokenizer)
        length = len(tokenizer(prompt).input_ids)
        if length <= tokenizer.num_special_tokens_to_add():
            raise SampleError(f"the text encoder's tokenizer finds no token in the phrase {text!r}")
        tokens = tokenizer(prompt, truncation=True, max_length=most, return_tensors="pt").to(model.device)
        embedding = model.get_projected_text_embeddings(tokens.input_ids, tokens.attention_mask)
        note = f"the phrase is cut from {length} to {most} tokens" if length > most else ""
        return embedding[0].float().cpu(), note


def eight_bits(image: FloatArray) -> FloatArray:
    """The image as health_multimodal reads it: its own range stretched to 0 to 255, cut down to whole numbers.

    Args:
        image: float32 [H, W], finite.

    Returns:
        float32 [H, W]; zero where the image has but one value.
    """
    low, high = float(image.min()), float(image.max())
    if low == high:
        return np.zeros_like(image, dtype=np.float32)
    stretched = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.floor(stretched + 1e-3).astype(np.float32)  # the levels of an 8-bit image, a float32 error below whole


def prompt_of(text: str, tokenizer: Any) -> str:
    """The text as health_multimodal gives it to the tokenizer: no stop at the end, no token of the model's own.

    Raises:
        SampleError: nothing is left, or the text holds a token of the tokenizer's own.
    """
    prompt = text.rstrip("!?.")
    if not prompt.strip():
        raise SampleError("the phrase is empty")
    own = sorted(set(tokenizer.all_special_tokens) - {tokenizer.mask_token})
    if found := [token for token in own if token in prompt]:
        raise SampleError(f"the phrase holds {found[0]}, which the text encoder keeps for itself; take it out")
    return prompt


class JointTextEncoder(HuggingFaceTextEncoder):
    """CXR-BERT whose projection to the joint space is needed, and must not be missing."""

    model_class = CXRBertModel
    tokenizer_class = "BertTokenizer"
    unused = ("cls.",)


def load(weights: Weights, device: torch.device) -> BiovilMethod:
    """Load located weights of an image encoder and a CXR-BERT. Raises DataError that names the file and the fix."""
    hush_libraries()
    image, text, places = weights.plan.image_encoder, weights.plan.text_encoder, weights.places
    assert image is not None
    assert text is not None
    if text.family != "cxr-bert":
        raise DataError(f"text_encoder.family {text.family!r}: BioViL's text encoder is of the family 'cxr-bert'")
    image_model = load_image_model(places["image_encoder"], image).to(device)
    place = places["text_encoder"]
    text_encoder = JointTextEncoder.load(place, places.get("tokenizer", place), text.max_length, device)
    if (size := text_encoder.model.config.projection_size) != image.size_of_projection:
        raise DataError(
            f"{place} projects texts to {size} numbers and the image encoder to {image.size_of_projection}; take the "
            "two encoders of one model"
        )
    return BiovilMethod(image_model, text_encoder, image)


_ENCODERS: dict[str, Callable[[int], Any]] = {
    **{member.value: partial(ImageModel, member.value) for member in ImageEncoderType},
    SMALL: SmallImageModel,
}
"""Name -> width of the joint space -> an image model without its weights."""


def load_image_model(file: Path, part: ImagePart) -> Any:
    """An image model from its checkpoint: a plain state dict saved by torch, or safetensors.

    Raises:
        DataError: the encoder has no such name, or the file is no such checkpoint.
    """
    if part.encoder not in _ENCODERS:
        raise DataError(f"image_encoder.encoder {part.encoder!r} is none of {', '.join(_ENCODERS)}")
    if file.is_dir():
        raise DataError(f"{file} is a folder; name the checkpoint file in it under image_encoder.path")
    state = read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    if not isinstance(state, dict):
        raise DataError(f"{file} holds a {type(state).__name__}, not a state dict as model.state_dict() gives it")
    model = _ENCODERS[part.encoder](part.size_of_projection)
    try:
        fill(model, state, file)
    except DataError as error:
        raise DataError(
            f"{error}; is this a {part.encoder} with a projection of {part.size_of_projection}? Name them under "
            "image_encoder (BioViL: encoder resnet50, BioViL-T: resnet50_multi_image)"
        ) from error
    return model
