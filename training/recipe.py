"""Recipes: everything that decides a training run, as validated data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gtg_bench.benchmark.api.errors import UsageError

RECIPES = Path(__file__).parent / "recipes"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Strict):
    """Optimisation: AdamW (0.9, 0.999, eps 1e-8) with a linear warm-up and a cosine decay (paper, 3.1)."""

    steps: int = Field(gt=0, description="optimiser steps")
    batch_size: int = Field(gt=0, description="samples a step")
    learning_rate: float = Field(gt=0, description="base learning rate")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    log_every: int = Field(50, gt=0, description="steps between two points of the loss curve")
    checkpoint_every: int = Field(250, gt=0, description="steps between two checkpoints")


class AutoencoderRecipe(_Strict):
    """A diffusers AutoencoderKL on grey images."""

    schedule: Schedule
    config: dict[str, Any] = Field(description="arguments of diffusers.AutoencoderKL")
    kl_weight: float = Field(1e-6, ge=0, description="weight of the KL term beside L1")
    crop: int | None = Field(None, description="train on random crops of this side; None: whole images")


class TextRecipe(_Strict):
    """A text encoder, pretrained in the manner of its original at toy scale."""

    schedule: Schedule
    family: Literal["cxr-bert", "clip"] = Field(description="which pretraining: see training.text_encoders")
    config: dict[str, Any] = Field(description="arguments of the transformers configuration")
    vocab_size: int = Field(gt=0, description="size of the trained vocabulary, at most")
    max_length: int = Field(gt=0, description="tokens, padded and truncated to this length")


class DiffusionRecipe(_Strict):
    """The U-Net of a latent diffusion model (paper, 3.1)."""

    schedule: Schedule
    config: dict[str, Any] = Field(description="arguments of diffusers.UNet2DConditionModel")
    caption_dropout: float = Field(0.3, ge=0, le=1, description="share of captions replaced by the empty one")
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="largest decay of the moving average")


class EvaluationRecipe(_Strict):
    """What is chosen on the validation split, and where the result is tested."""

    layer_steps: int = Field(10, gt=0, description="DDIM steps while the layers are chosen on the validation split")
    steps: tuple[int, ...] = Field(
        description="numbers of DDIM steps to try on the validation split, with those layers"
    )
    tolerance: float = Field(0.01, ge=0, description="a mean CNR this near the best is as good: fewer steps win")
    guidance: float = Field(16.0, ge=0, description="the card's guidance scale; it changes nothing in GT mode")
    test_worlds: tuple[int, ...] = Field((0, 1), description="phantom worlds whose test splits are scored")


class Recipe(_Strict):
    """All stages of the phantom's training."""

    name: str
    seed: int = Field(4200, description="of every stage")
    train_world: int = Field(0, description="seed of the phantom world whose training split is used")
    autoencoder: AutoencoderRecipe
    text_encoders: dict[str, TextRecipe]
    unet: DiffusionRecipe
    evaluation: EvaluationRecipe
    variants: dict[str, str] = Field(description="method name -> its text encoder's name in text_encoders")

    @model_validator(mode="after")
    def _known_text_encoders(self) -> Self:
        for variant, name in self.variants.items():
            if name not in self.text_encoders:
                raise ValueError(f"variants.{variant}: no text encoder {name!r} under text_encoders")
        return self


def load_recipe(name_or_path: str) -> Recipe:
    """A packaged recipe by name, or one from a YAML file. Raises UsageError, naming file and field."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise UsageError(f"no recipe {name_or_path!r}; packaged: {known}; or name a YAML file")
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
