"""The check that plug-in authors run: good methods pass, and each broken one is told what is wrong with it."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api import (
    Frame,
    GroundingMap,
    MethodCard,
    MethodEntry,
    MethodSettings,
    Query,
    SampleError,
    UsageError,
)
from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.testing import MethodCheckError, check_method

EXAMPLE = Path(__file__).parents[2] / "example_plugin" / "src"
CARD = MethodCard("a toy", "discriminative", "a paper", "none", "", "MIT", "none")


class Good:
    """Brightness times a number drawn from the text and the query's seed, on a grid of 8 x 8."""

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return self.ground_batch([Query(image, text)])[0]

    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        return [self.map_of(query) for query in queries]

    def map_of(self, query: Query) -> GroundingMap:
        if not query.text.strip():
            raise SampleError("the phrase is empty")
        frame = Frame.stretch((query.image.shape[1], query.image.shape[0]), (8, 8))
        noise = np.random.default_rng([query.seed, len(query.text)]).random((8, 8), dtype=np.float32)
        return GroundingMap(frame.apply(query.image) + noise, frame)


def whole(image: FloatArray) -> Frame:
    return Frame.original((image.shape[1], image.shape[0]))


class Plain:
    """Brightness, by `ground` alone."""

    def __init__(self, settings: MethodSettings) -> None:
        self.seen = 0

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image, whole(image))


# Good methods


def test_a_good_method_passes_and_is_reported() -> None:
    report = check_method(Good, leaves_global_rng=True)
    assert report.name == "Good"
    assert report.maps > 40
    assert report.seconds > 0


@pytest.mark.parametrize("name", ["uniform", "center-prior", "class-prior", "phrase-prior", "difference"])
def test_baselines_and_priors_pass(name: str) -> None:
    check_method(name, dataset="phantom", leaves_global_rng=True)


@pytest.mark.parametrize("name", ["cxrbert-ldm", "clip-ldm"])
def test_the_phantoms_diffusion_models_pass(torch: Any, name: str) -> None:
    check_method(name, steps=1, leaves_global_rng=True)


