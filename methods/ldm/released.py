"""What the paper's released code does otherwise, for those who need its numbers; everything else is the clean path.

- Of a lexical word only the first sub-token counts. Its place is looked up by counting the words of the text without
  punctuation, but in a list of the words between spaces: the two drift apart at punctuation and hyphens.
- With disease filtering every word counts the same, however many sub-tokens it has.
- P_comb averages the last 40 steps (see `build.complete`).
- Maps are normalised in float16; P_mult, and the biases before their SSIM, are truncated to 8 bits.

Not taken over: one generator for a whole batch (its maps depend on the batch size).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.methods.ldm.bias import Array
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.prompts import Prompt
from gtg_bench.methods.ldm.tokens import disease_words
from gtg_bench.methods.text_encoders.base import TextEncoding


class ReleasedLdmMethod(LdmMethod):
    """The method with the released code's departures."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        super().__init__(components, settings, rows)
        if self.bbm not in ("none", "mixture"):
            raise UsageError(
                f"--bbm {self.bbm}: the released code merges by mixture only; leave --profile released out"
            )

    def choose(self, encoding: TextEncoding, category: str) -> tuple[Tensor, str]:
        """As the released code finds the tokens; where it finds none or would fail, as the paper does."""
        words, length = encoding.texts[0].split(" "), encoding.mask.shape[1]
        counts = self._sub_tokens(words)
        places = np.concatenate([[1], 1 + np.cumsum(counts)])
        weights = torch.zeros(length)
        tokens = self.settings.tokens or "lexical"
        if tokens == "lexical":
            firsts = [int(places[index]) for index in self._lexical_indices(encoding.texts[0]) if index < len(places)]
            weights[[place for place in firsts if place < length]] = 1.0
        elif tokens == "disease":
            for index, word in enumerate(words):
                if disease_words(word, category) and places[index + 1] <= length:
                    weights[places[index] : places[index + 1]] += 1 / int(counts[index])
        return (weights, "") if weights.any() else super().choose(encoding, category)

    def merge(self, combined: Array, product: Array, image: Array, text: Array) -> Array:
        """Eq. 2 in float16; SSIM of the biases in 8 bits."""
        mult = normalised(torch.from_numpy(truncated(product)))
        comb = normalised(torch.from_numpy(combined).float())
        s = max(0.0, float(structural_similarity(truncated(image), truncated(text))))
        control = (mult + comb + mult * comb) / 2
        return (2 * (1 - s) * s * control + (1 - s) ** 2 * comb + s**2 * mult).double().numpy()

    def _mean_maps(
        self, queries: Sequence[Query], frames: Sequence[Frame], prompts: Sequence[Prompt]
    ) -> NDArray[np.float32]:
        maps = super()._mean_maps(queries, frames, prompts)
        return np.stack([normalised(torch.from_numpy(values)).float().numpy() for values in maps])

    def _sub_tokens(self, words: Sequence[str]) -> NDArray[np.int64]:
        """How many sub-tokens each word has by itself."""
        offsets = self.components.text_encoder.encode(words).offsets
        return (offsets[..., 1] > offsets[..., 0]).sum(1).cpu().numpy()

    def _lexical_indices(self, text: str) -> list[int]:
        """Which words of the text without punctuation are lexical."""
        plain = " ".join(text[word.start : word.end] for word in self.lexicon(text) if not word.punctuation)
        return [index for index, word in enumerate(self.lexicon(plain)) if word.lexical]


def normalised(values: Tensor) -> Tensor:
    """Min-max normalised in float16; a constant map is all 0."""
    half = values.half()
    span = half.max() - half.min()
    return (half - half.min()) / span if span > 0 else torch.zeros_like(half)


def truncated(values: Array) -> NDArray[np.uint8]:
    """A map in 8 bits, truncated."""
    return (normalised(torch.from_numpy(values).float()) * 255).numpy().astype(np.uint8)
