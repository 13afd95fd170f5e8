"""The second part of a training: second captions, goals of the maps, their loss, and whole runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.datasets.training import TrainingPair, open_training_set
from gtg_bench.benchmark.report.training_files import read_training
from gtg_bench.methods.text_encoders.words_only import WordsOnly
from gtg_bench.methods.weights import find_weights
from gtg_bench.training.ldm.examples import LatentDraws, Usable
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.ldm.separation import Captions, PairedDraws, SeparationObjective, divergence, goals, smoothed
from gtg_bench.training.ldm.train import TrainRequest, train
from gtg_bench.training.loop.order import EpochOrder
from gtg_bench.training.recipe import LdmRecipe, SeparationRecipe

pytestmark = pytest.mark.usefixtures("torch")

SCHEDULE: dict[str, Any] = {
    "steps": 4, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 1, "checkpoint_every": 2, "log_every": 1
}  # fmt: skip
SEPARATION: dict[str, Any] = {"schedule": SCHEDULE, "weight": 0.5, "sharpness": 4.0, "false_captions": 0.5}
SAID = ["left effusion", "edema", "right pneumothorax", "cardiomegaly", "left nodule", "atelectasis"]


class Studies:
    """Six captions of four pictures: the first and the last picture have two."""

    name, split = "studies", "train"
    options: dict[str, str] = {}  # noqa: RUF012
    fingerprint = "e" * 64
    dropped: dict[str, int] = {}  # noqa: RUF012
    problems: list[Any] = []  # noqa: RUF012
    images = (0, 0, 1, 2, 3, 3)

    def __len__(self) -> int:
        return len(SAID)

    def __getitem__(self, number: int) -> TrainingPair:
        image = np.random.default_rng(self.images[number]).random((16, 16), dtype=np.float32)
        return TrainingPair(f"image-{self.images[number]}", "p", image, SAID[number])

    def __iter__(self) -> Any:
        return (self[number] for number in range(len(self)))


@pytest.mark.parametrize("false_captions", [0.0, 0.4, 1.0])
def test_a_second_caption_is_of_the_image_or_false(components: Any, false_captions: float) -> None:
    encoder, pairs = components.text_encoder, Studies()
    captions = Captions.of(pairs, encoder)
    tokens = encoder.tokens([*SAID, "right effusion", "left pneumothorax", "right nodule"])
    assert torch.equal(captions.tokens["ids"], tokens.ids.int())
    assert captions.mirrored == {0: 6, 2: 7, 4: 8}
    texts = [{"ids": ids, "mask": mask} for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
    latents = [{"mean": torch.zeros(4, 8, 8), "std": torch.ones(4, 8, 8)}] * 6
    draws = LatentDraws(latents, texts, texts[0], Usable(EpochOrder(6, 3), 6), 0.0, seed=3)
    brighter = replace(draws, latents=[{name: values + 1 for name, values in latents[0].items()}] * 6)
    paired, seen = PairedDraws(brighter, draws, captions, false_captions), dict[int, list[tuple[bool, int]]]()
    for position in range(600):
        sample, changed, plain = paired[position], brighter[position], draws[position]
        assert all(torch.equal(sample[name], changed[name]) for name in changed)
        assert torch.equal(sample["plain"], plain["latents"])
        assert all(torch.equal(sample[name], plain[name]) for name in plain if name != "latents")
        [row] = [k for k, text in enumerate(texts) if torch.equal(text["ids"], sample["other_ids"])]
        assert torch.equal(texts[row]["mask"], sample["other_mask"])
        seen.setdefault(draws.item(position), []).append((bool(sample["other_true"]), row))
    for number, sibling, false in ((0, 1, {6}), (1, 0, {2, 3, 4, 5}), (4, 5, {8}), (5, 4, {0, 1, 2, 3})):
        assert {row for true, row in seen[number] if true} == (set() if false_captions == 1 else {sibling})
        assert {row for true, row in seen[number] if not true} == (set() if false_captions == 0 else false)
        assert np.mean([not true for true, _ in seen[number]]) == pytest.approx(false_captions, abs=0.15)
    assert {row for true, row in seen[2] if not true} == {7}
    assert {row for true, row in seen[3] if not true} == {0, 1, 2, 4, 5}
    assert not any(true for number in (2, 3) for true, _ in seen[number])


def test_no_false_caption_is_true(components: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that are said of the image as well, by another item or another image's, are not taken."""
    monkeypatch.setattr(f"{__name__}.SAID", ["left effusion", "right effusion", "edema", "edema", "nodule", "nodule"])
    captions = Captions.of(Studies(), components.text_encoder)  # of the images 0, 0, 1, 2, 3, 3
    assert captions.mirrored == {}
    generator = torch.Generator().manual_seed(0)
    drawn = [{captions.false(number, generator) for _ in range(200)} for number in range(6)]
    assert drawn == [{2, 3, 4, 5}, {2, 3, 4, 5}, {0, 1, 4, 5}, {0, 1, 4, 5}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    assert [captions.other(number) for number in range(6)] == [[1], [0], [], [], [], []]
    monkeypatch.setattr(f"{__name__}.SAID", ["No finding."] * 6)
    alike = Captions.of(Studies(), components.text_encoder)
    assert {alike.false(number, generator) for number in range(6)} == {None}


def test_the_goals_by_hand() -> None:
    known = torch.tensor([[[0.4, 0.1, 0.2]], [[0.4, 0.1, 0.2]], [[0.1, 0.2, 0.2]], [[0.9, 0.9, 0.9]]])
    found = goals(known, torch.tensor([True, False]), 2.0)[:, 0]
    shares = np.array([16 / 17, 1 / 5, 1 / 2])  # 0.4 ** 2 / (0.4 ** 2 + 0.1 ** 2) ...
    np.testing.assert_allclose(found[0], np.array([0.4, 0.1, 0.2]) * shares, rtol=1e-3)
    np.testing.assert_allclose(found[2], np.array([0.1, 0.2, 0.2]) * (1 - shares), rtol=1e-3)
    np.testing.assert_allclose(found[1], [0.4, 0.1, 0.2], rtol=1e-3)
    unlike = np.array([16 / 97, 1 / 82, 4 / 85])  # 0.4 ** 2 / (0.4 ** 2 + 0.9 ** 2) ...
    shared = goals(known, torch.tensor([True, False]), 2.0, share_with_false=True)[:, 0]
    np.testing.assert_allclose(shared[1], np.array([0.4, 0.1, 0.2]) * unlike, rtol=1e-3)
    assert torch.equal(shared[[0, 2]], found[[0, 2]])
    assert torch.equal(shared[3], torch.ones(3))
    np.testing.assert_allclose(found[3], [0, 0.75**2, 0.5**2], rtol=1e-3)


@pytest.mark.parametrize(("size", "smooth"), [((16, 20), 0.06), ((8, 8), 0.2), ((2, 3), 0.3)])
def test_the_maps_are_smoothed_like_an_image(size: tuple[int, int], smooth: float) -> None:
    from scipy.ndimage import gaussian_filter

    maps, side = torch.rand((2, *size), generator=torch.Generator().manual_seed(0)), min(size)
    radius = min(round(3 * smooth * side), side - 1)
    wanted = gaussian_filter(maps.numpy(), smooth * side, mode="mirror", radius=radius, axes=(1, 2))
    np.testing.assert_allclose(smoothed(maps, smooth), wanted, atol=1e-5)
    assert smoothed(maps, 0.0) is maps


def test_the_divergence_is_that_of_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, found = torch.rand((2, 3, 4, 4), generator=generator)
    by_hand = []
    for p, q in zip(wanted.double().numpy(), found.double().numpy(), strict=True):
        p, q = p / p.sum(), q / q.sum()
        by_hand.append((p * np.log(p / q)).sum())
    assert float(divergence(wanted, found)) == pytest.approx(np.mean(by_hand), rel=1e-3)
    assert float(divergence(3 * found, found)) == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(divergence(torch.zeros_like(found), found))


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents, noise, plain = torch.randn((3, 3, 4, 8, 8), generator=generator)
    ids, other = torch.randint(5, 60, (2, 3, 24), generator=generator)
    mask = torch.arange(24) < torch.tensor([[24], [6], [9]])
    facts = {"ids": ids, "mask": mask, "other_ids": other, "other_mask": mask.flip(0)}
    timesteps = torch.tensor([3, 400, 990])
    return {
        "latents": latents,
        "plain": plain,
        "noise": noise,
        "timesteps": timesteps,
        "other_true": torch.tensor([1, 0, 1]) > 0,
    } | facts


@pytest.mark.parametrize(("chosen", "numbers"), [("all", slice(None)), ("1,2", slice(1, 3))])
def test_the_loss_is_that_of_the_noise_and_the_goals(
    components: Any, make_unet: Any, literal_forward: Any, batch: dict[str, Tensor], chosen: str, numbers: slice
) -> None:
    """Against Eq. 1 without the package's attention; the teacher is the U-Net as it was, and sees the plain images."""
    encoder, unet, before = WordsOnly(components.text_encoder), make_unet().requires_grad_(True), make_unet()
    before.load_state_dict(unet.state_dict())
    noise = NoiseObjective(unet, components.scheduler, encoder, False, 64)
    empty = encoder.tokens([""])
    objective = SeparationObjective(noise, empty, SeparationRecipe(**SEPARATION, layers=chosen))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * parameter.std().nan_to_num() * torch.randn(parameter.shape))
    found = objective(batch)
    special = set(empty.ids[empty.mask].tolist())
    errors, known, own = [], [], []
    for name in ("", "other_"):
        for row in range(3):
            t = int(batch["timesteps"][row])
            noisy = components.scheduler.add_noise(batch["latents"][row], batch["noise"][row], torch.tensor(t))
            ids, mask = batch[f"{name}ids"][row], batch[f"{name}mask"][row]
            states = encoder.states(ids[None], mask[None])[0].detach()
            words = [k for k in range(24) if mask[k] and int(ids[k]) not in special]
            predicted, layers = literal_forward(unet, noisy, t, states)
            errors.append(float(F.mse_loss(predicted, batch["noise"][row])))
            own.append(np.mean([layer[:, words].sum(1).mean(0).numpy() for layer in layers[numbers]], 0))
            plain = components.scheduler.add_noise(batch["plain"][row], batch["noise"][row], torch.tensor(t))
            layers = literal_forward(before, plain, t, states)[1]
            known.append(np.mean([layer[:, words].sum(1).mean(0).numpy() for layer in layers[numbers]], 0))
    wanted = goals(torch.tensor(np.array(known)), batch["other_true"], 4.0)
    apart = float(divergence(wanted, torch.tensor(np.array(own))))
    assert apart > 0.001
    noise_alone = [(errors[0] + errors[3]) / 2, errors[1], (errors[2] + errors[5]) / 2]
    assert found.item() == pytest.approx(np.mean(noise_alone) + 0.5 * apart, rel=1e-4)
    found.backward()
    assert all(parameter.grad is not None for parameter in unet.parameters())
    assert {id(p) for p in objective.parameters()} == {id(p) for p in unet.parameters()}, "the teacher is not saved"


