"""`gtg-bench weights list` and `check`: which weights exist, which are on this machine, and whether the parts fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, unknown
from gtg_bench.benchmark.state import read_state
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.text_encoders.registry import TEXT_ENCODERS
from gtg_bench.methods.weights import paper
from gtg_bench.methods.weights.files import choose, files_of, sha256_of
from gtg_bench.methods.weights.find import ZOO, Weights, packaged, plan_of
from gtg_bench.methods.weights.hub import fetch_command, is_hub_id, look
from gtg_bench.methods.weights.plan import NEEDED, Part, WeightsPlan

SCALING = 0.18215
"""Scaling factor of Stable Diffusion 1's latents; the default of diffusers where the configuration has none."""

_OPEN_CLIP = "open_clip_config.json"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
_ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
_BLANKS: dict[str, Any] = {
    "text_encoder": {"place": "FOLDER", "family": "clip"},
    "image_encoder": {"place": "FILE.pt"},
}


class _Config(BaseModel):
    """The entries of a model's configuration that are read; it has others."""

    model_config = ConfigDict(strict=True)

    max_position_embeddings: int | None = None
    context_length: int | None = None
    text_config: _Config | None = Field(None, description="of a model with an image encoder too")
    model_cfg: _Config | None = Field(None, description="OpenCLIP's, with text_cfg")
    text_cfg: _Config | None = None


@dataclass(frozen=True)
class Source:
    """One row of `weights list`: the weights of a method from one source."""

    method: str
    weights: str  # as --weights takes it
    state: str  # packaged, not packaged, downloaded, partly downloaded, not downloaded, not published
    size: int | None  # bytes; None if unknown
    licence: str  # licences of all parts, joined by "; "
    more: bool = False  # whether some parts are of unknown size
    note: str = ""  # why it is not published


