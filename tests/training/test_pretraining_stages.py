"""Every pretraining at toy scale through the real code: trained, killed and resumed, saved, loaded by its family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.datasets.phantom.world import patient_studies
from gtg_bench.methods.text_encoders import load_text_encoder
from gtg_bench.methods.weights.find import text_parts
from gtg_bench.training.cards import write_card
from gtg_bench.training.pretraining import autoencoder
from gtg_bench.training.pretraining.material import Material, Pairs, Worlds
from gtg_bench.training.pretraining.recipe import AutoencoderRecipe, TextRecipe
from gtg_bench.training.pretraining.stage import Stage, pretraining
from gtg_bench.training.recipe import Schedule

pytestmark = pytest.mark.usefixtures("torch")
PLAN = Schedule(steps=4, batch_size=4, learning_rate=1e-3, warmup_steps=1, checkpoint_every=2, log_every=1)
BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
BERT |= {"max_position_embeddings": 40}
CONFIGS: dict[str, dict[str, Any]] = {
    "cxr-bert": BERT | {"projection_size": 16},
    "clip": BERT | {"projection_dim": 16},
    "open-clip": {"width": 24, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
    "bert": BERT,
    "cxr-clip": BERT,
    "med-kebert": BERT,
}
DATA = {"clip": "shapes", "open-clip": "scenes", "med-kebert": "definitions"}
WIDTHS = {"open-clip": 24}
TEXTS = ["Small left pleural effusion.", "", "There is severe cardiomegaly. " * 9]


@pytest.fixture(scope="module")
def reports() -> Material:
    studies = [study for number in range(14) for study in patient_studies(0, number)]
    return Material(Pairs.of_studies(studies[:12]), Pairs.of_studies(studies[12:18]), {"dataset": "a few reports"})


@pytest.fixture(scope="module")
def stage_of(reports: Material) -> Callable[..., Stage]:
    worlds = Worlds(world=0, seed=1, pictures=12)

    def make(family: str, **changes: Any) -> Stage:
        material = worlds.material(DATA[family]) if family in DATA else reports
        return pretraining(family)(recipe_of(family, **changes), material, 7)

    return make


def recipe_of(family: str, **changes: Any) -> TextRecipe:
    size = 600 if "clip" in family and family != "cxr-clip" else 120
    facts = {"schedule": PLAN, "family": family, "data": DATA.get(family, "reports"), "config": CONFIGS[family]}
    return TextRecipe.model_validate(facts | {"vocab_size": size, "max_length": 32} | changes)


def trained(stage: Stage, work: Path, plan: Schedule = PLAN) -> list[tuple[int, float]]:
    return stage.train("toy", plan, 7, work, {})


class Killed(BaseException):
    """Like kill -9 as far as Python can tell: nothing may catch it."""


class Deadly:
    """Draws that end the process at a position."""

    def __init__(self, draws: Any, at: int) -> None:
        self.draws, self.at = draws, at

    def __getitem__(self, position: int) -> Any:
        if position == self.at:
            raise Killed
        return self.draws[position]


def parameters(stage: Stage) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in stage.objective.parameters()])


@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_killed_pretraining_ends_like_one_that_was_not(
    family: str, stage_of: Callable[..., Stage], tmp_path: Path
) -> None:
    whole = stage_of(family)
    start = parameters(whole)
    curve = trained(whole, tmp_path / "whole")
    killed = stage_of(family)
    assert torch.equal(parameters(killed), start)
    with pytest.raises(Killed):
        trained(Stage(killed.objective, Deadly(killed.draws, 13), killed.save, killed.results), tmp_path / "killed")
    resumed = stage_of(family)
    assert trained(resumed, tmp_path / "killed") == curve
    torch.testing.assert_close(parameters(resumed), parameters(whole), atol=1e-7, rtol=0)
    assert not torch.equal(parameters(whole), start)
    assert [step for step, _ in curve] == [1, 2, 3, 4]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_pretrained_encoder_is_loaded_by_its_family_as_it_was(
    family: str, precision: str, stage_of: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = stage_of(family, save_precision=precision)
    trained(stage, tmp_path / "work")
    folder = tmp_path / family
    facts = stage.save(folder)
    assert facts["family"] == family
    write_card(folder, **facts)
    parts = text_parts(folder)
    place = folder / parts["text_encoder"].get("path", "")
    encoder = load_text_encoder(family, place, Path(parts.get("tokenizer", folder)), facts["max_length"])
    encoding = encoder.encode(TEXTS)
    assert encoding.states.shape == (3, 32, WIDTHS.get(family, 32))
    assert encoding.mask.sum(1).tolist()[1:] == [2, 10 if family == "med-kebert" else 32] or family == "med-kebert"
    assert encoding.texts[0][slice(*encoding.offsets[0, 1].tolist())] != ""
    tokens = encoder.tokens(TEXTS)  # type: ignore[attr-defined]
    with torch.no_grad():
        wanted = states_of(family, stage, tokens.ids, tokens.mask.long())
    kept = tokens.mask if family != "open-clip" else torch.ones_like(tokens.mask)
    tolerance = 1e-5 if precision == "float32" else 2e-2
    torch.testing.assert_close(encoding.states[kept], wanted[kept], atol=tolerance, rtol=tolerance)


def states_of(family: str, stage: Stage, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the trained network itself makes of tokens."""
    text: Any = stage.objective.text
    if family == "clip":
        return text.text_model(ids, attention_mask=mask).last_hidden_state
    if family == "open-clip":
        states = text.token_embedding(ids) + text.positional_embedding
        for block in text.transformer.resblocks[:-1]:
            states = block(states, attn_mask=text.attn_mask)
        return text.ln_final(states)
    bert = {"cxr-clip": lambda: text.bert, "med-kebert": lambda: text}.get(family, lambda: text.bert)()
    return bert(input_ids=ids, attention_mask=mask).last_hidden_state


