"""The check for memorised training images."""

from __future__ import annotations

from gtg_bench.benchmark.quality.encoded import Encoded
from gtg_bench.benchmark.quality.neighbours import nearest
from gtg_bench.benchmark.quality.results import EXPECTED, Copies
from gtg_bench.benchmark.statistics import bootstrap


def copies(images: Encoded, held_out: Encoded, training: Encoded) -> Copies:
    """Find the nearest training image of every image, by the distance between features.

    Args:
        images: the images to check.
        held_out: real images that no model was trained on: how near they are says what is near.
        training: training images.
    """
    limit = nearest(held_out.features, training.features)[0].quantile(EXPECTED)
    gaps, where = nearest(images.features, training.features)
    near = [float(gap < limit) for gap in gaps]
    first = int(gaps.argmin())
    known = set(training.digests)
    return Copies(
        bootstrap(near, [""] * len(near), images.pictures.groups),
        sum(digest in known for digest in images.digests),
        (images.pictures[first].name, training.pictures[int(where[first])].name),
    )
