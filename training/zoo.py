"""Everything that the phantom zoo holds, stage by stage: one call trains a variant and what it stands on."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from pydantic import BaseModel

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.phantom.dataset import PhantomDataset, load_studies
from gtg_bench.benchmark.datasets.phantom.world import VERSION, Study
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.text_encoders import load_text_encoder
from gtg_bench.methods.text_encoders.base import TextEncoder
from gtg_bench.training import text_encoders
from gtg_bench.training.autoencoder import psnr, train_autoencoder
from gtg_bench.training.cards import write_card
from gtg_bench.training.diffusion import SCHEDULER, latent_pairs, train_unet
from gtg_bench.training.evaluation import choose_defaults, score_test_splits
from gtg_bench.training.generic_captions import captioned_pictures
from gtg_bench.training.loop import console
from gtg_bench.training.priors import fit_table
from gtg_bench.training.recipe import Recipe

_GENERIC_PICTURES = 8000
_PRETRAIN = {"cxr-bert": text_encoders.train_cxr_bert, "clip": text_encoders.train_clip}


@dataclass
class Zoo:
    """Trains into `out`: finished weights in folders by name, unfinished work in `out/work`."""

    recipe: Recipe
    out: Path

    @cached_property
    def studies(self) -> list[Study]:
        """The training split."""
        return load_studies(self.recipe.train_world, "train")

    @cached_property
    def pixels(self) -> torch.Tensor:
        """The training images, uint8 [N, 128, 128]."""
        return torch.from_numpy(np.stack([study.pixels for study in self.studies]))

    def variant(self, name: str) -> Path:
        """Train a variant's U-Net, and before it whatever it stands on that is not there yet."""
        if name not in self.recipe.variants:
            known = ", ".join(self.recipe.variants)
            raise UsageError(f"recipe {self.recipe.name} has no variant {name!r}; it has: {known}")
        if not self._done(name, self.recipe.unet):
            self._train_variant(name)
        if "defaults" not in read_card(self.out / name):
            choose_defaults(self.out / name, name, self.recipe.evaluation, self.recipe.train_world, self.out / "work")
        return self.out / name

    def evaluate(self, name: str, runs_dir: Path) -> None:
        """Score a trained variant on the test split of the recipe's worlds, with every control, into its card."""
        score_test_splits(self.variant(name), name, self.recipe.evaluation.test_worlds, runs_dir)

    def _train_variant(self, name: str) -> None:
        vae, encoder_name = self.autoencoder(), self.recipe.variants[name]
        encoder = self.text_encoder(encoder_name)
        cache = self._work("autoencoder") / f"latents-{self._fingerprint('autoencoder')}.safetensors"
        pairs = latent_pairs(vae, self.pixels, encoder, [study.report for study in self.studies], cache)
        unet, curve = train_unet(self.recipe.unet, pairs, name, self.recipe.seed, self._work(name))
        folder = self._fresh(name)
        unet.half().save_pretrained(folder / "unet")
        DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
        components = {"vae": "../autoencoder", "text_encoder": f"../{encoder_name}"}
        self._card(folder, f"{name}, trained on the phantom", self.recipe.unet, curve, components=components)

    def autoencoder(self) -> AutoencoderKL:
        """The autoencoder, trained first if it is not there yet."""
        name = "autoencoder"
        if not self._done(name, self.recipe.autoencoder):
            vae, curve = train_autoencoder(self.recipe.autoencoder, self.pixels, self.recipe.seed, self._work(name))
            validation = load_studies(self.recipe.train_world, "validate")[:128]
            quality = psnr(vae, torch.from_numpy(np.stack([study.pixels for study in validation])))
            vae.save_pretrained(self._fresh(name))
            results = {"validation_psnr_db": round(quality, 2)}
            self._card(
                self.out / name,
                "AutoencoderKL, trained on the phantom",
                self.recipe.autoencoder,
                curve,
                results=results,
            )
        return AutoencoderKL.from_pretrained(self.out / name).eval().requires_grad_(False)

    def text_encoder(self, name: str) -> TextEncoder:
        """A frozen text encoder, pretrained first if it is not there yet."""
        recipe = self.recipe.text_encoders[name]
        if not self._done(name, recipe):
            train = _PRETRAIN[recipe.family]
            model, tokenizer, curve = train(recipe, self._text_pairs(recipe.family), self.recipe.seed, self._work(name))
            folder = self._fresh(name)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            facts: dict[str, Any] = {"family": recipe.family, "max_length": recipe.max_length}
            if recipe.family == "clip":
                facts["data"] = {
                    "dataset": "generic captioned pictures (training/generic_captions.py)",
                    "images": _GENERIC_PICTURES,
                    "world": self.recipe.train_world,
                    "seed": self.recipe.seed,
                }
            self._card(folder, f"{name} text encoder, trained on the phantom", recipe, curve, **facts)
        card = read_card(folder := self.out / name)
        return load_text_encoder(card["family"], folder, folder, card["max_length"])

    def priors(self) -> Path:
        """The prior tables of the training split."""
        dataset = PhantomDataset(options={"seed": str(self.recipe.train_world)})
        return fit_table(dataset, "train", self.out / "priors")

    def _text_pairs(self, family: str) -> text_encoders.Pairs:
        if family == "clip":
            pictures = captioned_pictures(_GENERIC_PICTURES, self.recipe.seed)
            return text_encoders.Pairs(torch.from_numpy(pictures.pixels), pictures.captions)
        return text_encoders.Pairs(self.pixels, [study.report for study in self.studies])

    def _done(self, name: str, recipe: BaseModel) -> bool:
        """Whether finished weights are there. Raises UsageError if they are of another recipe."""
        if not (self.out / name / "card.json").exists():
            return False
        card = read_card(self.out / name)
        wanted = [json.loads(recipe.model_dump_json()), self.recipe.seed, self.recipe.train_world]
        if [card["recipe"], card["seed"], card["data"]["world"]] != wanted:
            raise UsageError(f"{self.out / name} was trained by another recipe; choose another --out or move it away")
        return True

    def _fingerprint(self, name: str) -> str:
        return hashlib.sha256((self.out / name / "card.json").read_bytes()).hexdigest()[:12]

    def _work(self, name: str) -> Path:
        folder = self.out / "work" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self.out / name, ignore_errors=True)
        return self.out / name

    def _card(self, folder: Path, title: str, recipe: Any, curve: list, **facts: Any) -> None:
        phantom = {
            "dataset": "phantom",
            "dataset_version": VERSION,
            "world": self.recipe.train_world,
            "split": "train",
            "images": len(self.studies),
        }
        write_card(
            folder,
            title=title,
            data=facts.pop("data", phantom),
            recipe_name=self.recipe.name,
            recipe=recipe.model_dump(),
            seed=self.recipe.seed,
            steps=recipe.schedule.steps,
            loss_curve=curve,
            **facts,
        )
        console.print(f"{folder}: finished")
