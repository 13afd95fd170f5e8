"""Whether located parts fit one another, as far as their configuration files tell. Reads no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS
from gtg_bench.methods.weights.plan import TextPart, WeightsPlan

SCALING = 0.18215
"""Of Stable Diffusion 1's latents; what diffusers takes where an autoencoder's configuration says nothing."""

_OPEN_CLIP = "open_clip_config.json"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
_ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        check: what.
        ok: whether it is as it must be.
        detail: what was found.
    """

    check: str
    ok: bool
    detail: str


def checks(plan: WeightsPlan, places: Mapping[str, Path]) -> list[Check]:
    """Every check that these parts allow. What a configuration does not tell is not checked."""
    found: list[Check | None] = []
    text = plan.text_encoder
    if text is not None:
        config = _text_config(places)
        found += [_family(text), _tokenizer(places), _length(text, config)]
        if "unet" in places:
            found.append(_width(places, config))
        if plan.image_encoder is not None:
            found.append(_joint_space(plan.image_encoder.size_of_projection, config))
    if "unet" in places and "vae" in places:
        found.append(_latents(places))
    found += [_schedule(places), _adapter(places)]
    return [check for check in found if check is not None]


def _family(text: TextPart) -> Check:
    known = TEXT_ENCODERS.names()
    detail = text.family if text.family in known else f"{text.family!r} is none of {', '.join(known)}"
    return Check("text encoder family", text.family in known, detail)


def _tokenizer(places: Mapping[str, Path]) -> Check | None:
    """A vocabulary; OpenCLIP's towers need none, theirs is part of the library."""
    place = places.get("tokenizer", places["text_encoder"])
    if (places["text_encoder"] / _OPEN_CLIP).is_file():
        return None
    files = [file.name for pattern in _VOCABULARIES for file in place.glob(pattern)] if place.is_dir() else []
    return Check("tokenizer", bool(files), ", ".join(files) or f"{place} holds none of {', '.join(_VOCABULARIES)}")


def _length(text: TextPart, config: dict[str, Any]) -> Check | None:
    longest = config.get("max_position_embeddings") or config.get("context_length")
    if longest is None:
        return None
    detail = f"texts of {text.max_length} tokens, the text encoder takes up to {longest}"
    return Check("text length", text.max_length <= longest, detail)


def _width(places: Mapping[str, Path], config: dict[str, Any]) -> Check:
    wanted, width = _json(places["unet"] / "config.json").get("cross_attention_dim"), _hidden(config)
    detail = f"the U-Net takes {wanted or 'an unknown width'}, the text encoder gives {width or 'an unknown width'}"
    return Check("cross-attention", wanted is not None and wanted == width, detail)


def _joint_space(wanted: int, config: dict[str, Any]) -> Check | None:
    width = config.get("projection_size")
    detail = f"images are projected to {wanted} numbers, texts to {width}"
    return None if width is None else Check("joint space", width == wanted, detail)


def _latents(places: Mapping[str, Path]) -> Check:
    vae, unet = _json(places["vae"] / "config.json"), _json(places["unet"] / "config.json")
    channels, wanted = vae.get("latent_channels", 4), unet.get("in_channels", 4)
    scaling = vae.get("scaling_factor", SCALING)
    detail = f"{channels} channels, scaled by {scaling}; the U-Net takes {wanted}"
    return Check("latents", bool(vae) and channels == wanted and bool(scaling), detail)


def _schedule(places: Mapping[str, Path]) -> Check | None:
    if "scheduler" not in places:
        return None
    config = _json(places["scheduler"] / "scheduler_config.json")
    steps, kind = config.get("num_train_timesteps", 1000), config.get("prediction_type", "epsilon")
    return Check("schedule", bool(config), f"{steps} timesteps, predicts {kind}" if config else "cannot be read")


def _adapter(places: Mapping[str, Path]) -> Check | None:
    if "adapter" not in places:
        return None
    files = [name for name in _ADAPTERS if (places["adapter"] / name).is_file()]
    return Check("adapter", bool(files), files[0] if files else f"none of {', '.join(_ADAPTERS)}")


def _text_config(places: Mapping[str, Path]) -> dict[str, Any]:
    """The text encoder's own configuration; for a checkpoint file that of the tokenizer's folder."""
    place = places["text_encoder"]
    if (place / _OPEN_CLIP).is_file():
        return _json(place / _OPEN_CLIP).get("model_cfg", {}).get("text_cfg", {})
    if place.is_file():
        place = places.get("tokenizer", place)
    config = _json(place / "config.json")
    return config.get("text_config") or config


def _hidden(config: dict[str, Any]) -> int | None:
    return config.get("hidden_size") or config.get("width")


def _json(file: Path) -> dict[str, Any]:
    """A configuration; empty where there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
