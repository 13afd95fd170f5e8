"""Sets of images that are compared: folders, generated or not, and the images of a data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.types import seed_for
from gtg_bench.benchmark.datasets import DATASETS, open_dataset
from gtg_bench.benchmark.datasets.images import read_image
from gtg_bench.benchmark.runs.generated import GENERATION, INDEX, read_generated, read_generation

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
Bytes = NDArray[np.uint8]
Pixels = Callable[[], FloatArray]

_MADE = ("method", "weights", "weights_version", "key", "steps", "guidance", "dataset", "split")


@dataclass(frozen=True, eq=False)
class Picture:
    """One image.

    Attributes:
        name: its file or image id.
        pixels: reads it: float32 [H, W] in [0, 1].
        patient: its patient; "" if unknown.
        prompts: phrases that it was generated from, or that describe it.
        categories: findings of these phrases.
    """

    name: str
    pixels: Pixels
    patient: str = ""
    prompts: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def bytes(self, side: int) -> Bytes:
        """The image as `to_bytes` prepares it."""
        return to_bytes(self.pixels(), side)


@dataclass(frozen=True, eq=False)
class Pictures(Sequence[Picture]):
    """A set of images.

    Attributes:
        name: what tables call it.
        items: its images, in a fixed order.
        generated: its images were generated, so that those of one prompt belong together, not those of one patient.
        made: method, weights and other facts of generation.json; empty if unknown.
        notes: what a reader must know.
    """

    name: str
    items: Sequence[Picture]
    generated: bool = False
    made: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: Any) -> Any:
        return self.items[place]

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.items)

    @property
    def groups(self) -> list[str]:
        """What is drawn together in resamples: an image's patient, else its prompt, else the image itself."""
        if self.generated:
            return [picture.prompts[0] if picture.prompts else picture.name for picture in self]
        return [picture.patient or picture.name for picture in self]

    def by_prompt(self) -> dict[str, list[Picture]]:
        """Prompt -> its images, at least two; real ones of different patients where these are known."""
        found: dict[str, dict[str, Picture]] = {}
        for picture in self:
            own = picture.name if self.generated else picture.patient or picture.name
            for prompt in picture.prompts:
                found.setdefault(prompt, {}).setdefault(own, picture)
        return {prompt: list(images.values()) for prompt, images in found.items() if len(images) > 1}

    def shuffled(self, seed: int) -> Pictures:
        """The same images in random order, which depends on their names alone."""
        return self.only(sorted(self, key=lambda picture: seed_for(seed, picture.name)))

    def only(self, items: Sequence[Picture]) -> Pictures:
        """The same set with some of its images."""
        return replace(self, items=tuple(items))


def read_pictures(
    name: str, data_root: Path | None = None, options: Mapping[str, str] | None = None, split: str = "test"
) -> Pictures:
    """The real images of a folder, or of a data set.

    Args:
        name: a folder as for `read_folder`; else a name in DATASETS.
        data_root, options, split: of a data set.

    Raises:
        UsageError: neither a folder nor a data set, or an unknown option or split.
        DataError: an index, or a data set's files, cannot be used, or there are no images.
    """
    if os.path.isdir(name):
        return replace(read_folder(Path(name)), generated=False)
    if name not in DATASETS:
        raise UsageError(f"{name!r} is neither a folder nor a data set; data sets: {', '.join(DATASETS)}")
    dataset = open_dataset(name, data_root, options or {})
    found: dict[str, Picture] = {}
    for sample in dataset.samples(split):
        old = found.get(sample.image_id) or Picture(sample.image_id, partial(dataset.image, sample), sample.patient_id)
        phrases, categories = (*old.prompts, sample.phrase), (*old.categories, sample.category)
        found[sample.image_id] = replace(
            old, prompts=tuple(dict.fromkeys(phrases)), categories=tuple(dict.fromkeys(categories))
        )
    if not found:
        raise DataError(f"{name}, split {split}: has no images")
    return Pictures(f"{name} {split}", tuple(found.values()))


def read_folder(folder: Path) -> Pictures:
    """The images of a folder, with the index.csv of `gtg-bench generate` or, below any subfolder, without.

    Raises:
        UsageError: it is not a folder.
        DataError: it has no images, or its index cannot be used.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    name = folder.name or folder.resolve().name
    if not (folder / INDEX).exists():
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not files:
            raise DataError(f"{folder} has no images ({', '.join(SUFFIXES)})")
        items = [Picture(path.relative_to(folder).as_posix(), partial(read_image, path)) for path in files]
        return Pictures(name, tuple(items), generated=True)
    made = read_generation(folder) if (folder / GENERATION).exists() else {}
    images = [
        Picture(
            image.file,
            partial(read_image, folder / image.file),
            image.patient_id,
            (image.phrase,) if image.phrase else (),
            (image.category,) if image.category else (),
        )
        for image in read_generated(folder)
    ]
    notes: tuple[str, ...] = ()
    if (wanted := made.get("images", 0)) > len(images):
        notes = (f"{name} is unfinished: {len(images)} of {wanted} images",)
    texts = {key: "" if made[key] is None else str(made[key]) for key in _MADE if key in made}
    return Pictures(name, tuple(images), True, texts, notes)


def common_side(sets: Sequence[Pictures]) -> int:
    """The side that all images are brought to: the smallest shorter side of the sets, by the first image of each."""
    return min(min(pictures[0].pixels().shape) for pictures in sets)


def halves(real: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """Two parts of the real images, split by patient (by image where patients are unknown), about equally large."""
    sizes: dict[str, list[Picture]] = {}
    for picture in real:
        sizes.setdefault(picture.patient or picture.name, []).append(picture)
    parts: tuple[list[Picture], list[Picture]] = ([], [])
    for patient in sorted(sizes, key=lambda name: seed_for(seed, name)):
        min(parts, key=len).extend(sizes[patient])
    if not parts[1]:
        raise DataError(f"{real.name}: a floor needs real images of at least two patients; it has one")
    return real.only(parts[0]), real.only(parts[1])


def to_bytes(image: FloatArray, side: int) -> Bytes:
    """uint8 [side, side]: shorter side resized (bilinear, antialiased), centre crop, rounded to 8 bits."""
    frame = Frame.center_crop((image.shape[1], image.shape[0]), side)
    return np.rint(frame.apply(image).clip(0, 1) * 255).astype(np.uint8)


def digest_of(pixels: Bytes) -> str:
    """32 hex digits of sha256 over an image of 8 bits."""
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:32]
