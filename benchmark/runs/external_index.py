"""index.csv in a folder of maps: which file is the map of which sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from gtg_bench.benchmark.api.files import MAX_BYTES, check_regular
from gtg_bench.benchmark.api.types import Box, PhraseSample
from gtg_bench.benchmark.datasets.problems import fault
from gtg_bench.benchmark.datasets.tables import Row, read_rows, shown

INDEX = "index.csv"
SIDES = ("left", "top", "right", "bottom")
_NAMES = "sample_id, or image_id and phrase"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of an index."""

    row: int
    """Line in the file; the header is line 1."""
    file: Path
    """The map."""
    span: Box | None
    """The rectangle of the original image that the map covers, xyxy in its pixels; None for the whole image."""


@dataclass(frozen=True)
class Index:
    """The rows of an index."""

    path: Path
    """Its file."""
    entries: dict[str, Entry]
    """Sample id -> its row."""
    elsewhere: int
    """Number of rows for samples of other splits or absent findings."""


def read_index(folder: Path, samples: Sequence[PhraseSample], others: Callable[[], Sequence[PhraseSample]]) -> Index:
    """Read a folder's index.csv.

    Its columns are `file` and `sample_id`, or `file`, `image_id`, `phrase` and optionally `category`; `left`, `top`,
    `right` and `bottom` optionally give the rectangle of the original image, in its pixels, that a map covers.

    Args:
        folder: the folder; files are named relative to it.
        samples: samples of the split that is scored.
        others: returns the samples of the other splits; called only if a row matches no sample of this split.

    Raises:
        DataError: the index is missing or invalid, or a row matches no sample, several samples, or the sample of
            another row; names file, row and fix.
    """
    path = folder / INDEX
    rows = read_rows(path, ["file"])
    columns = set(rows[0].values)
    if "sample_id" not in columns and not {"image_id", "phrase"} <= columns:
        raise fault(path, f"does not name the samples of its maps: it needs the columns {_NAMES}", "add them")
    known = KnownSamples(samples, others)
    entries: dict[str, Entry] = {}
    for row in rows:
        name = known.named_by(row)
        if name is None:
            continue
        if name in entries:
            raise row.fault(f"names the same sample as row {entries[name].row}", "remove one of them")
        if not row.has("file"):
            raise row.fault("names no file", "name the map, or remove the row: its sample then counts as failed")
        entries[name] = Entry(int(row.row), folder / row.text("file"), _span(row))
    if not entries:
        raise fault(path, f"none of its {known.elsewhere} rows names a sample of this split", "choose another --split")
    return Index(path, entries, known.elsewhere)


class KnownSamples:
    """The samples that rows may name: those of the split that is scored, and those of other splits.

    Attributes:
        elsewhere: how many rows named a sample of another split or an absent finding.
    """

    def __init__(self, samples: Sequence[PhraseSample], others: Callable[[], Sequence[PhraseSample]]) -> None:
        self._here, self._there = _Samples(samples), cache(lambda: _Samples(others()))
        self.elsewhere = 0

    def named_by(self, row: Row) -> str | None:
        """The id of a row's sample; None if it is of another split. Raises DataError if it is unknown or ambiguous."""
        name = self._here.find(row)
        if name is None:
            if self._there().find(row) is None:
                near = self._here.near(row) or self._there().near(row)
                fix = f"did you mean {near}? Otherwise" if near else f"correct {_NAMES}, or"
                raise row.fault("matches no sample of the data set", f"{fix} remove the row")
            self.elsewhere += 1
        return name


class _Samples:
    """Samples by what a row may say about them."""

    def __init__(self, samples: Sequence[PhraseSample]) -> None:
        self.ids = {sample.sample_id for sample in samples}
        self.phrases: dict[tuple[str, str], list[PhraseSample]] = defaultdict(list)
        for sample in samples:
            self.phrases[sample.image_id, sample.phrase.strip()].append(sample)

    def find(self, row: Row) -> str | None:
        """The id of a row's sample; None if it is not one of these. Raises DataError if several match."""
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
            raise row.fault(f"matches {len(found)} samples, of the categories {categories}", "add a column category")
        return found[0].sample_id if found else None

    def near(self, row: Row) -> str:
        """What the row may have meant: the most similar sample id, phrase of its image, or image id; "" if none is."""
        name, images = "sample_id", sorted({image for image, _ in self.phrases})
        known: Iterable[str] = self.ids
        if not row.has(name):
            name = "phrase" if row.text("image_id") in images else "image_id"
            known = images
            if name == "phrase":
                known = [phrase for image, phrase in self.phrases if image == row.text("image_id")]
        return " or ".join(f"{name} {shown(one)}" for one in get_close_matches(row.text(name), sorted(known), n=1))


def check_place(file: Path, folder: Path) -> None:
    """Check that a file of an index is a regular one inside its folder, after links are followed.

    Raises:
        ValueError: it is elsewhere, too large, or a folder, device or pipe, which could be read forever.
        FileNotFoundError: it does not exist.
    """
    if not file.resolve(strict=True).is_relative_to(folder.resolve()):
        raise ValueError("it is not inside the folder of the index: copy it there")
    check_regular(file)
    if file.stat().st_size > 2 * MAX_BYTES:
        raise ValueError(f"it has more than {2 * MAX_BYTES:,} bytes")


def _span(row: Row) -> Box | None:
    given = [name for name in SIDES if row.has(name)]
    if not given:
        return None
    if missing := [name for name in SIDES if name not in given]:
        raise row.fault(f"has {given[0]} but no {missing[0]}", "give all four sides, or none for the whole image")
    left, top, right, bottom = (row.number(name) for name in SIDES)
    if left >= right or top >= bottom:
        raise row.fault("needs left < right and top < bottom", "give pixels of the original image")
    return left, top, right, bottom
