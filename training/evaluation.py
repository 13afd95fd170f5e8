"""Scores of a trained variant: steps chosen on the validation split, then the test split under every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gtg_bench.benchmark.api import METHODS, Frame, MethodSettings, Query, boxes_to_mask
from gtg_bench.benchmark.api.geometry import BoolArray, FloatArray
from gtg_bench.benchmark.api.settings import DEFAULTS, PHANTOM
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, seed_for
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset
from gtg_bench.benchmark.metrics import cnr
from gtg_bench.benchmark.report.leaderboard import mean, update
from gtg_bench.benchmark.runs.runner import RunRequest, RunResult, prepare, run
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import find_protocol
from gtg_bench.benchmark.scoring.smoothing import UNSMOOTHED, smooth_name, smoothed
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.weights.find import ZOO, known_zoo, zoo_name
from gtg_bench.training.cards import update_card
from gtg_bench.training.loop.progress import console
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.recipe import ChoiceRecipe

_BATCH = 32


def choose_defaults(folder: Path, name: str, recipe: ChoiceRecipe, world: int, runs_dir: Path) -> None:
    """Choose layers, unless the recipe names them, and steps on the validation split; write all of it into the card.

    The smallest number of averaged steps whose mean CNR is within `tolerance` of the best is chosen: only these are
    computed, and in GT mode the metrics saturate after a few (paper, Appendix C).
    """
    steps, last = recipe.layer_steps
    settings = MethodSettings(
        name, weights=_weights(folder), steps=steps, last_steps=last, layers="all", dataset="phantom"
    )
    entry = METHODS.get(name)
    dataset = PhantomDataset(options={"seed": str(world)})
    smooth = smooth_name(str(recipe.smooth))
    layers, trace, table = recipe.layers, list[dict[str, Any]](), []
    if layers is None:
        layers, trace = choose_layers(entry.built(entry.completed(settings)), dataset, "validate", smooth)
    for choice, (steps, last) in [("all", recipe.layer_steps), *((layers, pair) for pair in recipe.steps)]:
        options = {"split": "validate", "steps": steps, "last_steps": last, "layers": choice, "smooth": smooth}
        scored = _scored(folder, name, world, runs_dir, **options)
        table.append(scored | {"last_steps": last, "layers": choice, "smooth": smooth})
    own = [row for row in table if row["layers"] == layers]
    best = max(row["cnr"] for row in own)
    found = min((row for row in own if row["cnr"] >= best - recipe.tolerance), key=lambda row: row["last_steps"])
    steps, last = found["steps"], found["last_steps"]
    defaults = {"steps": steps, "last_steps": last, "guidance": recipe.guidance, "layers": layers}
    update_card(folder, defaults=defaults, layer_choice=trace, validation=table)
    known = "named by the recipe" if recipe.layers else "chosen on the validation split"
    console.print(f"{name}: layers {layers} {known}, the last {last} of {steps} steps on the validation split")


def choose_layers(
    method: Any, dataset: Dataset, split: str, smooth: str = UNSMOOTHED
) -> tuple[str, list[dict[str, Any]]]:
    """Forward selection: layers are added one by one as long as the mean CNR of the split grows.

    CNR is the paper's measure of a map that needs no threshold; here it is taken in the image's own pixels, of maps
    that are smoothed like those of `--smooth`.

    Returns:
        the layers as "3,4,5", and the trace of the selection.
    """
    samples = dataset.samples(split)
    maps, regions = [], []
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        queries = [Query(dataset.image(s), s.phrase, seed_for("layers", s.sample_id)) for s in batch]
        found, frames = method.layer_maps(queries)
        for sample, layers, frame in zip(batch, found, frames, strict=True):
            whole = Frame.original(sample.image_size)
            own = (smoothed(GroundingMap(values, frame), smooth).values for values in layers)
            maps.append(np.stack([frame.carry(values, whole)[0] for values in own]))
            regions.append(boxes_to_mask(sample.boxes, sample.image_size))
    chosen: list[int] = []
    trace: list[dict[str, Any]] = []
    while len(chosen) < len(maps[0]):
        trials = {
            layer: _mean_cnr(maps, regions, [*chosen, layer]) for layer in range(len(maps[0])) if layer not in chosen
        }
        layer = max(trials, key=lambda number: trials[number])
        if trace and trials[layer] <= trace[-1]["cnr"]:
            break
        chosen.append(layer)
        trace.append({"added": layer, "cnr": round(trials[layer], 4)})
    return ",".join(map(str, sorted(chosen))), trace


def _mean_cnr(maps: Sequence[FloatArray], regions: Sequence[BoolArray], layers: list[int]) -> float:
    values = [cnr(found[layers].mean(0), region) for found, region in zip(maps, regions, strict=True)]
    return float(np.mean([value for value in values if value is not None]))


def score_test_splits(
    folder: Path,
    name: str,
    worlds: Sequence[int],
    runs_dir: Path,
    leaderboards: Path | None = None,
    stop: StopRequest | None = None,
) -> None:
    """Score a member of the zoo on the test splits, see `trials`; write the table into its card.

    Args:
        folder: of the member; its recorded name is `zoo_name(folder)`.
        name: of the method.
        worlds: phantom worlds; the first is the one that everything is tried on.
        runs_dir: where records and maps are kept: what is there is not computed again.
        leaderboards: folder of the CSV files that get a row a run; None: none do.
        stop: a request to stop early.

    Raises:
        Stopped: a stop was requested; the same call resumes.
    """
    table = []
    with known_zoo(folder.parent):
        for trial in trials(read_card(folder), METHODS.get(name).samplings, worlds, "@" in zoo_name(folder)):
            if stop is not None:
                stop.check()
            request = _request(name, weights=zoo_name(folder), split="test", runs_dir=runs_dir, **trial)
            result = run(prepare(request), request)
            if leaderboards is not None:
                update(leaderboards, result.spec, result.records)
            table.append(trial | _summary(result))
            console.print(f"{folder.name}: {table[-1]}", soft_wrap=True)
    update_card(folder, test=table)


def trials(
    card: Mapping[str, Any], samplings: Sequence[str], worlds: Sequence[int], repeats: bool = False
) -> list[dict[str, Any]]:
    """The runs that a member is scored in: `world`, and options of `RunRequest`.

    Plain and with every control, and in every sampling mode where the method samples. Beside that, of a member that
    repeats no other one by another seed: further worlds; where the method samples, the tokens that Table 2's CXR-BERT
    row was made with, and the paper's average over all layers where others were chosen.
    """
    first, *others = worlds
    plain = {"world": first}
    found = [plain | {"control": control} for control in CONTROLS]
    found += [plain | {"sampling": mode} for mode in samplings if mode != DEFAULTS["sampling"]]
    if repeats:
        return found
    found += [{"world": world} for world in others]
    found += [plain | {"tokens": "disease"}] if samplings else []
    if samplings and card.get("defaults", {}).get("layers", "all") != "all":
        found.append(plain | {"layers": "all"})
    return found


def _scored(folder: Path, name: str, world: int, runs_dir: Path, **options: Any) -> dict[str, Any]:
    request = _request(name, world=world, weights=_weights(folder), runs_dir=runs_dir, **options)
    return _summary(run(prepare(request), request))


def _request(name: str, world: int, **options: Any) -> RunRequest:
    seed = {"seed": str(world)} if world else {}
    return RunRequest.of(name, dataset="phantom", dataset_options=seed, batch_size=_BATCH, **options)


def _weights(folder: Path) -> str:
    return PHANTOM if folder.resolve().parent == ZOO.resolve() else str(folder)


def _summary(result: RunResult) -> dict[str, Any]:
    means = {metric: mean(result.records, metric) for metric in find_protocol(result.spec.protocol).metrics}
    rounded = {metric: round(value, 4) for metric, value in means.items() if value is not None}
    return {"steps": result.spec.settings.steps, "n_ok": sum(r.status == "ok" for r in result.records), **rounded}