@pytest.fixture
def request_for(folder: Path, tmp_path: Path) -> Callable[..., TrainRequest]:
    """A training run of six captions from the tiny model in `folder`, in two parts."""

    def make(out: str, variant: str = "cxrbert-ldm", **changes: Any) -> TrainRequest:
        values: dict[str, Any] = {
            "name": "tiny",
            "weights": "phantom",
            "unet": {"place": "named by --start"},
            "data": "studies",
            "schedule": SCHEDULE,
            "seeds": [7],
            "validation": {"every": 3, "pairs": 4},
            "separation": [SEPARATION],
        } | changes.pop("recipe", {})
        facts: dict[str, Any] = {"opened": lambda split: Studies(), "start": str(folder), "device": "cpu"}
        return TrainRequest(variant, LdmRecipe.model_validate(values), tmp_path / out, **facts | changes)

    return make


def card(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "card.json").read_text())
    return found


def version(out: Path) -> str:
    return find_weights("cxrbert-ldm", str(out)).version


def test_the_second_part_goes_on_where_the_first_ended(request_for: Any) -> None:
    both, alone = train(request_for("both")), train(request_for("alone", recipe={"separation": []}))
    assert card(both)["steps"] == 8
    assert [step for step, _ in card(both)["loss_curve"]] == list(range(1, 9))
    assert card(both)["loss_curve"][:4] == card(alone)["loss_curve"]
    assert [row["step"] for row in card(both)["validation_curve"]] == [3, 4, 7, 8]
    curves = read_training(both)
    assert [list(point) for point in curves.loss] == card(both)["loss_curve"]
    assert [row["step"] for row in curves.validations] == [3, 4, 7, 8]
    versions = {version(both), version(alone)}
    heavier = SEPARATION | {"weight": 5.0}
    again = train(request_for("both", recipe={"separation": [heavier]}, resume=False))
    assert len(versions | {version(again)}) == 3
    cut = train(request_for("cut", max_steps=6))
    assert (card(cut)["steps"], len(card(cut)["loss_curve"])) == (6, 6)
    assert version(train(request_for("short", max_steps=4))) == version(alone)
    with pytest.raises(UsageError, match="separation is of a longer training"):
        train(request_for("both", max_steps=4))
    shorter = train(request_for("both", max_steps=4, resume=False))
    assert (version(shorter), len(read_training(shorter).loss)) == (version(alone), 4)


