"""What `gtg-bench weights` shows: which weights there are, where they lie, whether they are whole. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS, unknown
from gtg_bench.methods.cards import read_card
from gtg_bench.methods.weights import paper
from gtg_bench.methods.weights.files import choose
from gtg_bench.methods.weights.find import ZOO, Weights, packaged, plan_of
from gtg_bench.methods.weights.fits import Check, checks
from gtg_bench.methods.weights.locate import fetch_command, files_of, is_hub_id, look, sha256_of
from gtg_bench.methods.weights.plan import NEEDED, Part, WeightsPlan

_UNNAMED = "the weights name none; add it to the YAML file"
_BLANKS: dict[str, Any] = {
    "text_encoder": {"place": "FOLDER", "family": "clip"},
    "image_encoder": {"place": "FILE.pt"},
}


@dataclass(frozen=True)
class Source:
    """One row of the list: the weights of a method from one source.

    Attributes:
        method: name.
        weights: "phantom" or another name of the zoo, or "paper", as --weights takes it.
        state: packaged, not packaged; here, partly here, missing, not published.
        size: bytes of the parts whose size is known; None where that is none of them.
        more: whether there are parts of unknown size.
        licence: the licences of its parts.
        note: the reason, where it is not published.
    """

    method: str
    weights: str
    state: str
    size: int | None
    licence: str
    more: bool = False
    note: str = ""


@dataclass(frozen=True)
class PartReport:
    """One part of a method's weights.

    Attributes:
        part: name.
        state: here, partly here, missing, not published, not named.
        place: as it was named.
        where: the folder or file on this machine; where a local one would have to be.
        files: how many it is loaded from.
        size: bytes of these files; where it is not here, of what would be fetched.
        revision: that was asked for.
        licence: of the part.
        sha256: over its files' names and hashes.
        problem: what is missing or wrong.
        fetch: the command that fetches it.
        note: anything a reader should know.
    """

    part: str
    state: str
    place: str = ""
    where: str = ""
    files: int = 0
    size: int | None = None
    revision: str | None = None
    licence: str = ""
    sha256: str = ""
    problem: str = ""
    fetch: str = ""
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Everything about the weights of one method.

    Attributes:
        method: name.
        weights: as a run would record them; None for a method without a model.
        ready: whether the method can run with them.
        version: as a run would record it, where every part is here.
        parts: in the order in which they are loaded.
        checks: whether the parts fit one another; only where every part is here.
        problems: files that are not what a card or the published table says.
        note: on the whole.
        yaml: a file to fill in, where a part is not published.
    """

    method: str
    weights: str | None
    ready: bool
    version: str | None = None
    parts: list[PartReport] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    note: str = ""
    yaml: str = ""


def sources() -> list[Source]:
    """Every method with a model, once for each source of weights."""
    return [find(method) for method in models() for find in (_phantom, _paper)]


def models() -> list[str]:
    """The methods that have weights: those of the published table, and the latent diffusion models of the registry."""
    entries = METHODS.entries()
    return list(dict.fromkeys([*paper.names(), *(entry.name for entry in entries if entry.card.kind == "ldm")]))


def damaged() -> list[str]:
    """What is wrong with the packaged weights, file by file; empty where every file is as its card says."""
    return [problem for card in sorted(ZOO.glob("*/card.json")) for problem in card_problems(card.parent)]


def card_problems(folder: Path) -> list[str]:
    """Files of a folder that its card names and that are gone or others, or that it does not know."""
    noted = read_card(folder).get("sha256", {})
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    lost = [f"{folder / name} is missing, but its card names it" for name in sorted(set(noted) - there)]
    other = [
        f"{folder / name} is not the file that its card names: its sha256 is another"
        for name in sorted(set(noted) & there)
        if sha256_of(folder / name) != noted[name]
    ]
    loaded = {name for name in there if choose([Path(name).name], ())} if noted else set()
    return lost + other + [f"{folder / name} is not on its card" for name in sorted(loaded - set(noted))]


def check(method: str, choice: str | None) -> Report:
    """Everything about the weights of one method; fetches nothing.

    Args:
        method: a registered name, or one that the published table speaks of.
        choice: as for `find_weights`.

    Raises:
        UsageError: there is no such method, or there are no such weights of it.
        DataError: a YAML file or a card cannot be read.
    """
    if method not in models():
        return _without_model(method, choice)
    lost: tuple[str, ...] = ()
    if choice == "paper":
        known = paper.known(method)
        name, plan, root, lost = choice, known.plan, paper.downloads(), known.unpublished
    else:
        name, plan, root = plan_of(method, choice or "phantom")
    wanted = plan.parts()
    parts = [_part(part, wanted[part], root) for part in wanted]
    parts += [PartReport(part, "not published") for part in lost]
    parts += [PartReport(part, "not named", problem=_UNNAMED) for part in plan.unnamed(lost, _kind(method))]
    problems = [problem for folder in _carded(plan, root) for problem in card_problems(folder)]
    problems += [problem for row in parts if row.state == "here" for problem in _others(row, wanted[row.part])]
    found = Report(method, name, False, None, parts, [], problems, plan.note, _template(plan, lost) if lost else "")
    return found if any(part.state != "here" for part in parts) else _whole(found, plan)


