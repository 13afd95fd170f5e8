"""Training: the loop and its resume, the losses and masks, recipes, and the whole zoo at toy scale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import GtgError, UsageError
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.methods.ldm.components import load_components
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.text_encoders.clip import ClipTextEncoder
from gtg_bench.methods.text_encoders.cxr_bert import CxrBertTextEncoder
from gtg_bench.methods.weights import find_weights
from gtg_bench.training import diffusion, text_encoders
from gtg_bench.training.diffusion import LatentPairs, drop_captions, train_unet
from gtg_bench.training.generic_captions import captioned_pictures
from gtg_bench.training.loop import Fit, batch_indices
from gtg_bench.training.recipe import DiffusionRecipe, Recipe, Schedule, TextRecipe
from gtg_bench.training.recipe import load_old_recipe as load_recipe
from gtg_bench.training.text_encoders import Pairs, contrast, local_contrast, mask_tokens, train_clip, train_cxr_bert
from gtg_bench.training.zoo import Zoo

pytestmark = pytest.mark.usefixtures("torch")
PLAN = Schedule(steps=6, batch_size=4, learning_rate=0.05, warmup_steps=2, log_every=3, checkpoint_every=3)


# The loop


class Killed(BaseException):
    """Like SIGTERM: nothing may catch it."""


class Line:
    """A line fitted to noisy points: a model with a moving average, and a loss that may be told to fail."""

    def __init__(self, workdir: Path, plan: Schedule = PLAN, seed: int = 1) -> None:
        from diffusers.training_utils import EMAModel

        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.ema = EMAModel(self.model.parameters(), decay=0.9, use_ema_warmup=True, power=0.75)
        self.fails: dict[int, Any] = {}
        self.fit = Fit("line", self.model, self.loss, plan, seed, workdir, self.ema)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        failure = self.fails.pop(step, 1.0)
        if isinstance(failure, BaseException):
            raise failure
        points = torch.randn(8, 3, generator=generator)
        return F.mse_loss(self.model(points), points.sum(1, keepdim=True)) * failure

    def parameters(self) -> Tensor:
        """The model's and the average's parameters in one vector."""
        return torch.cat([p.detach().flatten() for p in (*self.model.parameters(), *self.ema.shadow_params)])


def killed_and_resumed(workdir: Path, plan: Schedule, at: int) -> tuple[Line, list[tuple[int, float]]]:
    killed = Line(workdir, plan)
    killed.fails[at] = Killed()
    with pytest.raises(Killed):
        killed.fit.run()
    resumed = Line(workdir, plan)
    return resumed, resumed.fit.run()


@pytest.mark.parametrize(("log_every", "at"), [(1, 1), (1, 3), (3, 5), (2, 1), (2, 3), (6, 5)])
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, log_every: int, at: int) -> None:
    plan = PLAN.model_copy(update={"log_every": log_every})
    whole = Line(tmp_path / "whole", plan)
    curve = whole.fit.run()
    resumed, resumed_curve = killed_and_resumed(tmp_path / "killed", plan, at)
    torch.testing.assert_close(resumed.parameters(), whole.parameters(), atol=1e-7, rtol=0)
    assert resumed_curve == curve
    assert json.loads((tmp_path / "killed" / "curve.json").read_text()) == [list(point) for point in curve]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = Line(tmp_path)
    curve = first.fit.run()
    again = Line(tmp_path)
    again.fails[5] = AssertionError("a step was run")
    assert again.fit.run() == curve
    assert torch.equal(again.parameters(), first.parameters())
    assert not again.model.training


@pytest.mark.parametrize("changes", [{"seed": 2}, {"plan": PLAN.model_copy(update={"learning_rate": 0.5})}])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    Line(tmp_path).fit.run()
    with pytest.raises(GtgError, match=r"state\.pt is of a run with another recipe or seed"):
        Line(tmp_path, **changes).fit.run()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, value: float) -> None:
    line = Line(tmp_path)
    line.fails[4] = value
    with pytest.raises(GtgError, match=rf"line: the loss is {value} at step 4; lower the learning rate"):
        line.fit.run()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3


def test_an_epoch_is_a_permutation() -> None:
    epochs = [torch.cat([batch_indices(12, 4, 3 * epoch + k, seed=5) for k in range(3)]) for epoch in range(4)]
    assert all(epoch.sort().values.tolist() == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4
    assert torch.equal(batch_indices(12, 4, 7, 5), batch_indices(12, 4, 7, 5))
    assert not torch.equal(batch_indices(12, 4, 7, 5), batch_indices(12, 4, 7, 6))


def test_batches_leave_out_the_remainder_and_never_exceed_the_data() -> None:
    assert len(torch.cat([batch_indices(11, 4, step, 0) for step in range(2)]).unique()) == 8
    assert batch_indices(3, 16, 5, 0).sort().values.tolist() == [0, 1, 2]


# Captions


@pytest.mark.parametrize(("probability", "low", "high"), [(0, 0, 0), (1, 1, 1), (0.3, 0.29, 0.31)])
def test_captions_are_dropped_with_the_given_probability(probability: float, low: float, high: float) -> None:
    captions = torch.arange(40_000)
    kept = drop_captions(captions, -1, probability, torch.Generator().manual_seed(0))
    assert low <= float((kept == -1).float().mean()) <= high
    assert torch.equal(kept[kept != -1], captions[kept != -1])


@pytest.fixture
def pairs() -> LatentPairs:
    """Eight latents with three captions; caption k's states are k + 1 everywhere, the empty caption's 9."""
    mean, std = torch.randn((2, 8, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    states = torch.tensor([1.0, 2.0, 3.0, 9.0])[:, None, None].expand(4, 5, 32)
    return LatentPairs(mean.half(), std.abs().half(), states, torch.arange(8) % 3)


def unet_recipe(make_unet: Callable[..., Any], dropout: float = 0.3, steps: int = 4) -> DiffusionRecipe:
    config = {k: v for k, v in make_unet().config.items() if not k.startswith("_")}
    schedule = Schedule(steps=steps, batch_size=4, learning_rate=1e-3, warmup_steps=1, checkpoint_every=2, log_every=2)
    return DiffusionRecipe(schedule=schedule, config=config, caption_dropout=dropout, ema_decay=0.9)


@pytest.mark.parametrize(("dropout", "low", "high"), [(0, 0, 0), (1, 1, 1), (0.5, 0.2, 0.8)])
def test_the_unet_gets_the_empty_captions_states(
    make_unet: Any, pairs: LatentPairs, tmp_path: Path, dropout: float, low: float, high: float
) -> None:
    seen: list[Tensor] = []

    def spy(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if type(module).__name__ == "UNet2DConditionModel":
            seen.append(inputs[2][:, 0, 0].clone())

    handle = nn.modules.module.register_module_forward_pre_hook(spy)
    try:
        train_unet(unet_recipe(make_unet, dropout, steps=8), pairs, "tiny", 0, tmp_path)
    finally:
        handle.remove()
    states = torch.cat(seen)
    assert len(states) == 32
    assert low <= float((states == 9).float().mean()) <= high
    assert set(states.tolist()) <= {1.0, 2.0, 3.0, 9.0}


def test_a_killed_unet_ends_like_one_that_was_not(
    make_unet: Any, pairs: LatentPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = unet_recipe(make_unet)
    whole, curve = train_unet(recipe, pairs, "tiny", 0, tmp_path / "whole")
    with killed_at(monkeypatch, diffusion, "drop_captions", 3), pytest.raises(Killed):
        train_unet(recipe, pairs, "tiny", 0, tmp_path / "killed")
    resumed, resumed_curve = train_unet(recipe, pairs, "tiny", 0, tmp_path / "killed")
    assert resumed_curve == curve
    assert_same_parameters(resumed, whole)


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> Iterator[None]:
    """Within the block the n-th call of a module's function raises `Killed`."""
    original, calls = getattr(module, name), []

    def function(*args: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return original(*args)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, function)
        yield


