"""The settings of a method, defined once: options, run keys, CSV columns and labels are derived from these fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

SAMPLINGS = ("text", "cfg", "gt1-cfg", "gt-cfg")
"""The paper's sampling modes (Appendix A), in its order."""

TOKENS = ("lexical", "disease", "all", "start", "end")
"""Tokens whose maps are averaged (paper, section 2.2, Appendix B and Table 3)."""

BBM = ("none", "linear", "quadratic", "mixture")
"""Bimodal Bias Merging (paper, section 2.3 and Appendix B); "mixture" is the paper's BBM."""

LATENTS = ("sample", "mode")
"""Noise a sample of the image's VAE posterior (the paper), or its mode."""

PROFILES = ("paper", "released")
"""Follow the paper, or its released code where the two differ."""

PRECISIONS = ("float32", "float16", "bfloat16")
"""Floating-point type of the U-Net; maps are always summed in float32."""


AUTO = "auto"
"""`steps`: as many steps as a sample's map needs to settle, see `methods.ldm.settled`."""


def _option(text: str, choices: tuple[str, ...] = (), default: str | None = None, from_card: bool = False) -> Any:
    """A setting that the user chooses.

    Args:
        text: help text of its command-line option.
        choices: accepted values; empty for free values.
        default: what methods that have the setting use if it is unset.
        from_card: whether the card of the weights gives the default.
    """
    return field(default=None, metadata={"help": text, "choices": choices, "usual": default, "card": from_card})


def _derived(text: str) -> Any:
    """A setting that the method fills in."""
    return field(default=None, metadata={"derived": text})


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """Everything that decides a method's maps. None: unset, or the method does not have this setting.

    To add a setting, add its field here and the code that uses it. `dataset` and `device` describe where a method
    runs; they are not part of a run's key.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    method: str
    """Registered name of the method."""
    weights: str | None = _option(
        "Weights: phantom (packaged), paper (published), a folder, a YAML file, or a table of priors (.npz)."
    )
    weights_version: str | None = _derived("12 hex digits over the weights' files and their preprocessing")
    sampling: str | None = _option("Sampling mode of latent diffusion models.", SAMPLINGS, "gt-cfg")
    latent: str | None = _option("Noise a sample of the image's posterior, or its mode.", LATENTS, "sample")
    tokens: str | None = _option("Tokens whose attention maps are averaged.", TOKENS, "lexical")
    lexicon: str | None = _derived("version of the part-of-speech model that finds lexical words")
    bbm: str | None = _option("Bimodal Bias Merging; the paper's BBM is 'mixture'.", BBM, "none")
    profile: str | None = _option("Follow the paper, or its released code where the two differ.", PROFILES, "paper")
    precision: str | None = _option("Floating-point type of the U-Net.", PRECISIONS, "float32")
    steps: int | Literal["auto"] | None = _option(
        "Number of DDIM steps, or 'auto': until the sample's map has settled.", from_card=True
    )
    last_steps: int | None = _option("Average only the last N steps.", from_card=True)
    guidance: float | None = _option("Classifier-free guidance scale.", from_card=True)
    layers: str | None = _option(
        "Cross-attention layers: 'all', indices (3,4,5) or resolutions (16x16,8x8).", from_card=True
    )
    seed: int = field(default=4200, metadata={"help": "Random seed.", "usual": 4200})
    dataset: str | None = field(default=None, metadata={"context": "data set that the method runs on"})
    device: str = field(default="cpu", metadata={"context": "where to compute: cpu, cuda, ..."})

    def as_json(self) -> dict[str, Any]:
        """The settings that decide the maps, as plain JSON values."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return values | {"guidance": None if self.guidance is None else float(self.guidance)}

    def only(self, *names: str) -> MethodSettings:
        """A copy with the method, its seed, data set and device, and these settings; all others unset."""
        kept = ("method", "seed", "dataset", "device", *names)
        return MethodSettings(**{name: getattr(self, name) for name in kept})


SETTINGS = tuple(one.name for one in fields(MethodSettings) if "context" not in one.metadata)
"""Names of the settings that decide a method's maps."""

OPTIONS = {one.name: one.metadata for one in fields(MethodSettings) if "help" in one.metadata}
"""Settings that a user can choose -> help, choices, default and whether the weights' card gives the default."""

DERIVED = tuple(one.name for one in fields(MethodSettings) if "derived" in one.metadata)
"""Settings that a method fills in."""

CHOICES: Mapping[str, tuple[str, ...]] = {n: meta["choices"] for n, meta in OPTIONS.items() if meta.get("choices")}
"""Accepted values of the settings that have a fixed set."""

DEFAULTS: Mapping[str, str] = {name: OPTIONS[name]["usual"] for name in CHOICES}
"""Their defaults."""

FROM_CARD = tuple(name for name, meta in OPTIONS.items() if meta.get("card"))
"""Settings whose default the card of the weights gives."""

PHANTOM = "phantom"
"""Stands for the packaged weights, whatever their recipe; a recipe's name, and the prefix of all other ones."""

_PHANTOM = re.compile(rf"{PHANTOM}(-[a-z0-9]+)*(@[0-9]+)?")


def of_phantom(weights: str | None) -> bool:
    """Whether a name belongs to weights of the phantom zoo: "phantom", "phantom-quick", "phantom-quick@1759"."""
    return _PHANTOM.fullmatch(weights or "") is not None


BOXES = "boxes"
"""The value of `weights` for a file of boxes instead of maps."""
