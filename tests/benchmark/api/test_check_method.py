"""`check_method`: sound methods pass, and every violation of a broken one is named with its cases."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gtg_bench.benchmark.api import (
    METHODS,
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
README_PLUGIN = """
from gtg_bench import Frame, GroundingMap, register_method


@register_method("bright-spot")
class BrightSpot:
    def __init__(self, settings): ...
    def ground(self, image, text):  # image: float32 [H, W] in [0, 1]
        return GroundingMap(image, Frame.original(image.shape[::-1]))
"""


class Good:
    """Brightness plus noise from the text and the query's seed, on a grid of 8 x 8."""

    def __init__(self, settings: MethodSettings) -> None:
        self.cache: dict[str, FloatArray] = {}

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


def whole(values: FloatArray, image: FloatArray | None = None) -> GroundingMap:
    """A map over the whole image, which has the shape of the values if it is not given."""
    height, width = (values if image is None else image).shape
    return GroundingMap(values, Frame.original((width, height)))


def only(ground: Callable[[FloatArray, str], Any]) -> Callable[[MethodSettings], Any]:
    """Makes a method that has nothing but this `ground`."""
    return lambda settings: SimpleNamespace(ground=ground)


# Sound methods


def test_a_sound_method_passes_and_is_reported() -> None:
    report = check_method(Good, leaves_global_rng=True)
    assert report.name == "Good"
    assert report.maps > 40
    assert report.seconds > 0
    check_method(MethodEntry("toy", Good, CARD))


@pytest.mark.parametrize("name", ["uniform", "center-prior", "class-prior", "phrase-prior", "difference"])
def test_baselines_and_priors_pass(name: str) -> None:
    check_method(name, dataset="phantom", leaves_global_rng=True)


@pytest.mark.slow
def test_the_phantoms_diffusion_model_passes(torch: Any) -> None:
    check_method("cxrbert-ldm", steps=1, leaves_global_rng=True)


def test_the_plugin_of_the_readme_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_registered", {})
    (tmp_path / "bright.py").write_text(README_PLUGIN)
    assert METHODS.load_plugin(tmp_path / "bright.py") == ["bright-spot"]
    check_method("bright-spot", leaves_global_rng=True)


def test_the_example_plugin_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from bright_spot import BrightSpot

    check_method(BrightSpot)


def test_optional_parts_of_the_contract() -> None:
    check_method(only(lambda image, text: whole(image)))  # no ground_batch; an empty phrase gets a map
    check_method(lambda settings: SimpleNamespace(ground_batch=Good(settings).ground_batch))  # type: ignore[arg-type,return-value]


def test_settings_are_passed_on() -> None:
    seen = []
    check_method(lambda settings: seen.append(settings.dataset) or Good(settings), dataset="toy")
    assert set(seen) == {"toy"}
    with pytest.raises(UsageError, match="uniforn"):
        check_method("uniforn")


def test_the_global_generators_are_restored(torch: Any) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]

    before = states()
    check_method(Good)
    assert states() == before