def _whole(found: Report, plan: WeightsPlan) -> Report:
    """The report on weights that are all here: do they fit, and what is their version?"""
    places = {part.part: Path(part.where) for part in found.parts}
    fit = checks(plan, places)
    ready = all(check.ok for check in fit) and not found.problems
    version = Weights(found.weights or "", plan, places).version
    return replace(found, ready=ready, version=version, checks=fit)


def _kind(method: str) -> str | None:
    """The kind of a registered method; None where it says nothing about the parts."""
    kind = METHODS.get(method).card.kind if method in METHODS.names() else ""
    return kind if kind in NEEDED else None


def _without_model(method: str, choice: str | None) -> Report:
    known = METHODS.names()
    if method not in known:
        raise UsageError(unknown("method", method, dict.fromkeys([*models(), *known])))
    if choice is not None:
        raise UsageError(f"{method} has no weights to choose; leave --weights out")
    return Report(method, None, True, note="it has no weights to choose")


def _phantom(method: str) -> Source:
    if method not in packaged():
        return Source(method, "phantom", "not packaged", None, "")
    name, plan, root = plan_of(method, "phantom")
    parts = plan.parts()
    files = {file for part in parts.values() for file in files_of(root / part.place / part.path, part)}
    return Source(method, name, "packaged", sum(file.stat().st_size for file in files), "MIT")


def _paper(method: str) -> Source:
    if method not in paper.names():
        return Source(method, "paper", "not published", None, "")
    known = paper.known(method)
    parts = known.plan.parts().values()
    gaps = [look(part, paper.downloads()).gap for part in parts]
    state = "here" if not any(gaps) else "missing" if all(gaps) else "partly here"
    return Source(
        method,
        "paper",
        "not published" if known.reason else state,
        sum(part.size or 0 for part in parts) or None,
        "; ".join(dict.fromkeys(part.licence for part in parts if part.licence)),
        any(part.size is None for part in parts),
        known.reason,
    )


def _part(name: str, part: Part, root: Path) -> PartReport:
    found = look(part, root)
    there = found.place is not None and found.place.exists()
    files = files_of(found.place, part) if found.place is not None and not found.gap else []
    fetchable = found.gap and (part.url or is_hub_id(part))
    return PartReport(
        part=name,
        state="here" if not found.gap else "partly here" if there else "missing",
        place=f"{part.place}/{part.path}" if part.path else part.place,
        where="" if found.place is None else str(found.place.resolve()),
        files=len(files),
        size=sum(file.stat().st_size for file in files) if files else part.size,
        revision=part.revision,
        licence=part.licence,
        sha256=_sha256(files),
        problem=found.gap + _looked(part, root) * (found.place is None),
        fetch=fetch_command(part) if fetchable else "",
        note=part.note,
    )


def _looked(part: Part, root: Path) -> str:
    """Where a place that could be a folder or a repository was looked for; published ones are repositories."""
    return "" if root == paper.downloads() else f": neither a folder {root / part.place}, nor in the hub's cache"


def _sha256(files: Sequence[Path]) -> str:
    """12 hex digits over names and contents; "" for no file."""
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:12] if lines else ""


def _others(row: PartReport, part: Part) -> list[str]:
    """Files of a part that is here whose known sha256 is another."""
    files = [file for file in files_of(Path(row.where), part) if file.name in part.sha256]
    return [
        f"{row.part}: {file} is not the published file: its sha256 is not {part.sha256[file.name]}"
        for file in files
        if sha256_of(file) != part.sha256[file.name]
    ]


def _carded(plan: WeightsPlan, root: Path) -> list[Path]:
    """The local folders with a card that parts lie in."""
    places = dict.fromkeys(root / Path(part.place).expanduser() for part in plan.parts().values())
    return [place for place in places if (place / "card.json").is_file()]


def _template(plan: WeightsPlan, lost: tuple[str, ...]) -> str:
    """A YAML file with the published parts, and a place to fill in for each of the others."""
    values: dict[str, Any] = {name: _BLANKS.get(name, "FOLDER") for name in lost}
    for name, part in plan.parts().items():
        values[name] = part.model_dump(
            mode="json", exclude_defaults=True, exclude={"licence", "size", "note", "sha256"}
        )
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