RESULTS = {
    "cxr-bert": {"masked_token_accuracy", "image_to_text_r1"},
    "clip": {"image_to_text_r1", "text_to_image_r1", "retrieval_chance"},
    "open-clip": {"image_to_text_r1"},
    "bert": {"masked_token_accuracy", "masked_token_chance"},
    "cxr-clip": {"image_to_text_r1"},
    "med-kebert": {"definition_to_entity_r1", "definition_to_entity_chance"},
}


@pytest.mark.parametrize("family", list(CONFIGS))
def test_results_are_shares_of_what_was_never_trained_on(family: str, stage_of: Callable[..., Stage]) -> None:
    stage = stage_of(family)
    stage.objective.eval()
    found = stage.results()
    assert RESULTS[family] <= found.keys()
    assert all(0 <= value <= 1 for value in found.values())
    assert found == stage.results()
    assert json.dumps(found)


def test_definitions_are_learned(stage_of: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stage_of("med-kebert", vocab_size=600)
    stage.objective.eval()
    before = stage.results()["definition_to_entity_r1"]
    plan = {"steps": 150, "batch_size": 28, "learning_rate": 5e-3, "checkpoint_every": 200, "log_every": 50}
    curve = trained(stage, tmp_path, PLAN.model_copy(update=plan))
    assert curve[-1][1] < 2.8 < 3.2 < curve[0][1]
    assert stage.results()["definition_to_entity_r1"] > before


def test_cxr_bert_is_a_language_model_first(stage_of: Callable[..., Stage], tmp_path: Path) -> None:
    stage = stage_of("cxr-bert", language_steps=3)
    assert [bool(stage.draws[position]["joint"]) for position in (0, 11, 12, 15)] == [False, False, True, True]
    tower = [parameter.clone() for parameter in stage.objective.image.parameters()]  # type: ignore[union-attr]
    (tmp_path / "joint").mkdir()
    two_of_four = PLAN.model_copy(update={"checkpoint_every": 1})
    with pytest.raises(Killed):
        trained(Stage(stage.objective, Deadly(stage.draws, 12), stage.save, stage.results), tmp_path, two_of_four)
    after = list(stage.objective.image.parameters())  # type: ignore[union-attr]
    assert all(torch.equal(old, new) for old, new in zip(tower, after, strict=True))
    trained(stage, tmp_path, two_of_four)
    assert not all(torch.equal(old, new) for old, new in zip(tower, after, strict=True))


def test_a_damaged_vocabulary_is_named(stage_of: Callable[..., Stage], tmp_path: Path) -> None:
    facts = stage_of("open-clip").save(tmp_path)
    load_text_encoder("open-clip", tmp_path, tmp_path, facts["max_length"])
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"bpe_simple_vocab_16e6\.txt\.gz"):
        load_text_encoder("open-clip", tmp_path, tmp_path, facts["max_length"])


VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [4, 8],
    "norm_num_groups": 4,
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 4,
    "mid_block_add_attention": False,
}


@pytest.mark.parametrize("crop", [None, 32])
def test_the_autoencoder_learns_and_its_latents_have_unit_deviation(
    reports: Material, tmp_path: Path, crop: int | None
) -> None:
    from diffusers import AutoencoderKL

    plan = PLAN.model_copy(update={"steps": 6, "learning_rate": 1e-2})
    stage = autoencoder.stage(AutoencoderRecipe(schedule=plan, config=VAE, crop=crop), reports, 7)
    side = crop or 128
    assert stage.draws[0]["images"].shape == (1, side, side)
    assert stage.draws[0]["noise"].shape == (4, side // 2, side // 2)
    before = stage.results()["validation_psnr_db"]
    trained(stage, tmp_path / "work", plan)
    assert stage.results()["validation_psnr_db"] > before
    assert stage.save(tmp_path / "out") == {}
    vae = AutoencoderKL.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        latents = vae.encode(autoencoder.to_model(reports.train.pixels)).latent_dist.mean * vae.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1, abs=1e-3)


def test_the_autoencoders_loss_by_hand(reports: Material) -> None:
    recipe = AutoencoderRecipe(schedule=PLAN, config=VAE, kl_weight=0.5)
    stage = autoencoder.stage(recipe, reports, 7)
    batch = {name: torch.stack([stage.draws[k][name] for k in range(3)]) for name in ("images", "noise")}
    vae: Any = stage.objective.vae
    with torch.no_grad():
        found = float(stage.objective(batch))
        mean, logvar = vae.quant_conv(vae.encoder(batch["images"])).chunk(2, dim=1)
        decoded = vae.decoder(vae.post_quant_conv(mean + (logvar / 2).exp() * batch["noise"]))
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean() / 128**2
        assert found == pytest.approx(float((decoded - batch["images"]).abs().mean() + 0.5 * kl), rel=1e-5)
