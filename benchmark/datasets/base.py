"""The base of all readers of annotated images: it turns annotations into samples and finds and checks the images.

A reader is a class whose `read` turns the annotation file into one `Annotation` per row. Everything else is here.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Mask, Size, bounds
from gtg_bench.benchmark.api.types import Box, PhraseSample, sample_id
from gtg_bench.benchmark.datasets.grey_range import RANGES
from gtg_bench.benchmark.datasets.images import image_size, is_copy, read_image
from gtg_bench.benchmark.datasets.locate import existing, find_image, image_bases, is_within
from gtg_bench.benchmark.datasets.problems import Fault, Kind, Problem, fault
from gtg_bench.benchmark.datasets.tables import ROUNDING, Faults, box_within

ALL = "all"
"""The split that contains every sample, in data sets that have one."""


@dataclass(frozen=True)
class Published:
    """A data set's published counts. None: not published, or not known here.

    Attributes:
        pairs: category -> image-phrase pairs in all splits.
        source: where the counts were published.
        boxes: boxes of all pairs.
        images: images with at least one pair.
        patients: patients with at least one pair.
        splits: split -> category -> pairs.
    """

    pairs: Mapping[str, int]
    source: str
    boxes: int | None = None
    images: int | None = None
    patients: int | None = None
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def totals(self) -> dict[str, int]:
        """The counts known for the whole set, by name."""
        found = {"pairs": sum(self.pairs.values()), "boxes": self.boxes, "images": self.images}
        return {name: count for name, count in (found | {"patients": self.patients}).items() if count is not None}

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        splits = {name: dict(counts) for name, counts in self.splits.items()}
        return {"source": self.source, **self.totals(), "categories": dict(self.pairs), "splits": splits}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row of an annotation file: a region, and the phrase and image it belongs to.

    Attributes:
        file: the annotation file.
        row: its line (the header is line 1), or its place in a JSON file ("annotations[3]").
        image: the image's name or path in the file, relative to an image folder.
        image_id: the image's name in the data set; part of the sample id.
        patient_id: the patient.
        category: the finding.
        phrase: the text.
        box: float xyxy in pixels of an image of `size`.
        mask: the region, if it is not a box.
        size: (width, height) of the image that was annotated; None if the row does not give it.
        split: the split's name.
        problems: what is wrong with the row.
        absent: the image does not show what the phrase names, so the row has neither box nor mask.
        traits: see `PhraseSample.traits`.
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
    absent: bool = False
    traits: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Image, category and phrase: rows with the same key form one sample."""
        return self.image_id, self.category, self.phrase

    @property
    def place(self) -> str:
        """The row as messages name it."""
        return f"row {self.row}" if isinstance(self.row, int) else self.row

    def problem(
        self, what: str, fix: str = "correct the row", image: Path | None = None, kind: Kind = "row"
    ) -> Problem:
        """A problem with this row."""
        return Problem(kind, self.file, self.row, what, fix, image)

    def image_problem(self, problem: Problem) -> Problem:
        """A problem with this row's image file, as a problem with the row."""
        return self.problem(f"its image {problem.file}: {problem.what}", problem.fix, problem.file, problem.kind)

    def size_problem(self, path: Path, found: Size, wanted: Size) -> Problem:
        """The problem that the image file has another size, (width, height), than expected."""
        what = f"its image {path} has {found[0]} x {found[1]} pixels, not {wanted[0]} x {wanted[1]}"
        return self.problem(what, "use the image as published, or correct the size in the row", path, kind="size")

    def wrong(self, *problems: Problem) -> Annotation:
        """This row with further problems."""
        return replace(self, problems=(*self.problems, *problems)) if problems else self


@dataclass(frozen=True)
class _Image:
    """An image file: its path (or where it was expected), (width, height) if its header was read, its problem."""

    path: Path
    size: Size | None
    problem: Problem | None


