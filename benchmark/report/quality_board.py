"""`quality.csv`: what generated images scored, one row per set, category and definition, found again by its key."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.text import csv_text
from gtg_bench.benchmark.paths import locked
from gtg_bench.benchmark.quality.results import FLOOR, MEASURES, Quality
from gtg_bench.benchmark.quality.results import Row as Measured
from gtg_bench.benchmark.report.leaderboard import make_own, write_csv
from gtg_bench.benchmark.state import one_line

Row = dict[str, str]

NAME = "quality.csv"
MADE = ("method", "weights", "weights_version", "steps", "guidance", "dataset", "split")
"""Columns from generation.json; empty for folders without one, and for the floor."""

FIDS = {"fid": "inception", "fid_xrv": "xrv", "fid_phantom": "phantom"}
"""Metric of a table -> network whose FID it is."""

_RATES = (*MEASURES, "ms_ssim", "near")
_VALUES = tuple(f"{name}{end}" for name in _RATES for end in ("", "_low", "_high"))
COLUMNS = (
    *("images", *MADE, "generation_key", "real", "category", "profile", "features", "features_version", "side", "n"),
    *(*_VALUES, "kid_spread", "n_pairs", "n_unlike", "n_identical", "digest", "real_digest", "key"),
)
"""`images` is the name of the folder, `near` and `n_identical` are of the copy check, `n_unlike` counts the pairs of
images whose MS-SSIM is undefined."""


def rows_of(quality: Quality) -> list[Row]:
    """The rows of one call."""
    return [_row(quality, row) for row in quality.rows]


def _row(quality: Quality, row: Measured) -> Row:
    found = dict.fromkeys(COLUMNS, "") | {name: row.made.get(name, "") for name in MADE}
    found |= {"images": row.name, "generation_key": row.made.get("key", ""), "real": quality.real}
    found |= {"category": row.category, "profile": quality.profile, "side": str(quality.side), "n": str(row.n)}
    found |= {"features": quality.features, "features_version": quality.version, "key": row.key}
    found |= {"digest": row.digest, "real_digest": quality.real_digest}
    values = dict(row.values)
    estimates = {name: (value.value, value.low, value.high) for name, value in values.items()}
    if row.similarity:
        estimate = row.similarity.estimate
        estimates["ms_ssim"] = estimate.value, estimate.low, estimate.high  # type: ignore[assignment]
        found |= {"n_pairs": str(row.similarity.pairs), "n_unlike": str(row.similarity.unlike)}
    if row.copies:
        estimate = row.copies.near
        estimates["near"] = estimate.value, estimate.low, estimate.high  # type: ignore[assignment]
        found["n_identical"] = str(row.copies.identical)
    for name, three in estimates.items():
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), map(_number, three), strict=True))
    if "kid" in values:
        found["kid_spread"] = _number(values["kid"].spread)
    return found


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def update(folder: Path, rows: Sequence[Row]) -> Path:
    """Write rows into the folder's quality.csv, replacing those with the same key; return the file.

    Raises:
        UsageError: the folder is that of the shipped results.
        DataError: the existing file was written by another version.
    """
    make_own(folder)
    path = folder / NAME
    with locked(folder / ".quality.lock"):
        known = {row["key"]: row for row in read(path)} | {row["key"]: row for row in rows}
        order = ("real", "features", "profile", "category", "images", "key")
        write_csv(path, COLUMNS, sorted(known.values(), key=lambda row: [row[name] for name in order]))
    return path


def read(path: Path) -> list[Row]:
    """The rows of a quality.csv; empty if it is missing.

    Raises:
        DataError: it cannot be read, or has other columns or damaged rows.
    """
    if not path.exists():
        return []
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({one_line(str(error))}); move it away and rerun") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DataError(f"{path} was written by another version; move it away and rerun")
    rows = []
    for number, cells in enumerate(lines[1:], 2):
        row = dict(zip(COLUMNS, map(csv_text, cells), strict=False))
        if len(cells) != len(COLUMNS) or not row["key"] or not _numeric(row[name] for name in (*_VALUES, "n")):
            raise DataError(f"{path}, row {number}: is damaged; remove it, and rerun its `gtg-bench quality`")
        rows.append(row)
    return rows


def _numeric(cells: Iterable[str]) -> bool:
    try:
        return all(abs(float(cell)) < float("inf") for cell in cells if cell)
    except ValueError:
        return False


def comparable(rows: Iterable[Row], features: str) -> list[Row]:
    """The rows over all categories that share real images, n and definition: of several such groups the largest.

    Args:
        rows: of a quality.csv.
        features: name of the network.

    Returns:
        the floor first if it is there. A group with more methods, then one with more images, is larger.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["features"] == features and not row["category"] and row["profile"] == "paired":
            same = tuple(row[name] for name in ("real_digest", "n", "side", "features_version"))
            groups.setdefault(same, []).append(row)
    if not groups:
        return []
    best = max(groups.values(), key=lambda group: (len({_weights(row) for row in group}), int(group[0]["n"])))
    return sorted(best, key=lambda row: row["images"] != FLOOR)


def of_weights(rows: Iterable[Row], run: Mapping[str, str]) -> Row | None:
    """The row of images that were generated with the method and weights of a run; of several guidances the lowest FID.

    Args:
        rows: comparable ones.
        run: a row of a leaderboard.
    """
    found = [row for row in rows if row["method"] and row["fid"] and _weights(row) == _weights(run)]
    return min(found, key=lambda row: float(row["fid"]), default=None)


def _weights(row: Mapping[str, str]) -> tuple[str, str]:
    return row.get("method") or "", row.get("weights_version") or ""
