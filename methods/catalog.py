"""The packaged methods: name, where it is built, and where it comes from. Imports no torch."""

from __future__ import annotations

from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.api.types import MethodCard
from gtg_bench.methods.ldm.modes import BUILT

_GTG = "Nützel, Dombrowski, Kainz: Generate to Ground"
_TRAINED_ON_PHANTOM = "phantom, training split (weights `phantom`)"
_BASELINES = "gtg_bench.methods.baselines"
_LDM = "gtg_bench.methods.ldm.build"


def _baseline(name: str, kind: str, summary: str, training_data: str = "none") -> MethodEntry:
    function = name.replace("-", "_")
    card = MethodCard(summary=summary, kind=kind, licence="MIT", training_data=training_data)  # type: ignore[arg-type]
    return MethodEntry(name, f"{_BASELINES}:{function}", card, complete=f"{_BASELINES}:complete")


def _ldm(name: str, summary: str) -> MethodEntry:
    card = MethodCard(
        summary=summary,
        kind="ldm",
        paper=_GTG,
        weights="phantom (packaged)",
        revision="see card.json of the weights",
        licence="MIT (phantom weights)",
        training_data=_TRAINED_ON_PHANTOM,
    )
    return MethodEntry(name, f"{_LDM}:build", card, samplings=BUILT, complete=f"{_LDM}:complete")


CATALOG: tuple[MethodEntry, ...] = (
    _ldm("cxrbert-ldm", "latent diffusion with a frozen CXR-BERT text encoder; cross-attention maps"),
    _ldm("clip-ldm", "latent diffusion with a frozen CLIP text encoder; cross-attention maps"),
    _baseline("uniform", "baseline", "the same value everywhere"),
    _baseline("center-prior", "prior", "a Gaussian in the image's centre"),
    _baseline(
        "class-prior", "prior", "mean training box of the category that the phrase names", "boxes of a training split"
    ),
    _baseline(
        "phrase-prior", "prior", "mean training box of category, side, zone and size", "boxes of a training split"
    ),
    _baseline(
        "difference", "baseline", "absolute difference from the mean training image", "images of a training split"
    ),
)
