"""The Python interface: `import gtg_bench` exports what is defined here. What the command line does, as functions."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.settings import PHANTOM, MethodSettings
from gtg_bench.benchmark.api.types import Dataset, GroundingMap, Method, MethodCard, Query, SampleRecord, seed_for
from gtg_bench.benchmark.datasets import load_dataset
from gtg_bench.benchmark.datasets.images import ImageLike, as_image
from gtg_bench.benchmark.runs.lookup import find_run
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.runner import Progress, RunRequest, prepare, run
from gtg_bench.benchmark.runs.sources import ground_all, resolve_device
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.scoring.score_map import score

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LoadedMethod", "Result", "evaluate", "load_dataset", "load_method", "load_run", "score"]


@dataclass(frozen=True)
class LoadedMethod:
    """A method that is ready to ground phrases in images of any common kind."""

    entry: MethodEntry
    """Its entry in the registry."""
    settings: MethodSettings
    """Its complete settings."""
    method: Method
    """The method itself, which takes float32 [H, W] images in [0, 1]."""

    def ground(self, image: ImageLike, text: str) -> GroundingMap:
        """The map of a phrase on an image, the same as `gtg-bench ground` computes.

        Args:
            image: path, PIL image or array; see `datasets.images.as_image`.
            text: the phrase.

        Returns:
            values float32 [h, w], higher is more relevant, and the frame that they cover;
            `.on_image()` gives float32 [H, W] in the image's pixels.

        Raises:
            UsageError: an empty phrase, or an image of an unsupported kind.
            DataError: the file cannot be read.
        """
        if not text.strip():
            raise UsageError('the phrase is empty; name a finding, e.g. "left pleural effusion"')
        query = Query(as_image(image), text, seed_for(self.settings.seed, text))
        return ground_all(self.method, [query])[0]


def load_method(name: str, **settings: Any) -> LoadedMethod:
    """A registered method with its weights loaded.

    Args:
        name: a method, see `gtg-bench list methods`.
        settings: fields of `MethodSettings`, e.g. weights, sampling, steps, device ("auto" by default); the card of the
            weights and the defaults fill in the rest.

    Raises:
        UsageError: an unknown method, setting or device.
        DataError: weights are missing; the message says how to get them.

    Example:
        >>> method = gtg_bench.load_method("cxrbert-ldm")
        >>> method.ground("cxr.png", "small left pleural effusion").on_image()
    """
    entry = METHODS.get(name)
    wanted = RunRequest.of(name, **{"device": "auto", **settings}).settings
    wanted = replace(wanted, device=resolve_device(wanted.device, entry), dataset=wanted.dataset or PHANTOM)
    complete = entry.completed(wanted)
    return LoadedMethod(entry, complete, entry.built(complete))


@dataclass(frozen=True, repr=False)
class Result:
    """The records of a run, with its maps."""

    spec: RunSpec
    """Everything that decides the run's numbers."""
    folder: Path
    """Where the records and maps are stored."""
    records: Sequence[SampleRecord]
    """One record per sample."""
    _temporary: Any = field(default=None, compare=False)
    """Keeps a temporary folder alive as long as the result."""

    @property
    def table(self) -> pd.DataFrame:
        """The protocol's metrics: mean, limits of its 95 % CI (bootstrap over patients) and number of samples."""
        import pandas as pd

        from gtg_bench.benchmark.statistics import bootstrap_averages

        rules = protocol_of(self.spec.protocol)
        ok = [record for record in self.records if record.status == "ok"]
        groups = [record.category for record in ok], [record.patient_id for record in ok]
        rows = {}
        for metric in rules.metrics:
            values = [record.metrics.get(metric) for record in ok]
            found = bootstrap_averages(values, *groups)[rules.average]
            n = sum(value is not None for value in values)
            rows[metric] = {"mean": found.value, "ci_low": found.low, "ci_high": found.high, "n": n}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="metric")

    def to_dataframe(self) -> pd.DataFrame:
        """One row per sample: ids, patient, phrase given, category, region, status, metrics, seconds and map file."""
        import pandas as pd

        maps, rows = MapStore.of_run(self.folder), []
        for record in self.records:
            values = record.as_json()
            metrics = values.pop("metrics")
            values |= {"region": [list(box) for box in values.pop("boxes")] or None}
            values |= {name: metrics.get(name) for name in protocol_of(self.spec.protocol).metrics}
            path = maps.path(record.sample_id)
            rows.append(values | {"map_file": None if path is None else str(path)} | values.pop("facts"))
        return pd.DataFrame(rows)

    def map(self, sample_id: str) -> GroundingMap:
        """The stored map of a sample. Raises DataError if there is none."""
        return MapStore.of_run(self.folder).load(sample_id)

    def __repr__(self) -> str:
        ok = sum(record.status == "ok" for record in self.records)
        return f"<{self.spec.method} on {self.spec.dataset}: {ok} of {len(self.records)} samples scored>\n{self.table}"


