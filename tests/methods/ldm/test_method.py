"""The latent diffusion method on tiny components: from queries to maps, and from folders to the method."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
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
from gtg_bench.benchmark.api.types import GroundingMap, MethodCard, MethodSettings, Query
from gtg_bench.benchmark.runs import runner
from gtg_bench.methods.ldm import build as building
from gtg_bench.methods.ldm.attention import AttentionCapture
from gtg_bench.methods.ldm.components import LdmComponents, load_components
from gtg_bench.methods.ldm.entry import ldm_entry
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.reduction import MeanMaps, Rows
from gtg_bench.methods.ldm.tokens import disease_words
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


def assert_same_maps(found: Sequence[GroundingMap], expected: Sequence[GroundingMap], atol: float = 1e-5) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=atol, rtol=0)
        assert one.frame == other.frame


@pytest.fixture(scope="module")
def method(components: LdmComponents) -> LdmMethod:
    """With nothing but defaults; its caches stay between the tests."""
    return LdmMethod(components, SETTINGS)


@pytest.fixture(scope="module")
def singles(components: LdmComponents) -> list[GroundingMap]:
    """The five queries, each by a method that has seen nothing else."""
    return [LdmMethod(components, SETTINGS, rows=1).ground(q.image, q.text, q.seed) for q in five_queries()]


# Maps


def test_a_map_is_finite_float32_on_the_latent_grid(singles: list[GroundingMap]) -> None:
    for found in singles:
        assert found.values.dtype == np.float32
        assert found.values.shape == (8, 8)
        assert np.isfinite(found.values).all()
        assert found.values.min() > 0
        assert found.values.std() > 1e-5


@pytest.mark.parametrize("shape", [(16, 16), (20, 31), (40, 20), (128, 128)])
def test_the_frame_is_the_centre_crop_of_the_models_size(method: LdmMethod, shape: tuple[int, int]) -> None:
    found = method.ground(picture(shape=shape), PHRASE)
    assert found.frame == Frame.center_crop((shape[1], shape[0]), 16)
    assert found.frame.size == (16, 16)


def test_what_the_crop_cuts_off_changes_nothing(method: LdmMethod) -> None:
    whole = picture(shape=(16, 40))
    cut = method.ground(whole[:, 12:28].copy(), PHRASE)
    np.testing.assert_allclose(method.ground(whole, PHRASE).values, cut.values, atol=1e-6)


def test_image_phrase_and_seed_each_change_the_map(method: LdmMethod) -> None:
    base = method.ground(picture(), PHRASE, 1).values
    assert np.array_equal(base, method.ground(picture(), PHRASE, 1).values)
    for other in ((picture(1), PHRASE, 1), (picture(), "pneumonia", 1), (picture(), PHRASE, 2)):
        assert np.abs(base - method.ground(*other).values).max() > 1e-5


# Batches


@pytest.mark.parametrize("rows", [1, 3, 7, 32])
def test_a_batch_gives_the_maps_of_its_queries_alone(
    components: LdmComponents, singles: list[GroundingMap], rows: int
) -> None:
    assert_same_maps(LdmMethod(components, SETTINGS, rows).ground_batch(five_queries()), singles)


def test_the_order_does_not_matter(method: LdmMethod, singles: list[GroundingMap]) -> None:
    assert_same_maps(method.ground_batch(five_queries()[::-1])[::-1], singles)
    assert_same_maps(method.ground_batch(five_queries()[1:3]), singles[1:3])


def test_global_randomness_does_not_matter(method: LdmMethod, singles: list[GroundingMap]) -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert_same_maps(method.ground_batch(five_queries()), singles)
    assert torch.equal(torch.get_rng_state(), state)


# Settings


def test_the_mean_of_the_layers_maps_is_the_map(components: LdmComponents) -> None:
    method = LdmMethod(components, replace(SETTINGS, last_steps=3), rows=2)
    layers, frames = method.layer_maps(five_queries())
    found = method.ground_batch(five_queries())
    assert layers.shape == (5, 7, 8, 8)
    np.testing.assert_allclose(layers.mean(1), [one.values for one in found], atol=1e-6)
    assert frames == [one.frame for one in found]
    assert np.ptp(layers, axis=1).max() > 1e-3


def test_last_steps_are_the_mean_over_the_last_timesteps(components: LdmComponents) -> None:
    found = LdmMethod(components, replace(SETTINGS, last_steps=2)).ground(picture(shape=(16, 16)), PHRASE, 7)
    vae, t = components.vae, torch.tensor([251, 1])
    posterior = vae.encode(torch.from_numpy(picture(shape=(16, 16)))[None, None] * 2 - 1).latent_dist
    draws = torch.randn((2, 4, 4, 8, 8), generator=torch.Generator().manual_seed(7))[:, -2:]
    latents = vae.config.scaling_factor * (posterior.mean + posterior.std * draws[0])
    encoding = components.text_encoder.encode([PHRASE])
    chosen = torch.zeros(24)
    chosen[1:5] = 1 / 4  # [start] small left pleural effusion . [end]
    means = MeanMaps(1, (8, 8))
    means.rows = Rows(torch.zeros(2, dtype=torch.int64), torch.arange(2))
    with torch.inference_mode(), AttentionCapture(components.unet, means.add).open() as capture:
        noisy = components.scheduler.add_noise(latents, draws[1], t)
        capture.forward(noisy, t, encoding.states.expand(2, -1, -1), chosen.expand(2, 1, -1))
    np.testing.assert_allclose(found.values, means.mean()[0, 0].numpy(), atol=1e-6)


def test_only_the_averaged_steps_are_run(components: LdmComponents) -> None:
    unet = components.unet
    with patch.object(unet, "forward", wraps=unet.forward) as forward:
        LdmMethod(components, replace(SETTINGS, steps=10, last_steps=3)).ground(picture(), PHRASE)
    assert [call.args[1].tolist() for call in forward.call_args_list] == [[201, 101, 1]]


def test_a_category_decides_which_words_count(components: LdmComponents) -> None:
    method = LdmMethod(components, replace(SETTINGS, tokens="disease"))
    text = "small effusion, mild edema"
    queries = [Query(picture(), text, 1, category) for category in ("Edema", "Pleural Effusion", "", "edema")]
    edema, effusion, both, again = method.ground_batch(queries)
    assert np.abs(edema.values - effusion.values).max() > 1e-4
    np.testing.assert_allclose(both.values, (edema.values + effusion.values) / 2, atol=1e-6)  # one token each
    np.testing.assert_array_equal(edema.values, again.values)
    assert {one.note for one in (edema, effusion, both, again)} == {""}


@pytest.mark.parametrize(
    ("tokens", "text", "note"),
    [
        ("lexical", "there is a", "no lexical word in the phrase: all tokens were averaged"),
        ("disease", "hazy opacity", "no disease word in the phrase: all tokens were averaged"),
        ("all", "there is a", ""),
        ("start", "there is a", ""),
    ],
)
@pytest.mark.parametrize("bbm", ["none", "mixture"])
def test_a_fallback_is_noted_beside_the_map(
    components: LdmComponents, tokens: str, text: str, note: str, bbm: str
) -> None:
    method = LdmMethod(components, replace(SETTINGS, tokens=tokens, bbm=bbm))
    fallen, usual = method.ground_batch([Query(picture(), t, 0, "Edema") for t in (text, "mild edema")])
    assert (fallen.note, usual.note) == (note, "")


def test_all_tokens_differ_from_lexical_ones(components: LdmComponents, method: LdmMethod) -> None:
    everything = LdmMethod(components, replace(SETTINGS, tokens="all"))
    assert not np.allclose(everything.ground(picture(), PHRASE).values, method.ground(picture(), PHRASE).values)
    assert np.array_equal(everything.ground(picture(), "edema").values, method.ground(picture(), "edema").values)


@pytest.mark.parametrize("guidance", [None, 1.0, 16.0])
def test_guidance_changes_nothing(components: LdmComponents, singles: list[GroundingMap], guidance: float) -> None:
    method = LdmMethod(components, replace(SETTINGS, guidance=guidance))
    assert_same_maps(method.ground_batch(five_queries()), singles)


def test_a_second_method_on_the_same_components_changes_nothing(components: LdmComponents) -> None:
    settings = replace(SETTINGS, sampling="cfg", guidance=2.0)
    method = LdmMethod(components, settings)
    before = method.ground(picture(), PHRASE)
    LdmMethod(components, replace(settings, steps=9))
    assert_same_maps([method.ground(picture(), PHRASE)], [before])


# Caches and refusals


def test_a_text_and_an_image_are_encoded_once(components: LdmComponents) -> None:
    method, encoder, vae = LdmMethod(components, SETTINGS), components.text_encoder, components.vae
    with (
        patch.object(encoder, "encode", wraps=encoder.encode) as texts,
        patch.object(vae, "encode", wraps=vae.encode) as images,
    ):
        for queries in (five_queries(), five_queries()[::-1], [Query(picture(), "edema")]):
            method.ground_batch(queries)
    assert (texts.call_count, images.call_count) == (4, 5)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_phrase_is_refused(method: LdmMethod, text: str) -> None:
    with pytest.raises(SampleError, match="empty"):
        method.ground(picture(), text)


@pytest.mark.parametrize("text", ["\u200b", "\x00\ufeff"])
def test_a_phrase_without_a_token_is_refused(method: LdmMethod, text: str) -> None:
    with pytest.raises(SampleError):
        method.ground(picture(), text)


# Folders


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def wanted(folder: Path, **changes: Any) -> MethodSettings:
    return replace(MethodSettings("tiny-ldm", weights=str(folder), sampling="gt-cfg"), **changes)


def test_a_saved_model_gives_the_same_maps(folder: Path, singles: list[GroundingMap]) -> None:
    method = building.build(replace(building.complete(wanted(folder)), steps=4))
    assert method.components.image_size == 16
    assert_same_maps(method.ground_batch(five_queries()), singles)


def test_what_is_left_open_comes_from_the_card(folder: Path) -> None:
    done = building.complete(wanted(folder))
    assert (done.steps, done.last_steps, done.guidance) == (6, None, 16.0)
    assert (done.layers, done.tokens, done.bbm) == ("all", "lexical", "none")
    assert done.weights == str(folder.resolve())
    assert building.complete(wanted(folder, steps=9, last_steps=9, guidance=0.0)) == replace(
        done, steps=9, guidance=0.0
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": "gt-2"}, "--sampling gt-2: there is text"),
        ({"steps": 1000}, "between 1 and 999"),
        ({"steps": -1}, "between 1 and 999"),
        ({"steps": 0}, "between 1 and 999"),
        ({"last_steps": 7}, r"between 1 and --steps \(6\)"),
        ({"last_steps": 0}, "last-steps"),
        ({"weights": "nowhere"}, "--weights nowhere"),
        ({"weights": "paper"}, "published weights of tiny-ldm"),
    ],
)
def test_what_cannot_be_run_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        building.complete(wanted(folder, **changes))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("tokens", "lexical, disease, all, start, end"),
        ("bbm", "none, linear, quadratic, mixture"),
        ("latent", "sample, mode"),
        ("profile", "paper, released"),
        ("precision", "float32, float16, bfloat16"),
        ("sampling", "text, cfg, gt1-cfg, gt-cfg"),
    ],
)
def test_unknown_choices_are_refused_with_the_known_ones(folder: Path, name: str, known: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} cubic: there is {known}$"):
        building.complete(wanted(folder, **{name: "cubic"}))
    assert getattr(building.complete(wanted(folder, **{name: known.split(", ")[-1]})), name) == known.split(", ")[-1]


# A run


def test_the_lexicon_is_named_where_words_are_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the settings and in the run's key, which another version changes."""
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": ldm_entry("tiny-ldm", "tiny")})
    keys = {}
    for installed, tokens in itertools.product(("rule 1 (scispacy 0)", "en_core_sci_sm 9"), ("lexical", "all")):
        monkeypatch.setattr(building, "installed_lexicon", lambda name=installed: name)
        request = runner.RunRequest("tiny-ldm", weights=str(folder), tokens=tokens, limit=1)
        prepared = runner.prepare(request)
        named = installed if tokens == "lexical" else None
        assert prepared.settings.lexicon == prepared.spec.lexicon == named
        keys[installed, tokens] = prepared.spec.key
    assert len(set(keys.values())) == 3, "one of all tokens, two of lexical ones"


