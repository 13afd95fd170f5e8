"""Training of a latent diffusion model: draws, objective, what is trained, and the folder that comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.types import MethodSettings, seed_for
from gtg_bench.benchmark.datasets.training import TrainingPair
from gtg_bench.methods.catalog import CATALOG
from gtg_bench.methods.ldm.attention import cross_attention_layers
from gtg_bench.methods.ldm.components import load_components
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.text_encoders.words_only import WordsOnly
from gtg_bench.methods.weights import find_weights
from gtg_bench.training.ldm import train as training
from gtg_bench.training.ldm.examples import LatentDraws, Usable
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.ldm.separation import trained_names
from gtg_bench.training.ldm.text_states import FrozenStates
from gtg_bench.training.ldm.train import TrainRequest, train
from gtg_bench.training.loop import checkpoints
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.loop.progress import seen
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.recipe import LdmRecipe, load_recipe
from gtg_bench.training.variants import variants

pytestmark = pytest.mark.usefixtures("torch")
EMPTY = {"ids": torch.full((5,), 99), "mask": torch.tensor([1, 1, 0, 0, 0]).bool()}


# Draws


def rows(count: int) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.randn((2, count, 4, 8, 8), generator=generator)
    latents = [{"mean": m.half(), "std": s.abs().half()} for m, s in zip(mean, std, strict=True)]
    texts = [{"ids": torch.full((5,), k, dtype=torch.int32), "mask": torch.ones(5).bool()} for k in range(count)]
    return latents, texts


def test_a_sample_is_drawn_by_its_position_alone() -> None:
    latents, texts = rows(8)
    draws = LatentDraws(latents, texts, EMPTY, Usable(EpochOrder(8, 3), 8), 0.3, seed=3)
    for position in (0, 5, 21):
        found, number = draws[position], EpochOrder(8, 3)(position)
        generator = torch.Generator().manual_seed(seed_for(3, "draw", position))
        dropped = float(torch.rand((), generator=generator)) < 0.3
        first, noise = (torch.randn((4, 8, 8), generator=generator) for _ in range(2))
        assert torch.equal(found["latents"], latents[number]["mean"].float() + latents[number]["std"].float() * first)
        assert torch.equal(found["noise"], noise)
        assert int(found["timesteps"]) == int(torch.randint(0, 1000, (), generator=generator))
        assert set(found["ids"].tolist()) == ({99} if dropped else {number})
        again = draws[position]
        assert all(torch.equal(found[name], again[name]) for name in found)
    other = LatentDraws(latents, texts, EMPTY, Usable(EpochOrder(8, 3), 8), 0.3, seed=4)
    assert not torch.equal(other[0]["noise"], draws[0]["noise"])


def test_noise_levels_are_drawn_as_the_recipe_says() -> None:
    """The logit of t / 1000 has the recipe's mean and deviation, up to the rounding of t; without, t is uniform."""
    latents, texts = rows(8)
    item = Usable(EpochOrder(8, 3), 8)
    by_hand = [0.0732, 0.1639, 0.2689, 0.4084, 0.6313]  # 1 / (1 + exp(1 - 1.2 z)) at the quantiles z of a normal
    for timesteps, shares in ((None, [0.1, 0.3, 0.5, 0.7, 0.9]), ((-1.0, 1.2), by_hand)):
        draws = LatentDraws(latents, texts, EMPTY, item, 0.3, seed=3, timesteps=timesteps)
        found = np.array([int(draws[position]["timesteps"]) for position in range(4000)])
        assert found.min() >= 0
        assert found.max() < 1000
        np.testing.assert_allclose(np.quantile(found / 1000, [0.1, 0.3, 0.5, 0.7, 0.9]), shares, atol=0.03)