def test_the_example_plugin_passes() -> None:
    path = next(EXAMPLE.rglob("*.py"))
    spec = importlib.util.spec_from_file_location("example_of_a_plugin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    check_method(module.BrightSpot)


def test_an_entry_with_a_complete_card_passes() -> None:
    check_method(MethodEntry("toy", Good, CARD))


def test_an_empty_phrase_may_have_a_map() -> None:
    check_method(Plain)


def test_a_method_may_have_only_ground_batch() -> None:
    class OnlyBatches:
        def __init__(self, settings: MethodSettings) -> None:
            self.ground_batch = Good(settings).ground_batch

    check_method(OnlyBatches)  # type: ignore[arg-type]


def test_settings_are_handed_on() -> None:
    seen = []
    check_method(lambda settings: seen.append(settings.dataset) or Plain(settings), dataset="toy")
    assert set(seen) == {"toy"}
    with pytest.raises(UsageError, match="unknown method 'uniforn'"):
        check_method("uniforn")


def test_the_global_generators_are_left_as_they_were(torch: Any) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    check_method(Good)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    assert after == before


def test_the_check_imports_no_torch() -> None:
    code = (
        "import sys\nfrom gtg_bench.benchmark.api.testing import check_method\n"
        "check_method('uniform')\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Broken methods


class Doubles(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image.astype(np.float64), whole(image))  # type: ignore[arg-type]


class Arrays(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return image  # type: ignore[return-value]


class Transposed(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image, Frame.original(image.shape))  # type: ignore[arg-type]


class NotANumber(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        found = GroundingMap(image.copy(), whole(image))
        found.values[0, 0] = np.nan
        return found


class DividesByTheRange(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        with np.errstate(invalid="ignore"):
            return GroundingMap((image - image.min()) / np.ptp(image), whole(image))


class OnlySquares(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image + image.T, whole(image))


class OnlyAscii(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image * len(text.encode("ascii")), whole(image))


class OnlyShort(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        if len(text.split()) > 77:
            raise SampleError("too long")
        return GroundingMap(image, whole(image))


class FailsOnNothing(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image * len(text.split()[0]), whole(image))


class InPlace(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        image *= 0.5
        return GroundingMap(image.copy(), whole(image))


class Counts(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        self.seen += 1
        return GroundingMap(image + np.float32(self.seen), whole(image))


class CachesByText(Good):
    def __init__(self, settings: MethodSettings) -> None:
        self.cache: dict[str, FloatArray] = {}

    def map_of(self, query: Query) -> GroundingMap:
        found = super().map_of(query)
        return GroundingMap(self.cache.setdefault(query.text, found.values), found.frame)


class OneBuffer(Plain):
    buffer = np.zeros((4, 4), dtype=np.float32)

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        self.buffer[:] = image[:4, :4]
        return GroundingMap(self.buffer, whole(image))


class OneNoisePerBatch(Good):
    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        rng = np.random.default_rng(queries[0].seed)
        noise = rng.random((len(queries), 8, 8), dtype=np.float32)
        return [GroundingMap(noise[k], whole(query.image)) for k, query in enumerate(queries)]


class Sorts(Good):
    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        return super().ground_batch(sorted(queries, key=lambda query: query.text))


class Drops(Good):
    def ground_batch(self, queries: Sequence[Query]) -> list[GroundingMap]:
        return super().ground_batch(queries[:1])


class AnotherGround(Good):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        found = super().ground(image, text)
        return GroundingMap(found.values * 2, found.frame)


class DrawsGlobally(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        return GroundingMap(image * np.float32(np.random.random()), whole(image))


class SeedsGlobally(Plain):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        np.random.seed(3)
        return GroundingMap(image * np.float32(np.random.random()), whole(image))


CARELESS = [
    (Doubles, r"values are float64: return values\.astype\(np\.float32\) \[a square image, a portrait image, "),
    (Arrays, "ndarray is returned: return a GroundingMap"),
    (Transposed, r"frame is of another image: .*\(width, height\) \[a portrait image, a landscape image, an? odd"),
    (NotANumber, "values are no finite 2-D array: leave out of the frame"),
    (
        DividesByTheRange,
        r"ValueError \(a grounding map must be finite.*\): give a map \[a black image, a white image\]",
    ),
    (OnlySquares, r"ValueError \(operands could not be broadcast.*180.*\): give a map \[a portrait image\]"),
    (OnlyAscii, r"UnicodeEncodeError .*: give a map \[a phrase in other alphabets\]"),
    (OnlyShort, r"SampleError \(too long\): give a map \[a phrase of more than 77 tokens\]"),
    (FailsOnNothing, r"IndexError .*: raise SampleError for it, or give a map \[an empty phrase, a blank phrase\]"),
    (InPlace, r"the image is changed in place: work on a copy \[a square image"),
    (Counts, r"a query asked again gives another map: keep no state .*\[query 1, query 2"),
    (CachesByText, "depends on the queries before, or on the instance: .* a cache's key hold all"),
    (OneBuffer, r"a map changes after it was returned: give every map its own array \[query 1"),
    (OneNoisePerBatch, r"a batch gives other maps than its queries alone: .*default_rng\(query\.seed\).*\[query 2"),
    (Sorts, "the order of a batch changes its maps: return one map a query, in the same order"),
    (Drops, r"1 maps for 5 queries: return one map a query, in order \[a batch, a batch in reverse\]"),
    (AnotherGround, r"ground and ground_batch disagree: let ground call ground_batch .*\[query 1\]"),
    (DrawsGlobally, r"the global random generators change the map: draw from .*\[query 1, query 2\]"),
]


@pytest.mark.parametrize(("broken", "message"), CARELESS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_method_is_told_what_is_wrong(broken: Callable[[MethodSettings], Any], message: str) -> None:
    with pytest.raises(MethodCheckError, match=message) as error:
        check_method(broken)
    assert str(error.value).startswith(f"method '{broken.__name__}' breaks its contract:\n- ")


@pytest.mark.parametrize("broken", [Doubles, OnlyAscii, FailsOnNothing, OneBuffer, AnotherGround])
def test_only_what_is_wrong_is_named(broken: Callable[[MethodSettings], Any]) -> None:
    with pytest.raises(MethodCheckError) as error:
        check_method(broken)
    assert str(error.value).count("\n- ") == 1


def test_all_violations_are_listed_at_once() -> None:
    class Hopeless(InPlace):
        def ground(self, image: FloatArray, text: str) -> GroundingMap:
            found = super().ground(image, text.split()[0])
            return GroundingMap(found.values.astype(np.float64), Frame.original((1, 1)))  # type: ignore[arg-type]

    with pytest.raises(MethodCheckError) as error:
        check_method(Hopeless)
    for part in ("IndexError", "float64", "another image", "in place"):
        assert part in str(error.value)


def test_global_generators_may_be_asked_to_be_left_alone() -> None:
    check_method(SeedsGlobally)
    with pytest.raises(MethodCheckError, match="drawn from or seeded"):
        check_method(SeedsGlobally, leaves_global_rng=True)


@pytest.mark.parametrize("difference", [1e-7, 1e-3])
def test_what_counts_as_the_same_map_can_be_said(difference: float) -> None:
    class Wavers(Plain):
        def ground(self, image: FloatArray, text: str) -> GroundingMap:
            self.seen += 1
            return GroundingMap(image + np.float32(difference * (self.seen % 2)), whole(image))

    check_method(Wavers, tolerance=0.1)
    if difference > 1e-5:
        with pytest.raises(MethodCheckError, match="asked again"):
            check_method(Wavers)


@pytest.mark.parametrize("field", ["summary", "paper", "weights", "licence", "training_data"])
def test_an_incomplete_card_is_refused(field: str) -> None:
    card = MethodCard(**{name: getattr(CARD, name) for name in CARD.__slots__} | {field: " "})
    with pytest.raises(MethodCheckError, match=rf"the card is incomplete: fill MethodCard\.{field} "):
        check_method(MethodEntry("toy", Good, card))


def test_a_baseline_needs_no_paper() -> None:
    check_method(MethodEntry("toy", Plain, MethodCard(summary="brightness", kind="baseline")))
    with pytest.raises(MethodCheckError, match=r"MethodCard\.summary"):
        check_method(MethodEntry("toy", Plain, MethodCard(summary="", kind="baseline")))