def test_a_note_gets_into_the_runs_record(
    components: LdmComponents, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(settings: MethodSettings) -> LdmMethod:
        return LdmMethod(components, replace(SETTINGS, tokens="disease"))

    entry = MethodEntry("tiny-ldm", build, MethodCard("a test", "plug-in"))
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": entry})
    request = runner.RunRequest("tiny-ldm", limit=8, runs_dir=tmp_path)
    prepared = runner.prepare(request)
    records = runner.run(prepared, request).records
    notes = {trial.sample.sample_id: bool(disease_words(trial.phrase, trial.category)) for trial in prepared.trials}
    assert len(set(notes.values())) == 2, "some phrases name their finding, and some do not"
    fallback = "no disease word in the phrase: all tokens were averaged"
    assert [record.note for record in records] == ["" if notes[r.sample_id] else fallback for r in records]
    assert {record.status for record in records} == {"ok"}


def test_the_most_steps_that_are_accepted_can_be_run(components: LdmComponents, folder: Path) -> None:
    steps = building.complete(wanted(folder, steps=999)).steps
    timesteps = LdmMethod(components, replace(SETTINGS, steps=steps)).engine.timesteps
    assert timesteps.max() < components.scheduler.config.num_train_timesteps


def version(folder: Path) -> str:
    return find_weights("tiny-ldm", str(folder)).version


@pytest.mark.parametrize("part", ["tiny-ldm", "autoencoder", "cxr-bert"])
def test_another_file_is_another_fingerprint(folder: Path, part: str) -> None:
    before = version(folder)
    edit(folder.parent / part / "card.json", title="a word that changes no number")
    assert version(folder) == before
    file = next((folder.parent / part).rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert version(folder) != before


def test_another_text_length_is_another_fingerprint(folder: Path) -> None:
    before = version(folder)
    edit(folder.parent / "cxr-bert" / "card.json", max_length=16)
    assert version(folder) != before


@pytest.mark.parametrize("content", [None, "{", "[1]"], ids=["missing", "torn", "no object"])
@pytest.mark.parametrize("part", ["tiny-ldm", "cxr-bert"])
def test_a_broken_card_is_named_before_anything_is_loaded(folder: Path, part: str, content: str | None) -> None:
    card = folder.parent / part / "card.json"
    card.unlink() if content is None else card.write_text(content)
    with pytest.raises(DataError, match=part):
        building.complete(wanted(folder))


def test_an_unknown_family_of_text_encoders_is_named(folder: Path) -> None:
    edit(folder.parent / "cxr-bert" / "card.json", family="gpt")
    with pytest.raises(DataError, match="'gpt'; known: cxr-bert"):
        load_components(find_weights("tiny-ldm", str(folder)), torch.device("cpu"))


def test_loading_without_a_card_is_a_data_error(folder: Path) -> None:
    (folder / "card.json").unlink()
    with pytest.raises(DataError, match="tiny-ldm holds no weights"):
        load_components(find_weights("tiny-ldm", str(folder)), torch.device("cpu"))


def test_loading_without_the_text_encoders_card_is_a_data_error(folder: Path) -> None:
    (folder.parent / "cxr-bert" / "card.json").unlink()
    with pytest.raises(DataError, match="cxr-bert"):
        load_components(find_weights("tiny-ldm", str(folder)), torch.device("cpu"))


def test_a_folder_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="components"):
        building.complete(wanted(folder.parent / "autoencoder"))


def test_a_missing_unet_is_a_data_error_and_never_looked_for_on_the_hub(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    with patch("diffusers.configuration_utils.hf_hub_download", side_effect=ValueError) as asked:
        with pytest.raises(DataError, match="unet"):
            load_components(find_weights("tiny-ldm", str(folder)), torch.device("cpu"))
        asked.assert_not_called()
