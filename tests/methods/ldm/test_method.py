"""The latent diffusion method on tiny components: from queries to maps, and from folders to the method.

`test_brute_force.py` compares its maps with a literal version of the paper in all modes and merges.
"""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from gtg_bench.benchmark.api.errors import DataError, SampleError, UsageError
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.registry import METHODS, MethodEntry
from gtg_bench.benchmark.api.settings import CHOICES
from gtg_bench.benchmark.api.types import GroundingMap, MethodCard, MethodSettings, Query
from gtg_bench.benchmark.runs import runner
from gtg_bench.methods.ldm import build as building
from gtg_bench.methods.ldm import ldm_entry
from gtg_bench.methods.ldm.attention import layer_sizes
from gtg_bench.methods.ldm.components import LdmComponents, load_components
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.tokens import disease_words, word_weights
from gtg_bench.methods.weights import find_weights

pytestmark = pytest.mark.usefixtures("torch")
SETTINGS = MethodSettings("tiny-ldm", sampling="gt-cfg", steps=4, tokens="lexical", lexicon="rule 1")
PHRASE = "Small left pleural effusion."


def picture(seed: int = 0, shape: tuple[int, int] = (20, 31)) -> FloatArray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def five_queries() -> list[Query]:
    phrases = [PHRASE, "hazy opacity", PHRASE, "there is a mild pneumothorax", "edema"]
    shapes = [(20, 31), (16, 16), (40, 20), (20, 31), (16, 16)]
    return [Query(picture(k % 4, shapes[k]), phrase, seed=k) for k, phrase in enumerate(phrases)]


@pytest.fixture(scope="module")
def method(components: LdmComponents) -> LdmMethod:
    """With defaults only; its caches stay between the tests."""
    return LdmMethod(components, SETTINGS)


@pytest.fixture(scope="module")
def singles(components: LdmComponents) -> list[GroundingMap]:
    """The five queries, each by a fresh method."""
    return [LdmMethod(components, SETTINGS, rows=1).ground(q.image, q.text, q.seed) for q in five_queries()]


# Maps


def test_a_map_is_finite_float32_on_the_latent_grid(components: LdmComponents, singles: list[GroundingMap]) -> None:
    """And the mean of the layers' maps."""
    layers, frames = LdmMethod(components, SETTINGS, rows=2).layer_maps(five_queries())
    values = np.stack([one.values for one in singles])
    assert (values.dtype, values.shape, layers.shape) == (np.float32, (5, 8, 8), (5, 7, 8, 8))
    assert values.min() > 0
    assert np.isfinite(values).all()
    assert values.std((1, 2)).min() > 1e-5
    np.testing.assert_allclose(layers.mean(1), values, atol=1e-6)
    assert frames == [one.frame for one in singles]
    assert np.ptp(layers, axis=1).max() > 1e-3


def test_the_maps_of_all_words_average_to_the_map_of_all_tokens(components: LdmComponents) -> None:
    """Each word's map is a mean over its sub-tokens; start and end are not part of the average."""
    method = LdmMethod(components, replace(SETTINGS, tokens="all", lexicon=None))
    query = Query(picture(), PHRASE, seed=3)
    words = method.token_maps(query)
    assert [word for word, _ in words] == ["[start]", "Small", "left", "pleural", "effusion", ".", "[end]"]
    encoding = components.text_encoder.encode([PHRASE])
    _, weights = word_weights(PHRASE, encoding.offsets[0], encoding.mask[0])
    counts = (weights > 0).sum(1)[1:-1].numpy()
    maps = np.stack([found.values for _, found in words[1:-1]])
    expected = method.ground_batch([query])[0].values
    np.testing.assert_allclose(np.average(maps, axis=0, weights=counts), expected, atol=1e-6)


def test_the_innermost_layers_have_the_lowest_resolution(method: LdmMethod) -> None:
    sizes = list(layer_sizes(method.engine.unet, (8, 8)).values())
    first, middle, last = method.innermost_layers()
    assert (middle - first, last - middle, sizes[middle]) == (1, 1, min(sizes))


