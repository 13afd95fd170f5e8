"""BioViL's similarity maps (Boecking et al. 2022; BioViL-T: Bannur et al. 2023), with health_multimodal's models.

A map is the cosine of every patch embedding with the phrase embedding, both projected to the joint space, smoothed on
the patch grid. It stays on that grid: `Frame.carry` then equals, pixel by pixel, health_multimodal's engine with
interpolation="bilinear" (as in its own examples). Two differences from that engine are intended:

- The image is resized in floating point, not in 8 bits: pixels differ by at most one of 255 grey levels, 0.3 on
  average. With random weights the map moved by less than 1 % of its range (below 1e-7 without resizing).
- The map covers exactly the crop. The engine rounds the crop's size to whole pixels of the original image and pastes
  it in the middle, up to one pixel off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from health_multimodal.text.model import CXRBertModel
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gtg_bench.benchmark.api.errors import DataError, SampleError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import GroundingMap, Query
from gtg_bench.methods.biovil.image_model import load_image_model
from gtg_bench.methods.cache import cached_by_image
from gtg_bench.methods.pretrained import silence_libraries
from gtg_bench.methods.text_encoders.base import HuggingFaceTextEncoder
from gtg_bench.methods.weights import Weights
from gtg_bench.methods.weights.plan import ImagePart

SIGMA = 1.5
"""Standard deviation of the Gaussian, in patches; scipy's reflecting border, as in health_multimodal."""


class BiovilMethod:
    """Smoothed cosines of patches and phrase. Deterministic; images and phrases are encoded once."""

    def __init__(self, image_model: Any, text_encoder: JointTextEncoder, image: ImagePart) -> None:
        """Combine an image model (health_multimodal's or `SmallImageModel`) with a text encoder of its joint space."""
        self.image_model = image_model.eval().requires_grad_(False)
        self.text_encoder = text_encoder
        self.resize, self.crop = image.resize, image.crop
        self._patches: OrderedDict[str, Tensor] = OrderedDict()
        self._phrase = lru_cache(256)(self._encode_text)

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        """The map of `text` on `image` (float32 [H, W] in [0, 1]): float32 cosines on the patch grid."""
        phrase, note = self._phrase(text)
        patches = cached_by_image(self._patches, image, lambda: self._encode_image(image))
        return GroundingMap(gaussian_filter((patches @ phrase).numpy(), sigma=SIGMA), self._frame(image), note)

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map per query; images are encoded once and one at a time, so batches do not matter."""
        return [self.ground(query.image, query.text) for query in queries]

    def _frame(self, image: FloatArray) -> Frame:
        return Frame.center_crop((image.shape[1], image.shape[0]), self.resize, self.crop)

    @torch.inference_mode()
    def _encode_image(self, image: FloatArray) -> Tensor:
        """The image's unit patch embeddings [h, w, D], on the CPU."""
        device = next(self.image_model.parameters()).device
        pixels = torch.from_numpy(self._frame(image).apply(eight_bits(image)) / 255).to(device)
        return self.image_model.get_patchwise_projected_embeddings(pixels.expand(1, 3, -1, -1), normalize=True)[0].cpu()

    @torch.inference_mode()
    def _encode_text(self, text: str) -> tuple[Tensor, str]:
        """The phrase's unit embedding [D] on the CPU, and a note if it was truncated."""
        model, tokenizer, most = self.text_encoder.model, self.text_encoder.tokenizer, self.text_encoder.max_length
        prompt = prompt_of(text, tokenizer)
        length = len(tokenizer(prompt).input_ids)
        if length <= tokenizer.num_special_tokens_to_add():
            raise SampleError(f"the text encoder's tokenizer finds no token in the phrase {text!r}")
        tokens = tokenizer(prompt, truncation=True, max_length=most, return_tensors="pt").to(model.device)
        embedding = model.get_projected_text_embeddings(tokens.input_ids, tokens.attention_mask)
        note = f"the phrase was truncated from {length} to {most} tokens" if length > most else ""
        return embedding[0].float().cpu(), note


def eight_bits(image: FloatArray) -> FloatArray:
    """Quantise an image as health_multimodal does: stretch its range to 0 to 255 and round down.

    Args:
        image: float32 [H, W], finite.

    Returns:
        float32 [H, W] of whole numbers; all 0 for a constant image.
    """
    low, high = float(image.min()), float(image.max())
    if low == high:
        return np.zeros_like(image, dtype=np.float32)
    stretched = (image.astype(np.float64) - low) * (255 / (high - low))
    return np.floor(stretched + 1e-3).astype(np.float32)  # float32 errors must not push 8-bit levels down by one


def prompt_of(text: str, tokenizer: Any) -> str:
    """The text as health_multimodal passes it to the tokenizer: without the final full stop.

    Raises:
        SampleError: nothing is left, or the text contains one of the tokenizer's special tokens.
    """
    prompt = text.rstrip("!?.")
    if not prompt.strip():
        raise SampleError("the phrase is empty")
    special = sorted(set(tokenizer.all_special_tokens) - {tokenizer.mask_token})
    if found := [token for token in special if token in prompt]:
        raise SampleError(f"the phrase contains {found[0]}, a special token of the text encoder; remove it")
    return prompt


class JointTextEncoder(HuggingFaceTextEncoder):
    """CXR-BERT with its projection to the joint space, which must not be missing."""

    model_class = CXRBertModel
    tokenizer_class = "BertTokenizer"
    unused = ("cls.",)


def load(weights: Weights, device: torch.device) -> BiovilMethod:
    """Load located weights of an image encoder and a CXR-BERT. Raises DataError that names the file and the fix."""
    silence_libraries()
    image, text, places = weights.plan.image_encoder, weights.plan.text_encoder, weights.places
    assert image is not None
    assert text is not None
    if text.family != "cxr-bert":
        raise DataError(f"text_encoder.family {text.family!r}: BioViL's text encoder has the family 'cxr-bert'")
    image_model = load_image_model(places["image_encoder"], image).to(device)
    place = places["text_encoder"]
    text_encoder = JointTextEncoder.load(place, places.get("tokenizer", place), text.max_length, device)
    if (size := text_encoder.model.config.projection_size) != image.size_of_projection:
        raise DataError(
            f"{place} projects texts to {size} dimensions, but the image encoder to {image.size_of_projection}; use "
            "two encoders of the same model"
        )
    return BiovilMethod(image_model, text_encoder, image)
