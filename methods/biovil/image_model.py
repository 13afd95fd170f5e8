"""Image encoders with health_multimodal's ImageModel interface, and how their checkpoints are loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from health_multimodal.image.model.model import ImageModel
from health_multimodal.image.model.types import ImageEncoderType
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.pretrained import fill, read_pickle, read_safetensors
from gtg_bench.methods.weights.plan import ImagePart

SMALL = "small"
"""The name of `SmallImageModel` in `ImagePart.encoder`."""

_WIDTHS = (16, 32, 64)
_DILATIONS = (1, 2, 4)
_GROUPS = 8


class SmallImageModel(nn.Module):
    """A small image encoder for the phantom's BioViL, where BioViL has a ResNet-50.

    Like BioViL's encoder it projects the pooled features of the whole image to the joint space, and the features of
    every patch by the same projection (Boecking et al. 2022, section 3.2). Convolutions reduce the image to an eighth
    of its side; dilated ones then widen the receptive field to nearly the whole image.
    """

    def __init__(self, size_of_projection: int) -> None:
        super().__init__()
        width = _WIDTHS[-1]
        inputs = (1, *_WIDTHS[:-1])
        self.stem = nn.ModuleList(_conv(inner, outer, stride=2) for inner, outer in zip(inputs, _WIDTHS, strict=True))
        self.blocks = nn.ModuleList(_conv(width, width, dilation=dilation) for dilation in _DILATIONS)
        self.projector = nn.Sequential(
            nn.Linear(width, size_of_projection), nn.GELU(), nn.Linear(size_of_projection, size_of_projection)
        )

    def features(self, images: Tensor) -> Tensor:
        """Features [B, h, w, C] of images float32 [B, channels, H, W] in [0, 1]; channels are averaged to grey."""
        values = (images.mean(1, keepdim=True) - 0.5) * 4
        for layer in self.stem:
            values = layer(values)
        for layer in self.blocks:
            values = values + layer(values)
        return values.movedim(1, -1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Projected embeddings of whole images [B, D] and of their patches [B, h, w, D]."""
        features = self.features(images)
        return self.projector(features.mean((1, 2))), self.projector(features)

    def get_patchwise_projected_embeddings(self, images: Tensor, normalize: bool) -> Tensor:
        """Projected embeddings [B, h, w, D] of the patches, of unit length if `normalize`."""
        patches = self(images)[1]
        return F.normalize(patches, dim=-1) if normalize else patches


def _conv(inner: int, outer: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inner, outer, 3, stride, padding=dilation, dilation=dilation)
    return nn.Sequential(convolution, nn.GroupNorm(_GROUPS, outer), nn.ReLU())


_ENCODERS: dict[str, Callable[[int], Any]] = {
    **{member.value: partial(ImageModel, member.value) for member in ImageEncoderType},
    SMALL: SmallImageModel,
}
"""Name -> function from the width of the joint space to an image model without its weights."""


def load_image_model(file: Path, part: ImagePart) -> Any:
    """Load an image model from its checkpoint: a plain state dict saved by torch, or safetensors.

    Raises:
        DataError: the encoder's name is unknown, or the file is not a checkpoint of it.
    """
    if part.encoder not in _ENCODERS:
        raise DataError(f"image_encoder.encoder {part.encoder!r}: choose from {', '.join(_ENCODERS)}")
    if file.is_dir():
        raise DataError(f"{file} is a folder; name the checkpoint file in it under image_encoder.path")
    state = read_safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)
    if not isinstance(state, dict):
        raise DataError(f"{file} holds a {type(state).__name__}, not a state dict as model.state_dict() returns it")
    model = _ENCODERS[part.encoder](part.size_of_projection)
    try:
        fill(model, state, file)
    except DataError as error:
        raise DataError(
            f"{error}; is this a {part.encoder} with a projection of {part.size_of_projection}? Name them under "
            "image_encoder (BioViL: encoder resnet50, BioViL-T: resnet50_multi_image)"
        ) from error
    return model
