"""The audit catches methods that only look as if they ground, and lets an honest one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from gtg_bench.benchmark.analysis.audit.audit import Page, make
from gtg_bench.benchmark.analysis.audit.subject import Subject
from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.phrases import read_phrase
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry, load_method
from gtg_bench.benchmark.api.types import GroundingMap, Method, MethodCard, MethodSettings
from gtg_bench.benchmark.datasets.negation import negated
from gtg_bench.benchmark.datasets.phantom.dataset import load_studies
from gtg_bench.benchmark.datasets.phantom.world import Study
from gtg_bench.benchmark.runs.request import RunRequest
from gtg_bench.benchmark.runs.runner import run

SIZE = 128


@cache
def studies() -> list[Study]:
    return load_studies(0, "test")


def thumbnail(image: FloatArray) -> FloatArray:
    """Some of the pixels [n], of mean 0 and length 1."""
    found = image[4:124:8, 4:124:8].ravel() - image[4:124:8, 4:124:8].mean()
    return found / np.linalg.norm(found)


@cache
def album(moved: int) -> FloatArray:
    """Thumbnails [studies, n] of the images as they look to one that was moved."""
    return np.stack([thumbnail(s.pixels[: SIZE - moved, : SIZE - moved].astype(np.float32)) for s in studies()])


def blobs(boxes: list[tuple[float, float, float, float]], moved: int = 0) -> FloatArray:
    """A smooth blob of height 1 in each box."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - moved
    found = np.zeros((SIZE, SIZE))
    for x0, y0, x1, y1 in boxes:
        u, v = (2 * x - x0 - x1) / (x1 - x0), (2 * y - y0 - y1) / (y1 - y0)
        found = np.maximum(found, np.exp(-(u**2 + v**2)))
    return (found / max(found.max(), 1e-9)).astype(np.float32)


def as_map(values: FloatArray) -> GroundingMap:
    return GroundingMap(values.astype(np.float32), Frame.original((SIZE, SIZE)))


class Honest:
    """Draws the lesions that it can see of the finding in the phrase: nothing if the finding is absent or covered."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        study, moved, difference = self.found(image)
        said = read_phrase(text)
        named = [
            s
            for s in study.statements
            if s.finding.category == said.category
            and said.side in (None, s.finding.side)
            and not negated(text, said.category or "")
        ]
        return as_map(blobs([box for s in named for box in s.boxes if self.seen(difference, box, moved)], moved))

    @staticmethod
    def seen(difference: FloatArray, box: tuple[float, float, float, float], moved: int) -> bool:
        x0, y0, x1, y1 = (int(side) + moved for side in box)
        return bool(difference[y0:y1, x0:x1].mean() < 0.02)

    @staticmethod
    def found(image: FloatArray) -> tuple[Study, int, FloatArray]:
        """The most similar study, how far it was moved, and where it differs after a linear fit."""
        scores = {moved: album(moved) @ thumbnail(image[moved:, moved:]) for moved in (0, 4)}
        moved = max(scores, key=lambda one: scores[one].max())
        study, view = studies()[int(scores[moved].argmax())], image[moved:, moved:]
        pixels = study.pixels[: SIZE - moved, : SIZE - moved] / np.float32(255)
        slope, offset = np.polyfit(pixels.ravel(), view.ravel(), 1)
        difference = np.abs(uniform_filter(view - slope * pixels - offset, 5))
        return study, moved, np.pad(difference, ((moved, 0), (moved, 0)))


class Deaf(Honest):
    """Every lesion of the image, whatever the phrase."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return as_map(blobs([box for s in self.found(image)[0].statements for box in s.boxes]))


class NearlyDeaf(Deaf):
    """The same, with a trace of the phrase."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        trace = np.random.default_rng(sha256(text.encode()).digest()[0]).random((SIZE, SIZE))
        return as_map(super().ground(image, text).values + 0.02 * trace)


class SideReader(Honest):
    """Every lesion on the side that the phrase names, whatever the finding."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        side, (study, moved, _) = read_phrase(text).side, self.found(image)
        named = [s for s in study.statements if side is None or s.finding.side == side]
        return as_map(blobs([box for s in named for box in s.boxes], moved))


class NoisilyDeaf(Deaf):
    """Every lesion, under strong smooth noise that depends on the phrase, so that each phrase has another map."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        noise = np.random.default_rng(sha256(text.encode()).digest()[0]).normal(0, 2.4, (SIZE, SIZE))
        return as_map(super().ground(image, text).values + gaussian_filter(noise, 3))


class NearlyBlind:
    """A prior with a trace of the image."""

    def __init__(self, prior: Method) -> None:
        self.prior = prior

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return as_map(self.prior.ground(image, text).on_image() + 0.05 * image)


class Talkative(Honest):
    """Where it finds nothing, it points somewhere with the same confidence."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        found = super().ground(image, text)
        left = sha256(text.encode()).digest()[0] % 90
        return found if found.values.max() > 0 else as_map(blobs([(left, 40, left + 30, 70)]))


class Memory:
    """Knows the answer by the exact pixels; elsewhere it makes one up, as one that reads file names would."""

    def __init__(self) -> None:
        self.known = {s.pixels.tobytes(): s for s in studies()}

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        study = self.known.get(np.round(image * 255).astype(np.uint8).tobytes())
        same = study is not None and np.array_equal(image, study.pixels.astype(np.float32) / np.float32(255))
        category = read_phrase(text).category
        boxes = (
            [b for s in study.statements if s.finding.category == category for b in s.boxes] if study and same else []
        )
        left = sha256(image.tobytes()).digest()[0] % 90
        return as_map(blobs(boxes or [(left, left, left + 30, left + 30)]))


