"""COCO's JSON: images, categories, annotations; read so that one wrong entry harms no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.geometry import Mask, Size
from gtg_bench.benchmark.datasets.problems import Faults, fault
from gtg_bench.benchmark.datasets.rows import Row, shown
from gtg_bench.benchmark.datasets.tabular import file_text

_SHAPE = '{"images": [...], "annotations": [...], "categories": [...]}'
_COLUMN_BY_COLUMN = '{"size": [height, width], "counts": [...]}'


@dataclass(frozen=True, slots=True)
class CocoEntry:
    """One annotation with its image.

    Attributes:
        row: the annotation.
        image: the entry of its image; an empty one where there is none.
        category: its category's name; "" where there is none.
        faults: what is wrong with the references.
    """

    row: Row
    image: Row
    category: str
    faults: Faults


def read_coco(path: Path) -> list[CocoEntry]:
    """The annotations of a COCO file, in its order.

    Raises:
        DataError: the file is missing, no JSON, or not of COCO's shape; the text names file and fix.
    """
    found = _json(path)
    if not isinstance(found, dict):
        raise fault(path, f"is not of COCO's shape: it holds a {type(found).__name__}", f"it must be {_SHAPE}")
    images, annotations = (_list(path, found, name) for name in ("images", "annotations"))
    categories = _list(path, found, "categories") if "categories" in found else []
    if not annotations:
        raise fault(path, "has no annotations", "download it again, or name another file")
    images_by_id, names_by_id = _by_id(images), _by_id(categories)
    return [_entry(row, images_by_id, names_by_id) for row in annotations]


def mask_of(row: Row, name: str, size: Size | None) -> Mask | None:
    """The mask of an annotation's segmentation: polygons, or counts of pixels; None where there is none.

    Args:
        row: the annotation.
        name: where the segmentation stands in it.
        size: (width, height) of the image, for polygons.

    Raises:
        DataError: the segmentation is not valid; the text names the file and the annotation.
    """
    found = row.values.get(name)
    if not found:
        return None
    try:
        if isinstance(found, dict):
            return _counted(found)
        if size is None:
            raise ValueError("its image's width and height are not given")
        return Mask.union([Mask.of(size, "polygon", _spaced(polygon)) for polygon in found])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        fix = f"give polygons [[x, y, x, y, ...], ...] or {_COLUMN_BY_COLUMN}"
        raise row.fault(f"{name} is no mask of its image ({error})", fix, "region") from error


def _counted(found: Mapping[str, Any]) -> Mask:
    height, width = found["size"]
    if not all(isinstance(side, int) and 0 < side < 100_000 for side in (height, width)):
        raise ValueError(f"a size of {found['size']}")
    counts = found["counts"]
    if isinstance(counts, str):
        return Mask.of((width, height), "coco", counts)
    return Mask.of((width, height), "counts", _spaced(counts))


def _spaced(values: Any) -> str:
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        raise TypeError("not a list of numbers")
    return " ".join(str(int(value) if float(value).is_integer() else value) for value in values)


def _json(path: Path) -> Any:
    text = file_text(path)
    if not text.strip():
        raise fault(path, "is empty", "download it again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise fault(path, f"is no valid JSON ({error.msg})", "download it again", error.lineno, "file") from error
    except (ValueError, RecursionError) as error:
        raise fault(path, f"is no usable JSON ({error})", "download it again") from error


def _list(path: Path, found: Mapping[str, Any], name: str) -> list[Row]:
    """A list of the file as rows; an entry that is no object becomes a broken one."""
    values = found.get(name)
    if not isinstance(values, list):
        has = ", ".join(map(repr, found))[:200] or "nothing"
        raise fault(path, f"is not of COCO's shape: it has no list {name!r}, but {has}", f"it must be {_SHAPE}")
    return [_row(path, f"{name}[{place}]", value) for place, value in enumerate(values)]


def _row(path: Path, place: str, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(path, place, value)
    return Row(path, place, {}, Row(path, place, {}).problem(f"is a {type(value).__name__}, not an object"))


def _by_id(rows: list[Row]) -> dict[str, Row]:
    """Entries by id; of several with one id the last, which is then broken."""
    found: dict[str, Row] = {}
    for row in rows:
        key = _id(row, "id")
        if key in found:
            what = f"has the id {key} of {found[key].row} again"
            found[key] = replace(row, broken=row.problem(what, "give each entry an id of its own"))
        elif key:
            found[key] = row
    return found


def _id(row: Row, name: str) -> str:
    """An id as text, since some files write it as a number here and as text there; "" where there is none."""
    value = row.values.get(name)
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""


def _entry(row: Row, images: Mapping[str, Row], categories: Mapping[str, Row]) -> CocoEntry:
    faults = Faults([row.broken] if row.broken else [])
    image = images.get(_id(row, "image_id"))
    if image is None and not row.broken:
        faults.append(row.problem(f"there is no image {shown(row.values.get('image_id'))}", "correct its image_id"))
    elif image is not None and image.broken:
        faults.append(row.problem(f"its image is not clear: {image.broken.row} {image.broken.what}", image.broken.fix))
        image = None
    category = categories.get(_id(row, "category_id"))
    if category is None and row.has("category_id"):
        what = f"there is no category {shown(row.values['category_id'])}"
        faults.append(row.problem(what, "correct its category_id", "category"))
    name = faults.text(category, "name") if category else ""
    return CocoEntry(row, image or Row(row.file, row.row, {}), name, faults)