class AnnotatedDataset(ABC):
    """A data set of annotated image files; subclasses read the annotation file.

    Every such set takes the options `images` (the image folder, relative to the data root or the working folder;
    several are separated by colons), `present-only` (true: leave out images that are missing; default false) and
    `range` (how pixel values become [0, 1], see `grey_range.RANGES`; default file).

    Opening reads the annotations and looks for the images; an image's header is read only if the rows do not give its
    size. A problem with a row or an image affects its own sample only.

    Attributes:
        annotations: the rows in the file's order, with boxes clipped to their image.
        problems: what is wrong with rows, files and images.
        bad: sample id -> why the sample cannot be used. Such a sample has no region, and `image` raises.
        splits: the names that `samples` takes.
        everything: the samples of all splits and those without a split.
        absent: the rows whose finding is absent; they are in none of the above.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "the folder with its annotations and images"
    own_options: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[Published | None] = None
    rescaled: ClassVar[bool] = False
    """Whether copies of the images (anything but DICOM) may have another size than the rows give."""

    slack: ClassVar[float] = ROUNDING
    """Pixels by which boxes may extend beyond their image."""

    version: str = "1"
    """Changes with the reader; an opened set appends a digest of its rows."""

    release: str = ""
    """The publisher's version, if the files tell; it replaces the reader's version."""

    splits: tuple[str, ...] = ("test",)

    def __init__(self, data_root: Path | None, options: Mapping[str, str] | None = None) -> None:
        """Read the annotations and find the images.

        Raises:
            UsageError: unknown folder or option.
            DataError: the annotations cannot be used, or none of their images was found.
        """
        self.options = self.checked_options(options or {})
        needed = f"{self.name} needs --data-root DIR: {self.needs}"
        if data_root is None or not existing([data_root]):
            raise UsageError(needed if data_root is None else f"{needed}; folder {data_root} not found")
        self.root = Path(data_root)
        self.bases = image_bases(self.name, self.root, self.options.get("images"))
        self.folders = [folder for base in self.bases for folder in self.image_folders(base)]
        self.problems: list[Problem] = []
        rows = [row if row.image_id else replace(row, image_id=f"row-{row.row}") for row in self.read()]
        self._images = self._find_images(rows)
        kept = [row for row in rows if row.image in self._images]
        first = {row.image_id: row for row in reversed(kept) if not row.problems}
        checked = [self._checked(row, first.get(row.image_id, row)) for row in kept]
        self.annotations = [row for row in checked if not row.absent]
        self.absent = [row for row in checked if row.absent]
        self.problems += [problem for row in checked for problem in row.problems]
        self.problems += [image.problem for image in self._images.values() if image.problem]
        self.version = f"{self.release or self.version}-{self._digest()}"
        groups: dict[tuple[str, str, str], list[Annotation]] = {}
        for row in self.annotations:
            groups.setdefault(row.key, []).append(row)
        self.bad: dict[str, str] = {}
        self._first: dict[str, Annotation] = {}
        self.everything = [self._sample(group) for group in groups.values()]
        absent = {row.key: row for row in reversed(self.absent) if row.key not in groups}
        self._absent = [self._sample([row]) for row in reversed(absent.values())]

    def __repr__(self) -> str:
        splits = ", ".join(f"{name}: {len(self.samples(name))}" for name in self.splits)
        unusable = f", {len(self.bad)} unusable" if self.bad else ""
        return f"<{self.name} {self.version} in {self.root}: {len(self._images)} images; samples {splits}{unusable}>"

    @abstractmethod
    def read(self) -> Iterable[Annotation]:
        """The rows of the annotation file. Raises DataError if the file as a whole cannot be used."""

    def image_names(self, row: Annotation) -> Sequence[str]:
        """File names to try for a row's image, relative to an image folder, the likeliest first."""
        return [row.image]

    def image_folders(self, base: Path) -> list[Path]:
        """Folders to search for images below a base (the data root, or what the option `images` names)."""
        return existing([base, base / "images"])

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options. Raises UsageError for an unknown name or value."""
        known = ("images", *self.own_options, "present-only", "range")
        if unknown := sorted(set(options) - set(known)):
            raise UsageError(f"{self.name} has no option {unknown[0]!r}; choose from: {', '.join(known)}")
        if options.get("present-only", "false") not in ("true", "false"):
            raise UsageError(f"{self.name}: present-only must be true or false, not {options['present-only']!r}")
        if options.get("range", "file") not in RANGES:
            raise UsageError(f"{self.name}: range must be one of {', '.join(RANGES)}, not {options['range']!r}")
        return dict(options)

    def check_choices(self, options: Mapping[str, str], choices: Mapping[str, Sequence[str]]) -> None:
        """Raise UsageError if one of the options (name -> values it may have) has another value."""
        for name, known in choices.items():
            if options.get(name, known[0]) not in known:
                listed = f"{', '.join(known[:-1])} or {known[-1]}"
                raise UsageError(f"{self.name}: {name} must be {listed}, not {options[name]!r}")

    def no_split(self, split: str) -> UsageError:
        """The error for an unknown split."""
        return UsageError(f"{self.name} has no split {split!r}; choose from: {', '.join(self.splits)}")

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """The samples of a split in the file's order. Raises UsageError for an unknown split."""
        if split not in self.splits:
            raise self.no_split(split)
        return [sample for sample in self.everything if split in (ALL, self._first[sample.sample_id].split)]

    def absent_samples(self, split: str) -> Sequence[PhraseSample]:
        """The usable phrases of absent findings in a split, see `api.types.KnowsAbsence`; none if the set has none."""
        if split not in self.splits:
            raise self.no_split(split)
        usable = [sample for sample in self._absent if sample.sample_id not in self.bad]
        return [sample for sample in usable if split in (ALL, self._first[sample.sample_id].split)]

    def image(self, sample: PhraseSample) -> FloatArray:
        """float32 [H, W] in [0, 1], bright is dense. Raises DataError for a sample in `bad` or a damaged image."""
        if sample.sample_id in self.bad:
            raise DataError(self.bad[sample.sample_id])
        row = self._first.get(sample.sample_id)
        if row is None or sample.image_path is None:
            raise DataError(f"{sample.sample_id} is not a sample of {self.name}; take one from its samples()")
        try:
            image = read_image(sample.image_path, self.options.get("range", "file"))
        except Fault as error:
            raise Fault(row.image_problem(error.problem)) from error
        if image.shape[::-1] != sample.image_size:
            size = image.shape[1], image.shape[0]
            raise Fault(row.size_problem(sample.image_path, size, sample.image_size))
        return image

    def overlap(self) -> dict[str, Any]:
        """What is known about pairs that models were trained on: a line of `text`, and counts; {} if nothing."""
        return {}

    def notes(self) -> dict[str, str]:
        """Further lines for `data check` that are not problems, by a short name."""
        return {}

    def counts_to_expect(self) -> Published | None:
        """The publisher's counts of the files that were opened; None if they are not known."""
        return self.published

    def has_image(self, sample: PhraseSample) -> bool:
        """Whether the sample's image was found and its header, if needed, could be read."""
        return self._images[self._first[sample.sample_id].image].problem is None

    def row_of(self, sample: PhraseSample) -> Annotation:
        """The first row of a sample from `samples`."""
        return self._first[sample.sample_id]

    def _find_images(self, rows: Sequence[Annotation]) -> dict[str, _Image]:
        """The images by their name in the rows. Raises DataError if none of them was found."""
        first = {row.image: row for row in reversed(rows)}
        names = [name for name in dict.fromkeys(row.image for row in rows) if is_within(name)]
        found = {name: find_image(self.image_names(first[name]), self.folders) for name in names}
        if names and not any(path for path, _ in found.values()):
            reason = next((f" ({reason})" for _, reason in found.values() if reason), "")
            what = f"none of its {len(names)} images was found in {', '.join(map(str, self.folders))}{reason}"
            fix = f"point --data-root or --dataset-option images=DIR at them (the first one: {rows[0].image})"
            raise fault(rows[0].file, what, fix)
        if self.options.get("present-only") == "true":
            found = {name: place for name, place in found.items() if place[0]}
        images = {}
        for name, row in ((row.image, first[row.image]) for row in rows):
            if not is_within(name):
                images[name] = _Image(self.root, None, row.problem(f"{name!r} is not a valid image name"))
            elif name in found and name not in images:
                images[name] = self._inspected(row, *found[name])
        return images

    def _inspected(self, row: Annotation, path: Path | None, reason: str) -> _Image:
        """The image of its first `row`; its header is read if the row does not give its size."""
        if path is None:
            expected = self.folders[0] / self.image_names(row)[0]
            what = f"its image {row.image} was not found{reason and f' ({reason})'}"
            fix = f"add it to {self.folders[0]}, or leave out missing images with --dataset-option present-only=true"
            return _Image(expected, None, row.problem(what, fix, expected, kind="missing"))
        if row.size is not None and not (self.rescaled and is_copy(path)):
            return _Image(path, None, None)
        try:
            return _Image(path, image_size(path), None)
        except Fault as error:
            return _Image(path, None, row.image_problem(error.problem))

    def _checked(self, row: Annotation, first: Annotation) -> Annotation:
        """The row with its box clipped, and with its problems; `first` is the first good row of the same image."""
        faults = Faults()
        same: list[tuple[Kind, str, object, object]] = [
            ("row", "is", first.image, row.image),
            ("row", "belongs to patient", first.patient_id, row.patient_id),
            ("size", "is of size", first.size or row.size, row.size or first.size),
        ]
        for kind, verb, there, here in same if not row.problems else ():
            if here != there:
                what = f"image {row.image_id} {verb} {here} here, but {there} in {first.place}"
                faults.append(row.problem(what, kind=kind))
        if not row.phrase:
            faults.append(row.problem("the phrase is empty", "fill it in, or remove the row", kind="phrase"))
        size = row.size or self._images[row.image].size
        if row.mask and size and not self.rescaled and row.mask.size != size:
            what = f"the mask is for an image of {row.mask.size}, but the image has {size} (width, height)"
            faults.append(row.problem(what, kind="region"))
        if row.box and size:
            row = replace(row, box=faults.get(box_within, row.box, size, row.file, row.row, self.slack))
        elif not row.box and not row.mask and not row.absent and not row.problems:
            faults.append(row.problem("has neither a box nor a mask", kind="region"))
        return row.wrong(*faults)

    def _sample(self, rows: Sequence[Annotation]) -> PhraseSample:
        """The sample for all rows of one image, category and phrase: with masks if every row has one, else boxes."""
        first, image = rows[0], self._images[rows[0].image]
        made = PhraseSample(
            sample_id=sample_id(*first.key),
            image_id=first.image_id,
            patient_id=first.patient_id,
            image_path=image.path,
            phrase=first.phrase,
            category=first.category,
            boxes=(),
            image_size=image.size or first.size or (1, 1),
            traits=first.traits,
        )
        self._first[made.sample_id] = first
        problems = [problem for row in rows for problem in row.problems]
        problems += [replace(image.problem, row=first.row)] if image.problem else []
        if problems:
            self.bad[made.sample_id] = " | ".join(map(str, dict.fromkeys(problems)))
            return made
        if first.absent:
            return made
        if all(row.mask for row in rows):
            return replace(made, mask=Mask.union([row.mask for row in rows if row.mask]))
        found = [
            (bounds(row.mask.decode()), row.mask.size)
            if row.mask and not row.box
            else (row.box, row.size or made.image_size)
            for row in rows
        ]
        return replace(made, boxes=tuple(_scaled(box, size, made.image_size) for box, size in found if box))

    def _digest(self) -> str:
        """Changes with the rows and with the sizes of the image files (a reduced copy is other data), but not with a
        missing image or the order of the rows."""
        known = [*self.annotations, *self.absent]
        rows = sorted(repr((*row.key, row.box, row.mask and row.mask.digest, row.size)) for row in known)
        sizes = sorted({image.size for image in self._images.values() if image.size})
        return hashlib.sha256(repr((type(self).version, rows, sizes)).encode()).hexdigest()[:8]


def _scaled(box: Box, size: Size, to: Size) -> Box:
    """A box of an image of (width, height) `size` in pixels of the same image in another size."""
    if size == to:
        return box
    x, y = to[0] / size[0], to[1] / size[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y