@dataclass(frozen=True)
class PartReport:
    """One part of a method's weights."""

    part: str
    state: str  # found, incomplete, missing, not published, not named
    place: str = ""  # as the plan names it
    where: str = ""  # the folder or file on this machine, or where it was expected
    files: int = 0  # how many files it is loaded from
    size: int | None = None  # bytes on this machine, else of the download
    revision: str | None = None
    licence: str = ""
    sha256: str = ""  # 12 hex digits over file names and contents
    problem: str = ""  # what is missing or damaged
    fetch: str = ""  # the command that downloads it
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One test of whether parts fit together."""

    check: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """Everything about the weights of one method."""

    method: str
    weights: str | None  # as a run records them; None for a method without weights
    ready: bool  # whether the method can run with them
    version: str | None = None  # as a run records it, if every part was found
    parts: list[PartReport] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)  # only if every part was found
    problems: list[str] = field(default_factory=list)  # files that differ from their card or the published hash
    note: str = ""
    yaml: str = ""  # a template to fill in, if a part is not published


def sources() -> list[Source]:
    """The packaged and the published weights of every method that has weights."""
    return [find(method) for method in _models() for find in (_phantom, _paper)]


def damaged() -> list[str]:
    """Packaged files that differ from their card; empty if there are none."""
    return [problem for card in sorted(ZOO.glob("*/card.json")) for problem in _card_problems(card.parent)]


def check(method: str, choice: str | None) -> Report:
    """Report on the weights of one method. Downloads nothing.

    Args:
        method: a registered name, or one in the published table.
        choice: as for `find_weights`.

    Raises:
        UsageError: the method does not exist or has no such weights.
        DataError: a YAML file or a card cannot be read.
    """
    if method not in _models():
        return _without_weights(method, choice)
    if choice == "paper":
        name, plan, root = choice, paper.known(method), paper.downloads()
    else:
        name, plan, root = plan_of(method, choice or "phantom")
    kind = METHODS.get(method).card.kind if method in METHODS.names() else ""
    wanted = plan.parts()
    parts = [_part(part, wanted[part], root) for part in wanted]
    parts += [PartReport(part, "not published") for part in plan.unpublished]
    unnamed = plan.unnamed(kind if kind in NEEDED else None)
    parts += [PartReport(part, "not named", problem="required; add it to the YAML file") for part in unnamed]
    places = dict.fromkeys(root / Path(part.place).expanduser() for part in wanted.values())
    problems = [p for place in places if (place / "card.json").is_file() for p in _card_problems(place)]
    problems += [p for row in parts if row.state == "found" for p in _wrong_hashes(row, wanted[row.part])]
    found = Report(method, name, False, None, parts, [], problems, plan.note, _template(plan))
    if any(part.state != "found" for part in parts):
        return found
    located = Weights(name, plan, {part.part: Path(part.where) for part in parts})
    fits = [*_text_checks(plan, located.places), *_model_checks(located.places)]
    ready = all(check.ok for check in fits) and not problems
    return replace(found, ready=ready, version=located.version, checks=fits)


def _models() -> list[str]:
    """The methods that have weights: those in the published table and every registered diffusion model."""
    return list(dict.fromkeys([*paper.names(), *(e.name for e in METHODS.entries() if e.card.kind == "ldm")]))


def _without_weights(method: str, choice: str | None) -> Report:
    if method not in METHODS.names():
        raise UsageError(unknown("method", method, dict.fromkeys([*_models(), *METHODS.names()])))
    if choice is not None:
        raise UsageError(f"{method} has no weights: leave out --weights")
    return Report(method, None, True, note="this method has no weights")


def _phantom(method: str) -> Source:
    if method not in packaged():
        return Source(method, "phantom", "not packaged", None, "")
    name, plan, root = plan_of(method, "phantom")
    files = {file for part in plan.parts().values() for file in files_of(root / part.place / part.path, part)}
    return Source(method, name, "packaged", sum(file.stat().st_size for file in files), "MIT")


def _paper(method: str) -> Source:
    if method not in paper.names():
        return Source(method, "paper", "not published", None, "")
    plan = paper.known(method)
    parts, why = plan.parts().values(), paper.unpublished(plan)
    gaps = [look(part, paper.downloads())[1] for part in parts]
    state = "downloaded" if not any(gaps) else "not downloaded" if all(gaps) else "partly downloaded"
    return Source(
        method,
        "paper",
        "not published" if why else state,
        sum(part.size or 0 for part in parts) or None,
        "; ".join(dict.fromkeys(part.licence for part in parts if part.licence)),
        any(part.size is None for part in parts),
        why,
    )


def _part(name: str, part: Part, root: Path) -> PartReport:
    found, problem = look(part, root)
    exists = found is not None and found.exists()
    files = files_of(found, part) if found is not None and not problem else []
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return PartReport(
        part=name,
        state="found" if not problem else "incomplete" if exists else "missing",
        place=f"{part.place}/{part.path}" if part.path else part.place,
        where="" if found is None else str(found.resolve()),
        files=len(files),
        size=sum(file.stat().st_size for file in files) if files else part.size,
        revision=part.revision,
        licence=part.licence,
        sha256=hashlib.sha256(lines.encode()).hexdigest()[:12] if files else "",
        problem=problem,
        fetch=fetch_command(part) if problem and (part.url or is_hub_id(part)) else "",
        note=part.note,
    )


def _card_problems(folder: Path) -> list[str]:
    """A damaged card, or files of its folder that are missing or changed, or that it does not list."""
    try:
        listed = read_card(folder).get("sha256", {})
    except DataError as error:
        return [str(error)]
    present = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    changed = [name for name in sorted(set(listed) & present) if sha256_of(folder / name) != listed[name]]
    loaded = {name for name in present if choose([Path(name).name], ())} if listed else set()
    return [
        *(f"{folder / name} is missing, but card.json lists it" for name in sorted(set(listed) - present)),
        *(f"{folder / name} has changed: its sha256 differs from the one in card.json" for name in changed),
        *(f"{folder / name} is not listed in card.json" for name in sorted(loaded - set(listed))),
    ]


def _wrong_hashes(row: PartReport, part: Part) -> list[str]:
    """Files of a found part whose sha256 is known and different."""
    return [
        f"{row.part}: {file} is not the published file: its sha256 is not {part.sha256[file.name]}"
        for file in files_of(Path(row.where), part)
        if file.name in part.sha256 and sha256_of(file) != part.sha256[file.name]
    ]


def _template(plan: WeightsPlan) -> str:
    """A YAML file with the published parts and a blank for each missing one; "" if none is missing."""
    if not plan.unpublished:
        return ""
    values: dict[str, Any] = {name: _BLANKS.get(name, "FOLDER") for name in plan.unpublished}
    about = {"licence", "size", "note", "sha256"}
    for name, part in plan.parts().items():
        values[name] = part.model_dump(mode="json", exclude_defaults=True, exclude=about)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def _text_checks(plan: WeightsPlan, places: Mapping[str, Path]) -> Iterator[Check]:
    """Whether text encoder, tokenizer, U-Net and image encoder fit, judged by their configuration files."""
    text = plan.text_encoder
    if text is None:
        return
    families, place, config = TEXT_ENCODERS.names(), places["text_encoder"], _text_config(places)
    detail = text.family if text.family in families else f"unknown family {text.family!r}: use {', '.join(families)}"
    yield Check("text encoder family", text.family in families, detail)
    if not (place / _OPEN_CLIP).is_file():  # open_clip brings its own vocabulary
        folder = places.get("tokenizer", place)
        files = [file.name for pattern in _VOCABULARIES for file in folder.glob(pattern)] if folder.is_dir() else []
        yield Check("tokenizer", bool(files), ", ".join(files) or f"{folder} has none of {', '.join(_VOCABULARIES)}")
    if longest := config.get("max_position_embeddings") or config.get("context_length"):
        detail = f"max_length is {text.max_length}; the text encoder accepts up to {longest} tokens"
        yield Check("text length", text.max_length <= longest, detail)
    if (place / "card.json").is_file() and read_card(place).get("words_only") and not text.words_only:
        yield Check("words only", False, f"the U-Net of {place} was trained with words_only: true; set it")
    if "unet" in places:
        width, wanted = config.get("hidden_size") or config.get("width"), _json(places["unet"], "cross_attention_dim")
        detail = f"the U-Net expects width {wanted or 'unknown'}; the text encoder produces {width or 'unknown'}"
        yield Check("cross-attention", wanted is not None and wanted == width, detail)
    if plan.image_encoder is not None and (width := config.get("projection_size")) is not None:
        wanted = plan.image_encoder.size_of_projection
        yield Check("joint space", width == wanted, f"images are projected to width {wanted}, texts to {width}")


def _model_checks(places: Mapping[str, Path]) -> Iterator[Check]:
    """Whether autoencoder, U-Net, scheduler and adapter fit, judged by their configuration files."""
    if "unet" in places and "vae" in places:
        channels, scaling = _json(places["vae"], "latent_channels", 4), _json(places["vae"], "scaling_factor", SCALING)
        wanted = _json(places["unet"], "in_channels", 4)
        readable = bool(_config(places["vae"] / "config.json"))
        detail = f"{channels} channels (the U-Net expects {wanted}), scaling factor {scaling}"
        yield Check("latents", readable and channels == wanted and bool(scaling), detail)
    if "scheduler" in places:
        config = _config(places["scheduler"] / "scheduler_config.json")
        steps, kind = config.get("num_train_timesteps", 1000), config.get("prediction_type", "epsilon")
        detail = f"{steps} timesteps, {kind} prediction" if config else "scheduler_config.json cannot be read"
        yield Check("schedule", bool(config), detail)
    if "adapter" in places:
        files = [name for name in _ADAPTERS if (places["adapter"] / name).is_file()]
        yield Check("adapter", bool(files), files[0] if files else f"has neither {' nor '.join(_ADAPTERS)}")


def _text_config(places: Mapping[str, Path]) -> dict[str, Any]:
    """The text encoder's configuration; for a checkpoint file, the one in the tokenizer's folder."""
    place = places.get("text_encoder", Path())
    if (place / _OPEN_CLIP).is_file():
        return (_config(place / _OPEN_CLIP).get("model_cfg") or {}).get("text_cfg") or {}
    config = _config((places.get("tokenizer", place) if place.is_file() else place) / "config.json")
    return config.get("text_config") or config


def _json(folder: Path, key: str, default: Any = None) -> Any:
    return _config(folder / "config.json").get(key, default)


def _config(file: Path) -> dict[str, Any]:
    """A JSON configuration; empty if it cannot be read."""
    try:
        return read_state(file, _Config, "")
    except DataError:
        return {}
