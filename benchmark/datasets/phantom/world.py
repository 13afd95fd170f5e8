"""The phantom's patients with their images, findings and phrases: a function of (version, seed)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from gtg_bench.benchmark.datasets.phantom import grammar
from gtg_bench.benchmark.datasets.phantom.anatomy import Chest, Field, Patient
from gtg_bench.benchmark.datasets.phantom.film import devices, expose
from gtg_bench.benchmark.datasets.phantom.findings import Box, Finding, draw_lesions, heart_growth
from gtg_bench.benchmark.datasets.phantom.stream import Stream

VERSION = "2"
"""Must change if any pixel or phrase of a seed changes; a test knows the hash of each version."""

SPLITS = {"train": (0, 6000), "validate": (6000, 6130), "test": (6130, 6300)}
"""Split -> range of patient numbers."""

_PLACEMENTS = 12


@dataclass(frozen=True)
class Statement:
    """One finding of an image, as its report states it."""

    phrase: str
    finding: Finding
    boxes: tuple[Box, ...]

    @property
    def sentence(self) -> str:
        """The phrase as a sentence of the report."""
        return self.phrase if self.phrase.endswith(".") else f"{self.phrase}."


@dataclass(frozen=True)
class Study:
    """One image with its report. `pixels` is uint8 [128, 128]."""

    image_id: str
    patient_id: str
    pixels: NDArray[np.uint8]
    statements: tuple[Statement, ...]
    report: str
    lesions: tuple[Field, ...] = ()
    """The opacity of each statement's lesions, float32 [128, 128] in [0, 1]; empty if it was read from the cache."""


def patient_studies(seed: int, number: int) -> Iterator[Study]:
    """The one to three images of a patient."""
    patient_stream = Stream("phantom", VERSION, seed, number)
    patient = Patient.draw(patient_stream)
    patient_id = f"p{number:05d}"
    for k in range(patient_stream.choice((1, 2, 3), (55, 30, 15))):
        stream = Stream("phantom", VERSION, seed, number, k)
        yield _study(f"phantom{seed}-{patient_id}-{k}", patient_id, patient, stream)


def _study(image_id: str, patient_id: str, patient: Patient, stream: Stream) -> Study:
    count = stream.choice((0, 1, 2, 3), (11, 44, 38, 7))
    first = Finding.draw(stream) if count else None
    growth = heart_growth(first, stream) if first and first.category == "Cardiomegaly" else stream.uniform(0.9, 1.06)
    chest = Chest(patient, stream, growth)
    image = chest.draw()
    placed: list[tuple[Finding, tuple[Box, ...]]] = []
    painted: list[Field] = []
    for k in range(count):
        for _ in range(_PLACEMENTS):
            finding = first if k == 0 and first is not None else _another(stream, placed)
            lesions = draw_lesions(finding, chest, stream)
            boxes = [lesion.box() for lesion in lesions]
            found = tuple(box for box in boxes if box is not None)
            if len(found) == len(boxes) and _apart(found, placed):
                image = image + sum((lesion.density for lesion in lesions), np.float32(0))
                placed.append((finding, found))
                painted.append(reduce(np.maximum, (lesion.alpha for lesion in lesions)))
                break
    statements = _statements(placed, stream)
    report = " ".join(stream.shuffled([statement.sentence for statement in statements]))
    pixels = expose(image + devices(chest, stream), stream)
    return Study(image_id, patient_id, pixels, statements, report or stream.choice(grammar.NORMAL), tuple(painted))


def _another(stream: Stream, placed: list[tuple[Finding, tuple[Box, ...]]]) -> Finding:
    """A further finding: sometimes the same category on the other side, otherwise another category."""
    other_side = {"left": "right", "right": "left"}
    categories = [f.category for f, _ in placed]
    mirrored = [f for f, _ in placed if f.side in other_side and categories.count(f.category) == 1]
    mirrored = [f for f in mirrored if f.category != "Edema"]
    if mirrored and stream.chance(0.3):
        return Finding.draw(stream, mirrored[0].category, other_side[mirrored[0].side or "left"])
    taken = {*categories, *({"Cardiomegaly"} if placed else ())}
    while True:
        finding = Finding.draw(stream)
        if finding.category not in taken:
            return finding


def _statements(placed: list[tuple[Finding, tuple[Box, ...]]], stream: Stream) -> tuple[Statement, ...]:
    categories = [finding.category for finding, _ in placed]
    made = [(grammar.phrase_for(f, stream, categories.count(f.category) > 1), f, boxes) for f, boxes in placed]
    return tuple(Statement(phrase, finding, boxes) for phrase, finding, boxes in made)


def _apart(boxes: tuple[Box, ...], placed: list[tuple[Finding, tuple[Box, ...]]]) -> bool:
    """Whether new boxes share at most a fifth of the smaller box's area with any placed one."""
    others = [box for _, taken in placed for box in taken]
    return all(_shared(a, b) <= 0.2 * min(_area(a), _area(b)) for a in boxes for b in others)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
