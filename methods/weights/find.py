"""From `--weights` to located files: packaged, published, a folder with a card, or a YAML file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.choices import PHANTOM, of_phantom
from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.methods.cards import part_of, read_card
from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS
from gtg_bench.methods.weights.locate import files_of, locate, sha256_of
from gtg_bench.methods.weights.paper import PAPER, downloads, published
from gtg_bench.methods.weights.plan import Part, TextPart, WeightsPlan, parse_plan, read_plan

__all__ = ["PAPER", "ZOO", "Weights", "card_of", "find_weights", "packaged", "plan_of", "published", "zoo_name"]

ZOO = Path(__file__).parents[1] / "zoo"
"""The packaged phantom weights."""

OTHER_ZOOS = "GTG_BENCH_ZOO"
"""Environment variable: folders of `gtg-bench zoo`, looked in before the packaged weights."""


@dataclass(frozen=True)
class Weights:
    """The located weights of one method.

    Attributes:
        name: as a run records it: "phantom" or another name of the zoo, see `zoo_name`; "paper"; or the absolute path
            of a folder or YAML file.
        plan: what was asked for.
        places: where each part lies on this machine.
    """

    name: str
    plan: WeightsPlan
    places: Mapping[str, Path]

    @property
    def version(self) -> str:
        """12 hex digits over every file that is loaded, how texts and images are cut, and an outside encoder's code."""
        facts: dict[str, Any] = {}
        for name, part in self.plan.parts().items():
            place = self.places[name]
            files = {"" if file == place else file.name: sha256_of(file) for file in files_of(place, part)}
            facts[name] = [files, part.model_dump(exclude=set(Part.model_fields))]
            if isinstance(part, TextPart) and (code := TEXT_ENCODERS.code(part.family)):
                facts[name].append(code)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def find_weights(method: str, choice: str | None) -> Weights:
    """Locate the weights of a method, fetching published ones where there is a network.

    Args:
        method: the method's registered name.
        choice: "phantom" (also None: what is packaged), another name of the zoo such as "phantom-quick@1759", "paper",
            a folder with card.json, or a YAML file (see `WeightsPlan`).

    Raises:
        UsageError: there are no such weights of this method.
        DataError: a file is missing or wrong; says which, and the command that fetches it.
    """
    name, plan, root = plan_of(method, choice or PHANTOM)
    return Weights(name, plan, {part: locate(wanted, root) for part, wanted in plan.parts().items()})


def plan_of(method: str, choice: str) -> tuple[str, WeightsPlan, Path]:
    """The name, the plan, and the folder that relative places start from; nothing is located yet."""
    if of_phantom(choice):
        folder = _member(method, choice)
        return zoo_name(folder), _of_card(folder), folder
    if choice == "paper":
        return choice, published(method), downloads()
    path = Path(choice).expanduser().resolve()
    if path.is_dir():
        return str(path), _of_card(path), path
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return str(path), read_plan(path), path.parent
    raise UsageError(
        f"--weights {choice}: neither 'phantom', 'paper', a folder, nor a YAML file (further names are those of "
        "a zoo, such as phantom-quick or phantom-quick@1759)"
    )


def packaged() -> list[str]:
    """The methods with phantom weights in this package."""
    return sorted(path.parent.name for path in ZOO.glob("*/card.json") if _is_whole(path.parent))


def zoo_name(folder: Path) -> str:
    """The name of a member of the zoo: its recipe's, and its training's seed where the folder is called by it.

    "phantom" is the full recipe, and what has no recipe of the latent diffusion models.
    """
    recipe, (_, _, seed) = str(read_card(folder).get("recipe_name")), folder.name.partition("-seed")
    return (recipe if of_phantom(recipe) else PHANTOM) + (f"@{seed}" if seed else "")


def card_of(method: str, weights: str | None) -> dict[str, Any] | None:
    """The card of the weights that a run was made with, by their recorded name; None where none is here."""
    try:
        return read_card(_member(method, weights or "") if of_phantom(weights) else Path(weights or ""))
    except (DataError, UsageError, OSError):
        return None


def _is_whole(folder: Path) -> bool:
    """Whether a folder of the zoo is a method's, not a part of one such as a text encoder or a U-Net to start from."""
    card = read_card(folder)
    return "components" in card and card.get("variant", folder.name) == folder.name


def _member(method: str, name: str) -> Path:
    """The folder of a method's weights in a zoo; "phantom" is also whatever is packaged."""
    recipe, _, seed = name.partition("@")
    for zoo in _zoos():
        folder = zoo / (f"{method}-seed{seed}" if seed else method)
        if (folder / "card.json").is_file() and zoo_name(folder) == name:
            return folder
    if name == PHANTOM and method in packaged():
        return ZOO / method
    member = f"{method}@{seed}" if seed else method
    raise UsageError(
        f"no {name} weights of {method} are packaged (there are: {', '.join(packaged())}), nor in a zoo that "
        f"{OTHER_ZOOS} names; use --weights paper, a folder or a YAML file, or train them: "
        f"gtg-bench zoo {member} --recipe {recipe} --out DIR"
    )


def _zoos() -> Iterator[Path]:
    yield from (Path(place).expanduser() for place in os.environ.get(OTHER_ZOOS, "").split(os.pathsep) if place)
    yield ZOO


@contextmanager
def known_zoo(folder: Path) -> Iterator[None]:
    """Members of this zoo go by their names inside the block, in processes that are started there too."""
    before = os.environ.get(OTHER_ZOOS)
    os.environ[OTHER_ZOOS] = os.pathsep.join([str(folder), *([before] if before else [])])
    try:
        yield
    finally:
        os.environ.pop(OTHER_ZOOS)
        if before is not None:
            os.environ[OTHER_ZOOS] = before


def _of_card(folder: Path) -> WeightsPlan:
    """The plan of a folder whose card.json names its components."""
    if (folder / "model_index.json").is_file() and not (folder / "card.json").exists():
        raise DataError(f"{folder} is a pipeline of diffusers without a card.json: name it as `base` in a YAML file")
    card = read_card(folder)
    folders = [name for name in ("unet", "adapter", "scheduler") if (folder / name).is_dir()]
    plan: dict[str, Any] = {name: {"place": str(folder), "path": name} for name in folders}
    named = card.get("components", {})
    plan |= {name: part for name, part in named.items() if isinstance(part, dict)}
    if "vae" not in plan and "image_encoder" not in plan:
        plan["vae"] = str(part_of(card, folder, "vae"))
    if "text_encoder" not in plan:
        plan |= text_parts(part_of(card, folder, "text_encoder"))
    return parse_plan(plan | {"defaults": card.get("defaults", {})}, folder / "card.json")


def text_parts(folder: Path) -> dict[str, Any]:
    """What a plan says of a text encoder that lies in a folder of its own with a card.

    The card names family and max_length, and `file` where the weights are one file; tokenizer and configuration of
    such a file lie beside it. Raises DataError where there is no card.
    """
    card = read_card(folder)
    part = {"place": str(folder), "family": card.get("family", ""), "max_length": card.get("max_length", 77)}
    if "file" not in card:
        return {"text_encoder": part}
    return {"text_encoder": part | {"path": card["file"]}, "tokenizer": str(folder)}