def assert_same_parameters(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


# Text encoders


@pytest.fixture
def text_pairs() -> Pairs:
    pictures = captioned_pictures(8, 0)
    return Pairs(torch.from_numpy(pictures.pixels), pictures.captions)


@pytest.fixture
def bert_recipe(text_recipe: TextRecipe) -> TextRecipe:
    return text_recipe.model_copy(update={"schedule": PLAN.model_copy(update={"steps": 4, "checkpoint_every": 2})})


@pytest.mark.parametrize(
    "train",
    [
        text_encoders.word_piece_tokenizer,
        text_encoders.byte_pair_tokenizer,
    ],
)
def test_a_tokenizer_is_a_function_of_its_texts(bert_recipe: TextRecipe, text_pairs: Pairs, train: Any) -> None:
    vocabularies = [train(text_pairs.texts, bert_recipe).get_vocab() for _ in range(8)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_a_killed_cxr_bert_ends_like_one_that_was_not(
    bert_recipe: TextRecipe, text_pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = train_cxr_bert(bert_recipe, text_pairs, 0, tmp_path / "whole")
    with killed_at(monkeypatch, text_encoders, "mask_tokens", 3), pytest.raises(Killed):
        train_cxr_bert(bert_recipe, text_pairs, 0, tmp_path / "killed")
    resumed, _, _ = train_cxr_bert(bert_recipe, text_pairs, 0, tmp_path / "killed")
    assert_same_parameters(resumed, whole)


CLIP = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
CLIP |= {"projection_dim": 16, "max_position_embeddings": 32}


@pytest.mark.parametrize("train", [train_cxr_bert, train_clip])
def test_a_trained_encoder_is_loaded_as_it_was(
    bert_recipe: TextRecipe, text_pairs: Pairs, tmp_path: Path, train: Any
) -> None:
    clip = train is train_clip
    recipe = bert_recipe.model_copy(update={"config": CLIP, "vocab_size": 330}) if clip else bert_recipe
    model, tokenizer, _ = train(recipe, text_pairs, 0, tmp_path / "work")
    model.save_pretrained(tmp_path / "out")
    tokenizer.save_pretrained(tmp_path / "out")
    family = ClipTextEncoder if clip else CxrBertTextEncoder
    texts = ["a small ring", "", "a photo of a large bright cross " * 5]
    one = family(model, tokenizer, 24).encode(texts)
    other = family.load(tmp_path / "out", tmp_path / "out", 24).encode(texts)
    torch.testing.assert_close(one.states, other.states, atol=1e-6, rtol=0)
    assert torch.equal(one.offsets, other.offsets)
    assert one.mask.sum(1).tolist() == other.mask.sum(1).tolist() == [int(one.mask[0].sum()), 2, 24]


def test_masking_follows_bert_and_spares_special_tokens(word_pieces: Any) -> None:
    special, size = set(word_pieces.all_special_ids), len(word_pieces)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(size, (400, 200), generator=generator)
    mask = (torch.arange(200) < 180).expand(400, -1).long()
    masked, targets = mask_tokens(ids, mask, word_pieces, generator)
    chosen = targets != -100
    ordinary = ~torch.isin(ids, torch.tensor(sorted(special))) & mask.bool()
    assert not (chosen & ~ordinary).any()
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert torch.equal(targets[chosen], ids[chosen])
    shares = chosen.sum() / ordinary.sum(), (masked == word_pieces.mask_token_id)[chosen].float().mean()
    assert [float(share) for share in shares] == pytest.approx([0.15, 0.8], abs=0.01)
    assert float((masked == ids)[chosen].float().mean()) == pytest.approx(0.1 * (1 + 1 / size), abs=0.01)


def test_masking_always_leaves_a_target(word_pieces: Any) -> None:
    ids = torch.tensor([[word_pieces.cls_token_id, 9, word_pieces.sep_token_id]])
    for seed in range(20):
        _, targets = mask_tokens(ids, torch.ones_like(ids), word_pieces, torch.Generator().manual_seed(seed))
        assert targets.tolist() == [[-100, 9, -100]]


def test_contrast_by_hand() -> None:
    # Cosines [[1, 0.6], [0, 0.8]] times 2; cross entropy is log(1 + exp(other - own)) by rows, then by columns.
    text, image = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.6, 0.8]])
    rows = np.log1p(np.exp(1.2 - 2)) + np.log1p(np.exp(0 - 1.6))
    columns = np.log1p(np.exp(0 - 2)) + np.log1p(np.exp(1.2 - 1.6))
    found = contrast(text, image, torch.tensor(2.0).log())
    assert float(found) == pytest.approx((rows + columns) / 4, abs=1e-6)