def test_the_check_imports_no_torch() -> None:
    code = (
        "import sys\nfrom gtg_bench.benchmark.api.testing import check_method\n"
        "check_method('uniform')\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Broken methods


def not_finite(image: FloatArray, text: str) -> GroundingMap:
    found = whole(image.copy())
    found.values[0, 0] = np.nan
    return found


def divides_by_the_range(image: FloatArray, text: str) -> GroundingMap:
    with np.errstate(invalid="ignore"):
        return whole((image - image.min()) / np.ptp(image))


def only_short(image: FloatArray, text: str) -> GroundingMap:
    if len(text.split()) > 77:
        raise SampleError("too long")
    return whole(image)


def in_place(image: FloatArray, text: str) -> GroundingMap:
    image *= 0.5
    return whole(image.copy())


class Counts:
    def __init__(self, settings: MethodSettings, step: float = 1.0) -> None:
        self.seen, self.step = 0, step

    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        self.seen += 1
        return whole(image + np.float32(self.step * (self.seen % 2)))


class CachesByText(Good):
    def map_of(self, query: Query) -> GroundingMap:
        found = super().map_of(query)
        return GroundingMap(self.cache.setdefault(query.text, found.values), found.frame)


BUFFER = np.zeros((4, 4), dtype=np.float32)


def one_buffer(image: FloatArray, text: str) -> GroundingMap:
    BUFFER[:] = image[:4, :4]
    return whole(BUFFER, image)


def batches(change: Callable[[Good, Sequence[Query]], list[GroundingMap]]) -> type[Good]:
    """A method whose `ground_batch` is changed."""
    return type("Changed", (Good,), {"ground_batch": change})


def one_noise_per_batch(self: Good, queries: Sequence[Query]) -> list[GroundingMap]:
    noise = np.random.default_rng(queries[0].seed).random((len(queries), 8, 8), dtype=np.float32)
    return [whole(values, query.image) for values, query in zip(noise, queries, strict=True)]


class AnotherGround(Good):
    def ground(self, image: FloatArray, text: str) -> GroundingMap:
        found = super().ground(image, text)
        return GroundingMap(found.values * 2, found.frame)


def draws_globally(image: FloatArray, text: str) -> GroundingMap:
    return whole(image * np.float32(np.random.random()))


def seeds_globally(image: FloatArray, text: str) -> GroundingMap:
    np.random.seed(3)
    return draws_globally(image, text)


DOUBLES = only(lambda image, text: whole(image.astype(np.float64)))
ONLY_ASCII = only(lambda image, text: whole(image * len(text.encode("ascii"))))
FAILS_ON_NOTHING = only(lambda image, text: whole(image * len(text.split()[0])))
ONE_BUFFER = only(one_buffer)
BROKEN: list[tuple[Callable[[MethodSettings], Any], str]] = [
    (DOUBLES, r"float64.*\[a square image, a portrait image, "),
    (only(lambda image, text: image), "returns ndarray"),
    (
        only(lambda image, text: whole(image, image.T)),
        r"\(width, height\) \[a portrait image, a landscape image, an? odd",
    ),
    (only(not_finite), "not a finite 2-D array"),
    (only(lambda image, text: whole(np.ascontiguousarray(image.T), image)), r"values\.T \[a portrait image, a land"),
    (only(divides_by_the_range), r"ValueError .*\[a black image, a white image\]"),
    (only(lambda image, text: whole(image + image.T)), r"ValueError .*180.*\[a portrait image\]"),
    (ONLY_ASCII, r"UnicodeEncodeError .*\[a phrase in other alphabets\]"),
    (only(only_short), r"SampleError \(too long\): .*\[a phrase of more than 77 tokens\]"),
    (FAILS_ON_NOTHING, r"IndexError .*: raise SampleError.*\[an empty phrase, a blank phrase\]"),
    (only(in_place), r"in place.*\[a square image"),
    (Counts, r"repeated query .*: keep no state .*\[query 1, query 2"),
    (CachesByText, "depends on earlier queries, or on the instance: .*cache"),
    (ONE_BUFFER, r"after it was returned: .*array \[query 1"),
    (batches(one_noise_per_batch), r"batch .* single queries: .*default_rng\(query\.seed\).*\[query 2"),
    (
        batches(lambda self, queries: Good.ground_batch(self, sorted(queries, key=lambda one: one.text))),
        "order of a batch",
    ),
    (
        batches(lambda self, queries: Good.ground_batch(self, queries[:1])),
        r"1 maps for 5 queries: .*\[a batch, a batch in reverse\]",
    ),
    (AnotherGround, r"ground and ground_batch disagree: .*\[query 1\]"),
    (only(draws_globally), r"global random generators change the map: .*\[query 1, query 2\]"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_violation_is_named_with_its_cases(broken: Callable[[MethodSettings], Any], message: str) -> None:
    with pytest.raises(MethodCheckError, match=message) as error:
        check_method(broken)
    if broken in (DOUBLES, ONLY_ASCII, FAILS_ON_NOTHING, ONE_BUFFER, AnotherGround):
        assert str(error.value).count("\n- ") == 1, "sound properties are not named"


@pytest.mark.parametrize("change", ["", ".requires_grad_()", ".bfloat16()", ".to('meta')"])
def test_a_tensor_is_named_with_the_fix(torch: Any, change: str) -> None:
    def ground(image: FloatArray, text: str) -> GroundingMap:
        return whole(eval(f"torch.from_numpy(image){change}", {"torch": torch, "image": image}), image)

    with pytest.raises(
        MethodCheckError, match=r"not Tensor; give it values\.detach\(\)\.float\(\)\.cpu\(\)\.numpy\(\)"
    ):
        check_method(only(ground))


def test_all_violations_are_listed_at_once() -> None:
    def hopeless(image: FloatArray, text: str) -> GroundingMap:
        found = in_place(image, text.split()[0])
        return GroundingMap(found.values.astype(np.float64), Frame.original((1, 1)))

    with pytest.raises(MethodCheckError) as error:
        check_method(only(hopeless))
    for part in ("IndexError", "float64", "another image", "in place"):
        assert part in str(error.value)


def test_use_of_the_global_generators_is_refused_on_request() -> None:
    check_method(only(seeds_globally))
    with pytest.raises(MethodCheckError, match="global random generators"):
        check_method(only(seeds_globally), leaves_global_rng=True)


def test_the_tolerance_decides_which_maps_agree() -> None:
    check_method(lambda settings: Counts(settings, 1e-7))
    check_method(lambda settings: Counts(settings, 1e-3), tolerance=0.1)
    with pytest.raises(MethodCheckError, match="repeated query"):
        check_method(lambda settings: Counts(settings, 1e-3))


def test_an_incomplete_card_is_refused() -> None:
    for name in ("summary", "paper", "weights", "licence", "training_data"):
        card = MethodCard(**{one: getattr(CARD, one) for one in CARD.__slots__} | {name: " "})
        with pytest.raises(MethodCheckError, match=rf"MethodCard\.{name} "):
            check_method(MethodEntry("toy", Good, card))
    check_method(MethodEntry("toy", Good, MethodCard(summary="brightness", kind="baseline")))
    with pytest.raises(MethodCheckError, match=r"MethodCard\.summary"):
        check_method(MethodEntry("toy", Good, MethodCard(summary="", kind="baseline")))
