"""Resolve `--weights` to files on disk: packaged, published, a folder with a card, or a YAML file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.settings import PHANTOM, of_phantom
from gtg_bench.benchmark.state import warn
from gtg_bench.methods.cards import part_of, read_card
from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS
from gtg_bench.methods.weights.files import files_of, sha256_of
from gtg_bench.methods.weights.hub import locate
from gtg_bench.methods.weights.paper import downloads, known, names, published, unpublished
from gtg_bench.methods.weights.plan import Part, TextPart, WeightsPlan, parse_plan, read_plan

ZOO = Path(__file__).parents[1] / "zoo"
"""The packaged phantom weights."""

OTHER_ZOOS = "GTG_BENCH_ZOO"
"""Environment variable: output folders of `gtg-bench zoo`, searched before the packaged weights."""


@dataclass(frozen=True)
class Weights:
    """The located weights of one method.

    Attributes:
        name: as a run records it: "phantom" or another zoo name (see `zoo_name`), "paper", or the absolute path of a
            folder or YAML file.
        plan: the parts that were asked for.
        places: the folder or file of each part on this machine.
    """

    name: str
    plan: WeightsPlan
    places: Mapping[str, Path]

    @property
    def version(self) -> str:
        """12 hex digits over every file that is loaded, the settings of its part, and a plug-in encoder's code."""
        return self.version_of(*self.plan.parts())

    def version_of(self, *parts: str) -> str:
        """The version of some parts only, such as "vae"."""
        facts: dict[str, Any] = {}
        for name, part in self.plan.parts().items():
            if name not in parts:
                continue
            place = self.places[name]
            files = {"" if file == place else file.name: sha256_of(file) for file in files_of(place, part)}
            settings = part.model_dump(exclude=set(Part.model_fields))
            if not settings.get("words_only"):  # so that weights from before there was this setting keep their version
                settings.pop("words_only", None)
            facts[name] = [files, settings]
            if isinstance(part, TextPart) and (code := TEXT_ENCODERS.code(part.family)):
                facts[name].append(code)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def find_weights(method: str, choice: str | None) -> Weights:
    """Locate the weights of a method, downloading published ones if necessary.

    Args:
        method: the method's registered name.
        choice: "phantom" (also None: the packaged weights), another zoo name such as "phantom-quick@1759", "paper",
            a folder with card.json, or a YAML file (see `WeightsPlan`).

    Raises:
        UsageError: the method has no such weights.
        DataError: a file is missing or damaged; names it and the command that downloads it.
    """
    name, plan, root = plan_of(method, choice or PHANTOM)
    return Weights(name, plan, {part: locate(wanted, root) for part, wanted in plan.parts().items()})


def plan_of(method: str, choice: str) -> tuple[str, WeightsPlan, Path]:
    """The name, the plan, and the folder that relative places start from. Locates nothing; raises as `find_weights`."""
    if of_phantom(choice):
        folder = _member(method, choice)
        return zoo_name(folder), _plan_of_card(folder), folder
    if choice == "paper":
        return choice, published(method), downloads()
    path = Path(choice).expanduser().resolve()
    if path.is_dir():
        return str(path), _plan_of_card(path), path
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return str(path), read_plan(path), path.parent
    raise UsageError(
        f"--weights {choice}: not found. Choose phantom, paper, a folder, a YAML file, or the name of a trained zoo "
        "such as phantom-quick or phantom-quick@1759"
    )


def packaged() -> list[str]:
    """The methods with phantom weights in this package."""
    cards = {path.parent.name: path.parent for path in ZOO.glob("*/card.json")}
    return sorted(n for n, folder in cards.items() if _is_model(n, folder))


def _is_model(name: str, folder: Path) -> bool:
    """Whether a folder's card is that of a whole model of this name; a damaged card is not."""
    try:
        card = read_card(folder)
    except DataError as error:
        warn(str(error))
        return False
    return "components" in card and card.get("variant", name) == name


