"""The complete description of a run: everything that decides its numbers, as canonical JSON with a key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

CONTROLS = ("none", "neutral-phrase", "phrase-swap", "image-swap")
"""What is changed to see what a method listens to; see `benchmark.controls`."""

PROTOCOL = "gtg"
"""The paper's protocol: shorter side to 512 and centre crop, mixture mask, means over samples."""

FRAMES = ("crop512", "original")
"""Where maps and regions are compared: the paper's 512 x 512 crop, or the image's own pixels."""

UNCOVERED = ("lowest", "exclude")
"""What becomes of pixels that a method does not cover; see `benchmark.scoring.score_map`."""

SCHEMA = 2
"""Changes when a field is added or the meaning of one changes: older runs then have other keys."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers.

    Attributes:
        dataset: name in the registry.
        dataset_version: as the data set gives it.
        dataset_options: `KEY=VALUE` pairs, sorted, joined by a space.
        samples_sha256: of ids, phrases, boxes and sizes of the samples: another folder of the same name is
            another run.
        split: which samples.
        limit: only the first so many samples; None takes all.
        method: name in the registry.
        code: of a plug-in, see `api.registry.MethodEntry`.
        weights, weights_version, sampling, latent, tokens, lexicon, bbm, profile, precision, steps, last_steps,
            guidance, layers, seed: see `api.types.MethodSettings`; None where the method has no such setting.
        frame: where maps and regions are compared, one of FRAMES.
        uncovered: what becomes of pixels that a method does not cover, one of UNCOVERED.
        protocol: which metrics, masks and averages.
        control: what is changed on purpose.
        schema: of this description.
    """

    dataset: str
    dataset_version: str
    dataset_options: str
    samples_sha256: str
    split: str
    limit: int | None
    method: str
    code: str | None
    weights: str | None
    weights_version: str | None
    sampling: str | None
    latent: str | None
    tokens: str | None
    lexicon: str | None
    bbm: str | None
    profile: str | None
    precision: str | None
    steps: int | None
    last_steps: int | None
    guidance: float | None
    layers: str | None
    seed: int
    frame: str = FRAMES[0]
    uncovered: str = UNCOVERED[0]
    protocol: str = PROTOCOL
    control: str = "none"
    schema: int = SCHEMA

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"guidance": None if self.guidance is None else float(self.guidance)}

    @property
    def key(self) -> str:
        """12 hex digits: equal exactly when every field is."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