def test_contrast_prefers_pairs_to_strangers() -> None:
    embeddings, scale = torch.eye(4), torch.tensor(2.3)
    assert contrast(embeddings, embeddings, scale) < 0.001
    assert contrast(embeddings, embeddings.roll(1, 0), scale) > 5


def test_local_contrast_prefers_pairs_and_reads_words_alone() -> None:
    patches = torch.eye(12).view(3, 4, 12)
    tokens = torch.cat([patches[:, :1], patches[:, 1:3], patches[:, :2]], 1)
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]])
    scale = torch.tensor(2.3)
    good = local_contrast(tokens, mask, patches, scale)
    assert good + 1 < local_contrast(tokens, mask, patches.roll(1, 0), scale)
    tokens[:, 0], tokens[:2, 3:], tokens[2, 2:] = 7.0, -5.0, 3.0
    torch.testing.assert_close(local_contrast(tokens, mask, patches, scale), good)


def test_pictures_are_a_function_of_their_seed() -> None:
    one, same, other = captioned_pictures(6, 3), captioned_pictures(6, 3), captioned_pictures(6, 4)
    assert one.captions == same.captions != other.captions
    assert np.array_equal(one.pixels, same.pixels)
    assert one.pixels.shape == (6, 64, 64)
    assert one.pixels.dtype == np.uint8


