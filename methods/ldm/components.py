"""Load the components of a latent diffusion model from folders in the layouts of diffusers and transformers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.sharing import shared
from gtg_bench.methods.ldm.adapter import merge_adapter
from gtg_bench.methods.pretrained import load_pretrained, reason, silence_libraries
from gtg_bench.methods.text_encoders import load_text_encoder
from gtg_bench.methods.text_encoders.base import TextEncoder
from gtg_bench.methods.weights import Weights

_PLAIN_ATTENTION = {
    "norm_cross": None,
    "group_norm": None,
    "spatial_norm": None,
    "norm_q": None,
    "norm_k": None,
    "added_kv_proj_dim": None,
    "residual_connection": False,
    "rescale_output_factor": 1.0,
}
"""Optional features of an attention layer, with their values in a layer whose maps can be captured."""

_CONDITIONS = (
    "addition_embed_type",
    "class_embed_type",
    "num_class_embeds",
    "encoder_hid_dim_type",
    "dual_cross_attention",
)
"""Settings that condition a U-Net on more than text states."""


@dataclass
class Caches:
    """What components have computed."""

    posteriors: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    """Of images, see `engine.Engine.posterior`; shared by methods with the same VAE."""
    text_biases: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    """Of prompts, see `text_bias.TextBiases`."""


@dataclass(frozen=True)
class LdmComponents:
    """U-Net, autoencoder, scheduler and frozen text encoder, on one device, in evaluation mode."""

    unet: Any
    vae: Any
    scheduler: Any
    text_encoder: TextEncoder
    device: torch.device
    caches: Caches = field(default_factory=Caches, init=False, compare=False, repr=False)
    """Empty in a copy with other components."""

    @property
    def image_size(self) -> int:
        """Side of the square image, in pixels, that the U-Net was trained on."""
        return int(self.unet.config.sample_size) * 2 ** (len(self.vae.config.block_out_channels) - 1)


def load_components(weights: Weights, device: torch.device) -> LdmComponents:
    """Load located weights, in float32. Inside `api.sharing.sharing`, encoded images are those of the last same VAE.

    Raises:
        DataError: a component is missing, cannot be loaded, or does not fit the others.
    """
    silence_libraries()
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    places, text = weights.places, weights.plan.text_encoder
    if missing := [name for name in ("unet", "vae", "scheduler", "text_encoder") if name not in places]:
        raise DataError(f"weights {weights.name} do not name {', '.join(missing)}")
    assert text is not None
    unet = load_pretrained(UNet2DConditionModel, places["unet"], torch_dtype=torch.float32)
    check_attention(unet, places["unet"])
    if "adapter" in places:
        unet = merge_adapter(unet, places["adapter"])
    vae = load_pretrained(AutoencoderKL, places["vae"], torch_dtype=torch.float32)
    check_latents(unet, vae, places)
    tokenizer = places.get("tokenizer", places["text_encoder"])
    encoder = load_text_encoder(
        text.family, places["text_encoder"], tokenizer, text.max_length, device, text.words_only
    )
    check_width(unet, encoder, places)
    try:  # always DDIM, with the folder's schedule
        scheduler = DDIMScheduler.from_pretrained(places["scheduler"], local_files_only=True)
    except Exception as error:  # the library raises many kinds
        raise DataError(f"{places['scheduler']}: cannot load a scheduler: {reason(error)}") from error
    found = LdmComponents(
        unet=unet.to(device).eval().requires_grad_(False),
        vae=vae.to(device).eval().requires_grad_(False),
        scheduler=scheduler,
        text_encoder=encoder,
        device=device,
    )
    encoder_of_images = weights.version_of("vae"), found.image_size, str(device)
    found.caches.posteriors = shared("posteriors", encoder_of_images, OrderedDict)
    return found


def check_attention(unet: Any, place: Path) -> None:
    """Refuse a U-Net whose maps cannot be captured exactly. Raises DataError that names the layer and its feature."""
    if strange := [name for name in _CONDITIONS if unet.config.get(name)]:
        raise DataError(f"{place}: a U-Net with {', '.join(strange)} needs more than the text's states")
    layers = {name: layer for name, layer in unet.named_modules() if getattr(layer, "is_cross_attention", False)}
    if not layers:
        raise DataError(f"{place}: this U-Net has no cross-attention layer")
    for name, layer in layers.items():
        if strange := [
            feature for feature, plain in _PLAIN_ATTENTION.items() if getattr(layer, feature, plain) != plain
        ]:
            raise DataError(f"{place}: maps of {name} cannot be taken: it has {', '.join(strange)}")


def check_latents(unet: Any, vae: Any, places: Mapping[str, Path]) -> None:
    """Refuse an autoencoder whose latents do not fit the U-Net. Raises DataError that names both."""
    channels, wanted = vae.config.latent_channels, unet.config.in_channels
    if channels != wanted:
        raise DataError(f"{places['vae']}: its latents have {channels} channels, but {places['unet']} takes {wanted}")
    if shifted := [name for name in ("shift_factor", "latents_mean") if vae.config.get(name)]:
        raise DataError(f"{places['vae']}: latents with {shifted[0]} are not those of Stable Diffusion 1 or 2")


def check_width(unet: Any, encoder: TextEncoder, places: Mapping[str, Path]) -> None:
    """Refuse a text encoder whose states do not fit the U-Net. Raises DataError that names both."""
    width, wanted = encoder.encode([""]).states.shape[-1], unet.config.cross_attention_dim
    if width != wanted:
        raise DataError(
            f"{places['text_encoder']}: its states are {width} wide, but the cross-attention of {places['unet']} takes "
            f"{wanted} (cross_attention_dim): they do not belong together"
        )
