"""The complete description of a run: everything that decides its numbers, as canonical JSON with a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.settings import DERIVED, SETTINGS, MethodSettings
from gtg_bench.benchmark.scoring.controls import CONTROLS
from gtg_bench.benchmark.scoring.protocols import FRAMES, MASK, PROTOCOL, PROTOCOLS, UNCOVERED
from gtg_bench.benchmark.scoring.smoothing import UNSMOOTHED
from gtg_bench.benchmark.state import problem

SCHEMA = 4
"""Version of the description: bumped when a field is added or changes its meaning, which changes every key."""


VALIDATION = "validate"
"""The split on which smoothing is chosen."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers. As JSON it is flat: the method's settings are fields like the others."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    dataset: str
    """Name in the registry."""
    dataset_version: str
    """Version that the data set reports."""
    dataset_options: str
    """`KEY=VALUE` pairs, sorted, joined by a space; without those that only name places, see `api.types.PLACES`."""
    samples_sha256: str
    """Digest of the samples' ids, phrases, boxes and sizes: another folder with other samples is another run."""
    images_sha256: str | None
    """Digest of the images' content, see `datasets.digests`; None if the maps come from files and no image is read."""
    split: str
    """Split that was evaluated."""
    limit: int | None
    """Only the first N samples; None evaluates all."""
    settings: MethodSettings
    """The method and its settings."""
    code: str | None = None
    """Version of the method's code, see `api.registry.MethodEntry`; None if the maps come from files."""
    frame: str = FRAMES[0]
    """Where maps and regions are compared, one of FRAMES."""
    uncovered: str = UNCOVERED[0]
    """How pixels that the method does not cover are scored, one of UNCOVERED."""
    mask: str = MASK
    """How a map becomes a mask, see `benchmark.metrics.named_masks`."""
    smooth: str = UNSMOOTHED
    """How maps are smoothed before they are scored, see `benchmark.scoring.smoothing`."""
    protocol: str = PROTOCOL
    """Metrics and averages, a name of `scoring.protocols.PROTOCOLS`."""
    protocol_version: int = PROTOCOLS[PROTOCOL].version
    """Version of that protocol."""
    control: str = CONTROLS[0]
    """The sanity check that the run is under, one of CONTROLS, or a probe of `scoring.probes`."""
    schema: int = SCHEMA
    """Version of this description."""

    def __post_init__(self) -> None:
        """Where a method runs is not part of the description."""
        object.__setattr__(self, "settings", replace(self.settings, dataset=self.dataset, device="cpu"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSpec:
        """A description from its JSON values. Raises DataError if one is missing, unknown or invalid."""
        own = {name: value for name, value in values.items() if name not in SETTINGS}
        settings = {name: value for name, value in values.items() if name in SETTINGS}
        try:
            return _kind().validate_python(own | {"settings": settings})
        except ValidationError as error:
            raise DataError(f"not the description of a run: {problem(error)}") from error

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, in the order of the fields."""
        values: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            values |= value.as_json() if isinstance(value, MethodSettings) else {one.name: value}
        return values

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.settings.method

    @property
    def key(self) -> str:
        """12 hex digits that are equal only if all fields are."""
        return _digest(self.as_json())

    @property
    def map_key(self) -> str:
        """12 hex digits over what decides all its maps alike; `scoring.trial.Trial.map_name` holds the rest."""
        return _digest({name: value for name, value in self.as_json().items() if name in MAP_FIELDS})


FIELDS = tuple(name for one in fields(RunSpec) for name in (SETTINGS if one.name == "settings" else (one.name,)))
"""Names of everything in a run's description, in order."""

MAP_FIELDS = ("dataset", "dataset_options", "code", *SETTINGS)
"""The fields that decide all maps of a run alike. The others decide which samples are grounded, or only scores."""

COLUMNS = tuple(name for name in FIELDS if name not in ("samples_sha256", "images_sha256", "code", "schema"))
"""The fields that are columns of a leaderboard."""


def differing(described: Sequence[RunSpec | Mapping[str, Any]]) -> list[str]:
    """The fields in which runs differ, weights first; those that follow from others only if nothing else differs.

    Args:
        described: descriptions, or their fields by name, such as leaderboard rows; a missing field counts as empty.
    """
    rows = [one.as_json() if isinstance(one, RunSpec) else one for one in described]
    unlike = [name for name in FIELDS if len({json.dumps(row.get(name, "")) for row in rows}) > 1]
    following = ("samples_sha256", "images_sha256", "dataset_version", *DERIVED)
    return [name for name in unlike if name not in following] or unlike


@cache
def _kind() -> TypeAdapter[RunSpec]:
    return TypeAdapter(RunSpec)


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
