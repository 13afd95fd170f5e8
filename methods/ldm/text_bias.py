"""The text bias of a prompt (paper, section 2.3). It does not depend on an image, so each prompt needs it only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.methods.ldm.engine import Engine, Latents
from gtg_bench.methods.ldm.reduction import StepMaps
from gtg_bench.methods.ldm.tokens import Prompt

Maps = Mapping[str, Tensor]
"""Layer -> float32 [T, h, w] at the layer's own resolution."""

MOST_BYTES = 2**30
"""Limit of the cached biases on the model's device: about 200 prompts of Stable Diffusion at 50 steps."""


class TextBiases:
    """P_txt: the chosen tokens' maps in a guided run from Gaussian noise, cached for each distinct prompt.

    The cache belongs to the components: sampling modes and ways of merging that share these share the biases, too.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._cache: OrderedDict[Hashable, Maps] = engine.components.caches.text_biases
        chosen = engine.settings
        self._same = (chosen.seed, chosen.steps, chosen.guidance, chosen.layers)

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[dict[str, Tensor], Tensor]:
        """Layer -> float32 [P, T, h, w] for the P distinct prompts, and the index of each prompt, int64 [B]."""
        distinct = {self._key(prompt): prompt for prompt in prompts}
        found = {key: self._cache[key] for key in distinct if key in self._cache}
        missing = [prompt for key, prompt in distinct.items() if key not in found]
        for start in range(0, len(missing), self.engine.rows):
            found |= self._run(missing[start : start + self.engine.rows])
        self._keep(found)
        keys = list(distinct)
        maps = {layer: torch.stack([found[key][layer] for key in keys]) for layer in found[keys[0]]}
        return maps, torch.tensor([keys.index(self._key(p)) for p in prompts], device=self.engine.components.device)

    def _key(self, prompt: Prompt) -> Hashable:
        """Everything that decides a bias, given the model."""
        return self._same, prompt.key

    def _run(self, prompts: Sequence[Prompt]) -> dict[Hashable, Maps]:
        engine, steps = self.engine, len(self.engine.timesteps)
        seeds = [seed_for("text bias", engine.settings.seed, prompt.text) for prompt in prompts]
        noise = torch.stack([engine.normal(seed, 1) for seed in seeds])
        states = torch.stack([prompt.states for prompt in prompts])
        weights = torch.stack([prompt.chosen[None] for prompt in prompts])
        maps = StepMaps(len(prompts), steps)
        engine.run("cfg", Latents(noise), states, weights, maps, steps)
        return {
            self._key(prompt): {name: m[row] for name, m in maps.maps.items()} for row, prompt in enumerate(prompts)
        }

    def _keep(self, found: Mapping[Hashable, Maps]) -> None:
        """Cache the maps, then drop the least recently used beyond `MOST_BYTES`."""
        for key, maps in found.items():
            if key not in self._cache:
                self._cache[key] = {layer: part.clone() for layer, part in maps.items()}  # not a view of a whole batch
            self._cache.move_to_end(key)
        sizes = {key: sum(part.nbytes for part in maps.values()) for key, maps in self._cache.items()}
        while self._cache and sum(sizes[key] for key in self._cache) > MOST_BYTES:
            self._cache.popitem(last=False)
