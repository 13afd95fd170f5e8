"""Your own data: a COCO-style JSON file whose annotations have a phrase, or a category that serves as one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import Mask, Size, bounds
from gtg_bench.benchmark.api.mask_codes import NoAreaError
from gtg_bench.benchmark.datasets.base import ALL, AnnotatedDataset, Annotation
from gtg_bench.benchmark.datasets.locate import chosen_file, is_within
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Faults, Row, read_json, shown

PHRASES = ("label_text", "phrase", "caption")
"""Where an annotation may have its phrase; the first one present counts, else its category's name."""

PATIENTS = ("patient_id", "subject_id")
NO_CATEGORY = "unlabelled"
_SHAPE = '{"images": [...], "annotations": [...], "categories": [...]}'


class CocoDataset(AnnotatedDataset):
    """A COCO-style file; one sample is an image, a category and a phrase, with all their boxes or masks.

    Further options: `annotations` (the JSON file, relative to the data root or the working folder; default: the only
    one in the data root) and `region` (auto: masks if every annotation of a phrase has one; box: always boxes).

    A phrase with an empty box, `"bbox": []`, and no segmentation names a finding that the image does not show; see
    `absent_samples`.

    An annotation's or its image's `split` names its split; in a file without splits everything is `test`. The patient
    is the annotation's or image's `patient_id` or `subject_id`; without one, every image is its own patient.
    """

    name = "coco"
    needs = "the folder with the COCO file and the images"
    own_options = ("annotations", "region")
    slack = 1.0

    def checked_options(self, options: Mapping[str, str]) -> dict[str, str]:
        """The options, with a known region. Raises UsageError."""
        if options.get("region", "auto") not in ("auto", "box"):
            raise UsageError(f"coco: region must be auto or box, not {options['region']!r}")
        return super().checked_options(options)

    def read(self) -> Iterator[Annotation]:
        """The annotations in the file's order."""
        entries = read_coco(self._file())
        ids = _image_ids(name for name in (_image_name(entry.image) for entry in entries) if is_within(name))
        found = [self._annotation(entry, ids) for entry in entries]
        self.splits = (*(dict.fromkeys(a.split for a in found if a.split)), ALL)
        yield from found

    def image_names(self, row: Annotation) -> Sequence[str]:
        """The file name as given, and without its folders."""
        return list(dict.fromkeys([row.image, PurePosixPath(row.image).name]))

    def _file(self) -> Path:
        if chosen := self.options.get("annotations"):
            return chosen_file(self.name, self.root, chosen)
        found = sorted(path for path in self.root.glob("*.json") if not path.name.startswith("."))
        if len(found) != 1:
            names = f" ({', '.join(path.name for path in found[:9])})" if found else ""
            what = f"contains {len(found) or 'no'} JSON files{names} instead of one"
            raise fault(self.root, what, "name the COCO file with --dataset-option annotations=FILE")
        return found[0]

    def _annotation(self, entry: CocoEntry, ids: Mapping[str, str]) -> Annotation:
        row, image, faults = entry.row, entry.image, entry.faults

        def first(names: Sequence[str], *places: Row) -> str:
            return next((faults.text(place, name) for place in places for name in names if place.has(name)), "")

        name = _image_name(image)
        image_id = ids.get(name, "")
        size = faults.get(image.size, "width", "height")
        bbox, boxes = row.values.get("bbox"), self.options.get("region") == "box"
        blank = not bbox or (isinstance(bbox, list) and len(bbox) == 4 and 0 in bbox[2:])  # as tools write it for masks
        mask = faults.get(_mask, row, size) if blank or not boxes else None
        absent = bbox == [] and not row.values.get("segmentation")
        box = None if absent or (mask and blank) else faults.get(row.box_list, "bbox")
        return Annotation(
            file=row.file,
            row=row.row,
            image=name,
            image_id=image_id,
            phrase=first(PHRASES, row) or entry.category,
            patient_id=first(PATIENTS, row) or first(PATIENTS, image) or image_id,
            category=entry.category or NO_CATEGORY,
            box=bounds(mask.decode()) if mask and boxes else box,
            mask=None if boxes else mask,
            size=size,
            split=first(("split",), row) or first(("split",), image) or "test",
            problems=tuple(faults),
            absent=absent,
        )


def _image_name(image: Row) -> str:
    """The image's path if it is usable, else its file name, with slashes for backslashes; "" if it has neither."""
    found = map(image.values.get, ("path", "file_name"))
    names = [name.replace("\\", "/") for name in found if isinstance(name, str)]
    return next((name for name in names if is_within(name)), next(iter(names), ""))


def _image_ids(names: Iterable[str]) -> dict[str, str]:
    """A distinct id for every image name: its stem if no other image has the same, else its path in one piece.

    Characters other than letters, digits, "_", "." and "-" become "_"; where that makes two ids equal, a digest of the
    name is appended.
    """
    plain = {name: normalize("NFC", name) for name in names}
    stems = {name: PurePosixPath(text).stem for name, text in plain.items()}
    shared = Counter(stems.values())
    whole = {name: stem if shared[stem] == 1 else plain[name] for name, stem in stems.items()}
    ids = {name: re.sub(r"[^\w.-]+", "_", text) for name, text in whole.items()}
    taken = Counter(ids.values())
    digests = {name: sha256(name.encode(errors="replace")).hexdigest()[:8] for name in ids}
    return {
        name: made if taken[made] == 1 or made == whole[name] else f"{made}-{digests[name]}"
        for name, made in ids.items()
    }


