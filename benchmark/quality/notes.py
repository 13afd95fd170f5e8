"""What small or unequal numbers, equal images and missing facts mean for measures of image quality, in words."""

from __future__ import annotations

from collections.abc import Sequence

from gtg_bench.benchmark.quality.encoded import Encoded
from gtg_bench.benchmark.quality.images import Pictures
from gtg_bench.benchmark.quality.neighbours import NEIGHBOURS
from gtg_bench.benchmark.quality.results import Row
from gtg_bench.benchmark.quality.similarity import window_for
from gtg_bench.benchmark.statistics.bounds import LEAST_PATIENTS

LEAST_IN_CATEGORY = 4 * NEIGHBOURS
"""Fewest images of a category, on each side, that get a row."""


def notes_of(
    rows: Sequence[Row],
    encoded: Sequence[Encoded],
    sets: Sequence[Pictures],
    side: int,
    skipped: Sequence[str],
    profile: str,
) -> list[str]:
    """Everything that a reader of the rows must know.

    Args:
        rows: of all sets, then of categories.
        encoded: the images that were compared: the reference first, then one set for each row over all categories.
        sets: all real images, then the generated sets before they were cut.
        side: pixels that images were brought to.
        skipped: categories without rows.
        profile: "paired" or "released".
    """
    n, size = min(row.n for row in rows), encoded[0].features.shape[1]  # of the smallest category, if there are any
    notes = [note for pictures in sets for note in pictures.notes]
    notes += _numbers(sets, rows[0].n, profile)
    if n < size:
        use = "use KID" if n >= 4 else "add images"
        notes.append(
            f"n = {n} is less than the {size:,} features: covariances are singular and FID mostly measures n; {use}."
        )
    if profile == "paired":
        notes += _absent(rows, n, size)
        if not all(picture.patient for picture in sets[0]):
            notes.append("The patients of the real images are unknown: the halves were split by image.")
    notes += _equal(encoded)
    notes += _similarity(rows, sets, side, profile)
    if skipped:
        notes.append(f"Categories with fewer than {LEAST_IN_CATEGORY} images on a side: {', '.join(skipped)}.")
    return notes


def _numbers(sets: Sequence[Pictures], n: int, profile: str) -> list[str]:
    """How many images each set has, if that differs from what was compared."""
    real, *generated = sets
    half = "" if profile == "released" else f" ({len(real) // 2} in each half)"
    told = ", ".join([f"{real.name} {len(real):,}{half}", *(f"{each.name} {len(each):,}" for each in generated)])
    if profile == "released":
        return [f"Images: {told}."]
    if len({len(real) // 2, *map(len, generated)}) == 1:
        return []
    return [f"Unequal numbers of images: {told}. All sets are cut to n = {n:,}."]


def _absent(rows: Sequence[Row], n: int, size: int) -> list[str]:
    """Which measures and intervals are missing, and what they need."""
    notes = []
    if n < 2 * size:
        notes.append(f"FID is not extrapolated: that needs n of at least {2 * size:,}, twice the features.")
    if n < 4:
        notes.append("No KID: it needs 4 images on each side.")
    if n <= NEIGHBOURS:
        notes.append(f"No precision, recall, density and coverage: they need {NEIGHBOURS + 1} images on each side.")
    if without := [row.name for row in rows if not row.category and row.values["fid"].low is None]:
        notes.append(f"No CI for {', '.join(without)}: fewer than {LEAST_PATIENTS} patients or prompts on a side.")
    return notes


def _equal(encoded: Sequence[Encoded]) -> list[str]:
    """Images that occur more than once in a set, or in the reference, too."""
    notes, known = [], set(encoded[0].digests)
    for number, every in enumerate(encoded):
        name = every.pictures.name if number else f"{every.pictures.name} (reference)"
        n, distinct = len(every.digests), len(set(every.digests))
        if distinct < n:
            notes.append(f"{name}: only {distinct} of {n} images are distinct.")
        if number and (same := sum(digest in known for digest in every.digests)):
            notes.append(f"{name}: {same} of {n} images are identical to images of the reference.")
    return notes


def _similarity(rows: Sequence[Row], sets: Sequence[Pictures], side: int, profile: str) -> list[str]:
    """Why MS-SSIM is missing, or undefined for some pairs."""
    notes = []
    if window_for(side) is None:
        notes.append(f"No MS-SSIM: sides of {side} px are below its window's least, 63 px.")
    elif missing := [pictures.name for pictures in sets if not pictures.by_prompt()]:
        names = ", ".join(dict.fromkeys(missing)) if len(missing) < len(sets) else "any set"
        notes.append(f"No MS-SSIM of {names}: no prompt with two images (index.csv names prompts).")
    for row in rows:
        if row.similarity and row.similarity.unlike:
            how = "left out, as in the released code" if profile == "released" else "counted as 0"
            notes.append(
                f"MS-SSIM of {row.name}: undefined (NaN) for {row.similarity.unlike} of {row.similarity.pairs} pairs, "
                f"whose structure is opposite at some scale; {how}."
            )
    return notes
