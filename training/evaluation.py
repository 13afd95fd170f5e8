"""What a finished variant is worth: steps chosen on the validation split, then the test split with every control."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.leaderboard import mean
from gtg_bench.benchmark.metrics import METRICS
from gtg_bench.benchmark.runner import RunRequest, RunResult, prepare, run
from gtg_bench.benchmark.spec import CONTROLS
from gtg_bench.training.cards import update_card
from gtg_bench.training.loop import console
from gtg_bench.training.recipe import EvaluationRecipe

_BATCH = 32


def choose_defaults(folder: Path, name: str, recipe: EvaluationRecipe, world: int, runs_dir: Path) -> None:
    """Score the validation split with each number of steps; write the table and the choice into the card.

    The choice is the smallest number of steps whose AUROC is within `tolerance` of the best: fewer steps are
    faster, and in GT mode the metrics saturate after a few (paper, Appendix C).
    """
    table = [_scored(folder, name, world, runs_dir, split="validate", steps=steps) for steps in recipe.steps]
    best = max(row["auroc"] for row in table)
    chosen = min(row["steps"] for row in table if row["auroc"] >= best - recipe.tolerance)
    update_card(folder, defaults={"steps": chosen, "guidance": recipe.guidance, "layers": "all"}, validation=table)
    console.print(f"{name}: {chosen} steps chosen on the validation split")


def score_test_splits(folder: Path, name: str, worlds: Sequence[int], runs_dir: Path) -> None:
    """Score the test split of some worlds, plain and with every control; write the table into the card."""
    table = []
    for world in worlds:
        for control in CONTROLS:
            row = _scored(folder, name, world, runs_dir, split="test", control=control)
            table.append({"world": world, "control": control, **row})
            console.print(f"{name}, world {world}, control {control}: {row}")
    update_card(folder, test=table)


def _scored(folder: Path, name: str, world: int, runs_dir: Path, **options: Any) -> dict[str, Any]:
    request = RunRequest(
        method=name,
        dataset="phantom",
        dataset_options={"seed": str(world)} if world else {},
        weights=_weights(folder),
        batch_size=_BATCH,
        runs_dir=runs_dir,
        **options,
    )
    return _summary(run(prepare(request), request))


def _weights(folder: Path) -> str:
    from gtg_bench.methods.ldm.build import ZOO

    return "phantom" if folder.resolve().parent == ZOO.resolve() else str(folder)


def _summary(result: RunResult) -> dict[str, Any]:
    means = {metric: mean(result.records, metric) for metric in METRICS}
    rounded = {metric: round(value, 4) for metric, value in means.items() if value is not None}
    return {"steps": result.spec.steps, "n_ok": sum(r.status == "ok" for r in result.records), **rounded}