@pytest.mark.parametrize("call", [2, 4])
def test_a_killed_second_part_ends_like_one_that_was_not(
    request_for: Any, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    whole = train(request_for("whole"))
    calls, forward = count(1), SeparationObjective.forward

    def dying(self: Any, batch: Any) -> Tensor:
        if next(calls) == call:
            raise KeyboardInterrupt
        return forward(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(SeparationObjective, "forward", dying)
        with pytest.raises(KeyboardInterrupt):
            train(request_for("killed"))
    again = train(request_for("killed"))
    losses = [[loss for _, loss in card(out)["loss_curve"]] for out in (whole, again)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert version(whole) == version(again)
    with pytest.raises(UsageError, match="another"):
        train(request_for("killed", recipe={"separation": [SEPARATION | {"weight": 5.0}]}))


def test_every_round_goes_on_where_the_one_before_ended(request_for: Any) -> None:
    rounds = {"separation": [SEPARATION, SEPARATION | {"smooth": 0.1, "weight": 1.0}]}
    one, two = train(request_for("one")), train(request_for("two", recipe=rounds))
    assert card(two)["steps"] == 12
    assert card(two)["loss_curve"][:8] == card(one)["loss_curve"]
    assert [row["step"] for row in card(two)["validation_curve"]] == [3, 4, 7, 8, 11, 12]
    curves = read_training(two)
    assert [list(point) for point in curves.loss] == card(two)["loss_curve"]
    assert [row["step"] for row in curves.validations] == [3, 4, 7, 8, 11, 12]
    assert version(train(request_for("cut", recipe=rounds, max_steps=8))) == version(one)
    assert version(train(request_for("one", recipe=rounds))) == version(two), "a round more"
    with pytest.raises(UsageError, match="separation-2 is of a longer training"):
        train(request_for("two"))
    other = {"separation": [SEPARATION | {"weight": 5.0}, rounds["separation"][1]]}
    shutil.rmtree(two / "work" / "separation")
    with pytest.raises(UsageError, match="another"):  # the second round was of another first one
        train(request_for("two", recipe=other))
    again = train(request_for("two", recipe={"separation": []}, resume=False))
    assert not list((again / "work").glob("separation*"))


@pytest.mark.parametrize("variant", ["cxrbert-ldm", "clip-ldm-lora"])
def test_a_round_may_train_the_attention_alone(request_for: Any, variant: str) -> None:
    """Of what the variant trains; the round after it trains everything again."""
    rounds = [SEPARATION, SEPARATION | {"trained": ["attn2"]}, SEPARATION]
    changes = {"rank": 4} if variant == "clip-ldm-lora" else {}
    states = []
    for number in (1, 2, 3):
        done = train(request_for("out", variant, recipe={"separation": rounds[:number]}, **changes))
        (file,) = (done / ("adapter" if changes else "unet")).glob("*.safetensors")
        states.append(load_file(file))
    for number, alone in ((1, True), (2, False)):
        changed = {name for name, values in states[number].items() if not torch.equal(values, states[number - 1][name])}
        attention = {name for name in states[number] if ".attn2." in name}
        assert attention
        assert changed <= attention if alone else changed > attention


def test_a_round_may_change_images(request_for: Any) -> None:
    """All of them, in that round alone: the first part is what it was."""
    plain, changed = ({"separation": [SEPARATION | {"changed_images": share}]} for share in (0.0, 1.0))
    one, two = train(request_for("one", recipe=plain)), train(request_for("two", recipe=changed))
    assert card(one)["loss_curve"][:4] == card(two)["loss_curve"][:4]
    assert card(one)["loss_curve"][4:] != card(two)["loss_curve"][4:]
    assert version(one) != version(two)
    with pytest.raises(UsageError, match="another"):
        train(request_for("two", recipe=plain))


def test_the_teacher_of_a_round_is_the_network_of_the_one_before(
    request_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers, make = list[Any](), SeparationObjective.__init__

    def noting(self: Any, *args: Any) -> None:
        make(self, *args)
        own, teacher = self._own.unet.state_dict(), self._teacher.unet.state_dict()
        teachers.append({name: values.clone() for name, values in teacher.items()})
        assert all(torch.equal(teacher[name], values) for name, values in own.items())

    monkeypatch.setattr(SeparationObjective, "__init__", noting)
    train(request_for("out", recipe={"separation": [SEPARATION] * 2}))
    first, second = teachers
    assert any(not torch.equal(first[name], values) for name, values in second.items())


def test_what_only_shows_may_change_between_runs(request_for: Any) -> None:
    train(request_for("out", max_steps=6))
    seldom = {"schedule": SCHEDULE | {"checkpoint_every": 1}}
    schedule = SCHEDULE | {"steps": 2, "device_batch": 2, "keep_checkpoints": 1}
    again = train(request_for("out", recipe=seldom | {"separation": [SEPARATION | {"schedule": schedule}]}))
    assert card(again)["steps"] == 6


@pytest.mark.parametrize("device_batch", [1, 2])
def test_accumulated_batches_train_the_same(request_for: Any, device_batch: int) -> None:
    whole = card(train(request_for("whole")))["loss_curve"]
    schedule = SCHEDULE | {"device_batch": device_batch}
    parts = {"schedule": schedule, "separation": [SEPARATION | {"schedule": schedule}]}
    found = card(train(request_for("parts", recipe=parts)))["loss_curve"]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in whole], abs=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused_at_once(request_for: Any) -> None:
    schedule = SCHEDULE | {"device_batch": 3}
    with pytest.raises(UsageError, match="device_batch 3"):
        train(request_for("out", recipe={"separation": [SEPARATION | {"schedule": schedule}]}))


def test_layers_and_parameters_that_the_network_lacks_are_refused_at_once(request_for: Any) -> None:
    said: dict[str, dict[str, Any]] = {
        r"separation\.0\.layers 99: ": {"separation": [SEPARATION | {"layers": "99"}]},
        r"separation\.1\.trained: .* 'attn9' ": {"separation": [SEPARATION, SEPARATION | {"trained": ["attn9"]}]},
        r"choice\.layers 99: ": {"choice": {"steps": [[2, 1]], "layers": "99"}},
    }
    for begin, changes in said.items():
        request = request_for("out", recipe=changes)
        with pytest.raises(UsageError, match=f"^{begin}.*change it in the recipe"):
            train(request)
        assert not (request.out / "work" / "checkpoints").exists()


@pytest.mark.parametrize("variant", ["clip-ldm-lora", "clip-ldm-learnable"])
def test_adapters_and_text_encoders_have_a_second_part_too(request_for: Any, variant: str) -> None:
    changes = {"rank": 4} if variant == "clip-ldm-lora" else {}
    both = train(request_for("both", variant, **changes))
    alone = train(request_for("alone", variant, recipe={"separation": []}, **changes))
    assert find_weights(variant, str(both)).version != find_weights(variant, str(alone)).version


def test_recomputed_activations_are_refused(request_for: Any) -> None:
    with pytest.raises(ValueError, match="gradient_checkpointing"):
        request_for("out", recipe={"gradient_checkpointing": True})


def test_images_of_the_phantom_have_several_findings(components: Any) -> None:
    pairs = open_training_set("phantom", None, {"captions": "findings"}, "validate")
    captions = Captions.of(pairs, components.text_encoder)
    images = [pair.image_id for pair in pairs]
    for number in (0, 1, 2, 50, 200):
        assert captions.same_image[number] == [n for n, image in enumerate(images) if image == images[number]]
    assert 0.1 < len(captions.mirrored) / len(pairs) < 0.9