def test_the_frame_is_the_centre_crop_of_the_models_size(method: LdmMethod) -> None:
    for height, width in ((16, 16), (20, 31), (40, 20), (128, 128)):
        found = method.ground(picture(shape=(height, width)), PHRASE)
        assert found.frame == Frame.center_crop((width, height), 16)
        assert found.frame.size == (16, 16)
    whole = picture(shape=(16, 40))
    cut = method.ground(whole[:, 12:28].copy(), PHRASE)
    np.testing.assert_allclose(method.ground(whole, PHRASE).values, cut.values, atol=1e-6)


# Batches


@pytest.mark.parametrize("rows", [3, 32])
def test_a_batch_gives_the_maps_of_its_queries_alone(
    components: LdmComponents, folder: Path, singles: list[GroundingMap], rows: int
) -> None:
    """In any order, saved or not, despite another method on the components, and without the global generator."""
    torch.manual_seed(99)
    state, method = torch.get_rng_state(), LdmMethod(components, SETTINGS, rows)
    LdmMethod(components, replace(SETTINGS, steps=9))
    batches = [method.ground_batch(five_queries()), method.ground_batch(five_queries()[::-1])[::-1]]
    assert torch.equal(torch.get_rng_state(), state)
    saved = building.build(replace(building.complete(wanted(folder)), steps=4))
    assert saved.components.image_size == 16
    for batch in (*batches, saved.ground_batch(five_queries())):
        for one, other in zip(batch, singles, strict=True):
            np.testing.assert_allclose(one.values, other.values, atol=1e-5, rtol=0)
            assert one.frame == other.frame


# Settings


@pytest.mark.parametrize(
    ("tokens", "text", "note"),
    [("lexical", "there is a", "no lexical"), ("disease", "hazy opacity", "no disease"), ("all", "there is a", "")],
)
def test_a_fallback_is_noted_with_the_map(components: LdmComponents, tokens: str, text: str, note: str) -> None:
    for bbm in ("none", "mixture"):
        method = LdmMethod(components, replace(SETTINGS, tokens=tokens, bbm=bbm))
        fallback, found = method.ground_batch([Query(picture(), t, 0, "Edema") for t in (text, "mild edema")])
        assert fallback.note.startswith(note)
        assert (bool(fallback.note), found.note) == (bool(note), "")


# Caches and refusals


def test_a_text_and_an_image_are_encoded_once(components: LdmComponents) -> None:
    fresh = replace(components)  # with empty caches
    method, encoder, vae = LdmMethod(fresh, SETTINGS), components.text_encoder, components.vae
    with (
        patch.object(encoder, "encode", wraps=encoder.encode) as texts,
        patch.object(vae, "encode", wraps=vae.encode) as images,
    ):
        for queries in (five_queries(), five_queries()[::-1], [Query(picture(), "edema")]):
            method.ground_batch(queries)
    assert (texts.call_count, images.call_count) == (4, 5)


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b", "\x00\ufeff"])
def test_a_phrase_without_a_token_is_refused(method: LdmMethod, text: str) -> None:
    with pytest.raises(SampleError, match="phrase"):
        method.ground(picture(), text)


def test_measure_reports_the_cost_of_a_batch(components: LdmComponents) -> None:
    cost = LdmMethod(components, SETTINGS).measure(five_queries(), repeats=1)
    assert cost["forwards_per_sample"] == 4
    assert min(cost["ratio"], cost["seconds_per_sample"], cost["image_seconds_per_sample"]) > 0


# Folders


def wanted(folder: Path, **changes: Any) -> MethodSettings:
    return replace(MethodSettings("tiny-ldm", weights=str(folder), sampling="gt-cfg"), **changes)


def test_unset_options_come_from_the_card(folder: Path) -> None:
    done = building.complete(wanted(folder))
    assert (done.steps, done.last_steps, done.guidance) == (6, None, 16.0)
    assert (done.layers, done.tokens, done.bbm) == ("all", "lexical", "none")
    assert done.weights == str(folder.resolve())
    assert building.complete(wanted(folder, steps=9, last_steps=9, guidance=0.0)) == replace(
        done, steps=9, guidance=0.0
    )


