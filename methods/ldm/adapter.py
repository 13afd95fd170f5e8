"""Merge low-rank adapters (LoRA, Hu et al. 2022) into a U-Net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.pretrained import abridged, reason

_PEFT = ("adapter_model.safetensors", "adapter_model.bin")
_DIFFUSERS = "pytorch_lora_weights.safetensors"


def merge_adapter(unet: Any, place: Path) -> Any:
    """The U-Net with the adapter of a folder merged into its weights.

    Two layouts are supported: peft's (adapter_config.json with adapter_model.safetensors or .bin), and that of
    diffusers' training scripts, which the paper's released code uses (pytorch_lora_weights.safetensors).

    Raises:
        DataError: the folder holds neither, or its adapter is not one of this U-Net.
    """
    if (place / "adapter_config.json").is_file() and any((place / name).is_file() for name in _PEFT):
        merge = _merge_peft
    elif (place / _DIFFUSERS).is_file():
        merge = _merge_diffusers
    else:
        raise DataError(f"{place}: no adapter found: neither adapter_config.json with {_PEFT[0]}, nor {_DIFFUSERS}")
    try:
        return merge(unet, place)
    except DataError:
        raise
    except Exception as error:  # the libraries raise many kinds
        raise DataError(f"{place}: not an adapter of this U-Net: {reason(error)}") from error


def _merge_peft(unet: Any, place: Path) -> Any:
    from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    kind = json.loads((place / "adapter_config.json").read_text(encoding="utf-8")).get("peft_type")
    if kind != "LORA":
        raise DataError(f"{place}/adapter_config.json: only LORA adapters can be merged, not {kind}")
    adapted = get_peft_model(unet, PeftConfig.from_pretrained(str(place)))
    loaded = set_peft_model_state_dict(adapted, load_peft_weights(str(place), device="cpu"))
    if wrong := [name for name in loaded.missing_keys if "lora_" in name] + list(loaded.unexpected_keys):
        raise DataError(f"{place}: not an adapter of this U-Net, see {abridged(wrong)}")
    return adapted.merge_and_unload()


def _merge_diffusers(unet: Any, place: Path) -> Any:
    from safetensors import safe_open

    with safe_open(place / _DIFFUSERS, framework="pt") as stored:
        names = [name for name in stored.keys() if not name.endswith(".alpha")]  # noqa: SIM118
    if other := [name for name in names if not name.startswith("unet.")]:
        raise DataError(f"{place}/{_DIFFUSERS}: not an adapter of a U-Net alone, see {abridged(other)}")
    unet.load_lora_adapter(str(place), weight_name=_DIFFUSERS, prefix="unet", local_files_only=True)
    if len(names) != sum("lora_" in name for name, _ in unet.named_parameters()):
        raise DataError(f"{place}/{_DIFFUSERS}: not an adapter of this U-Net: some of its weights match no layer")
    unet.fuse_lora()
    unet.unload_lora()
    return unet
