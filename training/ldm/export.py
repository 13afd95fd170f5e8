"""A trained model as a folder that `--weights` takes: diffusers' layout, and a card that names the other parts."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.paths import as_umask, write_text
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.text_encoders.words_only import WordsOnly
from gtg_bench.methods.weights import Weights
from gtg_bench.methods.weights.files import files_of
from gtg_bench.methods.weights.hub import is_hub_id
from gtg_bench.methods.weights.plan import Part, TextPart
from gtg_bench.training.cards import write_card
from gtg_bench.training.ldm.models import TrainableLdm
from gtg_bench.training.variants import Variant


@dataclass(frozen=True)
class Exporter:
    """Writes the folder of a trained model.

    Attributes:
        models: the models; the U-Net holds what is to be saved.
        weights: what training started from.
        variant: what was trained.
        dtype: of the saved U-Net.
        shared: a folder whose parts are referred to by relative paths; parts that lie elsewhere are copied, and those
            on the hub are referred to by id and revision.
    """

    models: TrainableLdm
    weights: Weights
    variant: Variant
    dtype: torch.dtype
    shared: Path | None = None

    def write(self, folder: Path, facts: Mapping[str, Any]) -> Path:
        """Write the folder, whole or not at all. It replaces older parts of the same name; other files stay.

        Raises:
            UsageError: a trained text encoder cannot be saved.
        """
        for left in folder.parent.glob(f".{folder.name}.*.partial"):  # by a kill
            shutil.rmtree(left)
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        self._unet(partial)
        self.models.scheduler.save_pretrained(partial / "scheduler")
        components = self._components(partial, folder)
        write_card(partial, components=components, **facts)
        self._move(partial, folder)
        return folder

    def _unet(self, folder: Path) -> None:
        if "adapter" in self.variant.trains:
            _save_adapter(self.models.unet, folder / "adapter")
        if "unet" in self.variant.trains:
            unet = self.models.unet
            saved = unet if unet.dtype == self.dtype else copy.deepcopy(unet).to(self.dtype)
            saved.save_pretrained(folder / "unet")

    def _components(self, partial: Path, folder: Path) -> dict[str, Any]:
        """Where the parts lie that are not in the folder's own unet/ and scheduler/."""
        parts = self.weights.plan.parts()
        found: dict[str, Any] = {"vae": self._plain("vae", parts["vae"], partial, folder)}
        if "unet" not in self.variant.trains:
            found["unet"] = self._plain("unet", parts["unet"], partial, folder)
        if "text_encoder" in self.variant.trains:
            found["text_encoder"] = self._trained_text(partial)
        elif (text := self._reference("text_encoder", parts["text_encoder"], folder)) is not None:
            found["text_encoder"] = text
            if "tokenizer" in parts and (place := self._reference("tokenizer", parts["tokenizer"], folder)) is not None:
                found["tokenizer"] = place
        else:
            found["text_encoder"] = self._copied_text(partial)
        return found

    def _plain(self, name: str, part: Part, partial: Path, folder: Path) -> dict[str, Any]:
        if (found := self._reference(name, part, folder)) is not None:
            return found
        _copy(self.weights.places[name], part, partial / name)
        return {"place": ".", "path": name}

    def _reference(self, name: str, part: Part, folder: Path) -> dict[str, Any] | None:
        """The part as a reference for the card; None if it must be copied."""
        facts = part.model_dump(exclude_defaults=True, mode="json")
        if is_hub_id(part) and not Path(part.place).exists():
            return facts
        place, shared = self.weights.places[name].resolve(), (self.shared or folder).resolve()
        if self.shared is None or not place.is_relative_to(shared):
            return None
        inner = place.relative_to(shared)
        relative = os.path.relpath(shared / inner.parts[0], folder.resolve())
        return facts | {"place": relative, "path": str(Path(*inner.parts[1:])) if len(inner.parts) > 1 else ""}

    def _copied_text(self, folder: Path) -> str:
        part, place, target = (
            self.weights.plan.text_encoder,
            self.weights.places["text_encoder"],
            folder / "text_encoder",
        )
        assert part is not None
        _copy(place, part, target)
        if (tokenizer := self.weights.places.get("tokenizer")) is not None and tokenizer != place:
            _copy(tokenizer, Part(place=str(tokenizer), files=("*.json", "*.txt", "*.model")), target)
        _text_card(target, part, place.name if place.is_file() else None)
        return "text_encoder"

    def _trained_text(self, folder: Path) -> str:
        part, encoder, target = self.weights.plan.text_encoder, self.models.text_encoder, folder / "text_encoder"
        encoder = encoder.encoder if isinstance(encoder, WordsOnly) else encoder
        assert part is not None
        model: Any = encoder.module
        if not hasattr(model, "save_pretrained") or not hasattr(encoder, "tokenizer"):
            raise UsageError(
                f"a trained text encoder of family {part.family} cannot be saved; train one of transformers"
            )
        model.save_pretrained(target)
        encoder.tokenizer.save_pretrained(target)
        _text_card(target, part, None)
        return "text_encoder"

    def _move(self, partial: Path, folder: Path) -> None:
        """Put the new parts where the old ones were."""
        as_umask(partial)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "card.json").unlink(missing_ok=True)  # a folder without a card is not a model: never half of each
        for part in [path for path in partial.iterdir() if path.name != "card.json"]:
            shutil.rmtree(folder / part.name, ignore_errors=True)
            os.replace(part, folder / part.name)
        os.replace(partial / "card.json", folder / "card.json")
        partial.rmdir()


def _save_adapter(unet: Any, folder: Path) -> None:
    """The low-rank adapter in the layout of diffusers' training scripts."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)


def _copy(place: Path, part: Part, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in files_of(place, part):
        shutil.copyfile(file, target / file.name)


def _text_card(folder: Path, part: TextPart, file: str | None) -> None:
    """The card of a text encoder's folder; what an older card says of its origin is kept."""
    known = read_card(folder) if (folder / "card.json").exists() else {}
    card = known | {"family": part.family, "max_length": part.max_length} | ({"file": file} if file else {})
    card |= {"words_only": True} if part.words_only else {}
    write_text(folder / "card.json", json.dumps(card, indent=1) + "\n")
