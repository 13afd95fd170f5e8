"""What the commands share: errors as one line, and options that several of them have."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from gtg_bench.benchmark.api.choices import BBM, LATENTS, PRECISIONS, PROFILES, SAMPLINGS, TOKENS
from gtg_bench.benchmark.api.errors import GtgError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import FRAMES, PROTOCOLS, UNCOVERED

P = ParamSpec("P")
R = TypeVar("R")
out = Console()
err = Console(stderr=True, highlight=False)

Sampling = StrEnum("Sampling", {name: name for name in SAMPLINGS})  # type: ignore[misc]
TokenChoice = StrEnum("TokenChoice", {name: name for name in TOKENS})  # type: ignore[misc]
Merging = StrEnum("Merging", {name: name for name in BBM})  # type: ignore[misc]
Latent = StrEnum("Latent", {name: name for name in LATENTS})  # type: ignore[misc]
Profile = StrEnum("Profile", {name: name for name in PROFILES})  # type: ignore[misc]
Precision = StrEnum("Precision", {name: name for name in PRECISIONS})  # type: ignore[misc]
FrameKind = StrEnum("FrameKind", {name: name for name in FRAMES})  # type: ignore[misc]
Uncovered = StrEnum("Uncovered", {name: name for name in UNCOVERED})  # type: ignore[misc]
Control = StrEnum("Control", {name: name for name in CONTROLS})  # type: ignore[misc]
ProtocolName = StrEnum("ProtocolName", {name: name for name in PROTOCOLS})  # type: ignore[misc]

Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file that registers methods; repeatable.")
]
Steps = Annotated[int | None, typer.Option("--steps", help="DDIM steps; default: the weights' card.")]
LastSteps = Annotated[int | None, typer.Option("--last-steps", help="Average only the last so many; default: all.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="Guidance scale; default: the weights' card.")]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers", help="Cross-attention layers: all, indices (3,4,5) or resolutions (16x16); default: the card."
    ),
]
Tokens = Annotated[TokenChoice | None, typer.Option("--tokens", help="Whose maps are averaged; default: lexical.")]
Bbm = Annotated[Merging | None, typer.Option("--bbm", help="Bimodal Bias Merging; the paper's is mixture.")]
LatentChoice = Annotated[Latent | None, typer.Option("--latent", help="What of the image's posterior is noised.")]
ProfileChoice = Annotated[
    Profile | None, typer.Option("--profile", help="The paper, or what its released code does otherwise.")
]
PrecisionChoice = Annotated[
    Precision | None, typer.Option("--precision", help="What the U-Net computes in; default: float32.")
]
Weights = Annotated[
    str | None, typer.Option("--weights", help="phantom, paper, a folder, a YAML file, or a table of priors (.npz).")
]
ProtocolOption = Annotated[
    ProtocolName, typer.Option("--protocol", help="Metrics, frame, mask and averages; see `list protocols`.")
]
FrameOption = Annotated[
    FrameKind | None,
    typer.Option(
        "--frame", help="Where maps and regions are compared, if not as the protocol says: crop or own pixels."
    ),
]
UncoveredOption = Annotated[
    Uncovered | None,
    typer.Option("--uncovered", help="Pixels that a method does not cover: the map's lowest value, or not counted."),
]
MaskOption = Annotated[
    str | None, typer.Option("--mask", help="mixture, otsu, or a threshold of the min-max normalised map such as 0.5.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps ...")]


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a person can act on into one line and exit code 2, and Ctrl-C into a hint."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except GtgError as error:
            err.print(f"[red]error:[/red] {escape(' '.join(str(error).split()))}", soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            err.print("interrupted: nothing computed is lost; the same command goes on from here")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os._exit(1)

    return wrapped


def load_plugins(paths: Sequence[Path] | None) -> None:
    """Register the methods of plug-in files."""
    for path in paths or ():
        METHODS.load_plugin(path)


def key_values(pairs: Sequence[str] | None) -> dict[str, str]:
    """KEY=VALUE options as a dictionary. Raises UsageError for anything else, or a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--dataset-option {pair!r} is not KEY=VALUE")
        if key in found:
            raise UsageError(f"--dataset-option {key} is given twice")
        found[key] = value
    return found


def resolve_device(wanted: str, entry: MethodEntry) -> str:
    """A device that torch knows. `auto` takes a GPU where there is one; methods without a model stay on the CPU."""
    if wanted == "cpu" or entry.card.kind in ("prior", "baseline"):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise UsageError(f"--device {wanted} cannot be used here ({reason}); try --device auto") from error
    return wanted
