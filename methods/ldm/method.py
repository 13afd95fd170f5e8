"""A latent diffusion model as a grounding method: its cross-attention maps of a phrase (paper, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gtg_bench.benchmark.api.errors import SampleError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.settings import AUTO
from gtg_bench.benchmark.api.types import GroundingMap, MethodSettings, Query
from gtg_bench.methods.ldm.attention import layer_sizes
from gtg_bench.methods.ldm.bbm import Array, BiasMaps, check_size, merged, similarity, text_bias
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.engine import Engine
from gtg_bench.methods.ldm.lexicon import Word, installed_lexicon, load_lexicon
from gtg_bench.methods.ldm.reduction import LayerMaps, MeanMaps, Reduction, Several
from gtg_bench.methods.ldm.settled import blocks, is_settled
from gtg_bench.methods.ldm.text_bias import TextBiases
from gtg_bench.methods.ldm.tokens import Prompt, choose_tokens, start_token, word_weights
from gtg_bench.methods.text_encoders.base import TextEncoding


@dataclass(frozen=True)
class Batch:
    """Queries, with the frame and prompt of each."""

    queries: Sequence[Query]
    frames: list[Frame]
    prompts: list[Prompt]


class LdmMethod:
    """Mean cross-attention of the chosen tokens over steps, layers and heads, on the latent grid."""

    def __init__(self, components: LdmComponents, settings: MethodSettings, rows: int | None = None) -> None:
        self.components = components
        self.settings = settings
        self.engine = Engine(components, settings, rows)
        self.mode = settings.sampling or "gt-cfg"
        self.kept = settings.last_steps or len(self.engine.timesteps)
        self.first_step = len(self.engine.timesteps) - self.kept
        self.bbm = settings.bbm or "none"
        if self.bbm != "none":
            check_size(self.engine.side)
        self.prompts = lru_cache(256)(self._prompt)
        self.text_biases = TextBiases(self.engine)

    def ground(self, image: FloatArray, text: str, seed: int = 0) -> GroundingMap:
        """The map of `text` on `image` (float32 [H, W] in [0, 1]), with noise from `seed`."""
        return self.ground_batch([Query(image, text, seed)])[0]

    @torch.inference_mode()
    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        """One map per query; each query draws noise from its own seed, so batches do not matter."""
        batch = self.prepare(queries)
        found = zip(*self.maps(batch), batch.frames, batch.prompts, strict=True)
        return [
            GroundingMap(np.ascontiguousarray(values, np.float32), frame, prompt.note, steps_used=steps)
            for values, steps, frame, prompt in found
        ]

    @torch.inference_mode()
    def last_step_maps(self, queries: Sequence[Query], numbers: Sequence[int]) -> list[list[GroundingMap]]:
        """For each query, its maps over the last n steps for every n of `numbers`, all from one pass.

        They are the maps of methods with `last_steps` n, because a step's noise does not depend on n. Without BBM.
        """
        batch = self.prepare(queries)
        steps = len(self.engine.timesteps)
        means = [MeanMaps(len(queries), self.engine.size, steps - number) for number in numbers]
        self._attend(batch, Several(means), max(numbers))
        maps = [mean.mean()[:, 0].cpu().numpy() for mean in means]
        return [
            [GroundingMap(np.ascontiguousarray(one[row], np.float32), frame, prompt.note) for one in maps]
            for row, (frame, prompt) in enumerate(zip(batch.frames, batch.prompts, strict=True))
        ]

    @torch.inference_mode()
    def token_maps(self, query: Query) -> list[tuple[str, GroundingMap]]:
        """The map of every word of a phrase with its text, "[start]" and "[end]" included, from one pass (Fig. 2).

        A word's map is the mean over its sub-tokens.
        """
        encoding, frame = self.components.text_encoder.encode([query.text]), self.frame(query.image)
        words, chosen = word_weights(encoding.texts[0], encoding.offsets[0].cpu(), encoding.mask[0].cpu())
        maps = MeanMaps(1, self.engine.size, self.first_step)
        latents = self.engine.prepare_latents(self.mode, [query], [frame])
        states, chosen = (part.to(self.components.device) for part in (encoding.states, chosen[None]))
        self.engine.run(self.mode, latents, states, chosen, maps, self.kept)
        found = np.ascontiguousarray(maps.mean()[0].cpu().numpy(), np.float32)
        return [(word, GroundingMap(values, frame)) for word, values in zip(words, found, strict=True)]

    @torch.inference_mode()
    def layer_maps(self, queries: Sequence[Query]) -> tuple[NDArray[np.float32], list[Frame]]:
        """The map of each chosen layer, float32 [B, layers, h, w], and the frame of each query."""
        batch = self.prepare(queries)
        maps = LayerMaps(len(queries), self.engine.size, self.first_step)
        self._attend(batch, maps, self.kept)
        return maps.mean().cpu().numpy(), batch.frames

    def innermost_layers(self) -> list[int]:
        """The layer of the lowest resolution and its neighbours: 5, 6 and 7 of Stable Diffusion (Fig. 6)."""
        sizes = list(layer_sizes(self.engine.unet, self.engine.size).values())
        lowest = [number for number, size in enumerate(sizes) if size == min(sizes)]
        middle = lowest[len(lowest) // 2]
        return [number for number in (middle - 1, middle, middle + 1) if 0 <= number < len(sizes)]

    def measure(self, queries: Sequence[Query], repeats: int) -> dict[str, float]:
        """Measure the cost of a batch of queries relative to the bare forward passes of the U-Net.

        Args:
            queries: the batch.
            repeats: number of measurements of the method and of the bare U-Net, alternating.

        Returns:
            Seconds, their ratio and bytes by name, as `gtg_bench.methods.ldm.bench.measure` documents them.
        """
        from gtg_bench.methods.ldm.bench import measure

        return measure(self, queries, repeats)

    def prepare(self, queries: Sequence[Query]) -> Batch:
        """Encode the phrases. Raises SampleError for one that is empty or has no token."""
        frames = [self.frame(query.image) for query in queries]
        return Batch(queries, frames, [self.prompts(query.text, query.category) for query in queries])

    def _prompt(self, text: str, category: str) -> Prompt:
        """Encode a phrase about a finding. Raises SampleError for a text that is empty or has no token."""
        if not text.strip():
            raise SampleError("the phrase is empty")
        encoding = self.components.text_encoder.encode([text])
        weights, note = self.choose(encoding, category)
        if not weights.any():
            raise SampleError(f"the text encoder's tokenizer finds no token in the phrase {text!r}")
        chosen, start = weights / weights.sum(), start_token(encoding.mask[0].cpu()).float()
        states, chosen, start = (part.to(self.components.device) for part in (encoding.states[0], chosen, start))
        return Prompt(text, states, chosen, start, note)

    def prepare_image(self, image: FloatArray) -> None:
        """Cut out what the model sees of an image that a later query holds; reading threads call it."""
        if self.mode not in ("text", "cfg"):  # these start from noise
            self.engine.cut_ahead(image, self.frame(image))

    def frame(self, image: FloatArray) -> Frame:
        """The part of an image that the method sees: shorter side to the model's size, centre crop."""
        height, width = image.shape
        return Frame.center_crop((width, height), self.components.image_size)

    def lexicon(self, text: str) -> list[Word]:
        """The words of a text, with the lexical ones marked."""
        return load_lexicon(self.settings.lexicon or installed_lexicon())(text)

    def choose(self, encoding: TextEncoding, category: str) -> tuple[Tensor, str]:
        """Token weights of one encoded text, float32 [L], and a note (section 2.2, Appendix B)."""
        offsets, mask = encoding.offsets[0].cpu(), encoding.mask[0].cpu()
        tokens = self.settings.tokens or "lexical"
        chosen, note = choose_tokens(encoding.texts[0], offsets, mask, tokens, self.lexicon, category)
        return chosen.float(), note

    def merge(self, combined: Array, product: Array, image: Array, text: Array) -> Array:
        """P_BBM from P_comb, P_mult and the two mean biases, all float64 [H, W] (section 2.3)."""
        return merged(combined, product, similarity(image, text), self.bbm)

    def maps(self, batch: Batch) -> tuple[list[NDArray[Any]], list[int | None]]:
        """[H, W] per query on the latent grid: P_comb, or P_BBM where biases are merged; and the steps it took.

        The steps are None where the settings give their number.
        """
        if self.settings.steps == AUTO:
            found = [self._settled_map(*one) for one in zip(batch.queries, batch.frames, batch.prompts, strict=True)]
            return [values for values, _ in found], [steps for _, steps in found]
        maps = self._mean_maps(batch) if self.bbm == "none" else self._merged_maps(batch)
        return list(maps), [None] * len(batch.queries)

    def _settled_map(self, query: Query, frame: Frame, prompt: Prompt) -> tuple[NDArray[np.float32], int]:
        """P_comb of one query, float32 [H, W], over as many steps as it needs to settle, and their number."""
        latents = self.engine.prepare_latents(self.mode, [query], [frame])
        maps, means, steps = MeanMaps(1, self.engine.size), list[Tensor](), 0
        for block in blocks():
            self.engine.run(self.mode, latents, prompt.states[None], prompt.chosen[None, None], maps, 0, block)
            means, steps = [*means[-1:], maps.mean()[0, 0]], steps + len(block)
            if len(means) > 1 and is_settled(*means):
                break
        return means[-1].cpu().numpy(), steps

    def _mean_maps(self, batch: Batch) -> NDArray[np.float32]:
        """P_comb before its normalisation, float32 [B, H, W] (section 2.2)."""
        maps = MeanMaps(len(batch.queries), self.engine.size, self.first_step)
        self._attend(batch, maps, self.kept)
        return maps.mean()[:, 0].cpu().numpy()

    def _merged_maps(self, batch: Batch) -> list[Array]:
        """P_BBM, float64 [H, W] per query; the biases cover all steps, even if P_comb averages only the last ones."""
        text, index = self.text_biases(batch.prompts)
        maps = BiasMaps(text, index, self.engine.size, self.first_step)
        self._attend(batch, maps, len(self.engine.timesteps), start_token=True)
        means = [reduced.mean()[:, 0] for reduced in (maps.combined, maps.product, maps.image)]
        means.append(text_bias(text, self.engine.size)[index])
        return [self.merge(*parts) for parts in zip(*(mean.double().cpu().numpy() for mean in means), strict=True)]

    def _attend(self, batch: Batch, maps: Reduction, kept: int, start_token: bool = False) -> None:
        """Run the sampling mode; `maps` receives the chosen tokens' maps and, if asked, the start token's."""
        states = torch.stack([prompt.states for prompt in batch.prompts])
        weights = torch.stack([torch.stack([p.chosen, p.start] if start_token else [p.chosen]) for p in batch.prompts])
        latents = self.engine.prepare_latents(self.mode, batch.queries, batch.frames)
        self.engine.run(self.mode, latents, states, weights, maps, kept)
