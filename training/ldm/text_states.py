"""The text states that a U-Net is conditioned on while it is trained."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor

from gtg_bench.methods.text_encoders.base import TrainableTextEncoder


class FrozenStates:
    """States of a frozen text encoder; those of the last captions are kept, since captions come again every epoch."""

    def __init__(self, encoder: TrainableTextEncoder, memory: int) -> None:
        """`memory`: MiB that the kept states may take; 0 encodes every caption every time."""
        self.encoder = encoder
        self.left = memory * 2**20
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """float32 [B, L, D] on the device of `ids` (int64 [B, L]); the mask [B, L] belongs to the ids."""
        if not self.left and not self._kept:
            return self._encode(ids, mask)
        keys = [row.tobytes() for row in ids.cpu().numpy()]
        if new := list({key: row for row, key in enumerate(keys) if key not in self._kept}.values()):
            found = self._encode(ids[new], mask[new])
            self._keep([keys[row] for row in new], found, set(keys))
        return torch.stack([self._kept[key] for key in keys])

    @torch.no_grad()
    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder.states(ids, mask).float()

    def _keep(self, keys: list[bytes], states: Tensor, needed: set[bytes]) -> None:
        """Keep new states; without room the oldest are dropped, except those needed now."""
        for key, found in zip(keys, states, strict=True):
            self._kept[key] = found.clone()
            self.left -= _size(found)
        for key in [key for key in self._kept if key not in needed]:
            if self.left >= 0:
                break
            self.left += _size(self._kept.pop(key))


def _size(states: Tensor) -> int:
    return states.numel() * states.element_size()
