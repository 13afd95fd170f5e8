"""What published data sets have in common: rows that become samples, images that lie somewhere, rows that are wrong.

A data set is a class with a `read` of a few lines: a file of annotations -> one `Annotation` a row. The rest is here.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Mask, Size
from gtg_bench.benchmark.api.types import Box, PhraseSample, sample_id
from gtg_bench.benchmark.datasets.counts import Published
from gtg_bench.benchmark.datasets.images import image_size, is_copy, read_image
from gtg_bench.benchmark.datasets.places import Found, existing, find_image, image_bases, is_within
from gtg_bench.benchmark.datasets.problems import Fault, Faults, Kind, Problem, fault
from gtg_bench.benchmark.datasets.rows import ROUNDING, box_within

ALL = "all"
"""The split that holds everything, in data sets that have it."""

_UNKNOWN_SIZE: Size = (1, 1)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row of an annotation file: a region, and the phrase on the image that it belongs to.

    Attributes:
        file: the annotation file.
        row: its line there (the header is line 1), or the place in a JSON file ("annotations[3]").
        image: the image's name or path as the file gives it, relative to an image folder.
        image_id: the image's name in the data set; part of the sample's id.
        patient_id: the patient.
        category: the finding.
        phrase: the text.
        box: float xyxy in pixels of an image of `size`.
        mask: the region where it is no box.
        size: (width, height) of the image as it was annotated; None where the row does not say.
        split: the split's name.
        problems: what is wrong with the row.
    """

    file: Path
    row: int | str
    image: str
    image_id: str
    patient_id: str
    category: str
    phrase: str
    box: Box | None = None
    mask: Mask | None = None
    size: Size | None = None
    split: str = "test"
    problems: tuple[Problem, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes rows one sample: image, category and phrase."""
        return self.image_id, self.category, self.phrase

    def problem(
        self, what: str, fix: str = "correct the row", image: Path | None = None, kind: Kind = "row"
    ) -> Problem:
        """A problem of this row."""
        return Problem(kind, self.file, self.row, what, fix, image)

    def wrong(self, *problems: Problem) -> Annotation:
        """This row with further problems."""
        return replace(self, problems=(*self.problems, *problems)) if problems else self


class AnnotatedDataset(ABC):
    """A data set of annotated image files; subclasses say how to read its rows.

    Options of every such set: `images` (the folder of the images, from the data root or the working folder; several
    between colons) and `present-only` (true: leave images out that are not there; default false).

    Opening reads the annotations and looks where the images lie; an image's header is read only where the rows do not
    give its size. What is wrong with a row or an image stays with its sample.

    Attributes:
        annotations: the rows, in the file's order, with boxes cut to their image.
        problems: what is wrong with rows, files and images.
        bad: sample id -> why the sample cannot be used. Such a sample has no region, and `image` raises.
        splits: the names that `samples` takes.
        everything: the samples of all splits, and those of no split.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "the folder with its annotations and images"
    own_options: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Published | None] = None
    rescaled: ClassVar[bool] = False
    """Whether copies of the images (anything but DICOM) may have another size than the one that the rows give."""

    slack: ClassVar[float] = ROUNDING
    """Pixels by which boxes may stick out of their image."""

    version: str = "1"
    """Counts the reader's own changes; an opened set adds a digest of its rows."""

    release: str = ""
    """The publisher's version, where the files tell; it then stands before the digest."""

    splits: tuple[str, ...] = ("test",)

    def __init__(self, data_root: Path | None, options: Mapping[str, str] | None = None) -> None:
        """Read the annotations and find the images.

        Raises:
            UsageError: there is no such folder or option.
            DataError: the annotations cannot be used, or none of their images is there.
        """
        self.options = self.checked_options(options or {})
        self.root = self._checked_root(data_root)
        self.bases = image_bases(self.name, self.root, self.options.get("images"))
        self.folders = [folder for base in self.bases for folder in self.image_folders(base)]
        self.problems: list[Problem] = []
        rows = [row if row.image_id else replace(row, image_id=f"row-{row.row}") for row in self.read()]
        self._images = self._find(rows)
        self.annotations = self._checked([row for row in rows if row.image in self._images])
        self.problems += [problem for row in self.annotations for problem in row.problems]
        self.problems += [image.problem for image in self._images.values() if image.problem]
        self.version = f"{self.release or self.version}-{self._digest()}"
        self.bad: dict[str, str] = {}
        self._first: dict[str, Annotation] = {}
        self.everything = [self._sample(group) for group in _grouped(self.annotations)]

    @abstractmethod
    def read(self) -> Iterable[Annotation]:
        """The rows of the annotation file. Raises DataError where the file as a whole cannot be used."""

    def image_names(self, row: Annotation) -> Sequence[str]:
        """Names to try for a row's image, relative to an image folder, the likeliest first."""
        return [row.image]

    def image_folders(self, base: Path) -> list[Path]:
        """Where images may lie below a base (the data root, or what the option `images` names)."""
        return existing([base, base / "images"])

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options, if the set has all of them. Raises UsageError."""
        known = ("images", *self.own_options, "present-only")
        if unknown := sorted(set(options) - set(known)):
            raise UsageError(f"{self.name} has no option {unknown[0]!r}; it has: {', '.join(known)}")
        if options.get("present-only", "false") not in ("true", "false"):
            raise UsageError(f"{self.name}'s present-only is true or false, not {options['present-only']!r}")
        return dict(options)

    def no_split(self, split: str) -> UsageError:
        """The error for a split that there is not."""
        return UsageError(f"{self.name} has no split {split!r}; it has: {', '.join(self.splits)}")

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """The samples of a split in the file's order. Raises UsageError for an unknown split."""
        if split not in self.splits:
            raise self.no_split(split)
        return [sample for sample in self.everything if split in (ALL, self._first[sample.sample_id].split)]

    def image(self, sample: PhraseSample) -> FloatArray:
        """float32 [H, W] in [0, 1], bright is dense. Raises DataError for a sample in `bad` or a damaged image."""
        if sample.sample_id in self.bad:
            raise DataError(self.bad[sample.sample_id])
        row = self._first.get(sample.sample_id)
        if row is None or sample.image_path is None:
            raise DataError(f"{sample.sample_id}: no sample of {self.name}; use one that samples() gave")
        try:
            image = read_image(sample.image_path)
        except Fault as error:
            raise Fault(of_image(row, error.problem)) from error
        height, width = image.shape
        if (width, height) != sample.image_size:
            raise Fault(other_size(row, sample.image_path, (width, height), sample.image_size))
        return image

    def overlap(self) -> dict[str, Any]:
        """What the set knows of pairs that models were trained on: `text` in a line, and numbers; {} for nothing."""
        return {}

    def notes(self) -> dict[str, str]:
        """What else `data check` should say of the set and is no problem: a short name -> a line."""
        return {}

    def has_image(self, sample: PhraseSample) -> bool:
        """Whether a sample's image was found, and its header could be read where it had to be."""
        return self._images[self._first[sample.sample_id].image].problem is None

    def row_of(self, sample: PhraseSample) -> Annotation:
        """The first row of a sample that `samples` gave."""
        return self._first[sample.sample_id]

    def _checked_root(self, data_root: Path | None) -> Path:
        needed = f"{self.name} needs --data-root DIR: {self.needs}"
        if data_root is None:
            raise UsageError(needed)
        if not existing([data_root]):
            raise UsageError(f"{needed}; there is no folder {data_root}")
        return Path(data_root)

    def _find(self, rows: Sequence[Annotation]) -> dict[str, _Image]:
        """The images by the names that the rows give them. Raises DataError if none of them is there."""
        first = {row.image: row for row in reversed(rows)}
        names = dict.fromkeys(row.image for row in rows)
        found = {name: self._find_one(first[name]) for name in names}
        wanted = [place for name, place in found.items() if is_within(name)]
        if wanted and not any(place.path for place in wanted):
            reason = next((f" ({place.reason})" for place in wanted if place.reason), "")
            what = f"none of its {len(wanted)} images is in {', '.join(map(str, self.folders))}{reason}"
            fix = f"point --data-root or --dataset-option images=DIR at them (the first one: {next(iter(names))})"
            raise fault(rows[0].file, what, fix)
        if self.options.get("present-only") == "true":
            found = {name: place for name, place in found.items() if place.path or not is_within(name)}
        return {name: self._inspected(first[name], place) for name, place in found.items()}

    def _find_one(self, row: Annotation) -> Found:
        return find_image(self.image_names(row), self.folders) if is_within(row.image) else Found(None)

    def _inspected(self, row: Annotation, found: Found) -> _Image:
        """An image of which `row` is the first row; its header is read where the row does not give its size."""
        if not is_within(row.image):
            return _Image(self.root, None, row.problem(f"{row.image!r} is not the name of an image"))
        if found.path is None:
            expected = self.folders[0] / self.image_names(row)[0]
            reason = f" ({found.reason})" if found.reason else ""
            fix = f"add it to {self.folders[0]}, or leave such images out with --dataset-option present-only=true"
            what = f"its image {row.image} is not there{reason}"
            return _Image(expected, None, row.problem(what, fix, expected, kind="missing"))
        if row.size is not None and not (self.rescaled and is_copy(found.path)):
            return _Image(found.path, None, None)
        try:
            return _Image(found.path, image_size(found.path), None)
        except Fault as error:
            return _Image(found.path, None, of_image(row, error.problem))

    def _checked(self, rows: Sequence[Annotation]) -> list[Annotation]:
        """The rows with boxes cut to their images, and with what is wrong with phrases, regions and sizes."""
        first = {row.image_id: row for row in reversed(rows) if not row.problems}
        return [self._checked_row(row, first.get(row.image_id, row)) for row in rows]

    def _checked_row(self, row: Annotation, first: Annotation) -> Annotation:
        faults = Faults([] if row.problems else _contradictions(first, row))
        if not row.phrase:
            faults.append(row.problem("the phrase is empty", "give it one, or take the row out", kind="phrase"))
        size = row.size or self._images[row.image].size
        if row.mask and size and not self.rescaled and row.mask.size != size:
            what = f"the mask is for an image of {row.mask.size}, but the image is of {size} (width, height)"
            faults.append(row.problem(what, kind="region"))
        if row.box and size:
            row = replace(row, box=faults.get(box_within, row.box, size, row.file, row.row, self.slack))
        elif not row.box and not row.mask and not row.problems:
            faults.append(row.problem("has neither a box nor a mask", kind="region"))
        return row.wrong(*faults)

    def _sample(self, rows: Sequence[Annotation]) -> PhraseSample:
        """The sample of all rows of one image, category and phrase."""
        first = rows[0]
        image = self._images[first.image]
        made = sample_id(*first.key)
        problems = [problem for row in rows for problem in row.problems]
        if image.problem:
            problems.append(replace(image.problem, row=first.row))
        if problems:
            self.bad[made] = " | ".join(map(str, dict.fromkeys(problems)))
        self._first[made] = first
        size = image.size or first.size or _UNKNOWN_SIZE
        region = PhraseSample(
            sample_id=made,
            image_id=first.image_id,
            patient_id=first.patient_id,
            image_path=image.path,
            phrase=first.phrase,
            category=first.category,
            boxes=(),
            image_size=size,
        )
        return region if problems else _with_region(region, rows)

    def _digest(self) -> str:
        """Changes with rows and with the sizes of the images' files (a reduced copy is other data), not with a lost
        image or the order of the rows."""
        rows = sorted(repr((*row.key, row.box, row.mask and row.mask.digest, row.size)) for row in self.annotations)
        sizes = sorted({image.size for image in self._images.values() if image.size})
        return hashlib.sha256(repr((type(self).version, rows, sizes)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Image:
    """An image of the rows: where it is, (width, height) where its header was read, and what is wrong with it."""

    path: Path
    size: Size | None
    problem: Problem | None


def of_image(row: Annotation, problem: Problem) -> Problem:
    """A problem with a row's image, as one of the row."""
    what = f"its image {problem.file}: {problem.what}"
    return row.problem(what, problem.fix, problem.file, kind=problem.kind)


def other_size(row: Annotation, path: Path, found: Size, wanted: Size) -> Problem:
    """The problem that an image is of another size than its row says, both (width, height)."""
    what = f"its image {path} has {found[0]} x {found[1]} pixels, not {wanted[0]} x {wanted[1]}"
    return row.problem(what, "use the image as it was published, or correct the size in the row", path, kind="size")


def _contradictions(first: Annotation, row: Annotation) -> list[Problem]:
    """What a row says otherwise than the first row of the same image."""
    said: list[tuple[Kind, str, object, object]] = [
        ("row", "is", first.image, row.image),
        ("row", "belongs to patient", first.patient_id, row.patient_id),
        ("size", "is of size", first.size or row.size, row.size or first.size),
    ]
    place = f"row {first.row}" if isinstance(first.row, int) else first.row
    return [
        row.problem(f"image {row.image_id} {what} {theirs} here, but {ours} in {place}", kind=kind)
        for kind, what, ours, theirs in said
        if ours != theirs
    ]


def _with_region(sample: PhraseSample, rows: Sequence[Annotation]) -> PhraseSample:
    """The sample with its rows' masks, or with their boxes where one of them has no mask."""
    masks = [row.mask for row in rows if row.mask]
    if len(masks) == len(rows):
        return replace(sample, mask=Mask.union(masks))
    boxes = [_scaled(row.box, row.size or sample.image_size, sample.image_size) for row in rows if row.box]
    return replace(sample, boxes=tuple(boxes))


def _scaled(box: Box, size: Size, to: Size) -> Box:
    """A box of an image of (width, height) `size` in the pixels of the same image in another size."""
    if size == to:
        return box
    x, y = to[0] / size[0], to[1] / size[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _grouped(rows: Iterable[Annotation]) -> list[list[Annotation]]:
    """The rows of each image, category and phrase, in the order of their first rows."""
    groups: dict[tuple[str, str, str], list[Annotation]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return list(groups.values())
