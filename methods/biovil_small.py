"""A small image encoder with the interface of health_multimodal's ImageModel, for the phantom's BioViL.

Like BioViL's it projects the pooled features to the joint space for the whole image, and every patch's features by the
same projection for a map (Boecking et al. 2022, section 3.2). BioViL's ResNet-50 is far larger.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

SMALL = "small"
"""Its name in `ImagePart.encoder`."""

_WIDTHS = (16, 32, 64)
_DILATIONS = (1, 2, 4)
_GROUPS = 8


class SmallImageModel(nn.Module):
    """Convolutions to an eighth of the image's side, then dilated ones until a patch sees nearly the whole image."""

    def __init__(self, size_of_projection: int) -> None:
        super().__init__()
        inner = (1, *_WIDTHS[:-1])
        self.stem = nn.ModuleList(_conv(a, b, stride=2) for a, b in zip(inner, _WIDTHS, strict=True))
        width = _WIDTHS[-1]
        self.blocks = nn.ModuleList(_conv(width, width, dilation=dilation) for dilation in _DILATIONS)
        self.projector = nn.Sequential(
            nn.Linear(width, size_of_projection), nn.GELU(), nn.Linear(size_of_projection, size_of_projection)
        )

    def features(self, images: Tensor) -> Tensor:
        """Features [B, h, w, C] of images float32 [B, channels, H, W] in [0, 1]; equal channels make a grey image."""
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
