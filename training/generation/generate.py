"""Generate the images of a plan into a folder: resumable, and shared by several processes.

Every PNG file appears whole or not at all, so the files that exist are the images that are done. The index is written
from the plan and those files, never appended to.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.paths import atomic, check_writable, locked, remove_parts, write_text
from gtg_bench.benchmark.report.terminal import Count
from gtg_bench.benchmark.runs.generated import GENERATION, GeneratedImage, read_generation, write_index
from gtg_bench.benchmark.runs.launch import Launch
from gtg_bench.benchmark.runs.records import this_program
from gtg_bench.benchmark.runs.sources import resolve_device
from gtg_bench.benchmark.runs.writers import name_of
from gtg_bench.training.generation.plan import GenerationRequest, Plan

if TYPE_CHECKING:
    from gtg_bench.training.generation.images import ImageGenerator

_LOCK = ".lock"
_INDEX_EVERY = 30.0
"""Seconds between two writings of the index while images are made."""


@dataclass(frozen=True)
class Generated:
    """What a call of `generate` did, together with the other processes of its launch.

    Attributes:
        made: number of images that were made.
        missing: number of images that the folder still lacks: the shards of other jobs.
        seconds: wall time for making them, without loading the model.
    """

    made: int
    missing: int
    seconds: float


def generate(
    request: GenerationRequest, planned: Plan, progress: Count, busy: Callable[[], None] = lambda: None
) -> Generated:
    """Generate what the folder lacks of a request's share.

    Args:
        request: what to generate.
        planned: its plan.
        progress: called with the number of images of the share that exist, and of all of the share.
        busy: called once if another process works on the same share, before waiting for it.

    Raises:
        DataError: the folder holds other images, or the model cannot be loaded or fails.
        UsageError: the method has no components to generate with, the device cannot be used, or a launch of several
            processes is asked for a shard.
        PlaceError: the folder cannot be written.
    """
    launch, folder = Launch.current(), request.out
    if request.shard and launch.count > 1:
        raise UsageError("--shard is for jobs without a launcher: the processes of this launch already share the work")
    if request.device not in ("auto", "cpu"):
        resolve_device(request.device, planned.entry)  # refused before anything is written
    is_claimed(folder, planned)
    index, shares = request.shard or (launch.index, launch.count)
    share, seconds = planned.images[index::shares], 0.0
    make = _generator(request, planned) if missing_of(folder, share) else None
    claim(folder, planned)
    with locked(folder / f".share-{name_of(index, shares)}.lock", busy):
        missing = missing_of(folder, share)
        there, started = len(share) - len(missing), time.monotonic()
        progress(there, len(share))
        try:
            if make and missing:
                _make(folder, planned, missing, make, lambda done: progress(there + done, len(share)))
                seconds = time.monotonic() - started
        finally:
            left = update_index(folder, planned)
    if launch.count == 1:
        return Generated(len(missing), left, seconds)
    made, times = zip(*launch.exchange((len(missing), seconds)), strict=True)  # after the last one, nothing is missing
    return Generated(sum(made), len(missing_of(folder, planned.images)), max(times))


def is_claimed(folder: Path, planned: Plan) -> bool:
    """Whether a folder's manifest describes the plan's images. Raises DataError if it holds other images or files."""
    if (folder / GENERATION).exists():
        known = read_generation(folder)
        if known["key"] != planned.manifest["key"]:
            unlike = _difference(known, planned.manifest)
            raise DataError(f"{folder} holds other images ({unlike}); choose another --out, or remove the folder")
        return True
    if folder.is_dir() and (others := sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))):
        raise DataError(f"{folder} holds other files, such as {others[0]}; choose another --out")
    return False


def claim(folder: Path, planned: Plan) -> None:
    """Write the folder's manifest and an empty index unless they are there.

    Raises:
        DataError: the folder holds other images or files.
        PlaceError: it cannot be written.
    """
    path = folder / GENERATION
    check_writable(path)
    with locked(folder / _LOCK):
        if not is_claimed(folder, planned):
            text = json.dumps({**planned.manifest, "made_by": this_program()}, indent=1, ensure_ascii=False)
            write_text(path, f"{text}\n")
            write_index(folder, [])


def missing_of(folder: Path, images: Sequence[GeneratedImage]) -> list[GeneratedImage]:
    """The images that have no file yet."""
    there = {one.name for one in os.scandir(folder)} if folder.is_dir() else set()
    return [image for image in images if image.file not in there]


def update_index(folder: Path, planned: Plan) -> int:
    """Write the index of the images that exist and, once all do, a sheet of the first; the number that are missing."""
    with locked(folder / _LOCK):
        missing = {image.file for image in missing_of(folder, planned.images)}
        write_index(folder, [image for image in planned.images if image.file not in missing])
        if not missing:
            from gtg_bench.training.generation.sheet import SHEET, draw_sheet

            if not (folder / SHEET).exists():
                draw_sheet(folder, planned)
            remove_parts(folder)
    return len(missing)


def _make(
    folder: Path,
    planned: Plan,
    images: Sequence[GeneratedImage],
    make: ImageGenerator,
    progress: Callable[[int], None],
) -> None:
    """Generate and save images batch by batch; `progress` gets the number that are done."""
    indexed = time.monotonic()
    for first in range(0, len(images), make.batch_size):
        batch = images[first : first + make.batch_size]
        found = make([one.phrase for one in batch], [one.seed for one in batch])
        for one, pixels in zip(batch, found, strict=True):
            _save(folder / one.file, pixels, one.phrase)
        progress(first + len(batch))
        if time.monotonic() - indexed > _INDEX_EVERY:
            update_index(folder, planned)
            indexed = time.monotonic()


def _save(path: Path, pixels: NDArray[np.uint8], phrase: str) -> None:
    """Write a grey PNG file that says that it is not a radiograph of a patient."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    facts = PngInfo()
    facts.add_itxt("Description", f"Generated image, not a radiograph of a patient: {phrase}")
    with atomic(path) as part:
        Image.fromarray(pixels).save(part, pnginfo=facts)


def _generator(request: GenerationRequest, planned: Plan) -> ImageGenerator:
    """The generator of the method's components. Raises UsageError if it has none."""
    from gtg_bench.methods.ldm.components import LdmComponents
    from gtg_bench.training.generation.images import ImageGenerator

    device = resolve_device(request.device, planned.entry)
    method = planned.entry.built(replace(planned.settings, device=device))
    components = getattr(method, "components", None)
    if not isinstance(components, LdmComponents):
        raise UsageError(
            f"{request.method} cannot generate images: it has no `components` (an LdmComponents: U-Net, autoencoder, "
            "scheduler and text encoder)"
        )
    return ImageGenerator(components, request.steps, request.guidance, request.batch_size)


def _difference(known: dict[str, Any], wanted: Any) -> str:
    """The first fields in which two manifests differ."""
    names = [name for name in wanted if name in known and name not in ("key", "images_sha256")]
    unlike = [f"{name} {known[name]}, not {wanted[name]}" for name in names if known[name] != wanted[name]]
    return "; ".join(unlike[:2]) or "of other phrases"
