"""Sheets of the maps of finished runs: one run, or several side by side on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Mask
from gtg_bench.benchmark.api.registry import unknown
from gtg_bench.benchmark.api.types import Box, Dataset, PhraseSample, SampleRecord
from gtg_bench.benchmark.report.pictures.drawing import Look
from gtg_bench.benchmark.report.pictures.examples import Choice, Sheet, left_out, readable
from gtg_bench.benchmark.report.pictures.overlay import Strip, Tile, sheet_figure, strips_figure
from gtg_bench.benchmark.report.tables.paper_layouts import METRICS as PRINTED
from gtg_bench.benchmark.runs.labels import labels
from gtg_bench.benchmark.runs.lookup import matching, only_one
from gtg_bench.benchmark.runs.map_store import MapStore
from gtg_bench.benchmark.runs.records import RunFolder
from gtg_bench.benchmark.runs.rescore import Place, open_data
from gtg_bench.benchmark.runs.spec import RunSpec
from gtg_bench.benchmark.scoring.controls import CONTROLS, plan
from gtg_bench.benchmark.scoring.protocols import protocol_of
from gtg_bench.benchmark.scoring.score_map import evaluation_frame
from gtg_bench.benchmark.scoring.trial import Trial

_NAMES = {column: printed for printed, column in PRINTED.items()}


def runs_sheet(
    names: Sequence[str],
    runs_dir: Path | str = "runs",
    choice: Choice | None = None,
    dataset: str | None = None,
    titles: Sequence[str] = (),
    columns: int = 4,
    look: Look | None = None,
    place: Place | None = None,
) -> Sheet:
    """Draw the maps of finished runs: for one run a sheet of its maps, for several a column each, a sample per row.

    Above each map are its score and, where it is not the sample's own, the phrase that the method was given.

    Args:
        names: runs, each a key or a method with settings as for `gtg-bench compare`.
        runs_dir: folder of the runs.
        choice: which of the samples that all runs have.
        dataset: only runs on this data set.
        titles: heads of the columns, one per run; none for the method and the settings that matter.
        columns: maps side by side, for one run.
        look: how maps are drawn.
        place: where the data are, if not where the runs found them.

    Raises:
        UsageError: a name that refers to no run or several, runs on different data, an unknown metric or sample.
        DataError: no image or no map can be read.
    """
    choice = choice or Choice()
    if titles and len(titles) != len(names):
        raise UsageError(f"{len(titles)} titles for {len(names)} runs; give one for each run")
    runs = _opened(Path(runs_dir), names, dataset, choice.metric, place or Place())
    samples = [t.sample for name, t in runs[0].trials.items() if all(name in run.records for run in runs)]
    scores = {name: value for name in runs[0].records if (value := runs[0].score(name)) is not None}
    chosen = replace(choice, metric=runs[0].metric).of(samples, scores)
    rows, problems = readable(runs[0].dataset, chosen)
    if not rows:
        raise DataError(problems[0] if problems else "the runs share no sample")
    if len(runs) == 1:
        tiles = [runs[0].tile(s, image, _texts(runs, s)) for s, image in rows]
        figure = sheet_figure(tiles, columns, look, titles[0] if titles else _heads(runs)[0])
    else:
        figure = strips_figure([_strip(runs, *row) for row in rows], ["input", *(titles or _heads(runs))], look)
    missing = [problem for run in runs for problem in run.missing]
    if len(missing) == len(rows) * len(runs):
        raise DataError(missing[0])
    return Sheet(figure, [sample.sample_id for sample, _ in rows], [*left_out(problems), *missing])


@dataclass
class _Run:
    """A run that is drawn."""

    spec: RunSpec
    metric: str
    dataset: Dataset
    records: Mapping[str, SampleRecord]
    maps: MapStore
    trials: Mapping[str, Trial]
    missing: list[str] = field(default_factory=list)
    """Why maps could not be drawn."""

    def score(self, name: str) -> float | None:
        """The metric of a sample; None if it was not scored."""
        record = self.records[name]
        return record.metrics.get(self.metric) if record.status == "ok" else None

    def given(self, sample: PhraseSample) -> str:
        """The phrase that the method was given."""
        return self.records[sample.sample_id].phrase or self.trials[sample.sample_id].phrase

    def tile(self, sample: PhraseSample, image: FloatArray, texts: Sequence[str]) -> Tile:
        """The map of a sample over its reduced image, below some texts and the score."""
        value, trial = self.score(sample.sample_id), self.trials[sample.sample_id]
        name = _NAMES.get(self.metric, self.metric.replace("_", " "))
        score = f"{name} undefined" if value is None else f"{name} {value:.2f}".replace("-", "\u2212")
        boxes, mask = _scored_region(trial, self.spec.frame)
        note = [] if trial.scored_on.sample_id == sample.sample_id else ["region of another patient"]
        try:
            grounding = self.maps.load(sample.sample_id)
        except DataError as error:
            self.missing.append(str(error))
            grounding, score = None, "no map"
        title = "\n".join([*texts, *note, score])
        return Tile(image, title, boxes, grounding, mask, sample.image_size)


def _opened(runs_dir: Path, names: Sequence[str], dataset: str | None, metric: str | None, place: Place) -> list[_Run]:
    """The runs with their data. Raises UsageError as `runs_sheet` does."""
    runs: list[_Run] = []
    for name in names:
        like = runs[0].spec if runs else None
        spec = only_one(matching(runs_dir, name, dataset, like), name, runs_dir)
        metric = metric or protocol_of(spec.protocol).primary
        if metric not in (known := protocol_of(spec.protocol).metrics):
            raise UsageError(f"{name}: " + unknown("metric", metric, known))
        if like and (differ := [key for key in _DATA if getattr(spec, key) != getattr(like, key)]):
            values = f"{differ[0]} {getattr(like, differ[0])!r} and {getattr(spec, differ[0])!r}"
            hint = "; name the data set too" if dataset is None and differ[0] == "dataset" else ""
            raise UsageError(f"{names[0]} and {name} cannot be shown together: they differ in {values}{hint}")
        folder, (data, _) = RunFolder(runs_dir, spec), open_data(runs_dir, spec, place)
        records = folder.read()
        trials = {one.sample.sample_id: one for one in plan(data.samples(spec.split), spec.control, spec.limit)}
        if data.version != spec.dataset_version or records.keys() - trials.keys():
            used = f"run {spec.key} used other samples than {spec.dataset} v{data.version} has here"
            raise UsageError(f"{used}; give the --data-root and --dataset-option of that run")
        runs.append(_Run(spec, metric, data, records, MapStore.of_run(folder.path), trials))
    return runs


_DATA = ("dataset", "dataset_version", "dataset_options", "split")


def _scored_region(trial: Trial, kind: str) -> tuple[Sequence[Box], Mask | None]:
    """The region that a map was scored on, in pixels of the sample's image.

    Under image-swap it is a region of another image, carried over as the scores do: through the evaluation frame.
    """
    mine, other = trial.sample, trial.scored_on
    if other.image_size == mine.image_size:
        return other.boxes, other.mask
    here = evaluation_frame(mine.image_size, kind)
    there = evaluation_frame(other.image_size, kind)
    boxes = there.boxes_from_image(other.boxes) * np.tile(np.divide(here.size, there.size), 2)
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in here.boxes_to_image(boxes).tolist()], None


def _texts(runs: Sequence[_Run], sample: PhraseSample) -> list[str]:
    """What to write above the maps of a sample: the phrase that all runs were given, or the sample's own."""
    given = {run.given(sample) for run in runs}
    if given == {sample.phrase} or len(given) > 1:
        return [sample.phrase]
    return [f"given: {given.pop()}", f"region: {sample.phrase}"]


def _strip(runs: Sequence[_Run], sample: PhraseSample, image: FloatArray) -> Strip:
    """The input and the maps of all runs; a phrase that only some were given is written above their maps."""
    texts = _texts(runs, sample)
    shared = len({run.given(sample) for run in runs}) == 1
    tiles = [Tile(image, "", sample.boxes, None, sample.mask, sample.image_size)]
    for run in runs:
        own = shared or run.given(sample) == sample.phrase
        tiles.append(run.tile(sample, image, [] if own else [f"given: {run.given(sample)}"]))
    return Strip(tiles, "\n".join(texts))


def _heads(runs: Sequence[_Run]) -> list[str]:
    """Method, settings that matter and control of each run."""
    described = [run.spec.as_json() for run in runs]
    names = [", ".join(items) for items in labels(described)]
    controls = [run.spec.control for run in runs]
    return [name if one == CONTROLS[0] else f"{name}, {one}" for name, one in zip(names, controls, strict=True)]