def test_what_cannot_be_used_is_replaced_by_the_next() -> None:
    usable = Usable(lambda position: position % 5, 5, {1, 2, 4})
    assert [usable(position) for position in range(6)] == [0, 3, 3, 3, 0, 0]
    with pytest.raises(DataError, match="none of the training pairs can be used"):
        Usable(lambda position: 0, 2, {0, 1})


# Objective


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn((2, 3, 4, 8, 8), generator=generator)
    facts = {"ids": torch.randint(5, 60, (3, 24), generator=generator), "mask": torch.ones(3, 24).bool()}
    return {"latents": latents, "noise": noise, "timesteps": torch.tensor([3, 400, 990]), **facts}


@pytest.mark.parametrize("gamma", [None, 5.0])
def test_the_loss_is_that_of_the_noise(components: Any, batch: dict[str, Tensor], gamma: float | None) -> None:
    encoder = components.text_encoder
    found = NoiseObjective(components.unet, components.scheduler, encoder, False, 64, gamma)(batch)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)[batch["timesteps"]].float()[:, None, None, None]
    noisy = kept.sqrt() * batch["latents"] + (1 - kept).sqrt() * batch["noise"]
    with torch.no_grad():
        states = encoder.model(batch["ids"], batch["mask"].long(), return_dict=True).last_hidden_state
        predicted = components.unet(noisy, batch["timesteps"], states).sample
    losses = F.mse_loss(predicted, batch["noise"], reduction="none").mean((1, 2, 3))
    snr = (kept / (1 - kept)).flatten()
    weights = torch.ones(3) if gamma is None else torch.minimum(snr, torch.tensor(gamma)) / snr
    assert float(found) == pytest.approx(float((weights * losses).mean()), rel=1e-5)


class Counting:
    """A text encoder that counts the texts it encodes."""

    def __init__(self) -> None:
        self.module, self.encoded = torch.nn.Identity(), 0

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.encoded += len(ids)
        return ids[..., None].float().expand(-1, -1, 2**16)  # 5 tokens: 1.25 MiB a text


@pytest.mark.parametrize(("memory", "encoded"), [(64, 4), (3, 5), (0, 12)])
def test_states_of_captions_are_kept_as_far_as_there_is_memory(memory: int, encoded: int) -> None:
    counting = Counting()
    states = FrozenStates(counting, memory)  # type: ignore[arg-type]
    for asked in ([0, 1, 0], [1, 0, 1], [2, 3, 2], [2, 0, 3]):
        ids = torch.tensor(asked)[:, None].expand(3, 5)
        found = states(ids, torch.ones(3, 5).bool())
        assert found.shape == (3, 5, 2**16)
        assert found[:, 0, 0].tolist() == asked
    assert counting.encoded == encoded


# Recipes and variants


def test_the_papers_recipe_is_the_papers() -> None:
    recipe = load_recipe("paper")
    s = recipe.schedule
    assert (s.steps, s.learning_rate, s.warmup_steps, s.max_grad_norm) == (30_000, 5e-5, 1000, 1.0)
    assert (s.batch_size, s.split(8), s.split(1)) == (256, (16, 2), (16, 16))
    assert (s.betas, s.weight_decay, s.epsilon) == ((0.9, 0.999), 1e-2, 1e-8)
    assert (recipe.caption_dropout, recipe.seeds, recipe.precision) == (0.3, (4200, 1759, 6357), "fp16")
    assert recipe.ema is not None
    assert recipe.unet is not None
    assert recipe.unet.place == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert (recipe.data, recipe.weights, recipe.min_snr) == ("mimic-cxr", "paper", None)