def evaluate(
    method: str | LoadedMethod | Method,
    dataset: str | Dataset = "phantom",
    *,
    runs_dir: str | PathLike[str] | None = None,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> Result:
    """Ground every phrase of a data set and score the maps, as `gtg-bench run` does.

    Args:
        method: a registered name, a method from `load_method`, or any object with `ground(image, text)`, which takes
            float32 [H, W] images in [0, 1] and returns a `GroundingMap`.
        dataset: a registered name, or a data set from `load_dataset` or of your own.
        runs_dir: folder of the records and maps; a rerun resumes there. By default "runs"; for an object, whose code
            no key can identify, a temporary folder that lives as long as the result.
        progress: called with (samples done, samples in all) after each batch.
        options: fields of `RunRequest` (split, limit, protocol, control, data_root, ...) and, for a registered name, of
            `MethodSettings` (weights, sampling, steps, ...).

    Returns:
        `.table`, `.to_dataframe()`, `.map(sample_id)`.

    Raises:
        UsageError: an unknown name or option.
        DataError: files of the data set or weights cannot be used.
    """
    entry = _entry(method)
    temporary = None
    if runs_dir is None and not isinstance(method, (str, LoadedMethod)):
        temporary = tempfile.TemporaryDirectory(prefix="gtg-bench-")
        runs_dir = temporary.name
    name, opened = (dataset, None) if isinstance(dataset, str) else (dataset.name, dataset)
    options = {"device": "auto", "dataset": name, "runs_dir": Path(runs_dir or "runs"), **options}
    if "data_root" in options:
        options["data_root"] = Path(options["data_root"])
    request = RunRequest.of(entry.name, **options)
    result = run(prepare(request, entry, opened), request, progress)
    return Result(result.spec, result.folder, result.records, temporary)


def _entry(method: str | LoadedMethod | Method) -> MethodEntry:
    """The registry's entry of a method, or a temporary one for an object."""
    if isinstance(method, str):
        return METHODS.get(method)
    if isinstance(method, LoadedMethod):
        return replace(
            method.entry,
            build=lambda settings: method.method,
            complete=lambda wanted: replace(method.settings, dataset=wanted.dataset),
        )
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(method).__name__).lower().strip("_")
    card = MethodCard(f"an object of class {type(method).__name__}", "plug-in")
    return MethodEntry(name, lambda settings: method, card, code=f"object {uuid4().hex}")  # never found again


def load_run(name: str, runs_dir: str | PathLike[str] = "runs", dataset: str | None = None) -> Result:
    """A stored run by its key, or by its method with settings: "cxrbert-ldm:bbm=mixture".

    Args:
        name: as for `gtg-bench compare`; settings that are not named have their defaults.
        runs_dir: folder of the runs.
        dataset: only runs on this data set.

    Raises:
        UsageError: no run matches, or several do; the message lists their keys.
    """
    found = find_run(Path(runs_dir), name, dataset)
    return Result(found.spec, RunFolder(Path(runs_dir), found.spec).path, found.records)
