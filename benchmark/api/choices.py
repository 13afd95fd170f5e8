"""What can be chosen for a method that samples, by name; the first is the default where nothing else is said."""

from __future__ import annotations

import re

SAMPLINGS = ("text", "cfg", "gt1-cfg", "gt-cfg")
"""The sampling modes of the paper (Appendix A), in its order; the last is the default."""

TOKENS = ("lexical", "disease", "all", "start", "end")
"""Which tokens' maps are averaged (paper, section 2.2, Appendix B and Table 3)."""

BBM = ("none", "linear", "quadratic", "mixture")
"""Bimodal Bias Merging (paper, section 2.3 and Appendix B); "mixture" is the paper's BBM."""

LATENTS = ("sample", "mode")
"""What of the image's VAE posterior is noised: a fresh sample (the paper) or its mode."""

PROFILES = ("paper", "released")
"""The paper, or what its released code does otherwise."""

PRECISIONS = ("float32", "float16", "bfloat16")
"""What the U-Net computes in; maps are summed in float32 always."""

CHOICES = {
    "sampling": SAMPLINGS,
    "latent": LATENTS,
    "tokens": TOKENS,
    "bbm": BBM,
    "profile": PROFILES,
    "precision": PRECISIONS,
}
"""Every such setting by its name in `MethodSettings`."""

DEFAULTS = {name: known[0] for name, known in CHOICES.items()} | {"sampling": SAMPLINGS[-1]}
"""What each is where nothing else is said."""

PHANTOM = "phantom"
"""What the packaged weights of the full recipe are called, and how the names of all others of the zoo begin."""

_PHANTOM = re.compile(rf"{PHANTOM}(-[a-z0-9]+)*(@[0-9]+)?")


def of_phantom(weights: str | None) -> bool:
    """Whether weights carry a name of the phantom zoo: "phantom", "phantom-quick", "phantom-quick@1759"."""
    return _PHANTOM.fullmatch(weights or "") is not None