def test_recipes_and_variants_fit_together(tmp_path: Path) -> None:
    quick, words, full = load_recipe("phantom-quick"), load_recipe("phantom-words"), load_recipe("phantom")
    apart = ("name", "note", "schedule", "choice", "data_options", "words_only")
    assert words.model_copy(update={name: getattr(quick, name) for name in apart}) == quick
    assert full.model_copy(update={"name": words.name, "separation": (), "choice": words.choice}) == words
    once = load_recipe("phantom-apart")
    assert full.model_copy(update={"name": once.name, "separation": full.separation[:1], "choice": once.choice}) == once
    sides = load_recipe("phantom-sides")
    assert sides.separation[:2] == full.separation
    assert sides.model_copy(update={name: getattr(full, name) for name in ("name", "separation", "choice")}) == full
    assert (sides.choice.smooth, sides.separation[2].layers) == (full.choice.smooth, "1,3,4,5")
    varied = load_recipe("phantom-varied")
    assert varied.separation[:2] == full.separation
    assert varied.model_copy(update={name: getattr(full, name) for name in ("name", "separation", "choice")}) == full
    unet = UNet2DConditionModel(**(full.unet_config or {}))
    names = [name for name, _ in unet.named_parameters()]
    crossing = cross_attention_layers(unet)
    assert trained_names(names, sides.separation[2].trained) == {n for n in names if n.startswith(tuple(crossing))}
    assert set(names) > trained_names(names, varied.separation[2].trained)
    assert varied.choice == full.choice.model_copy(update={"layers": varied.separation[2].layers})
    assert (quick.words_only, words.words_only) == (False, True)
    assert (quick.data_options, words.data_options) == ({}, {"captions": "findings"})
    assert (quick.schedule.steps, words.schedule.steps) == (1500, 3000)
    assert [schedule.steps for schedule in full.schedules] == [3000, 1250, 300]
    assert set(variants()) == {entry.name for entry in CATALOG if entry.card.kind == "ldm"}
    (tmp_path / "my.yaml").write_text("unet: {place: somewhere}\nschedule: {steps: 3}")
    recipe = load_recipe("phantom", tmp_path / "my.yaml")
    assert recipe.unet is not None
    assert (recipe.unet_config, recipe.unet.place) == (None, "somewhere")
    assert (recipe.schedule.steps, recipe.schedule.batch_size) == (3, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedule: {stepz: 3}", r"my\.yaml: schedule\.stepz"),
        ("caption_dropout: 2", r"my\.yaml: caption_dropout"),
        ("[1, 2]", r"my\.yaml: .*NAME: VALUE"),
        ("schedule: {steps: 3", r"my\.yaml"),
    ],
)
def test_a_wrong_change_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises((DataError, UsageError), match=message):
        load_recipe("phantom", tmp_path / "my.yaml")
    (tmp_path / "my.yaml").write_text(f"based_on: {tmp_path}/my.yaml")
    with pytest.raises(UsageError, match=r"my\.yaml is based on itself"):
        load_recipe(str(tmp_path / "my.yaml"))


# Whole runs


class Pictures:
    """Twelve grey pictures with captions; one may be unreadable."""

    name, split = "pictures", "train"
    options: dict[str, str] = {}  # noqa: RUF012
    fingerprint = "f" * 64
    dropped: dict[str, int] = {}  # noqa: RUF012
    problems: list[Any] = []  # noqa: RUF012

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 12

    def __getitem__(self, number: int) -> TrainingPair:
        image: Any = np.random.default_rng(number).random((20, 16), dtype=np.float32)
        if number == self.broken:
            image = Path("there is no such picture.png")
        return TrainingPair(
            f"picture-{number}", f"p{number}", image, ["left effusion", "edema", "pneumothorax"][number % 3]
        )


RECIPE: dict[str, Any] = {
    "name": "tiny",
    "weights": "phantom",
    "unet": {"place": "named by --start"},
    "data": "pictures",
    "schedule": {
        "steps": 6, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 1, "checkpoint_every": 2, "log_every": 1
    },
    "seeds": [7],
    "text_memory": 0,
    "validation": {"every": 3, "pairs": 4, "dataset": "phantom", "samples": 3, "steps": 2, "pictures": 1},
    "defaults": {"steps": 3, "guidance": 2.0, "layers": "all"},
}  # fmt: skip
BLIND: dict[str, Any] = {"validation": {"pairs": 0}}
"""Changes of the recipe: no validation."""