def zoo_name(folder: Path) -> str:
    """The name of a zoo member: its recipe's, plus @SEED if the folder's name ends in -seedSEED.

    Members whose recipe is not one of a diffusion model are "phantom".
    """
    recipe, (_, _, seed) = str(read_card(folder).get("recipe_name")), folder.name.partition("-seed")
    return (recipe if of_phantom(recipe) else PHANTOM) + (f"@{seed}" if seed else "")


def card_of(method: str, weights: str | None) -> dict[str, Any] | None:
    """The card of the weights that a run was made with, by their recorded name; None if they are not here."""
    try:
        return read_card(_member(method, weights or "") if of_phantom(weights) else Path(weights or ""))
    except (DataError, UsageError, OSError):
        return None


def _member(method: str, name: str) -> Path:
    """The folder of a method's weights in a zoo; "phantom" also finds packaged weights of another recipe."""
    _, _, seed = name.partition("@")
    folders = [Path(place).expanduser() for place in os.environ.get(OTHER_ZOOS, "").split(os.pathsep) if place]
    for zoo in (*folders, ZOO):
        folder = zoo / (f"{method}-seed{seed}" if seed else method)
        if (folder / "card.json").is_file() and zoo_name(folder) == name:
            return folder
    if name == PHANTOM and method in packaged():
        return ZOO / method
    here = f"{method} has no {name} weights (packaged: {', '.join(packaged())})"
    plan = known(method) if method in names() else WeightsPlan()
    paper = "paper, " if plan.parts() and not unpublished(plan) else ""
    train = f", or train a zoo (`gtg-bench zoo --list --out DIR` lists its members) and set {OTHER_ZOOS}=DIR"
    in_zoo = method in packaged() or "unet" in (*plan.parts(), *plan.unpublished)
    raise UsageError(f"{here}. Use --weights {paper}a folder or a YAML file{train if in_zoo else ''}")


@contextmanager
def known_zoo(folder: Path) -> Iterator[None]:
    """Search this zoo first inside the block, in child processes too."""
    before = os.environ.get(OTHER_ZOOS)
    os.environ[OTHER_ZOOS] = os.pathsep.join([str(folder), *([before] if before else [])])
    try:
        yield
    finally:
        os.environ.pop(OTHER_ZOOS)
        if before is not None:
            os.environ[OTHER_ZOOS] = before


def _plan_of_card(folder: Path) -> WeightsPlan:
    """The plan of a folder whose card.json lists its components."""
    if (folder / "model_index.json").is_file() and not (folder / "card.json").exists():
        raise DataError(f"{folder} is a diffusers pipeline without a card.json: name it as `base` in a YAML file")
    card = read_card(folder)
    folders = [name for name in ("unet", "adapter", "scheduler") if (folder / name).is_dir()]
    plan: dict[str, Any] = {name: {"place": str(folder), "path": name} for name in folders}
    plan |= {name: part for name, part in card.get("components", {}).items() if isinstance(part, dict)}
    if "vae" not in plan and "image_encoder" not in plan:
        plan["vae"] = str(part_of(card, folder, "vae"))
    if "text_encoder" not in plan:
        plan |= text_parts(part_of(card, folder, "text_encoder"))
    return parse_plan(plan | {"defaults": card.get("defaults", {})}, folder / "card.json")


def text_parts(folder: Path) -> dict[str, Any]:
    """The plan's entries for a text encoder whose folder has its own card.

    The card gives family, max_length and words_only, and `file` if the weights are a single checkpoint; its tokenizer
    and configuration are then files of the same folder. Raises DataError if the card is missing.
    """
    card = read_card(folder)
    part = {"place": str(folder), "family": card.get("family", ""), "max_length": card.get("max_length", 77)}
    part |= {"words_only": True} if card.get("words_only") else {}
    if "file" not in card:
        return {"text_encoder": part}
    return {"text_encoder": part | {"path": card["file"]}, "tokenizer": str(folder)}
