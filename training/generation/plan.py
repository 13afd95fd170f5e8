"""What to generate: the images of a request, each with its phrase and seed, and the description of their folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.settings import PHANTOM
from gtg_bench.benchmark.api.types import Dataset, MethodSettings, PhraseSample, seed_for
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.datasets.tables import read_rows, read_text
from gtg_bench.benchmark.runs.generated import GeneratedImage
from gtg_bench.benchmark.runs.identity import options_in_key
from gtg_bench.benchmark.runs.sources import check_device

CODE = 1
"""Version of the generation: bumped whenever the same request gives other images."""


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate, and where.

    Attributes:
        method: registered name of a latent diffusion method.
        out: folder of the images.
        weights: as for `run`; None: the method's default.
        precision: floating-point type of the U-Net.
        steps: number of DDIM steps.
        guidance: scale of classifier-free guidance.
        seed: random seed of the whole generation.
        dataset: data set whose phrases are the prompts; None: the phantom, unless `phrases` is given.
        data_root: folder of the data set.
        dataset_options: options of the data set.
        split: split of the data set.
        phrases: file of phrases instead: one a line, or a CSV file with a column `phrase`.
        limit: only the first N samples or phrases.
        per_phrase: number of images of each.
        batch_size: images per forward pass.
        device: where to compute.
        shard: (k, n): generate the k-th of n shares of the images, k from 0; None: all, or the share of this process
            of a launch.
    """

    method: str
    out: Path
    weights: str | None = None
    precision: str = "float32"
    steps: int = 50
    guidance: float = 4.0
    seed: int = 4200
    dataset: str | None = None
    data_root: Path | None = None
    dataset_options: Mapping[str, str] = field(default_factory=dict)
    split: str = "test"
    phrases: Path | None = None
    limit: int | None = None
    per_phrase: int = 4
    batch_size: int = 8
    device: str = "auto"
    shard: tuple[int, int] | None = None


@dataclass(frozen=True)
class Plan:
    """What a request comes to.

    Attributes:
        entry: the method in the registry.
        settings: its complete settings.
        images: all images of the folder, of every share.
        samples: file -> the sample that an image's phrase is from.
        data: the data set of those samples; None if the phrases are from a file.
        manifest: the fields of generation.json that follow from the request.
        repeated: number of phrases of a file that were left out because they are repeated.
    """

    entry: MethodEntry
    settings: MethodSettings
    images: Sequence[GeneratedImage]
    samples: Mapping[str, PhraseSample]
    data: Dataset | None
    manifest: Mapping[str, Any]
    repeated: int = 0


def plan(request: GenerationRequest) -> Plan:
    """The images of a request. Imports no torch.

    Raises:
        UsageError: an unknown method, one that cannot generate images, or an unknown or impossible option.
        DataError: weights, data set or phrases cannot be used.
    """
    entry = METHODS.get(request.method)
    check_device(request.device)
    if entry.card.kind not in ("ldm", "plug-in"):
        able = ", ".join(other.name for other in METHODS.entries() if other.card.kind == "ldm")
        raise UsageError(f"{entry.name} cannot generate images: it has no image decoder; choose from {able}")
    wanted = MethodSettings(
        entry.name,
        weights=request.weights,
        sampling="cfg" if entry.samplings else None,
        tokens="all" if entry.samplings else None,
        precision=request.precision if entry.samplings else None,
        steps=request.steps,
        guidance=request.guidance,
        seed=request.seed,
        dataset=request.dataset or PHANTOM,
    )
    settings = entry.completed(wanted)
    facts: dict[str, Any] = {"dataset": None, "dataset_version": None, "dataset_options": None, "split": None}
    dataset, samples, repeated = None, [], 0
    if request.phrases is None:
        dataset = open_dataset(request.dataset or PHANTOM, request.data_root, dict(request.dataset_options))
        samples = [sample for sample in dataset.samples(request.split) if sample.phrase.strip()]
        samples = samples[: request.limit]
        prompts = [GeneratedImage("", s.phrase, s.sample_id, s.image_id, s.patient_id, s.category) for s in samples]
        facts |= {"dataset": dataset.name, "dataset_version": dataset.version, "split": request.split}
        facts["dataset_options"] = options_in_key(dataset)
    else:
        prompts, repeated = read_phrases(request.phrases)
        prompts = prompts[: request.limit]
    if not prompts:
        raise UsageError(f"no phrase to generate images of in split {request.split!r} of {facts['dataset']}")
    images = [one for number, prompt in enumerate(prompts) for one in _copies(request, number, prompt)]
    of_file = {one.file: samples[number // request.per_phrase] for number, one in enumerate(images)} if samples else {}
    return Plan(entry, settings, images, of_file, dataset, _manifest(request, entry, settings, images, facts), repeated)


def read_phrases(path: Path) -> tuple[list[GeneratedImage], int]:
    """The phrases of a file, each once, and how many were repeated.

    Args:
        path: UTF-8; one phrase a line, or a table whose name ends in .csv with a column `phrase` and optionally
            `category`, `sample_id`, `image_id` and `patient_id`. Blank lines are skipped.

    Raises:
        DataError: it cannot be read, or contains no phrase; names file, row and fix.
    """
    found: list[GeneratedImage] = []
    if path.suffix.lower() == ".csv":
        for row in read_rows(path, ["phrase"]):
            if row.broken:
                raise row.fault(row.broken.what, row.broken.fix)
            names = ("phrase", "sample_id", "image_id", "patient_id", "category")
            values: dict[str, Any] = {name: row.text(name) for name in names}
            found += [GeneratedImage("", **values)] if values["phrase"] else []
    else:
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if "\ufffd" in line or "\0" in line:
                raise DataError(f"--phrases {path}, row {number}: is not UTF-8 text; save the file as UTF-8")
            found += [GeneratedImage("", line.strip())] if line.strip() else []
    if not found:
        raise DataError(f"--phrases {path}: contains no phrase; write one per line")
    distinct: dict[tuple[str, str], GeneratedImage] = {}
    for one in found:
        distinct.setdefault((one.sample_id, one.phrase), one)
    return list(distinct.values()), len(found) - len(distinct)


def _copies(request: GenerationRequest, number: int, prompt: GeneratedImage) -> list[GeneratedImage]:
    """The images of the prompt with this number, from 0. The seed of each depends on no other."""
    values = {name: value for name, value in asdict(prompt).items() if name not in ("file", "copy", "seed")}
    name = prompt.sample_id or prompt.phrase
    return [
        GeneratedImage(
            f"{number:05d}-{copy:02d}.png", **values, copy=copy, seed=seed_for("generation", request.seed, name, copy)
        )
        for copy in range(request.per_phrase)
    ]


def _manifest(
    request: GenerationRequest,
    entry: MethodEntry,
    settings: MethodSettings,
    images: Sequence[GeneratedImage],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The fields of generation.json; `key` covers those that change an image or the index."""
    rows = json.dumps([asdict(one) for one in images])
    decisive = {
        "method": entry.name,
        "weights_version": settings.weights_version,
        "precision": request.precision,
        "steps": request.steps,
        "guidance": float(request.guidance),
        "seed": request.seed,
        "per_phrase": request.per_phrase,
        "images": len(images),
        "images_sha256": hashlib.sha256(rows.encode()).hexdigest(),
        "code": entry.code,
        "generation_code": CODE,
    }
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
    told = {"weights": settings.weights, **facts, "limit": request.limit}
    return {"key": key, **decisive, **told, "phrases": None if request.phrases is None else request.phrases.name}