def test_pictures_show_what_their_captions_say() -> None:
    pictures, seen = captioned_pictures(300, 0), 0
    for pixels, caption in zip(pictures.pixels, pictures.captions, strict=True):
        if " and " in caption or "bright" not in caption:
            continue
        y, x = ((np.argwhere(pixels > 205).mean(0) + 0.5) / 32 - 1).tolist()
        places = {"upper": y < -0.2, "lower": y > 0.2, "left": x < -0.2, "right": x > 0.2}
        assert all(holds for word, holds in places.items() if f" {word}" in caption), caption
        seen += any(word in caption for word in places)
    assert seen > 10


# Recipes


def test_the_packaged_recipe_loads_by_name_and_by_path() -> None:
    path = Path(text_encoders.__file__).parent / "recipes" / "phantom.yaml"
    recipe = load_recipe("old-phantom")
    assert recipe == load_recipe(str(path))
    assert set(recipe.variants.values()) == set(recipe.text_encoders)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kl_weight:", "kl_wait:", "autoencoder.kl_wait"),
        ("steps: 1800", "steps: 0", "autoencoder.schedule.steps"),
        ("family: clip", "family: gpt", "text_encoders.clip.family"),
        ("caption_dropout: 0.3", "caption_dropout: 3", "unet.caption_dropout"),
        ("seed: 4200\n", "seed: [4200\n", "mine.yaml"),
        ("clip-ldm: clip", "clip-ldm: clop", "variants.clip-ldm: no text encoder 'clop'"),
    ],
)
def test_a_wrong_recipe_names_its_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (Path(text_encoders.__file__).parent / "recipes" / "phantom.yaml").read_text()
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message):
        load_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("name", ["fantom", "nowhere/recipe.yaml"])
