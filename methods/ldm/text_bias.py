"""The text bias of a prompt (paper, section 2.3): it depends on no image, so it is computed once a prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.methods.ldm.engine import Engine, Start
from gtg_bench.methods.ldm.prompts import Prompt
from gtg_bench.methods.ldm.reduction import StepMaps

Maps = Mapping[str, Tensor]
"""Layer -> float32 [T, h, w] at the layer's own resolution."""

MOST_BYTES = 2**30
"""How much the kept biases may take on the model's device: about 200 prompts of Stable Diffusion at 50 steps."""


class TextBiases:
    """P_txt: the chosen tokens' maps of a run with guidance from Gaussian noise, one for each distinct prompt."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: OrderedDict[Hashable, Maps] = OrderedDict()

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[dict[str, Tensor], Tensor]:
        """Layer -> float32 [P, T, h, w] of the distinct prompts, and each prompt's place in them, int64 [B]."""
        distinct = {prompt.key: prompt for prompt in prompts}
        missing = [prompt for key, prompt in distinct.items() if key not in self._known]
        found = {key: self._known[key] for key in distinct if key in self._known}
        for start in range(0, len(missing), self.engine.rows):
            found |= self._run(missing[start : start + self.engine.rows])
        self._keep(found)
        keys = list(distinct)
        maps = {layer: torch.stack([found[key][layer] for key in keys]) for layer in found[keys[0]]}
        return maps, torch.tensor([keys.index(p.key) for p in prompts], device=self.engine.components.device)

    def _run(self, prompts: Sequence[Prompt]) -> dict[Hashable, Maps]:
        engine, steps = self.engine, len(self.engine.timesteps)
        seeds = [seed_for("text bias", engine.settings.seed, prompt.text) for prompt in prompts]
        noise = torch.stack([engine.normal(seed, 1) for seed in seeds])
        states = torch.stack([prompt.states for prompt in prompts])
        weights = torch.stack([prompt.chosen[None] for prompt in prompts])
        maps = StepMaps(len(prompts), steps)
        engine.run("cfg", Start(noise), states, weights, maps, steps)
        of = [{layer: found[row] for layer, found in maps.maps.items()} for row in range(len(prompts))]
        return {prompt.key: found for prompt, found in zip(prompts, of, strict=True)}

    def _keep(self, found: Mapping[Hashable, Maps]) -> None:
        """Remember the maps, and forget the oldest beyond `MOST_BYTES`."""
        for key, maps in found.items():
            if key not in self._known:
                self._known[key] = {layer: part.clone() for layer, part in maps.items()}  # not a view of a whole batch
            self._known.move_to_end(key)
        room = MOST_BYTES - sum(_bytes(maps) for maps in self._known.values())
        while room < 0 and self._known:
            room += _bytes(self._known.popitem(last=False)[1])


def _bytes(maps: Maps) -> int:
    return sum(part.nbytes for part in maps.values())
