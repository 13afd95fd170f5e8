"""Losses of the encoders' pretraining: contrastive ones between texts and images, and BERT's masked language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.training.pretraining.samples import IGNORED

INITIAL_LOG_SCALE = 2.3
"""Initial logarithm of a learned similarity scale: a scale of 10."""

_MAX_SCALE = 100.0
_SHARPNESS = 5.0
"""Scale of the word-to-patch cosines before the softmax over patches."""


class ImageTower(nn.Module):
    """A small convolutional image encoder: [B, 1, 64, 64] to patch embeddings [B, 64, D].

    It is only used to pretrain text encoders and is not saved.
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


def contrast(text: Tensor, image: Tensor, log_scale: Tensor, group: Tensor | None = None) -> Tensor:
    """The symmetric InfoNCE loss of two sets of embeddings (Radford et al. 2021, Fig. 3).

    Args:
        text, image: embeddings [B, D].
        log_scale: [], logarithm of the factor of the similarities.
        group: int64 [B]; the target of a row is spread evenly over the columns of its group. None: pairs only.
    """
    logits = F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T * _scale(log_scale)
    if group is None:
        return _symmetric(logits)
    same = (group[:, None] == group[None]).float()
    return _symmetric(logits, same / same.sum(1, keepdim=True))


def local_contrast(tokens: Tensor, mask: Tensor, patches: Tensor, log_scale: Tensor) -> Tensor:
    """Word-region contrast: the similarity of a text and an image is the mean over the words (Boecking et al. 2022).

    Args:
        tokens: [B, L, D] token embeddings; the first and last token of a text are special tokens and ignored.
        mask: [B, L], 1 for tokens, 0 for padding.
        patches: [B, P, D] patch embeddings.
        log_scale: [], logarithm of the factor of the similarities.
    """
    inner = mask.bool()
    inner[:, 0] = False
    inner[torch.arange(len(mask)), mask.sum(1) - 1] = False
    words, patches = F.normalize(tokens[inner], dim=-1), F.normalize(patches, dim=-1)
    attention = (_SHARPNESS * torch.einsum("wd,bpd->bwp", words, patches)).softmax(-1)
    context = attention @ patches
    fit = (context * words).sum(-1) / context.norm(dim=-1).clamp(min=1e-12)
    share = F.one_hot(inner.nonzero()[:, 0], len(mask)).float() / inner.sum(1).clamp(min=1)
    return _symmetric((fit @ share).T * _scale(log_scale))


def language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of logits [B, L, V] at the masked targets [B, L]; 0 for a batch without targets."""
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


def _scale(log_scale: Tensor) -> Tensor:
    return log_scale.exp().clamp(max=_MAX_SCALE)


def _symmetric(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    targets = torch.arange(len(logits), device=logits.device) if targets is None else targets
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