def test_a_missing_recipe_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no recipe '{name}'; packaged: phantom"):
        load_recipe(name)


# The zoo


def micro() -> Recipe:
    """The phantom's recipe with two steps a stage."""
    recipe = load_recipe("old-phantom")

    def short(stage: Any) -> Any:
        plan = stage.schedule.model_copy(update={"steps": 2, "batch_size": 4, "warmup_steps": 0})
        return stage.model_copy(update={"schedule": plan})

    stages = {"autoencoder": short(recipe.autoencoder), "unet": short(recipe.unet)}
    texts = {name: short(stage) for name, stage in recipe.text_encoders.items()}
    evaluation = recipe.evaluation.model_copy(update={"steps": (1, 2)})
    return recipe.model_copy(update=stages | {"text_encoders": texts, "evaluation": evaluation})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A zoo trained from `micro` on 24 studies, and what it printed."""
    from gtg_bench.benchmark.datasets.phantom.world import patient_studies
    from gtg_bench.training import zoo

    studies = [study for number in range(30) for study in patient_studies(0, number)]
    slices = {"train": studies[:24], "validate": studies[24:30]}
    with pytest.MonkeyPatch.context() as patched:
        for module in ("gtg_bench.training.zoo", "gtg_bench.benchmark.datasets.phantom.dataset"):
            patched.setattr(f"{module}.load_studies", lambda seed, split: slices[split])
        patched.setattr(zoo, "_GENERIC_PICTURES", 16)
        trained = Zoo(micro(), tmp_path_factory.mktemp("zoo"))
        yield SimpleNamespace(zoo=trained, folders=[trained.variant(name) for name in trained.recipe.variants])


PARTS = ["autoencoder", "cxr-bert", "clip", "cxrbert-ldm", "clip-ldm"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_zoo_has_a_card(trained: Any, part: str) -> None:
    folder = trained.zoo.out / part
    card = json.loads((folder / "card.json").read_text())
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "card.json"]
    assert card["sha256"] == {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    assert any(path.suffix == ".safetensors" for path in files)
    assert "trained on the phantom" in card["title"]
    assert "Trained on the phantom" in card["notice"]
    assert (card["steps"], card["seed"], card["data"]["images"]) == (2, 4200, 16 if part == "clip" else 24)
    assert [step for step, _ in card["loss_curve"]] == [2]


@pytest.mark.parametrize("variant", ["cxrbert-ldm", "clip-ldm"])
def test_a_trained_variant_grounds_a_phrase(trained: Any, variant: str) -> None:
    components = load_components(find_weights(variant, str(trained.zoo.out / variant)), torch.device("cpu"))
    assert components.image_size == 128
    assert components.text_encoder.max_length == {"cxrbert-ldm": 48, "clip-ldm": 77}[variant]
    image = trained.zoo.studies[0].pixels.astype(np.float32) / 255
    settings = MethodSettings(variant, sampling="gt-cfg", steps=2)
    found = LdmMethod(components, settings).ground(image, "Small left pleural effusion.")
    assert found.values.shape == (32, 32)
    assert found.values.min() > 0


def test_a_trained_zoo_is_left_alone(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.zoo.out.rglob("*")}
    monkeypatch.setattr(Fit, "run", lambda self: pytest.fail(f"{self.name} was trained again"))
    again = Zoo(micro(), trained.zoo.out)
    assert [again.variant(name) for name in again.recipe.variants] == trained.folders
    assert {path: path.stat().st_mtime_ns for path in trained.zoo.out.rglob("*")} == before


def test_an_unknown_variant_is_named(trained: Any) -> None:
    with pytest.raises(UsageError, match="no variant 'gpt-ldm'; it has: cxrbert-ldm, clip-ldm"):
        trained.zoo.variant("gpt-ldm")
