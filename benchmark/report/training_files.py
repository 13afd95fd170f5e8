"""The loss curve and the validations of a training: in its work folder, or in the card of its result."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError

CURVE = "curve.csv"
"""In a work folder: rows of step and loss."""

SEEN = "validation.jsonl"
"""In a work folder: one JSON object per validation, each with its step."""

_CARD = "card.json"


@dataclass(frozen=True)
class TrainingCurves:
    """What a training logged.

    Attributes:
        loss: (step, mean loss since the point before).
        validations: name -> number of each validation, with "step".
    """

    loss: list[tuple[int, float]]
    validations: list[dict[str, float]]


def part_folder(work: Path, number: int) -> Path:
    """The work folder of a part of a training, whose steps start at 1.

    Part 0 has `work` itself; parts 1, 2 and so on are rounds, see `training.ldm.separation`.
    """
    name = "separation" if number == 1 else f"separation-{number}"
    return work / name if number else work


def read_training(folder: Path) -> TrainingCurves:
    """Read the curves of a training.

    Args:
        folder: the folder that `gtg-bench train` writes, its work folder, or a folder of weights with a card.

    Raises:
        DataError: no curve, or a file that cannot be read.
    """
    try:
        for work in (folder, folder / "work"):
            if (work / CURVE).is_file():
                return _of_work(work)
        if (folder / _CARD).is_file():
            card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            loss = [(int(step), float(value)) for step, value in card["loss_curve"]]
            return TrainingCurves(_some(loss, folder), [_numbers(row) for row in card.get("validation_curve") or ()])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} has no readable loss curve ({type(error).__name__}: {error})") from error
    raise DataError(f"{folder} has no {CURVE} and no {_CARD}; name the --out folder of a `gtg-bench train`")


def _of_work(work: Path) -> TrainingCurves:
    """The curves of a work folder, with the steps of all parts counted together."""
    found, number, before = TrainingCurves([], []), 0, 0
    while (part := part_folder(work, number)).joinpath(CURVE).is_file():
        found.loss.extend((before + step, value) for step, value in _loss(part / CURVE))
        found.validations.extend(row | {"step": before + row["step"]} for row in _validations(part / SEEN))
        number, before = number + 1, found.loss[-1][0]
    return found


def _loss(path: Path) -> list[tuple[int, float]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return _some([(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)], path)


def _some(loss: list[tuple[int, float]], place: Path) -> list[tuple[int, float]]:
    if not loss:
        raise DataError(f"{place} has no points yet; wait for the first ones")
    return loss


def _validations(path: Path) -> list[dict[str, float]]:
    """The rows of a log; torn lines are skipped."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(_numbers(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items()} | {"step": float(row["step"])}