@pytest.fixture
def request_for(folder: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    """A training run of twelve pictures from the tiny model in `folder`."""

    def make(variant: str = "cxrbert-ldm", out: str = "out", broken: int | None = None, **changes: Any) -> TrainRequest:
        values = RECIPE | changes.pop("recipe", {})
        facts: dict[str, Any] = {"opened": lambda split: Pictures(broken), "start": str(folder), "device": "cpu"}
        return TrainRequest(variant, LdmRecipe.model_validate(values), tmp_path / out, **facts | changes)

    return make


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phantom of two patients, so that validation reads three phrases at once."""
    from gtg_bench.benchmark.datasets.phantom.world import patient_studies

    studies = [study for number in range(4) for study in patient_studies(0, number)]
    monkeypatch.setattr(
        "gtg_bench.benchmark.datasets.phantom.dataset.load_studies", lambda seed, split, pixels=True: studies
    )


def test_a_trained_folder_is_used_as_it_is(request_for: Any, few: None, components: Any) -> None:
    out = train(request_for())
    weights = find_weights("cxrbert-ldm", str(out))
    assert weights.plan.defaults == RECIPE["defaults"]
    assert all(place.is_relative_to(out) for place in weights.places.values())
    loaded = load_components(weights, torch.device("cpu"))
    grounding = LdmMethod(loaded, MethodSettings("cxrbert-ldm", sampling="gt-cfg", steps=2)).ground(
        np.random.default_rng(0).random((16, 16), dtype=np.float32), "edema"
    )
    assert grounding.values.shape == (8, 8)
    before = dict(components.unet.named_parameters())
    assert any(not torch.equal(p, before[name]) for name, p in loaded.unet.named_parameters())
    for name, p in loaded.text_encoder.module.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(p, dict(components.text_encoder.module.named_parameters())[name])
    card = json.loads((out / "card.json").read_text())
    facts = {"dataset": "pictures", "options": {}, "split": "train", "pairs": 12, "unusable": 0}
    assert card["data"] == facts | {"fingerprint": "f" * 64}
    assert (card["steps"], card["seed"], [s for s, _ in card["loss_curve"]]) == (6, 7, [1, 2, 3, 4, 5, 6])
    assert "Not a published model" in card["notice"]
    assert [row["step"] for row in seen(out / "work")] == [3, 6]
    assert set(seen(out / "work")[0]) == {"step", "loss", "auroc", "cnr"}
    assert (out / "work" / "pictures" / "step-000003.png").stat().st_size > 1000
    assert find_weights("cxrbert-ldm", str(out / "best")).version
    assert len({path.stat().st_mode for path in out.rglob("*") if path.is_file()}) == 1, "others can read every file"


def test_the_encoder_really_gets_the_empty_caption(request_for: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gtg_bench.methods.text_encoders.cxr_bert import CxrBertTextEncoder

    got: list[Tensor] = []
    original = CxrBertTextEncoder.states

    def spy(self: Any, ids: Tensor, mask: Tensor) -> Tensor:
        got.append(mask.sum(1))
        return original(self, ids, mask)

    monkeypatch.setattr(CxrBertTextEncoder, "states", spy)
    recipe = BLIND | {"schedule": RECIPE["schedule"] | {"steps": 30, "batch_size": 8}}
    train(request_for(recipe=recipe))
    lengths = torch.cat([one for one in got if len(one) == 8])
    assert len(lengths) == 240
    assert 0.2 < float((lengths == 2).float().mean()) < 0.4  # start and end alone


def losses_by_hand(components: Any, steps: int) -> list[float]:
    """The first losses of a run, computed without the package's trainer, cache and objective."""
    unet = components.unet.__class__.from_config(components.unet.config)
    unet.load_state_dict(components.unet.state_dict())
    optimizer = torch.optim.AdamW(unet.parameters(), 0.0, weight_decay=1e-2)
    encoder, scheduler, vae, pictures = components.text_encoder, components.scheduler, components.vae, Pictures()
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (0.0 if step == 0 else 0.5 * (1 + np.cos(np.pi * (step - 1) / 5)))
        inputs = []
        for position in range(4 * step, 4 * step + 4):
            pair = pictures[EpochOrder(12, 7)(position)]
            posterior = vae.encode(torch.from_numpy(pair.pixels()[2:18])[None, None] * 2 - 1).latent_dist
            scaled = [part[0] * vae.config.scaling_factor for part in (posterior.mean, posterior.std)]
            mean, std = (part.half().float() for part in scaled)
            g = torch.Generator().manual_seed(seed_for(7, "draw", position))
            text = "" if float(torch.rand((), generator=g)) < 0.3 else pair.text
            latents, noise = mean + std * torch.randn(mean.shape, generator=g), torch.randn(mean.shape, generator=g)
            t = torch.randint(0, 1000, (), generator=g)
            inputs.append((scheduler.add_noise(latents, noise, t), t, encoder.encode([text]).states[0].clone(), noise))
        noisy, t, states, noise = (torch.stack(part) for part in zip(*inputs, strict=True))
        loss = F.mse_loss(unet.train()(noisy, t, states).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_losses_are_those_of_a_run_written_out(request_for: Any, components: Any) -> None:
    out = train(request_for(recipe=BLIND))
    curve = json.loads((out / "card.json").read_text())["loss_curve"]
    assert [loss for _, loss in curve] == pytest.approx(losses_by_hand(components, 6), abs=5e-6)


def test_a_killed_run_ends_like_one_that_was_not(request_for: Any, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(request_for(out="whole"))
    calls, forward = count(1), NoiseObjective.forward

    def dying(self: Any, batch: Any) -> Tensor:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(NoiseObjective, "forward", dying)
        with pytest.raises(KeyboardInterrupt):
            train(request_for(out="killed"))
    again = train(request_for(out="killed"))
    cards = [json.loads((out / "card.json").read_text()) for out in (whole, again)]
    losses = [[loss for _, loss in card["loss_curve"]] for card in cards]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert cards[0]["validation_curve"] == cards[1]["validation_curve"]
    assert find_weights("cxrbert-ldm", str(whole)).version == find_weights("cxrbert-ldm", str(again)).version


@pytest.mark.parametrize("rank", [4, 256])
def test_an_adapter_alone_is_trained_and_saved(request_for: Any, components: Any, rank: int) -> None:
    recipe = BLIND | {"ema": None, "schedule": RECIPE["schedule"] | {"learning_rate": 0.05}}
    out = train(request_for("clip-ldm-lora", recipe=recipe, rank=rank))
    saved = load_file(out / "adapter" / "pytorch_lora_weights.safetensors")
    assert {min(tensor.shape) if rank == 4 else max(tensor.shape) for tensor in saved.values()} == {rank}
    assert json.loads((out / "card.json").read_text())["rank"] == rank
    weights, frozen = find_weights("clip-ldm-lora", str(out)), dict(components.unet.named_parameters())
    assert {"unet", "adapter", "vae", "text_encoder"} <= set(weights.places)
    base = components.unet.__class__.from_pretrained(weights.places["unet"])
    assert all(torch.equal(p, frozen[name]) for name, p in base.named_parameters())
    merged = load_components(weights, torch.device("cpu")).unet
    changed = {name for name, p in merged.named_parameters() if not torch.allclose(p, frozen[name])}
    assert changed
    assert all(".attn" in name and name.endswith("weight") for name in changed)
    with pytest.raises(UsageError, match="adapter"):
        train(request_for("clip-ldm-lora", "other", recipe=recipe, start=str(out)))


def test_a_learnable_text_encoder_is_trained_and_saved(request_for: Any, components: Any) -> None:
    out = train(request_for("clip-ldm-learnable", recipe=BLIND))
    weights = find_weights("clip-ldm-learnable", str(out))
    assert weights.places["text_encoder"] == out / "text_encoder"
    encoder: Any = load_components(weights, torch.device("cpu")).text_encoder
    frozen = dict(components.text_encoder.module.named_parameters())
    assert any(not torch.equal(p, frozen[name]) for name, p in encoder.module.named_parameters())


@pytest.mark.parametrize(
    ("variant", "shared"), [("cxrbert-ldm", False), ("cxrbert-ldm", True), ("clip-ldm-learnable", False)]
)
def test_words_only_goes_with_the_weights(
    request_for: Any, folder: Path, tmp_path: Path, variant: str, shared: bool
) -> None:
    """Whether the text encoder is copied, referred to or trained; training that starts from them goes on like this."""
    recipe = BLIND | {"schedule": RECIPE["schedule"] | {"steps": 1}, "words_only": True}
    changes = {"recipe": recipe} | ({"shared": folder.parent} if shared else {})
    plain = find_weights(variant, str(train(request_for(variant, "plain", **changes))))
    text = {"place": str(folder.parent / "cxr-bert"), "family": "cxr-bert", "max_length": 24, "words_only": True}
    parts = {name: {"place": str(folder), "path": name} for name in ("unet", "scheduler")}
    start = tmp_path / "start.yaml"
    start.write_text(json.dumps(parts | {"vae": str(folder.parent / "autoencoder"), "text_encoder": text}))
    out = train(request_for(variant, "words", start=str(start), **changes))
    words = find_weights(variant, str(out))
    again = find_weights(variant, str(train(request_for(variant, "again", recipe=recipe, start=str(out)))))
    kinds = [load_components(found, torch.device("cpu")).text_encoder for found in (plain, words, again)]
    assert [isinstance(encoder, WordsOnly) for encoder in kinds] == [False, True, True]
    assert plain.version_of("text_encoder") != words.version_of("text_encoder")


def test_another_training_set_has_none_of_the_recipes_options(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("data: chestxray14")
    (tmp_path / "same.yaml").write_text("data: phantom\ndata_options: {seed: '3'}")
    (tmp_path / "based.yaml").write_text("based_on: phantom\nname: based\ndata: mimic-cxr")
    assert load_recipe("phantom", tmp_path / "other.yaml").data_options == {}
    assert load_recipe("phantom", tmp_path / "same.yaml").data_options == {"captions": "findings", "seed": "3"}
    assert load_recipe(str(tmp_path / "based.yaml")).data_options == {}


def test_options_of_a_call_come_after_the_recipes(request_for: Any, tmp_path: Path) -> None:
    """Nothing is trained: the run is refused over an option, which it names."""
    recipe = BLIND | {"data": "phantom", "data_options": {"captions": "words", "seed": "1"}}
    with pytest.raises(UsageError, match="not 'words'"):
        train(request_for(recipe=recipe, opened=None))
    with pytest.raises(UsageError, match="not 'pictures'"):
        train(request_for(recipe=recipe, opened=None, data_options={"captions": "pictures"}))
    with pytest.raises(UsageError, match="needs --data-root"):  # and no word of options that it does not have
        train(request_for(recipe=recipe, opened=None, data="chestxray14"))


def test_shared_parts_are_referred_to_and_an_unreadable_picture_is_replaced(request_for: Any, folder: Path) -> None:
    out = train(request_for(out="member", shared=folder.parent, broken=5, recipe=BLIND))
    card = json.loads((out / "card.json").read_text())
    assert card["components"]["vae"]["place"] == "../autoencoder"
    assert card["components"]["text_encoder"]["place"] == "../cxr-bert"
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "scheduler", "unet", "work"]
    assert find_weights("cxrbert-ldm", str(out)).places["vae"].samefile(folder.parent / "autoencoder")
    assert card["data"]["unusable"] == 1
    (log,) = out.glob("work/cache/*/skipped.jsonl")
    assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == ["picture-5"]


def test_a_run_that_is_started_anew_forgets_what_the_older_one_saw(request_for: Any, few: None) -> None:
    out = train(request_for())
    with checkpoints.alone(out / "work"), pytest.raises(UsageError, match="another training runs there"):
        train(request_for(resume=False))
    assert [row["step"] for row in seen(out / "work")] == [3, 6]
    assert (out / "best" / "card.json").exists()
    train(request_for(recipe={"schedule": RECIPE["schedule"] | {"steps": 3}}, resume=False))
    assert [row["step"] for row in seen(out / "work")] == [3]
    assert json.loads((out / "best" / "card.json").read_text())["steps"] == 3


@pytest.mark.parametrize(
    ("asked", "launched", "used"), [(None, "bf16", "bf16"), ("no", "fp16", "no"), (None, "no", "fp16")]
)
def test_precision_is_the_users_then_the_launchers_then_the_recipes(
    request_for: Any, monkeypatch: pytest.MonkeyPatch, asked: str | None, launched: str, used: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    monkeypatch.setattr(training.torch.cuda, "is_available", lambda: True)
    made = MagicMock()
    monkeypatch.setattr(training, "Accelerator", made)
    run = training._Training(request_for(recipe={"precision": "fp16"}, precision=asked, device="auto"), StopRequest())
    assert run.accelerator
    assert made.call_args.kwargs["mixed_precision"] == used


def in_a_process(request: TrainRequest, rank: int, port: int) -> None:
    """One of two processes that train together."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {name: str(value) for name, value in place.items()}
    AcceleratorState._reset_state(reset_partial_state=True)
    train(request)


@pytest.mark.slow
def test_two_processes_with_a_tracker_train_what_one_does(request_for: Any, few: None, free_port: int) -> None:
    one, both = request_for(), request_for(out="both", trackers=("tensorboard",))
    train(one)
    processes = [get_context("fork").Process(target=in_a_process, args=(both, rank, free_port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    cards = [json.loads((folder / "card.json").read_text()) for folder in (one.out, both.out)]
    assert [card["processes"] for card in cards] == [1, 2]
    for first, second in zip(*(card["loss_curve"] for card in cards), strict=True):
        assert first == pytest.approx(second, abs=2e-6)


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("cxrbert-ldm", {"recipe": {"validation": RECIPE["validation"] | {"split": "nowhere"}}}, "'nowhere'"),
        ("cxrbert-ldm", {"recipe": {"validation": RECIPE["validation"] | {"dataset": "chestxray14"}}}, "--data-root"),
        ("cxrbert-ldm", {"rank": 8}, "--rank 8"),
        ("clip-ldm-lora", {"start": None, "recipe": {"unet": None, "unet_config": {}}}, "generic-ldm.*--start"),
        ("cxrbert-ldm", {"free": 1000}, "checkpoints, .* need .* GB"),
        ("cxrbert-ldm", {"trackers": ("tensorbord",)}, "--tracker tensorbord"),
        ("cxrbert-ldm", {"trackers": ("wandb",)}, "package is not installed"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*no supported trackers")
def test_a_wrong_request_is_refused_before_anything_is_encoded(
    request_for: Any, monkeypatch: pytest.MonkeyPatch, variant: str, changes: dict[str, Any], message: str
) -> None:
    if "free" in changes:
        usage = SimpleNamespace(free=changes["free"])
        monkeypatch.setattr("gtg_bench.training.loop.checkpoints.shutil.disk_usage", lambda folder: usage)
    monkeypatch.setattr(training.Encoder, "encode", lambda *a: pytest.fail("something was encoded"))
    with pytest.raises(UsageError, match=message):
        train(request_for(variant, **{name: value for name, value in changes.items() if name != "free"}))
