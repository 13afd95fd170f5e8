"""index.csv of a folder of maps: which file is the map of which sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gtg_bench.benchmark.api.types import Box, PhraseSample
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Row, read_rows

INDEX = "index.csv"
SIDES = ("left", "top", "right", "bottom")
_NAMES = "sample_id, or image_id and phrase"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an index.

    Attributes:
        row: the line, the header is line 1.
        file: the map.
        span: the rectangle of the original image that the map spans, xyxy in its pixels; None for the whole image.
    """

    row: int
    file: Path
    span: Box | None


@dataclass(frozen=True)
class Index:
    """The lines of an index.

    Attributes:
        path: of the index.
        entries: sample id -> its line.
        elsewhere: how many lines are of samples of other splits.
    """

    path: Path
    entries: dict[str, Entry]
    elsewhere: int


def read_index(folder: Path, samples: Sequence[PhraseSample], others: Callable[[], Sequence[PhraseSample]]) -> Index:
    """Read a folder's index.csv.

    Its columns are `file` and `sample_id`, or `file`, `image_id`, `phrase` and perhaps `category`; `left`, `top`,
    `right` and `bottom` may say which rectangle of the original image, in its pixels, a map spans.

    Args:
        folder: of the index; files are named relative to it.
        samples: of the split that is scored.
        others: of the data set's other splits; asked for only where a line is of no sample of this one.

    Raises:
        DataError: the index is missing or broken, or a line is of no sample, of several, or of one that has a line
            already; the text names file, row and fix.
    """
    path = folder / INDEX
    rows = read_rows(path, ["file"])
    known = set(rows[0].values)
    if "sample_id" not in known and not {"image_id", "phrase"} <= known:
        raise fault(path, f"does not say whose maps they are: it needs the columns {_NAMES}", "add them")
    here, there = _Names(lambda: samples), _Names(others)
    entries: dict[str, Entry] = {}
    elsewhere = 0
    for row in rows:
        name = here.find(row)
        if name is None:
            elsewhere += 1
            if there.find(row) is None:
                raise row.fault("is of no sample of the data set", f"correct {_NAMES}, or leave the row out")
            continue
        if name in entries:
            raise row.fault(f"is of the sample of row {entries[name].row} as well", "leave one of them out")
        entries[name] = _entry(folder, row)
    if not entries:
        raise fault(path, f"none of its {elsewhere} rows is of a sample of this split", "choose another --split")
    return Index(path, entries, elsewhere)


class _Names:
    """Finds samples by what a line says of them."""

    def __init__(self, samples: Callable[[], Sequence[PhraseSample]]) -> None:
        self._samples = samples

    @cached_property
    def ids(self) -> set[str]:
        return {sample.sample_id for sample in self._samples()}

    @cached_property
    def phrases(self) -> dict[tuple[str, str], list[PhraseSample]]:
        found: dict[tuple[str, str], list[PhraseSample]] = defaultdict(list)
        for sample in self._samples():
            found[sample.image_id, sample.phrase.strip()].append(sample)
        return found

    def find(self, row: Row) -> str | None:
        """The id of a line's sample; None where there is no such sample. Raises DataError where there are several."""
        if row.broken:
            raise row.fault(row.broken.what, row.broken.fix)
        if row.has("sample_id"):
            return row.text("sample_id") if row.text("sample_id") in self.ids else None
        if not row.has("image_id") or not row.has("phrase"):
            raise row.fault("does not name its sample", f"fill in {_NAMES}")
        found = self.phrases.get((row.text("image_id"), row.text("phrase")), [])
        if row.has("category"):
            found = [sample for sample in found if sample.category == row.text("category")]
        if len(found) > 1:
            categories = ", ".join(sample.category for sample in found)
            raise row.fault(f"is of {len(found)} samples, of the categories {categories}", "add a column category")
        return found[0].sample_id if found else None


def _entry(folder: Path, row: Row) -> Entry:
    if not row.has("file"):
        raise row.fault("names no file", "name the map, or leave the row out: its sample then counts as failed")
    return Entry(int(row.row), folder / row.text("file"), _span(row))


def _span(row: Row) -> Box | None:
    given = [name for name in SIDES if row.has(name)]
    if not given:
        return None
    if missing := [name for name in SIDES if name not in given]:
        raise row.fault(f"has {given[0]} but no {missing[0]}", "give all four sides, or none for the whole image")
    left, top, right, bottom = (row.number(name) for name in SIDES)
    if left >= right or top >= bottom:
        raise row.fault("left is not below right, or top not below bottom", "give pixels of the original image")
    return left, top, right, bottom
