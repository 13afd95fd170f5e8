"""The phantom zoo: one call trains a member, after everything that it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import accelerate
from pydantic import ValidationError

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.settings import of_phantom
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset
from gtg_bench.benchmark.paths import as_umask
from gtg_bench.benchmark.runs.revision import git_revision
from gtg_bench.benchmark.state import Strict
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.pretrained import silence_libraries
from gtg_bench.methods.weights.find import ZOO
from gtg_bench.training.cards import write_card
from gtg_bench.training.evaluation import choose_defaults, score_test_splits
from gtg_bench.training.ldm.models import locate_parts
from gtg_bench.training.ldm.train import TrainRequest, train
from gtg_bench.training.loop.progress import console
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.pretraining import autoencoder
from gtg_bench.training.pretraining.material import Worlds
from gtg_bench.training.pretraining.recipe import AUTOENCODER, Kind, ZooRecipe, folder_name, split_name
from gtg_bench.training.pretraining.stage import Stage, pretraining
from gtg_bench.training.priors import fit_table
from gtg_bench.training.recipe import LdmRecipe
from gtg_bench.training.variants import variant_of

NOTHING: Mapping[str, str] = {}
_OF_ALL = {"name", "note", "seeds", "validation", "choice", "defaults", "text_memory", "gradient_checkpointing"}
"""Fields of a recipe that do not change what is learned."""


@dataclass
class Zoo:
    """Trains into `out`: finished members in folders by name, unfinished work in a `work` folder.

    Attributes:
        recipe: of what is pretrained.
        ldm: of the latent diffusion models.
        out: the folder.
        stop: a request to stop early.
        adopt: whether packaged members of the same recipe, seed, data and parts are copied instead of trained.
    """

    recipe: ZooRecipe
    ldm: LdmRecipe
    out: Path
    stop: StopRequest = field(default_factory=StopRequest)
    adopt: bool = False

    def __post_init__(self) -> None:
        if self.ldm.weights != "phantom":
            raise UsageError(f"recipe {self.ldm.name} is not of the phantom: the zoo's parts do not fit it")
        if not of_phantom(self.ldm.name):
            raise UsageError(
                f"recipe {self.ldm.name!r}: members of a zoo go by the name of their recipe; call it phantom-NAME, in "
                "small letters"
            )
        self.out = self.out.resolve()  # the places of parts are looked up from elsewhere
        silence_libraries()

    def folder(self, name: str) -> Path:
        """Folder of a member."""
        return self.out / folder_name(name)

    def member(self, name: str) -> Path:
        """Train a member after everything that it depends on; finished members are kept.

        Raises:
            UsageError: an unknown member, or a folder with one of another recipe.
            Stopped: a stop was requested; the same call resumes.
        """
        self.recipe.checked([name])
        self.stop.check()
        makers: dict[Kind, Callable[[str], Path]] = {
            "autoencoder": self._autoencoder,
            "priors": self._priors,
            "text encoder": self._text_encoder,
            "image encoder": self._image_encoder,
            "generic": self._generic,
            "variant": self._variant,
        }
        return makers[self.recipe.members[name]](name)

    def evaluate(self, name: str, leaderboards: Path | None = None) -> None:
        """Score a member on the test splits of the recipe's worlds, see `evaluation.score_test_splits`.

        Members that are not methods, such as text encoders, are skipped.

        Raises:
            Stopped: a stop was requested; the same call resumes.
        """
        if self.recipe.members[name] in ("variant", "image encoder") and self.ldm.choice is not None:
            worlds = self.ldm.choice.test_worlds
            score_test_splits(self.member(name), split_name(name)[0], worlds, self._runs, leaderboards, self.stop)

    # What is pretrained

    def _autoencoder(self, name: str) -> Path:
        recipe = self.recipe.autoencoder
        return self._pretrained(name, recipe, "reports", partial(autoencoder.stage, recipe))

    def _text_encoder(self, name: str) -> Path:
        recipe = self.recipe.text_encoders[name]
        return self._pretrained(name, recipe, recipe.data, partial(pretraining(recipe.family), recipe))

    def _image_encoder(self, name: str) -> Path:
        recipe = self.recipe.image_encoders[name]
        text = self.member(recipe.text_encoder)
        stands_on = {"text_encoder": fingerprint(text)}
        return self._pretrained(name, recipe, "reports", partial(pretraining("biovil"), recipe, text), stands_on)

    def _pretrained(
        self, name: str, recipe: Any, data: str, make: Callable[..., Stage], stands_on: Mapping[str, str] = NOTHING
    ) -> Path:
        folder, seed = self.folder(name), self.recipe.seed
        about = self._worlds.about(data)
        if self._done(folder, recipe, {"seed": seed, "data": about, "stands_on": dict(stands_on)}):
            return folder
        material = self._worlds.material(data)
        stage, work = make(material, seed), self.out / "work" / name
        shown = recipe.model_dump(mode="json", exclude={"schedule", "save_precision"}, exclude_defaults=True)
        deciding = {"recipe": shown}
        deciding |= {"data": material.about} | ({"stands_on": dict(stands_on)} if stands_on else {})
        curve = stage.train(name, recipe.schedule, seed, work, deciding, self.stop)
        facts = {"data": material.about, "stands_on": dict(stands_on), "loss_curve": curve}
        return self._write(folder, work / "folder", stage, recipe, facts)

    def _write(self, folder: Path, new: Path, stage: Stage, recipe: Any, facts: Mapping[str, Any]) -> Path:
        """The folder of what was pretrained; it appears whole or not at all."""
        shutil.rmtree(new, ignore_errors=True)
        saved = stage.save(new)
        write_card(
            new,
            title=f"{folder.name}, trained for the phantom",
            **saved,
            results=stage.results(),
            recipe_name=self.recipe.name,
            recipe=recipe.model_dump(mode="json"),
            seed=self.recipe.seed,
            steps=recipe.schedule.steps,
            engine=f"Accelerate {accelerate.__version__}",
            git_revision=git_revision(),
            **facts,
        )
        as_umask(new)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)
        console.print(f"{folder}: finished", soft_wrap=True)
        return folder

    @cached_property
    def _worlds(self) -> Worlds:
        return Worlds(self.recipe.world, self.recipe.seed, self.recipe.pictures)

    def _priors(self, name: str) -> Path:
        folder = self.folder(name)
        if not (folder / "card.json").exists():
            fit_table(PhantomDataset(options={"seed": str(self.recipe.world)}), "train", folder)
        return folder

    # Latent diffusion models

    @property
    def _runs(self) -> Path:
        return self.out / "work" / "runs"

    def _variant(self, name: str) -> Path:
        folder, (method, seed) = self.folder(name), split_name(name)
        options = {"seed": str(self.recipe.world)} if self.recipe.world else {}
        request = TrainRequest(method, self.ldm, folder, seed, data_options=options, validate_options=options)
        self._trained(request, options)
        if self.ldm.choice is not None and "defaults" not in read_card(folder):
            choose_defaults(folder, method, self.ldm.choice, self.recipe.world, self._runs)
        return folder

    def _generic(self, name: str) -> Path:
        """The U-Net of another variant on generic pictures; nothing is grounded while it is trained."""
        blind = self.ldm.validation.model_copy(update={"dataset": None})
        recipe = self.ldm.model_copy(
            update={"name": f"{self.ldm.name}, generic", "validation": blind}
            | {"choice": None, "data_options": {}, "separation": ()}
        )
        request = TrainRequest(self.recipe.generic_like, recipe, self.folder(name), opened=self._worlds.generic)
        self._trained(request, self._worlds.generic_options)
        return request.out

    def _trained(self, request: TrainRequest, options: Mapping[str, str]) -> None:
        """Train a latent diffusion model, and before it its parts, unless it is finished."""
        variant, recipe = variant_of(request.variant), request.recipe
        for part in filter(None, (AUTOENCODER, variant.text_encoder, variant.phantom_start)):
            self.member(part)
        version = locate_parts(request.variant, variant, recipe, parts=self.out).version
        seed = recipe.seeds[0] if request.seed is None else request.seed
        data = {"options": recipe.data_options | dict(options)}
        facts = {"seed": seed, "data": data, "started_from": {"version": version}}
        if not self._done(request.out, recipe, facts):
            cache = self.out / "work" / "cache"
            train(replace(request, parts=self.out, shared=self.out, cache=cache, device="cpu"), self.stop)
            console.print(f"{request.out}: finished", soft_wrap=True)

    def _done(self, folder: Path, recipe: Strict, facts: Mapping[str, Any]) -> bool:
        """Whether a finished member is there. Raises UsageError if it is of another recipe, seed, data or parts."""
        if not (folder / "card.json").exists():
            return self.adopt and self._adopted(folder, recipe, facts)
        if other := _differences(read_card(folder), recipe, facts):
            raise UsageError(
                f"{folder} was trained with another {', another '.join(other)}; choose another --out or move it away"
            )
        return True

    def _adopted(self, folder: Path, recipe: Strict, facts: Mapping[str, Any]) -> bool:
        """Copy a packaged member, if there is one and it is what would be trained."""
        packaged = ZOO / folder.name
        if not (packaged / "card.json").exists() or _differences(read_card(packaged), recipe, facts):
            return False
        shutil.copytree(packaged, folder, ignore=shutil.ignore_patterns("card.json"), dirs_exist_ok=True)
        shutil.copyfile(packaged / "card.json", folder / "card.json")  # last: with a card a member is finished
        console.print(f"{folder}: adopted from the packaged zoo", soft_wrap=True)
        return True


def _differences(card: Mapping[str, Any], recipe: Strict, facts: Mapping[str, Any]) -> list[str]:
    """What of a card is not as wanted."""
    other = [name for name, value in facts.items() if not _holds(card.get(name, {}), value)]
    return other + ["recipe"] * (_deciding(card.get("recipe"), type(recipe)) != _deciding(recipe))


def _holds(known: Any, wanted: Any) -> bool:
    """Whether what a card says is what is wanted, or more."""
    if isinstance(wanted, Mapping) and isinstance(known, Mapping):
        return all(known.get(name) == value for name, value in wanted.items())
    return bool(known == wanted)


def fingerprint(folder: Path) -> str:
    """12 hex digits over the files of a finished member, as its card has them."""
    return hashlib.sha256(json.dumps(read_card(folder)["sha256"], sort_keys=True).encode()).hexdigest()[:12]


def _deciding(recipe: Any, kind: type[Strict] | None = None) -> Any:
    """Fields of a recipe that decide what is learned; None if the card has another kind of recipe."""
    try:
        known: Any = recipe if kind is None else kind.model_validate(recipe)
    except ValidationError:
        return None
    fields: dict[str, Any] = known.model_dump(mode="json", exclude=_OF_ALL) | {"schedule": known.schedule.deciding()}
    for values, part in zip(fields.get("separation", ()), getattr(known, "separation", ()), strict=True):
        values["schedule"] = part.schedule.deciding()
    return fields
