"""The phantom as a data set: generated on first use, read from the cache after that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import PhraseSample, sample_id
from gtg_bench.benchmark.datasets.phantom import grammar
from gtg_bench.benchmark.datasets.phantom.anatomy import SIZE
from gtg_bench.benchmark.datasets.phantom.findings import CATEGORY_WEIGHTS, Box, Finding
from gtg_bench.benchmark.datasets.phantom.stream import Stream
from gtg_bench.benchmark.datasets.phantom.world import SPLITS, VERSION, Statement, Study, patient_studies
from gtg_bench.benchmark.paths import atomic, cache_dir, check_writable, locked

_PARALLEL_FROM = 1000
_CHUNK = 100


class PhantomDataset:
    """Generated chest radiographs with exact boxes; the package's other modules draw them.

    Option: `seed` (default 0); every seed gives other patients.
    """

    name = "phantom"
    version = VERSION
    splits = tuple(SPLITS)

    def __init__(self, data_root: Path | None = None, options: Mapping[str, str] | None = None) -> None:
        """Takes no data root. Raises UsageError for an unknown option."""
        unknown = set(options or {}) - {"seed"}
        if unknown:
            raise UsageError(f"phantom has no option {sorted(unknown)[0]!r}; choose from: seed")
        text = (options or {}).get("seed", "0")
        if not (text.isascii() and text.isdigit()):
            raise UsageError(f"phantom: seed must be a whole number of at least 0, not {text!r}")
        self.seed = int(text)
        self.options = {"seed": str(self.seed)} if self.seed else {}
        self._splits: dict[str, str] = {}  # of each image
        self._pixels: dict[str, NDArray[np.uint8]] = {}

    def __repr__(self) -> str:
        return f"<phantom {self.version}, seed {self.seed}: splits {', '.join(self.splits)}>"

    def samples(self, split: str) -> Sequence[PhraseSample]:
        """One sample per statement, in the order of patients, images and statements."""
        studies = load_studies(self.seed, split, pixels=False)
        self._splits.update((study.image_id, split) for study in studies)
        return [sample_of(study, statement) for study in studies for statement in study.statements]

    def absent_samples(self, split: str) -> Sequence[PhraseSample]:
        """For each image a phrase of a finding that it does not show, worded like any other, and a denial of another.

        Both are draws of their own: the images and phrases of `samples` do not depend on them.
        """
        studies = load_studies(self.seed, split, pixels=False)
        self._splits.update((study.image_id, split) for study in studies)
        return [sample for study in studies for sample in _absent(self.seed, study)]

    def shared_file(self, sample: PhraseSample) -> Path | None:
        """The cached file of all images of a split."""
        split = self._splits.get(sample.image_id)
        return None if split is None else file_of(self.seed, split)

    def image(self, sample: PhraseSample) -> FloatArray:
        """float32 [128, 128] in [0, 1], for a sample from `samples`."""
        if sample.image_id not in self._splits:
            raise DataError(f"{sample.image_id} is not an image of phantom, seed {self.seed}; call samples() first")
        if sample.image_id not in self._pixels:
            studies = load_studies(self.seed, self._splits[sample.image_id])
            self._pixels.update((study.image_id, study.pixels) for study in studies)
        return self._pixels[sample.image_id].astype(np.float32) / np.float32(255)

    def lesion(self, sample: PhraseSample) -> FloatArray:
        """The opacity of the sample's lesions as they were drawn, float32 [128, 128] in [0, 1]."""
        studies = {
            study.image_id: study for study in patient_studies(self.seed, int(sample.patient_id.removeprefix("p")))
        }
        study = studies[sample.image_id]
        drawn = {sample_of(study, s).sample_id: alpha for s, alpha in zip(study.statements, study.lesions, strict=True)}
        return drawn[sample.sample_id]


def sample_of(study: Study, statement: Statement) -> PhraseSample:
    """The sample for one statement about an image."""
    return _sample(study, statement.phrase, statement.finding.category, statement.boxes)


