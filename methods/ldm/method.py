"""A latent diffusion model as a grounding method: its cross-attention maps of a phrase (paper, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings, Query
from gtg_bench.methods.ldm.bias import Array, BiasedMaps, BiasProducts, check_size, merged, similarity, text_bias
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.engine import Engine
from gtg_bench.methods.ldm.lexicon import Word, installed_lexicon, load_lexicon
from gtg_bench.methods.ldm.prompts import Prompt, Prompts
from gtg_bench.methods.ldm.reduction import LayerMaps, MeanMaps, Reduction
from gtg_bench.methods.ldm.text_bias import TextBiases
from gtg_bench.methods.ldm.tokens import choose_tokens
from gtg_bench.methods.text_encoders.base import TextEncoding


class LdmMethod:
    """Mean cross-attention of the chosen tokens over steps, layers and heads, on the latent grid."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        self.components = components
        self.settings = settings
        self.engine = Engine(components, settings, rows)
        self.mode = settings.sampling or "gt-cfg"
        self.kept = settings.last_steps or len(self.engine.timesteps)
        self.bbm = settings.bbm or "none"
        if self.bbm != "none":
            check_size(self.engine.side)
        self.prompts = Prompts(components.text_encoder, self.choose, components.device)
        self.text_biases = TextBiases(self.engine)

    def ground(self, image: FloatArray, text: str, seed: int = 0) -> GroundingMap:
        """The map of `text` on `image` (float32 [H, W] in [0, 1]), with the noise of `seed`."""
        return self.ground_batch([Query(image, text, seed)])[0]

    @torch.inference_mode()
    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map a query; each query draws its noise from its own seed, so batches do not matter."""
        frames = [self.frame(query.image) for query in queries]
        prompts = [self.prompts(query.text, query.category) for query in queries]
        found = zip(self.maps(queries, frames, prompts), frames, prompts, strict=True)
        return [GroundingMap(np.ascontiguousarray(values, np.float32), frame, p.note) for values, frame, p in found]

    @torch.inference_mode()
    def layer_maps(self, queries: Sequence[Query]) -> tuple[NDArray[np.float32], list[Frame]]:
        """float32 [B, layers, h, w]: the map of every chosen layer by itself; and the frames."""
        frames = [self.frame(query.image) for query in queries]
        prompts = [self.prompts(query.text, query.category) for query in queries]
        maps = LayerMaps(len(queries), self.engine.size, self._first)
        self._attend(queries, frames, prompts, maps, self.kept)
        return maps.mean().cpu().numpy(), frames

    def lexicon(self, text: str) -> list[Word]:
        """The words of a text, and which of them carry meaning."""
        return load_lexicon(self.settings.lexicon or installed_lexicon())(text)

    def choose(self, encoding: TextEncoding, category: str) -> tuple[Tensor, str]:
        """How much each token of one encoded text counts, float32 [L], and a note (section 2.2, Appendix B)."""
        chosen, note = choose_tokens(
            encoding.texts[0],
            encoding.offsets[0].cpu(),
            encoding.mask[0].cpu(),
            self.settings.tokens or "lexical",
            self.lexicon,
            category,
        )
        return chosen.float(), note

    def merge(self, combined: Array, product: Array, image: Array, text: Array) -> Array:
        """P_BBM [H, W] from P_comb, P_mult and the two mean biases, all float64 [H, W] (section 2.3)."""
        return merged(combined, product, similarity(image, text), self.bbm)

    def maps(
        self, queries: Sequence[Query], frames: Sequence[Frame], prompts: Sequence[Prompt]
    ) -> Sequence[NDArray[Any]]:
        """[H, W] a query on the latent grid: P_comb, or P_BBM where biases are merged."""
        attend = self._mean_maps if self.bbm == "none" else self._merged_maps
        return list(attend(queries, frames, prompts))

    @property
    def _first(self) -> int:
        """The first step whose maps are averaged."""
        return len(self.engine.timesteps) - self.kept

    def _mean_maps(
        self, queries: Sequence[Query], frames: Sequence[Frame], prompts: Sequence[Prompt]
    ) -> NDArray[np.float32]:
        """P_comb before its normalisation, float32 [B, H, W] (section 2.2)."""
        maps = MeanMaps(len(queries), self.engine.size, self._first)
        self._attend(queries, frames, prompts, maps, self.kept)
        return maps.mean()[:, 0].cpu().numpy()

    def _merged_maps(self, queries: Sequence[Query], frames: Sequence[Frame], prompts: Sequence[Prompt]) -> list[Array]:
        """P_BBM, float64 [H, W] a query; the biases are of all steps, whatever is averaged for P_comb."""
        size = self.engine.size
        text, places = self.text_biases(prompts)
        products = BiasProducts(text, places, size)
        maps = BiasedMaps(MeanMaps(len(queries), size, self._first), products)
        self._attend(queries, frames, prompts, maps, len(self.engine.timesteps), start_token=True)
        means = (maps.combined.mean()[:, 0], products.mean(), maps.image.mean()[:, 0], text_bias(text, size)[places])
        return [self.merge(*parts) for parts in zip(*(mean.double().cpu().numpy() for mean in means), strict=True)]

    def _attend(
        self,
        queries: Sequence[Query],
        frames: Sequence[Frame],
        prompts: Sequence[Prompt],
        maps: Reduction,
        kept: int,
        start_token: bool = False,
    ) -> None:
        """Run the sampling mode; the reduction gets the chosen tokens' maps and, if asked, the start token's."""
        states = torch.stack([prompt.states for prompt in prompts])
        weights = torch.stack([torch.stack([p.chosen, p.start] if start_token else [p.chosen]) for p in prompts])
        self.engine.run(self.mode, self.engine.start(self.mode, queries, frames), states, weights, maps, kept)

    def frame(self, image: FloatArray) -> Frame:
        """What the method sees of an image: shorter side to the model's size, centre crop."""
        height, width = image.shape
        return Frame.center_crop((width, height), self.components.image_size)
