"""What is measured of generated images. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gtg_bench.benchmark.statistics import Estimate

MEASURES = ("fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage")
PROFILES = ("paired", "released")
FLOOR = "real images"
"""Name of the half of the real images that is compared with the other half."""

EXPECTED = 0.05
"""Share of images that would count as near to training images if they were held-out real images."""

_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales (Wang et al. 2003)."""


@dataclass(frozen=True)
class Value:
    """A measure, its 95 % CI if there are enough groups, and for KID the standard deviation over subsets."""

    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None


@dataclass(frozen=True)
class Window:
    """The Gaussian window of MS-SSIM.

    Attributes:
        side: its side in pixels, odd.
        sigma: its standard deviation in pixels.
        scales: number of scales.
    """

    side: int
    sigma: float
    scales: int

    @property
    def least(self) -> int:
        """Smallest side of an image that torchmetrics accepts."""
        return self.side * max(1, self.scales - 1) ** 2

    @property
    def betas(self) -> tuple[float, ...]:
        """The exponents of its scales; those of fewer scales are scaled to the same sum, 1."""
        used = _BETAS[: self.scales]
        return tuple(beta / sum(used) for beta in used)

    def __str__(self) -> str:
        return f"window {self.side} px, {self.scales} scales"


@dataclass(frozen=True)
class Similarity:
    """MS-SSIM within prompts.

    Attributes:
        estimate: mean over pairs, with a 95 % CI from a bootstrap over prompts.
        pairs: number of pairs.
        unlike: pairs whose MS-SSIM is undefined (NaN): their structure is anticorrelated at some scale.
        prompts: number of prompts with at least two images.
        digest: over the pixels that were compared, and their prompts.
    """

    estimate: Estimate
    pairs: int
    unlike: int
    prompts: int
    digest: str = ""


@dataclass(frozen=True)
class Copies:
    """How near a set of images is to the training images.

    Attributes:
        near: share of images nearer to a training image than EXPECTED of the held-out real images are.
        identical: images whose 8-bit pixels equal those of a training image.
        nearest: (image, training image) with the smallest distance between features.
    """

    near: Estimate
    identical: int
    nearest: tuple[str, str]


@dataclass(frozen=True)
class Row:
    """What one set of images scores against the reference images.

    Attributes:
        name: of the set; FLOOR for the other half of the real images.
        category: a finding; "" for all images.
        n: images on each side.
        values: measure -> value.
        similarity: MS-SSIM within prompts; None if it was not measured.
        copies: nearness to training images; None if it was not measured.
        digest, key: of the pixels of the set, and of everything that changes a value.
        made: facts of generation.json.
        inputs: over the images and groups of both sides, in order; a part of the key.
    """

    name: str
    category: str
    n: int
    values: Mapping[str, Value]
    similarity: Similarity | None = None
    copies: Copies | None = None
    digest: str = ""
    key: str = ""
    made: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""


@dataclass(frozen=True)
class Quality:
    """Everything that one call measured.

    Attributes:
        rows: the floor, then the sets; then the same by category.
        real: name of the real images.
        real_digest: of the reference images' pixels.
        features, version: name and version of the network whose features were compared.
        n_features: their number.
        prepared: how images were prepared for it.
        published: whether published numbers were computed with it.
        side: pixels that images were brought to.
        window: of MS-SSIM; None if the side is too small.
        profile: one of PROFILES.
        notes: what a reader must know.
    """

    rows: Sequence[Row]
    real: str
    real_digest: str
    features: str
    version: str
    n_features: int
    prepared: str
    published: bool
    side: int
    window: Window | None
    profile: str
    notes: Sequence[str]