@dataclass
class Lucky(Honest):
    """Good for one seed only."""

    seed: int

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        found = super().ground(image, text)
        if self.seed == 4200:
            return found
        return as_map(gaussian_filter(np.random.default_rng(self.seed).random((SIZE, SIZE)), 4))


class Constant:
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return as_map(np.ones((SIZE, SIZE)))


class WholeLung:
    """Always the same box."""

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap.of_boxes([[10, 20, 58, 110]], (SIZE, SIZE))


class QuietMemory(Memory):
    """Knows the answer by the exact pixels; elsewhere it falls back to a prior."""

    def __init__(self, prior: Method) -> None:
        super().__init__()
        self.prior = prior

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        pixels = np.round(image * 255).astype(np.uint8)
        same = pixels.tobytes() in self.known and np.array_equal(image, pixels.astype(np.float32) / np.float32(255))
        return super().ground(image, text) if same else self.prior.ground(image, text)


class Noisy(Honest):
    """Right, under heavy noise of its own."""

    sigma = 0.0

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        y, x = np.mgrid[:SIZE, :SIZE]
        blob = np.exp(-((x - 64) ** 2 + (y - 64) ** 2) / 2 / 32**2)
        noise = np.random.default_rng(sha256(image.tobytes()).digest()[0]).normal(0, 0.7, (SIZE, SIZE))
        return as_map(gaussian_filter(blob + noise, self.sigma))


class Blurred(Noisy):
    """The same, blurred."""

    sigma = 6.0


BUILD: dict[str, Callable[[MethodSettings], object]] = {
    "honest": lambda settings: Honest(),
    "deaf": lambda settings: Deaf(),
    "nearly-deaf": lambda settings: NearlyDeaf(),
    "side-reader": lambda settings: SideReader(),
    "noisily-deaf": lambda settings: NoisilyDeaf(),
    "nearly-blind": lambda settings: NearlyBlind(load_method("phrase-prior", dataset="phantom")),
    "talkative": lambda settings: Talkative(),
    "memory": lambda settings: Memory(),
    "quiet-memory": lambda settings: QuietMemory(load_method("class-prior", dataset="phantom")),
    "constant": lambda settings: Constant(),
    "whole-lung": lambda settings: WholeLung(),
    "lucky": lambda settings: Lucky(settings.seed),
    "noisy": lambda settings: Noisy(),
    "blurred": lambda settings: Blurred(),
}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Page]]:
    """(method, questions, against) -> its page on 40 samples, or on 160; priors are run once for all."""
    for name, build in BUILD.items():
        METHODS.register(MethodEntry(name, build, MethodCard(name, "plug-in")))  # type: ignore[arg-type]
    runs = tmp_path_factory.mktemp("runs")

    def audited(method: str, *numbers: int, against: tuple[str, ...] = ()) -> Page:
        limit = 160 if method == "memory" else 40
        request = RunRequest.of(method, limit=limit, mask="0.5", frame="original", runs_dir=runs)
        subject = Subject(request, lambda prepared, wanted, purpose: run(prepared, wanted, processes=1))
        return make(subject, numbers or None, against)

    yield audited
    for name in BUILD:
        del METHODS._registered[name]


def verdicts(page: Page) -> dict[str, str]:
    return {one.name: one.verdict for question in page.questions for one in question.findings if not one.detail}


def test_an_honest_method_passes(audit: Callable[..., Page]) -> None:
    page = audit("honest")
    assert {q.number: q.verdict for q in page.questions if q.number not in (6, 8)} == dict.fromkeys(
        (1, 2, 3, 4, 5, 7), "yes"
    )
    assert page.questions[5].verdict == "not applicable"
    assert page.questions[7].verdict != "no"


@pytest.mark.parametrize(
    ("method", "question", "finding"),
    [
        ("deaf", 2, "loss by phrase-swap"),
        ("deaf", 2, "maps of two phrases"),
        ("phrase-prior", 3, "first minus second"),
        ("nearly-deaf", 2, "loss by phrase-swap"),
        ("side-reader", 2, "loss by finding-swap"),
        ("noisily-deaf", 2, "paraphrase minus swap"),
        ("nearly-blind", 3, "loss, region filled"),
        ("memory", 3, "first minus second"),
        ("memory", 5, "noise"),
        ("quiet-memory", 5, "loss by noise"),
        ("talkative", 4, "present against absent"),
        ("lucky", 5, "lead over the next seeds"),
        ("blurred", 1, "minus class-prior"),
    ],
)
def test_a_planted_method_is_caught(method: str, question: int, finding: str, audit: Callable[..., Page]) -> None:
    page = audit(method, question)
    assert page.questions[0].verdict == "no"
    assert verdicts(page)[finding] == "no"


def test_a_lead_by_blur_vanishes_at_matched_smoothing(audit: Callable[..., Page]) -> None:
    (question,) = audit("blurred", 1, against=("noisy",)).questions
    found = {one.name: one for one in question.findings if one.unit == "cnr"}
    assert (found["minus noisy, as returned"].low or 0) > 0.3
    assert found["minus noisy"].verdict == "no"


def test_a_constant_map_passes_nothing_and_boxes_need_their_protocol(audit: Callable[..., Page]) -> None:
    page = audit("constant", 5, 7)
    assert [question.verdict for question in page.questions] == ["not applicable", "no"]
    with pytest.raises(UsageError, match="--protocol boxes"):
        audit("whole-lung", 7)
