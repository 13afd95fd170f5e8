"""ChestX-ray14's boxes (Wang et al., CVPR 2017): 984 boxes of eight findings on 880 images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Size
from gtg_bench.benchmark.api.types import Box, PhraseSample, sample_id
from gtg_bench.benchmark.datasets.images import image_size, read_image
from gtg_bench.benchmark.datasets.tabular import box_from_xywh, fault, number, read_table

LABELS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltrate", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
"""The findings as the file of boxes spells them."""

BOX_SPACE: Size = (1024, 1024)
"""The image that the file's coordinates belong to, whatever size the image on disk has."""

_TABLE = "BBox_List_2017.csv"
_COLUMNS = {"image": "Image Index", "label": "Finding Label", "x": "Bbox [x", "y": "y", "w": "w", "h": "h]"}
_OPTIONS = ("images", "phrase", "present-only")
_NEEDED = "chestxray14 needs --data-root DIR: the folder with BBox_List_2017.csv and images/"


@dataclass(frozen=True)
class _Row:
    """A row of the file: its box in `BOX_SPACE`, or what is wrong with it."""

    number: int
    image: str
    label: str
    box: Box | None
    problem: str


@dataclass(frozen=True)
class _Image:
    """An image of the file: where it is and its (width, height), or what is wrong with it."""

    path: Path
    size: Size
    problem: str


class ChestXray14Dataset:
    """The boxed images of ChestX-ray14; one sample is an image and a finding, with all its boxes.

    Options: `images` (folder of the images, from the data root or the working folder), `phrase` (template of
    the phrase with `{label}` in it, default the bare label), `present-only` (true: leave images out that are
    not there; default false).

    Attributes:
        problems: what is wrong with rows and images, one line each: file, row, what and fix.
        bad: sample id -> why the sample cannot be used. Such a sample has no boxes, and `image` raises.
    """

    name = "chestxray14"
    version: str = "1"

    def __init__(self, data_root: Path | None, options: Mapping[str, str] | None = None) -> None:
        """Read the file of boxes and the images' headers.

        Raises:
            UsageError: there is no such folder or option.
            DataError: the file of boxes cannot be used, or none of its images is there.
        """
        self.options = _checked_options(options or {})
        root = _checked_root(data_root)
        table = _table_path(root)
        rows = _read_rows(table)
        images = _find_images(root, self.options, table, rows)
        rows = [row for row in rows if row.image in images]
        self.version = f"{type(self).version}-{_digest(rows, images)}"
        self.problems = [row.problem for row in rows if row.problem]
        self.problems += [image.problem for image in images.values() if image.problem]
        self.bad: dict[str, str] = {}
        self._samples = [self._sample(group, images[group[0].image]) for group in _grouped(rows)]

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """All samples in the file's order: every boxed image is in the official test list."""
        if split != "test":
            raise UsageError(f"chestxray14 has no split {split!r}; it has: test")
        return self._samples

    def image(self, sample: PhraseSample) -> FloatArray:
        """float32 [H, W] in [0, 1], bright is dense. Raises DataError for a sample in `bad` or a damaged image."""
        if sample.sample_id in self.bad:
            raise DataError(self.bad[sample.sample_id])
        if sample.image_path is None:
            raise DataError(f"{sample.sample_id}: no sample of chestxray14; use one that samples() gave")
        return read_image(sample.image_path)

    def _sample(self, rows: Sequence[_Row], image: _Image) -> PhraseSample:
        """The sample of all rows of one image and label."""
        stem, label = Path(rows[0].image).stem, rows[0].label
        phrase = self.options.get("phrase", "{label}").replace("{label}", label)
        made = sample_id(stem, label, phrase)
        problems = [row.problem for row in rows if row.problem] + ([image.problem] if image.problem else [])
        if problems:
            self.bad[made] = " | ".join(problems)
        return PhraseSample(
            sample_id=made,
            image_id=stem,
            patient_id=stem.partition("_")[0],
            image_path=image.path,
            phrase=phrase,
            category=label,
            boxes=() if problems else tuple(_scaled(row.box, image.size) for row in rows if row.box),
            image_size=image.size,
        )


