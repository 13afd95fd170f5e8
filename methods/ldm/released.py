"""The profile `released`: where the paper's released code departs from the paper, for reproducing its numbers.

- Only the first sub-token of a lexical word counts. Its index is looked up by counting words of the text without
  punctuation in a list of words split at spaces; the two drift apart at punctuation and hyphens.
- With disease filtering every word has the same weight, however many sub-tokens it has.
- P_comb averages the last 40 steps (see `build.complete`).
- Maps are normalised in float16; P_mult, and the biases before their SSIM, are truncated to 8 bits.

One departure is left out: a single generator for a whole batch, which makes maps depend on the batch size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.bbm import Array, mixture
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import Batch, LdmMethod
from gtg_bench.methods.ldm.tokens import disease_words
from gtg_bench.methods.text_encoders.base import TextEncoding


class ReleasedLdmMethod(LdmMethod):
    """The method with the released code's departures."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        super().__init__(components, settings, rows)
        if self.bbm not in ("none", "mixture"):
            raise UsageError(f"--bbm {self.bbm}: the released code merges by mixture only; drop --profile released")

    def choose(self, encoding: TextEncoding, category: str) -> tuple[Tensor, str]:
        """Token weights as the released code finds them; as the paper does where it finds none or would fail."""
        text, length = encoding.texts[0], encoding.mask.shape[1]
        words = text.split(" ")
        offsets = self.components.text_encoder.encode(words).offsets
        counts = (offsets[..., 1] > offsets[..., 0]).sum(1).cpu().numpy()  # sub-tokens of each word alone
        places = np.concatenate([[1], 1 + np.cumsum(counts)])
        weights = torch.zeros(length)
        tokens = self.settings.tokens or "lexical"
        if tokens == "lexical":
            plain = " ".join(text[word.start : word.end] for word in self.lexicon(text) if not word.punctuation)
            lexical = [index for index, word in enumerate(self.lexicon(plain)) if word.lexical]
            firsts = [int(places[index]) for index in lexical if index < len(places)]
            weights[[place for place in firsts if place < length]] = 1.0
        elif tokens == "disease":
            for index, word in enumerate(words):
                if disease_words(word, category) and places[index + 1] <= length:
                    weights[places[index] : places[index + 1]] += 1 / int(counts[index])
        return (weights, "") if weights.any() else super().choose(encoding, category)

    def merge(self, combined: Array, product: Array, image: Array, text: Array) -> Array:
        """Eq. 2 in float16, with the SSIM of biases in 8 bits."""
        comb = normalised(torch.from_numpy(combined).float())
        mult = normalised(torch.from_numpy(truncated(product)))
        s = max(0.0, float(structural_similarity(truncated(image), truncated(text))))
        return mixture(comb, mult, s).double().numpy()

    def _mean_maps(self, batch: Batch) -> NDArray[np.float32]:
        return np.stack([normalised(torch.from_numpy(m)).float().numpy() for m in super()._mean_maps(batch)])


def normalised(values: Tensor) -> Tensor:
    """Min-max normalise in float16; a constant map becomes all 0."""
    half = values.half()
    span = half.max() - half.min()
    return (half - half.min()) / span if span > 0 else torch.zeros_like(half)


def truncated(values: Array) -> NDArray[np.uint8]:
    """A map normalised and truncated to 8 bits."""
    return (normalised(torch.from_numpy(values).float()) * 255).numpy().astype(np.uint8)
