"""What `gtg-bench quality` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gtg_bench.benchmark.quality.results import EXPECTED, FLOOR, Quality
from gtg_bench.benchmark.report.quality_board import FIDS, Row, comparable, rows_of
from gtg_bench.benchmark.report.tables.document import NOTHING, Block, Cell, Column, Document
from gtg_bench.benchmark.report.tables.document import Row as Line

_HEADINGS = {
    "fid": "FID",
    "fid_infinity": "FID, n→∞",
    "kid": "KID",
    "ms_ssim": "MS-SSIM",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "near": "near copies",
}
_DISTANCES = ("fid", "fid_infinity", "kid", "ms_ssim")


def quality_document(quality: Quality) -> Document:
    """The tables of one call: distances and diversity, then neighbours, each with the floor in its first row."""
    rows = rows_of(quality)
    sides = {row["n"] for row in rows if not row["category"]}
    count = f"n = {sides.pop()} images on each side" if quality.profile == "paired" else "all images of both sides"
    title = f"Image quality against {quality.real}: {count}, features {quality.features} ({quality.n_features:,})"
    blocks = [_block(rows, "Distance to real images (lower is better), and similarity within prompts", _DISTANCES)]
    if quality.profile == "paired":
        others = [name for name in _HEADINGS if name not in _DISTANCES]
        blocks.append(_block(rows, "Nearest neighbours (higher is better), and the copy check", others))
    notes = [*quality.notes, *_definitions(quality)]
    return Document("quality", title, tuple(blocks), tuple(("", note) for note in notes))


def _block(rows: Sequence[Row], title: str, names: Sequence[str]) -> Block:
    shown = [name for name in names if any(row[name] for row in rows)]
    columns = tuple(Column("", _HEADINGS[name], name, "", "measured", "") for name in shown)
    lines = []
    for row in rows:
        section = f"{row['category']}, n = {row['n']}" if row["category"] else ""
        label = f"{FLOOR} (floor)" if row["images"] == FLOOR else row["images"]
        section = section or ("All images" if any(other["category"] for other in rows) else "")
        lines.append(Line(label, tuple(quality_cell(row, name) for name in shown), section))
    return Block(title, columns, tuple(lines))


def quality_cell(row: Row, name: str) -> Cell:
    """A measure of one row, with half the width of its 95 % CI."""
    if not row[name]:
        return NOTHING
    value, low, high = float(row[name]), row[f"{name}_low"], row[f"{name}_high"]
    half = (float(high) - float(low)) / 2 if low else None
    return Cell(
        _digits(value, abs(value) / 30 if half is None else half),
        row[name],
        "" if half is None else _digits(half, half),
        n=row["n"],
        run_key=row["key"],
        method=row["method"],
    )


def _digits(value: float, like: float) -> str:
    """A number with as many decimals as two digits of another one need."""
    if abs(value) >= 1e5 or 0 < like < 1e-4:
        return f"{value:.2g}"
    places = 2 if like <= 0 else max(0, 1 - math.floor(math.log10(like)))
    return f"{value:.{places}f}"


def _definitions(quality: Quality) -> list[str]:
    """What the numbers are."""
    from gtg_bench.benchmark.quality.compare import HALVES
    from gtg_bench.benchmark.quality.distances import LARGEST_SUBSET, SUBSETS
    from gtg_bench.benchmark.quality.neighbours import NEIGHBOURS
    from gtg_bench.benchmark.quality.similarity import PER_PROMPT

    size = f"{quality.side} px, the smallest side of all sets (shorter side resized, centre crop), and to 8 bits"
    notes = [f"Images: brought to {size}; {quality.features}: {quality.prepared}."]
    if not quality.published:
        notes.append(f"Features of {quality.features}: never comparable with published FIDs.")
    if quality.profile == "released":
        notes.append(
            "Profile released: FID from unequal numbers of images, MS-SSIM with each pair's own range of values; it "
            "has no floor. Not comparable with other rows. ±: half-width of the 95 % CI (bootstrap over prompts)."
        )
    else:
        notes += [
            "Floor: one half of the real images against the other half, split by patient: about what a perfect "
            "model would score. FID grows as n shrinks: compare it with the floor, never with a FID of another n.",
            f"KID: unbiased; mean over {SUBSETS} subsets of min({LARGEST_SUBSET:,}, n/2) images; around 0 (also "
            "negative) for equal distributions.",
            f"±: half-width of the 95 % CI, from {HALVES} random halves by patient and by prompt; of MS-SSIM and near "
            "copies from a bootstrap over them.",
        ]
    if any("precision" in row.values for row in quality.rows):
        notes.append(
            "Precision: share of the images that lie among real ones; recall: share of the real images that lie among "
            "them. Density (1 for equal distributions, can be more) and coverage: the same, less sensitive to "
            f"outliers. {NEIGHBOURS} neighbours."
        )
    if quality.window and any(row.similarity for row in quality.rows):
        notes.append(
            f"MS-SSIM: mean over pairs of up to {PER_PROMPT} images of a prompt ({quality.window}); lower is more "
            "diverse." + (" Real images: patients with the same phrase." if quality.profile == "paired" else "")
        )
    copied = [row for row in quality.rows if row.copies and row.name != FLOOR]
    if copied:
        notes.append(
            f"Near copies: share of images nearer to a training image than {EXPECTED:.0%} of the held-out real images."
        )
    for row in copied:
        assert row.copies
        image, training = row.copies.nearest
        same = f"; {row.copies.identical} identical" if row.copies.identical else ""
        notes.append(f"{row.name}: {image} is nearest to a training image, {training}{same}.")
    return notes


def fid_notes(rows: Sequence[Row]) -> list[str]:
    """What must be known about the FIDs of a table: the images, their number, and the floor."""
    notes = []
    for features in FIDS.values():
        found = comparable(rows, features)
        if found:
            first = found[0]
            floor = f"; floor {quality_cell(first, 'fid').figure}" if first["images"] == FLOOR else ""
            notes.append(
                f"FID with features of {features}: against {first['real']}, n = {first['n']} on each side{floor}. "
                "`gtg-bench quality` measures more of it."
            )
    return notes
