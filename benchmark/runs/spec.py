"""The complete description of a run: everything that decides its numbers, as canonical JSON with a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gtg_bench.benchmark.scoring.controls import CONTROLS, REGION_CONTROLS
from gtg_bench.benchmark.scoring.protocols import FRAMES, MASK, PROTOCOL, UNCOVERED

SCHEMA = 3
"""Changes when a field is added or the meaning of one changes: older runs then have other keys."""

MAP_FIELDS = (
    *("dataset", "dataset_version", "dataset_options", "samples_sha256", "method", "code", "weights"),
    *("weights_version", "sampling", "latent", "tokens", "lexicon", "bbm", "profile", "precision", "steps"),
    *("last_steps", "guidance", "layers", "seed", "control"),
)
"""What decides a run's maps. Split and limit are in the digest of the samples; the rest only decides their scores."""


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
        mask: how a map becomes a mask, see `benchmark.metrics.named_masks`.
        protocol: which metrics and averages, a name of `benchmark.protocols.PROTOCOLS`.
        protocol_version: of that protocol.
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
    mask: str = MASK
    protocol: str = PROTOCOL
    protocol_version: int = 1
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

    @property
    def map_key(self) -> str:
        """12 hex digits: equal where everything that decides the maps is; of a run without a control of the region.

        Under such a control `samples_sha256` covers the partners' regions: replace it by that of the plain plan.
        """
        return map_key(self.as_json())


def map_key(spec: Mapping[str, Any]) -> str:
    """As `RunSpec.map_key`, of a description as JSON, which may be one of an older schema.

    Raises:
        KeyError: a field that decides the maps is missing.
    """
    values = {name: spec[name] for name in MAP_FIELDS}
    if values["control"] in REGION_CONTROLS:
        values["control"] = CONTROLS[0]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
