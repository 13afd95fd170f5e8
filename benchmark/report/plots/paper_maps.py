"""The paper's Figures 2, 3 and 6 from one's own weights: maps of tokens, of methods, and of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import MethodSettings, of_phantom
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, PhraseSample, Query, seed_for
from gtg_bench.benchmark.report.pictures.drawing import Look
from gtg_bench.benchmark.report.pictures.overlay import Strip, Tile, strips_figure
from gtg_bench.benchmark.runs.sources import ground_all, resolve_device
from gtg_bench.benchmark.scoring.controls import CONTROLS, plan
from gtg_bench.benchmark.scoring.score_map import score_map

COLUMNS = 5
"""Words side by side in Figure 2."""

METHODS_OF_3 = ("biovil", "clip-ldm", "cxrbert-ldm", "cxrbert-ldm:bbm=mixture")
METHODS_OF_6 = ("clip-ldm-lora", "cxrbert-ldm")
CATEGORIES_OF_3 = ("Pleural Effusion", "Lung Opacity")
"""The findings of the paper's Figure 3."""


@dataclass(frozen=True)
class Ready:
    """A method with its weights loaded.

    Attributes:
        name: as the user typed it.
        settings: complete.
        method: the method itself.
    """

    name: str
    settings: MethodSettings
    method: Any

    def query(self, image: FloatArray, sample: PhraseSample) -> Query:
        """The query of a sample, with the noise of a run."""
        seed = seed_for(self.settings.seed, sample.sample_id)
        return Query(image, sample.phrase, seed, sample.category)

    def asked(self, what: str) -> Any:
        """A function of latent diffusion methods. Raises UsageError for other methods."""
        if not hasattr(self.method, what):
            raise UsageError(f"{self.name} has no cross-attention maps; name a latent diffusion model, cxrbert-ldm")
        return getattr(self.method, what)


def ready(name: str, device: str = "auto", **settings: Any) -> Ready:
    """Load a method, "METHOD" or "METHOD:SETTING=VALUE ...", with further settings.

    Raises:
        UsageError: an unknown method, setting or device.
        DataError: its weights are missing.
    """
    method, *pairs = name.split(":")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in ("weights", "sampling", "tokens", "bbm", "layers", "latent", "profile"):
            raise UsageError(f"{name}: {pair!r} is not a setting such as weights=DIR or bbm=mixture")
        settings[key] = value
    entry = METHODS.get(method)
    complete = entry.completed(MethodSettings(method, **settings))
    complete = replace(complete, device=resolve_device(device, entry))
    return Ready(name, complete, entry.built(complete))


def chosen(dataset: Dataset, split: str, ids: Sequence[str], categories: Sequence[str] = ()) -> list[PhraseSample]:
    """The samples with these ids; without ids the first of each category, or else the first with the longest phrase.

    Raises:
        UsageError: an unknown id, or no sample.
    """
    samples = dataset.samples(split)
    known = {sample.sample_id: sample for sample in samples}
    if missing := [name for name in ids if name not in known]:
        raise UsageError(f"{dataset.name} has no sample {missing[0]} in split {split}; see `gtg-bench data samples`")
    if not samples:
        raise UsageError(f"split {split!r} of {dataset.name} has no samples")
    if ids:
        return [known[name] for name in ids]
    firsts = [next((s for s in samples if s.category == category), None) for category in categories]
    longest = max(samples, key=lambda sample: len(sample.phrase.split()))
    return [sample for sample in firsts if sample is not None] or [longest]


def figure2(dataset: Dataset, sample: PhraseSample, method: Ready, look: Look | None = None) -> Figure:
    """The map of every word of a phrase, start and end token included, after the image itself.

    Args:
        dataset: reads the image.
        sample: its phrase and region.
        method: a latent diffusion method.
        look: colours.
    """
    image = dataset.image(sample)
    found = method.asked("token_maps")(method.query(image, sample))
    tiles = [_tile(image, sample, "Input"), *(_tile(image, sample, word, grounding) for word, grounding in found)]
    rows = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    strips = [Strip(row, "" if number else f"“{sample.phrase}”") for number, row in enumerate(rows)]
    what = f"The paper's Figure 2, measured here: {method.name}, one map per word, each scaled on its own"
    return strips_figure(strips, (), look, _note(what, dataset, [sample], [method]))


def figure3(
    dataset: Dataset, split: str, samples: Sequence[PhraseSample], methods: Sequence[Ready], look: Look | None = None
) -> Figure:
    """Rows of samples, columns of methods, with the CNR above each map.

    Args:
        dataset: reads the images.
        split: of the samples.
        samples: a row each.
        methods: a column each.
        look: colours.
    """
    trials = {trial.sample.sample_id: trial for trial in plan(dataset.samples(split), CONTROLS[0], None)}
    strips = []
    for sample in samples:
        image = dataset.image(sample)
        tiles = [_tile(image, sample, sample.category)]
        for method in methods:
            (grounding,) = ground_all(method.method, [method.query(image, sample)])
            value = score_map(grounding, trials[sample.sample_id]).metrics.get("cnr")
            title = "CNR undefined" if value is None else f"CNR = {value:.2f}"
            tiles.append(_tile(image, sample, title, grounding))
        strips.append(Strip(tiles, f"“{sample.phrase}”"))
    what = "The paper's Figure 3, measured here; examples, not a result"
    heads = ["Input", *(method.name for method in methods)]
    return strips_figure(strips, heads, look, _note(what, dataset, samples, methods))


def figure6(dataset: Dataset, sample: PhraseSample, methods: Sequence[Ready], look: Look | None = None) -> Figure:
    """Maps from all cross-attention layers, and from the innermost three (layers 5 to 7 of Stable Diffusion).

    Args:
        dataset: reads the image.
        sample: its phrase and region.
        methods: a row each; latent diffusion methods with `layers` "all".
        look: colours.
    """
    image, strips = dataset.image(sample), []
    for method in methods:
        inner = method.asked("innermost_layers")()
        maps, (frame,) = method.asked("layer_maps")([method.query(image, sample)])
        tiles = [_tile(image, sample, "Input")]
        for title, part in (("All layers", maps[0]), (f"Layers {inner[0]} to {inner[-1]}", maps[0, inner])):
            tiles.append(_tile(image, sample, title, GroundingMap(part.mean(0), frame)))
        strips.append(Strip(tiles, method.name))
    what = f"The paper's Figure 6, measured here: “{sample.phrase}”"
    return strips_figure(strips, (), look, _note(what, dataset, [sample], methods))


def _tile(image: FloatArray, sample: PhraseSample, title: str, grounding: GroundingMap | None = None) -> Tile:
    return Tile(image, title, sample.boxes, grounding, sample.mask)


def _note(what: str, dataset: Dataset, samples: Sequence[PhraseSample], methods: Sequence[Ready]) -> str:
    """What the figure shows, on which data."""
    generated = " (generated images, phantom weights)" if _of_phantom(dataset, methods) else ""
    ids = ", ".join(sample.sample_id for sample in samples)
    return f"{what}; {dataset.name} v{dataset.version.removeprefix('v')}{generated}, {ids}"


def _of_phantom(dataset: Dataset, methods: Sequence[Ready]) -> bool:
    return dataset.name == "phantom" and any(of_phantom(one.settings.weights) for one in methods)
