"""The components that training starts from: U-Net, autoencoder, scheduler and text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.methods.ldm.architectures import SD15_SCHEDULE
from gtg_bench.methods.ldm.components import LdmComponents, check_attention, check_latents, check_width
from gtg_bench.methods.pretrained import load_pretrained, silence_libraries
from gtg_bench.methods.text_encoders import load_text_encoder
from gtg_bench.methods.text_encoders.base import TextEncoder, TrainableTextEncoder
from gtg_bench.methods.weights import Weights, find_weights
from gtg_bench.methods.weights.find import ZOO, text_parts
from gtg_bench.methods.weights.hub import locate
from gtg_bench.methods.weights.paper import downloads, known
from gtg_bench.methods.weights.plan import WeightsPlan, parse_plan
from gtg_bench.training.recipe import LdmRecipe
from gtg_bench.training.variants import Variant

_ADAPTED = ["to_q", "to_k", "to_v", "to_out.0"]
"""Layers that a low-rank adapter changes: the projections of all attention layers, as in diffusers' script."""


@dataclass(frozen=True)
class TrainableLdm(LdmComponents):
    """Components in float32; what is trained requires gradients, everything else is frozen."""

    text_encoder: TrainableTextEncoder


def locate_parts(
    name: str, variant: Variant, recipe: LdmRecipe, start: str | None = None, parts: Path | None = None
) -> Weights:
    """The files that training starts from.

    Args:
        name: of the variant.
        variant: what it is.
        recipe: says where autoencoder and text encoder come from, and the U-Net unless it is made from scratch.
        start: weights as `--weights` takes them, in the place of everything that the recipe says.
        parts: where the phantom's autoencoder and text encoders lie; None: the packaged ones.

    Raises:
        UsageError, DataError: something is missing; says what, and how to get it.
    """
    if start is not None:
        found = find_weights(name, start)
        if "adapter" in found.places:
            raise UsageError(
                f"--start {start}: training cannot start from a low-rank adapter; start from the weights that it "
                "adapts, or merge it into their U-Net and save that"
            )
        return found
    plan, root = _published(name, recipe) if recipe.weights == "paper" else _phantom(variant, parts or ZOO)
    if "unet" not in plan.parts() and recipe.unet is None and recipe.unet_config is None:
        raise UsageError(f"recipe {recipe.name} names no U-Net to start {name} from")
    assert plan.text_encoder is not None
    text = plan.text_encoder.model_copy(update={"words_only": recipe.words_only})
    plan = plan.model_copy(update={"text_encoder": text})
    return Weights(recipe.weights, plan, {part: locate(wanted, root) for part, wanted in plan.parts().items()})


def _published(name: str, recipe: LdmRecipe) -> tuple[WeightsPlan, Path]:
    plan = known(name)
    return plan.model_copy(update={"unet": recipe.unet, "adapter": None, "base": None}), downloads()


def _phantom(variant: Variant, parts: Path) -> tuple[WeightsPlan, Path]:
    plan: dict[str, Any] = {"vae": str(parts / "autoencoder"), **text_parts(parts / variant.text_encoder)}
    if variant.phantom_start is not None:
        if not (parts / variant.phantom_start / "unet").is_dir():
            raise UsageError(
                f"this variant starts from {variant.phantom_start}, which is not in {parts}; train both by `gtg-bench "
                f"zoo`, or name another start: --start DIR/{variant.phantom_start} of such a zoo"
            )
        plan["unet"] = {"place": str(parts / variant.phantom_start), "path": "unet"}
    return parse_plan(plan, parts), parts


def load_models(weights: Weights, variant: Variant, recipe: LdmRecipe, seed: int) -> TrainableLdm:
    """Load the components that training starts from, and set which parameters are trained.

    Raises:
        DataError: a part cannot be loaded, or does not fit another one.
    """
    silence_libraries()
    places, text = weights.places, weights.plan.text_encoder
    assert text is not None
    tokenizer = places.get("tokenizer", places["text_encoder"])
    encoder = load_text_encoder(
        text.family, places["text_encoder"], tokenizer, text.max_length, words_only=text.words_only
    )
    torch.manual_seed(seed)  # for weights that are made from scratch
    unet = _unet(places, recipe, encoder)
    vae = load_pretrained(AutoencoderKL, places["vae"], torch_dtype=torch.float32).eval().requires_grad_(False)
    if not isinstance(encoder, TrainableTextEncoder):
        raise DataError(
            f"text encoders of family {text.family} cannot be trained with: they lack tokens() and states()"
        )
    named = {"unet": Path("the recipe's unet_config"), **places}
    check_attention(unet, named["unet"])
    check_latents(unet, vae, named)
    check_width(unet, encoder, named)
    _choose(unet, encoder, variant, recipe)
    return TrainableLdm(unet, vae, _scheduler(places), encoder, torch.device("cpu"))


def _unet(places: Mapping[str, Path], recipe: LdmRecipe, encoder: TextEncoder) -> Any:
    """The U-Net that training starts from; one from scratch is as wide in its cross-attention as the text's states."""
    if "unet" in places:
        return load_pretrained(UNet2DConditionModel, places["unet"], torch_dtype=torch.float32)
    width = encoder.encode([""]).states.shape[-1]
    return UNet2DConditionModel(**(recipe.unet_config or {}) | {"cross_attention_dim": width})


def _scheduler(places: Mapping[str, Path]) -> Any:
    if "scheduler" in places:
        return DDIMScheduler.from_pretrained(places["scheduler"], local_files_only=True)
    return DDIMScheduler(**SD15_SCHEDULE)


def _choose(unet: Any, encoder: TrainableTextEncoder, variant: Variant, recipe: LdmRecipe) -> None:
    """Let what the variant trains require gradients."""
    unet.requires_grad_("unet" in variant.trains)
    encoder.module.requires_grad_("text_encoder" in variant.trains)
    if "adapter" in variant.trains:
        from peft import LoraConfig

        assert variant.rank is not None
        unet.add_adapter(
            LoraConfig(r=variant.rank, lora_alpha=variant.rank, init_lora_weights="gaussian", target_modules=_ADAPTED)
        )
    if recipe.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