@dataclass(frozen=True, slots=True)
class CocoEntry:
    """One annotation with its image.

    Attributes:
        row: the annotation.
        image: the entry of its image; empty if there is none.
        category: its category's name; "" if it has none.
        faults: what is wrong with its references.
    """

    row: Row
    image: Row
    category: str
    faults: Faults


def read_coco(path: Path) -> list[CocoEntry]:
    """The annotations of a COCO file in the file's order; an invalid entry does not affect the others.

    Raises:
        DataError: the file is missing, not JSON, or not COCO-style; names file and fix.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise fault(path, f"is not a COCO file: it contains a {type(found).__name__}", f"it must be {_SHAPE}")
    images, annotations = (_rows(path, found, name) for name in ("images", "annotations"))
    categories = _rows(path, found, "categories") if "categories" in found else []
    if not annotations:
        raise fault(path, "has no annotations", "download it again, or name another file")
    images_by_id, categories_by_id = _by_id(images), _by_id(categories)
    return [_entry(row, images_by_id, categories_by_id) for row in annotations]


def _rows(path: Path, found: Mapping[str, Any], name: str) -> list[Row]:
    """A list in the file as rows; an entry that is not an object becomes a broken row."""
    values = found.get(name)
    if not isinstance(values, list):
        has = ", ".join(map(repr, found))[:200] or "nothing"
        raise fault(path, f"is not a COCO file: it has no list {name!r}, only {has}", f"it must be {_SHAPE}")
    rows = [Row(path, f"{name}[{k}]", value if isinstance(value, dict) else {}) for k, value in enumerate(values)]
    return [
        row if isinstance(value, dict) else replace(row, broken=row.problem(f"is {shown(value)}, not an object"))
        for row, value in zip(rows, values, strict=True)
    ]


def _by_id(rows: list[Row]) -> dict[str, Row]:
    """Entries by id. If several share an id the last one is kept, as a broken row."""
    found: dict[str, Row] = {}
    for row in rows:
        key = _id(row, "id")
        if key in found:
            what = f"repeats the id {key} of {found[key].row}"
            found[key] = replace(row, broken=row.problem(what, "give each entry its own id"))
        elif key:
            found[key] = row
    return found


def _id(row: Row, name: str) -> str:
    """An id as text (some files mix numbers and text); "" if there is none."""
    value = row.values.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes 3.0 for 3
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""


def _entry(row: Row, images: Mapping[str, Row], categories: Mapping[str, Row]) -> CocoEntry:
    faults = Faults([row.broken] if row.broken else [])
    image = images.get(_id(row, "image_id"))
    if image is None and not row.broken:
        faults.append(row.problem(f"refers to unknown image {shown(row.values.get('image_id'))}", "correct image_id"))
    elif image is not None and image.broken:
        faults.append(row.problem(f"its image is ambiguous: {image.broken.row} {image.broken.what}", image.broken.fix))
        image = None
    category = categories.get(_id(row, "category_id"))
    if category is None and row.has("category_id"):
        what = f"refers to unknown category {shown(row.values['category_id'])}"
        faults.append(row.problem(what, "correct category_id", "category"))
    name = faults.text(category, "name") if category else ""
    return CocoEntry(row, image or Row(row.file, row.row, {}), name, faults)


def _mask(row: Row, size: Size | None) -> Mask | None:
    """An annotation's mask from its polygons or run lengths; None if it has no segmentation.

    Polygons without an area are left out if there are others.

    Args:
        row: the annotation.
        size: (width, height) of the image, for polygons.

    Raises:
        DataError: the segmentation is invalid; names the file and the annotation.
    """
    found = row.values.get("segmentation")
    if not found:
        return None
    try:
        if not isinstance(found, dict):
            if size is None:
                raise ValueError("the width and height of its image are missing")
            return _polygons(size, found)
        height, width = found["size"]
        if not all(isinstance(side, (int, float)) and side >= 1 and side == int(side) for side in (height, width)):
            raise ValueError(f"a size of {found['size']}")
        compressed = isinstance(found["counts"], str)
        code = found["counts"] if compressed else joined(found["counts"])
        return Mask.of((int(width), int(height)), "coco" if compressed else "counts", code)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        fix = 'give polygons [[x, y, x, y, ...], ...] or {"size": [height, width], "counts": [...]}'
        raise row.fault(f"segmentation is not a valid mask of its image ({error})", fix, "region") from error


def _polygons(size: Size, polygons: Any) -> Mask:
    parts, empty = [], None
    for polygon in polygons:
        try:
            parts.append(Mask.of(size, "polygon", joined(polygon)))
        except NoAreaError as error:
            empty = error
    if empty is not None and not parts:
        raise empty
    return Mask.union(parts)


def joined(values: Any) -> str:
    """Numbers as the code of a mask, see `api.mask_codes`. Raises TypeError for anything but a list of numbers."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise TypeError("not a list of numbers")
    return " ".join(str(int(value) if float(value).is_integer() else value) for value in values)