def _checked_options(options: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise UsageError(f"chestxray14 has no option {unknown[0]!r}; it has: {', '.join(_OPTIONS)}")
    if options.get("present-only", "false") not in ("true", "false"):
        raise UsageError(f"chestxray14's present-only is true or false, not {options['present-only']!r}")
    if "{label}" not in options.get("phrase", "{label}"):
        raise UsageError(f"chestxray14's phrase must have {{label}} in it; {options['phrase']!r} has not")
    return dict(options)


def _checked_root(data_root: Path | None) -> Path:
    if data_root is None:
        raise UsageError(_NEEDED)
    if not Path(data_root).is_dir():
        raise UsageError(f"{_NEEDED}; there is no folder {data_root}")
    return Path(data_root)


def _table_path(root: Path) -> Path:
    """The file of boxes: the user's own, else the official one that torchxrayvision carries."""
    places = [root / _TABLE, root / f"{_TABLE}.gz"]
    spec = find_spec("torchxrayvision")  # finds the folder and imports nothing
    carried = spec.submodule_search_locations if spec else None
    places += [Path(folder) / "data" / f"{_TABLE}.gz" for folder in carried or []]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise fault(places[0], "there is no such file", "download it from NIH, or pip install torchxrayvision")
    return found


def _read_rows(path: Path) -> list[_Row]:
    """All rows; a wrong box becomes the row's problem, a wrong image or label raises DataError."""
    table = read_table(path, _COLUMNS)
    return [
        _read_row(path, int(line), image.strip(), label.strip(), xywh)
        for line, image, label, *xywh in zip(table.index, *(table[name] for name in _COLUMNS), strict=True)
    ]


def _read_row(path: Path, line: int, image: str, label: str, xywh: Sequence[str]) -> _Row:
    if not image or Path(image).name != image:
        raise fault(path, f"{image!r} is not the name of an image", "correct the row", line)
    if label not in LABELS:
        raise fault(path, f"there is no finding {label!r}", f"use one of {', '.join(LABELS)}", line)
    try:
        named = zip(xywh, list(_COLUMNS.values())[2:], strict=True)
        box = box_from_xywh([number(text, path, line, column) for text, column in named], BOX_SPACE, path, line)
    except DataError as error:
        return _Row(line, image, label, None, str(error))
    return _Row(line, image, label, box, "")


def _find_images(root: Path, options: Mapping[str, str], table: Path, rows: Sequence[_Row]) -> dict[str, _Image]:
    """The file's images by name; those that are not there carry a problem, or are left out if the options say so.

    Raises:
        DataError: none of them is there.
    """
    folders = _image_folders(root, options.get("images"))
    first_rows = {row.image: row.number for row in reversed(rows)}
    found = {row.image: _locate(row.image, folders) for row in rows}
    if not any(found.values()):
        looked = ", ".join(str(folder) for folder in folders)
        what = f"none of its {len(found)} images is in {looked}"
        raise fault(table, what, "point --data-root or --dataset-option images=DIR at them")
    if options.get("present-only") == "true":
        found = {name: path for name, path in found.items() if path}
    missing = folders[0]
    return {name: _inspect(path, missing / name, table, first_rows[name]) for name, path in found.items()}


def _image_folders(root: Path, chosen: str | None) -> list[Path]:
    """Where images may lie: `images/`, the folder itself, and NIH's `images_001/images/` and so on."""
    bases = [root] if chosen is None else [root / chosen, Path(chosen)]
    base = next((place for place in bases if place.is_dir()), None)
    if base is None:
        raise UsageError(f"chestxray14's images={chosen}: no such folder, neither below {root} nor here")
    parts = sorted(path for path in base.glob("images_*") if path.is_dir())
    places = [base / "images", base, *(part / "images" for part in parts), *parts]
    return [place for place in places if place.is_dir()]


def _locate(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _inspect(path: Path | None, expected: Path, table: Path, line: int) -> _Image:
    """An image's size, or the problem with it."""
    if path is None:
        fix = f"add it to {expected.parent}, or leave such images out with --dataset-option present-only=true"
        return _Image(expected, BOX_SPACE, str(fault(table, f"its image {expected.name} is not there", fix, line)))
    try:
        return _Image(path, image_size(path), "")
    except DataError as error:
        return _Image(path, BOX_SPACE, str(error))


def _scaled(box: Box, size: Size) -> Box:
    """A box of `BOX_SPACE` in pixels of an image of (width, height) `size`."""
    x, y = size[0] / BOX_SPACE[0], size[1] / BOX_SPACE[1]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _grouped(rows: Sequence[_Row]) -> list[list[_Row]]:
    """The rows of each image and label, in the order of their first rows."""
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.image, row.label), []).append(row)
    return list(groups.values())


def _digest(rows: Sequence[_Row], images: Mapping[str, _Image]) -> str:
    """Changes with the boxes and with the images' sizes (a reduced copy is other data), not with a lost image."""
    sizes = sorted({image.size for image in images.values() if not image.problem})
    text = repr([(row.image, row.label, row.box) for row in rows]) + repr(sizes)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