def _absent(seed: int, study: Study) -> list[PhraseSample]:
    """A phrase of one absent finding, and the denial of another one."""
    stream = Stream("phantom absent", VERSION, seed, study.image_id)
    shown = {statement.finding.category for statement in study.statements}
    claimed, denied = stream.shuffled([name for name in CATEGORY_WEIGHTS if name not in shown])[:2]
    phrase = grammar.phrase_for(Finding.draw(stream, claimed), stream, must_name_side=False)
    return [_sample(study, phrase, claimed), _sample(study, grammar.denial_of(denied, stream), denied)]


def _sample(study: Study, phrase: str, category: str, boxes: tuple[Box, ...] = ()) -> PhraseSample:
    return PhraseSample(
        sample_id=sample_id(study.image_id, category, phrase),
        image_id=study.image_id,
        patient_id=study.patient_id,
        image_path=None,
        phrase=phrase,
        category=category,
        boxes=boxes,
        image_size=(SIZE, SIZE),
    )


def file_of(seed: int, split: str) -> Path:
    """The cached file of a split, in `cache_dir()/phantom`."""
    first, last = SPLITS[split]
    return cache_dir() / "phantom" / f"v{VERSION}-seed{seed}-{split}-{first}-{last}.npz"


def load_studies(seed: int, split: str, pixels: bool = True) -> list[Study]:
    """All images of a split, including those without a finding; cached in `cache_dir()/phantom`.

    Args:
        seed: of the world.
        split: name of the split.
        pixels: False may leave the pixels out, which saves most of the time.
    """
    if split not in SPLITS:
        raise UsageError(f"phantom has no split {split!r}; choose from: {', '.join(SPLITS)}")
    path = file_of(seed, split)
    if (found := _read(path, pixels)) is not None:
        return found
    check_writable(path)
    with locked(path.with_name(f"{path.name}.lock")):
        if (found := _read(path, pixels)) is None:
            found = generate(seed, split)
            _write(path, found)
        return found


def generate(seed: int, split: str) -> list[Study]:
    """Generate all images of a split; a large split uses all cores."""
    first, last = SPLITS[split]
    if last - first < _PARALLEL_FROM:
        return _generate_range((seed, first, last))
    ranges = [(seed, start, min(start + _CHUNK, last)) for start in range(first, last, _CHUNK)]
    from loky import ProcessPoolExecutor  # multiprocessing's would run a script that imports this package again

    with ProcessPoolExecutor() as pool:
        return [study for chunk in pool.map(_generate_range, ranges) for study in chunk]


def _generate_range(job: tuple[int, int, int]) -> list[Study]:
    seed, first, last = job
    return [study for number in range(first, last) for study in patient_studies(seed, number)]


def _write(path: Path, studies: list[Study]) -> None:
    notes = []
    for study in studies:
        statements = [{"phrase": s.phrase, "finding": asdict(s.finding), "boxes": s.boxes} for s in study.statements]
        names = {"image_id": study.image_id, "patient_id": study.patient_id, "report": study.report}
        notes.append({**names, "statements": statements})
    pixels = np.stack([study.pixels for study in studies])
    with atomic(path) as part:
        np.savez_compressed(part, pixels=pixels, notes=np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8))


def _read(path: Path, pixels: bool) -> list[Study] | None:
    """The studies in a file; None if it is missing or damaged, so that it is written again."""
    studies = []
    try:
        with np.load(path) as archive:
            notes = json.loads(archive["notes"].tobytes())
            images = archive["pixels"] if pixels else [np.empty((0, 0), np.uint8)] * len(notes)
        for note, image in zip(notes, images, strict=True):
            statements = tuple(
                Statement(s["phrase"], Finding(**s["finding"]), tuple(tuple(box) for box in s["boxes"]))
                for s in note["statements"]
            )
            studies.append(Study(note["image_id"], note["patient_id"], image, statements, note["report"]))
    except Exception:
        return None
    return studies
