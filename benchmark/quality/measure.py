"""How good generated images are, beside what two halves of the real images score: everything that is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.text import number_of
from gtg_bench.benchmark.quality.compare import compare
from gtg_bench.benchmark.quality.copies import copies
from gtg_bench.benchmark.quality.distances import fid
from gtg_bench.benchmark.quality.encoded import Count, Encoded, Encoder
from gtg_bench.benchmark.quality.images import Pictures, common_side, halves
from gtg_bench.benchmark.quality.networks import Network
from gtg_bench.benchmark.quality.notes import LEAST_IN_CATEGORY, notes_of
from gtg_bench.benchmark.quality.results import FLOOR, Quality, Row, Value
from gtg_bench.benchmark.quality.similarity import similarity, window_for

CODE = 2
"""Bumped whenever the same images give other numbers."""


def measure(
    generated: Sequence[Pictures],
    real: Pictures,
    network: Network,
    training: Pictures | None = None,
    profile: str = "paired",
    by_category: bool = False,
    limit: int | None = None,
    seed: int = 0,
    progress: Count = lambda done, total: None,
) -> Quality:
    """Measure sets of generated images.

    The real images are split by patient. One half is the reference that everything is compared with; the other half is
    compared with it like a set of generated images, which gives the floor. All sets are cut to the same number.

    Args:
        generated: at least one set, each with a name of its own.
        real: real images.
        network: whose features are compared.
        training: images that the models were trained on, for the copy check; None: no check.
        profile: "paired", or "released": only FID and MS-SSIM, as in the paper's released code: from all images of both
            sides, with neither a floor nor intervals.
        by_category: also one row for each finding.
        limit: most images on each side.
        seed: of the split, the choice of images, and resamples.
        progress: called with the images done and in all.

    Raises:
        UsageError: two sets have one name, or a category table of a released profile.
        DataError: too few images, or one cannot be read.
    """
    if len({pictures.name for pictures in generated}) < len(generated):
        raise UsageError("two folders have the same name; rename one of them")
    for pictures, least in ((real, 2 if profile == "released" else 4), *((each, 2) for each in generated)):
        if len(pictures) < least:
            count = number_of(len(pictures), "image")
            raise DataError(f"{pictures.name}: has {count}, and a distance needs {least} or more; add images")
    side = common_side([*generated, real])
    window = window_for(side)
    sets = [pictures.shuffled(seed) for pictures in generated]
    released = profile == "released"
    reference, others = (real, sets) if released else _balanced(real, sets, limit, seed)
    encode = Encoder(network, side, progress, sum(map(len, [reference, *others, training or ()])))
    encoded, first = [encode(pictures) for pictures in others], encode(reference)
    trained = encode(training) if training else None
    rows = []
    for one, every in zip(encoded, sets if released else [real, *sets], strict=True):
        alike = every.by_prompt() if window else {}
        rows.append(
            replace(
                _row(first, one, "", seed, released),
                similarity=similarity(alike, side, window, released) if alike and window else None,
                copies=copies(one, encoded[0], trained) if trained and not released else None,
            )
        )
    skipped: list[str] = []
    if by_category and not released:
        rows += _by_category(first, encoded, seed, skipped)
    checked = f"{trained.digest} {encoded[0].identity}" if trained else ""
    keyed = [replace(row, key=_key(row, checked, network, side, profile, seed)) for row in rows]
    notes = notes_of(rows, [first, *encoded], [real, *sets], side, skipped, profile)
    notes += [
        f"{name}: {number_of(count, 'image')} below {side} px, enlarged."
        for name, count in encode.enlarged.items()
        if count
    ]
    facts = network.name, network.version, first.features.shape[1], network.prepared, network.published
    return Quality(keyed, real.name, first.digest, *facts, side, window, profile, notes)


def _balanced(
    real: Pictures, sets: Sequence[Pictures], limit: int | None, seed: int
) -> tuple[Pictures, list[Pictures]]:
    """The reference images, and the other real ones with the sets: all of them cut to the same number.

    A set with the file names of the real images, a copy or reconstructions, is cut to the images of the reference.
    """
    reference, floor = (half.shuffled(seed) for half in halves(real, seed))
    others = [replace(floor, name=FLOOR), *sets]
    n = min(len(pictures) for pictures in (reference, *others))
    n = min(n, limit or n)
    reference = reference.only(reference[:n])
    names = {picture.name for picture in real}
    first = {picture.name for picture in reference}
    for place, pictures in enumerate(sets, 1):
        if {picture.name for picture in pictures} == names:
            others[place] = pictures.only(sorted(pictures, key=lambda picture: picture.name not in first))
    return reference, [pictures.only(pictures[:n]) for pictures in others]


def _row(reference: Encoded, one: Encoded, category: str, seed: int, released: bool = False) -> Row:
    if released:
        values = {"fid": Value(fid(reference.features, one.features))}
    else:
        groups = reference.pictures.groups, one.pictures.groups
        values = compare(reference.features, one.features, *groups, seed)
    pictures = one.pictures
    inputs = f"{reference.identity} {one.identity}"
    return Row(pictures.name, category, len(one.digests), values, None, None, one.digest, "", pictures.made, inputs)


def _by_category(reference: Encoded, others: Sequence[Encoded], seed: int, skipped: list[str]) -> list[Row]:
    """Rows of the findings that all sets have enough images of; the others are added to `skipped`."""
    rows = []
    for category in sorted({name for picture in reference.pictures for name in picture.categories}):
        parts = [
            every.part([i for i, picture in enumerate(every.pictures) if category in picture.categories])
            for every in (reference, *others)
        ]
        n = min(len(part.digests) for part in parts)
        if n < LEAST_IN_CATEGORY:
            skipped.append(f"{category} ({n})")
            continue
        first, *rest = (part.part(range(n)) for part in parts)
        rows += [_row(first, one, category, seed) for one in rest]
    return rows


def _key(row: Row, checked: str, network: Network, side: int, profile: str, seed: int) -> str:
    """12 hex digits over everything that changes a row's values; `checked` is what copies were looked for with."""
    decisive = {
        "code": CODE,
        "network": network.version,
        "side": side,
        "profile": profile,
        "seed": seed,
        "n": row.n,
        "category": row.category,
        "images": row.inputs,
        "prompts": row.similarity.digest if row.similarity else "",
        "training": checked if row.copies else "",
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
