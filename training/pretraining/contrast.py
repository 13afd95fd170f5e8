"""Contrastive losses between texts and images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START = 2.3
"""Of a learned scale, as a logarithm: 10."""

_MOST = 100.0
_FOCUS = 5.0
"""How sharply a word attends to the patches that are like it."""


class ImageTower(nn.Module):
    """A small convolutional image encoder: [B, 1, 64, 64] to patch embeddings [B, 64, D].

    It serves the pretraining of a text encoder and is thrown away.
    """

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


def contrast(text: Tensor, image: Tensor, log_scale: Tensor) -> Tensor:
    """The symmetric InfoNCE loss of two [B, D] embeddings (Radford et al. 2021, Fig. 3)."""
    return _symmetric(F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T * _scale(log_scale))


def group_contrast(one: Tensor, other: Tensor, group: Tensor, log_scale: Tensor) -> Tensor:
    """The same loss where all of a group belong together: a row's targets are shared by the columns of its group.

    Args:
        one, other: embeddings [B, D].
        group: int64 [B].
        log_scale: [], logarithm of what the similarities are multiplied with.
    """
    logits = F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T * _scale(log_scale)
    same = (group[:, None] == group[None]).float()
    targets = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def local_contrast(tokens: Tensor, mask: Tensor, patches: Tensor, log_scale: Tensor) -> Tensor:
    """Word-region contrast: a text fits an image when each of its words finds its patch (Boecking et al. 2022).

    Args:
        tokens: [B, L, D] word embeddings; the first and the last of a text are its end tokens and left out.
        mask: [B, L], 1 where there is a token.
        patches: [B, P, D] patch embeddings.
        log_scale: [], logarithm of what the similarities are multiplied with.
    """
    inner = mask.bool()
    inner[:, 0] = False
    inner[torch.arange(len(mask)), mask.sum(1) - 1] = False
    words, patches = F.normalize(tokens[inner], dim=-1), F.normalize(patches, dim=-1)
    attention = (_FOCUS * torch.einsum("wd,bpd->bwp", words, patches)).softmax(-1)
    context = attention @ patches
    fit = (context * words).sum(-1) / context.norm(dim=-1).clamp(min=1e-12)
    share = F.one_hot(inner.nonzero()[:, 0], len(mask)).float() / inner.sum(1).clamp(min=1)
    return _symmetric((fit @ share).T * _scale(log_scale))


def _scale(log_scale: Tensor) -> Tensor:
    return log_scale.exp().clamp(max=_MOST)


def _symmetric(logits: Tensor) -> Tensor:
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
