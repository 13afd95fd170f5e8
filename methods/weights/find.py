"""From `--weights` to located files: packaged, published, a folder with a card, or a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.methods.cards import part_of, read_card
from gtg_bench.methods.weights.locate import files_of, locate, sha256_of
from gtg_bench.methods.weights.plan import Part, TextPart, WeightsPlan, parse_plan, read_plan

ZOO = Path(__file__).parents[1] / "zoo"
PAPER = Path(__file__).parent / "paper.yaml"


@dataclass(frozen=True)
class Weights:
    """The located weights of one method.

    Attributes:
        name: as a run records it: "phantom", "paper", or the absolute path of a folder or YAML file.
        plan: what was asked for.
        places: where each part lies on this machine.
    """

    name: str
    plan: WeightsPlan
    places: Mapping[str, Path]

    @property
    def version(self) -> str:
        """12 hex digits over every file that is loaded, and how texts and images are cut."""
        facts: dict[str, Any] = {}
        for name, part in self.plan.parts().items():
            files = sorted(sha256_of(file) for file in files_of(self.places[name], part))
            facts[name] = [files, part.model_dump(exclude=set(Part.model_fields))]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def find_weights(method: str, choice: str | None) -> Weights:
    """Locate the weights of a method, fetching published ones where there is a network.

    Args:
        method: the method's registered name.
        choice: "phantom" (also None), "paper", a folder with card.json, or a YAML file (see `WeightsPlan`).

    Raises:
        UsageError: there are no such weights of this method.
        DataError: a file is missing or wrong; says which, and the command that fetches it.
    """
    name, plan, root = plan_of(method, choice or "phantom")
    return Weights(name, plan, {part: locate(wanted, root) for part, wanted in plan.parts().items()})


def plan_of(method: str, choice: str) -> tuple[str, WeightsPlan, Path]:
    """The name, the plan, and the folder that relative places start from; nothing is located yet."""
    if choice == "phantom":
        return choice, _of_card(_packaged(method)), ZOO
    if choice == "paper":
        return choice, published(method), PAPER.parent
    path = Path(choice).expanduser()
    if path.is_dir():
        return str(path.resolve()), _of_card(path.resolve()), path
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return str(path.resolve()), read_plan(path), path.resolve().parent
    raise UsageError(f"--weights {choice}: neither 'phantom', 'paper', a folder, nor a YAML file")


def _packaged(method: str) -> Path:
    folder = ZOO / method
    if not folder.is_dir():
        packaged = sorted(path.parent.parent.name for path in ZOO.glob("*/unet/config.json"))
        raise UsageError(
            f"no phantom weights of {method} are packaged (there are: {', '.join(packaged)}); "
            "use --weights paper, a folder or a YAML file"
        )
    return folder


def published(method: str) -> WeightsPlan:
    """The published weights of a method. Raises UsageError with the reason where there are none."""
    import yaml

    table = yaml.safe_load(PAPER.read_text()) or {}
    entry = table.get(method)
    if entry is None:
        raise UsageError(f"--weights paper: nothing is known of published weights of {method}")
    if "unpublished" in entry:
        raise UsageError(f"--weights paper: {entry['unpublished']}")
    return parse_plan(entry, PAPER)


def _of_card(folder: Path) -> WeightsPlan:
    """The plan of a folder whose card.json names its components."""
    card = read_card(folder)
    vae, text = part_of(card, folder, "vae"), part_of(card, folder, "text_encoder")
    text_card = read_card(text)
    return WeightsPlan(
        unet=Part(place=str(folder), path="unet"),
        scheduler=Part(place=str(folder), path="scheduler"),
        vae=Part(place=str(vae)),
        text_encoder=TextPart(
            place=str(text), family=text_card.get("family", ""), max_length=text_card.get("max_length", 77)
        ),
        defaults=card.get("defaults", {}),
    )