def test_a_card_can_average_the_last_of_its_steps(folder: Path) -> None:
    path = folder / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | {"defaults": card["defaults"] | {"steps": 6, "last_steps": 2}}))
    for changes, expected in (
        ({}, (6, 2)),
        ({"last_steps": 6}, (6, None)),
        ({"last_steps": 1}, (6, 1)),
        ({"steps": 6}, (6, None)),  # chosen together: of other steps, all are averaged
        ({"steps": 9, "last_steps": 4}, (9, 4)),
        ({"steps": "auto"}, ("auto", None)),
        ({"profile": "released"}, (6, None)),
    ):
        done = building.complete(wanted(folder, **changes))
        assert (done.steps, done.last_steps) == expected, changes
        assert building.complete(done) == done


def test_options_out_of_range_are_refused(components: LdmComponents, folder: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [({"steps": steps}, "--steps .* 999") for steps in (1000, -1, 0)]
    cases += [({"last_steps": 7}, r"--last-steps .* --steps \(6\)"), ({"last_steps": 0}, "--last-steps")]
    cases += [({"weights": "nowhere"}, "nowhere"), ({"weights": "paper"}, "tiny-ldm")]
    cases += [({name: "cubic"}, f"--{name} cubic: .*{', '.join(known)}$") for name, known in CHOICES.items()]
    for changes, message in cases:
        with pytest.raises(UsageError, match=message):
            building.complete(wanted(folder, **changes))
    for name, value in {"steps": 999, **{name: known[-1] for name, known in CHOICES.items()}}.items():
        assert getattr(building.complete(wanted(folder, **{name: value})), name) == value
    assert LdmMethod(components, replace(SETTINGS, steps=999)).engine.timesteps.max() < 1000


# A run


def test_the_lexicon_is_recorded_where_it_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the settings and in the run's key, which changes with its version."""
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": ldm_entry("tiny-ldm", "tiny")})
    keys = {}
    for installed, tokens in itertools.product(("rule 1 (scispacy 0)", "en_core_sci_sm 9"), ("lexical", "all")):
        monkeypatch.setattr(building, "installed_lexicon", lambda name=installed: name)
        request = runner.RunRequest.of("tiny-ldm", weights=str(folder), tokens=tokens, limit=1)
        prepared = runner.prepare(request)
        named = installed if tokens == "lexical" else None
        assert prepared.spec.settings.lexicon == named
        keys[installed, tokens] = prepared.spec.key
    assert len(set(keys.values())) == 3, "one for all tokens, two for lexical tokens"


def test_a_note_is_recorded(components: LdmComponents, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    method = LdmMethod(components, replace(SETTINGS, tokens="disease"))
    entry = MethodEntry("tiny-ldm", lambda settings: method, MethodCard("a test", "plug-in"))
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": entry})
    request = runner.RunRequest.of("tiny-ldm", limit=8, runs_dir=tmp_path)
    prepared = runner.prepare(request)
    words = {trial.sample.sample_id: disease_words(trial.phrase, trial.category) for trial in prepared.trials}
    noted = {name: not found for name, found in words.items() if not found or found[0][0] < 25}  # what it still reads
    records = [record for record in runner.run(prepared, request).records if record.sample_id in noted]
    assert len(set(noted.values())) == 2, "some phrases name their finding, others do not"
    assert {(bool(record.note) == noted[record.sample_id], record.status) for record in records} == {(True, "ok")}


@pytest.mark.parametrize("content", [None, "{", "[1]"], ids=["missing", "torn", "not an object"])
@pytest.mark.parametrize("part", ["tiny-ldm", "cxr-bert"])
def test_a_broken_card_is_named(folder: Path, part: str, content: str | None) -> None:
    card = folder.parent / part / "card.json"
    card.unlink() if content is None else card.write_text(content)
    with pytest.raises(DataError, match=part):
        building.complete(wanted(folder))


def test_a_folder_without_its_parts_is_refused_and_nothing_is_downloaded(folder: Path) -> None:
    with pytest.raises(DataError, match="components"):
        building.complete(wanted(folder.parent / "autoencoder"))
    shutil.rmtree(folder / "unet")
    with patch("diffusers.configuration_utils.hf_hub_download", side_effect=ValueError) as asked:
        with pytest.raises(DataError, match="unet"):
            load_components(find_weights("tiny-ldm", str(folder)), torch.device("cpu"))
        asked.assert_not_called()
