"""Cached images and texts equal what a method computes from them, in every batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.benchmark.api.geometry import Frame
from gtg_bench.benchmark.api.types import MethodSettings
from gtg_bench.benchmark.datasets.problems import Problem
from gtg_bench.benchmark.datasets.training import TrainingPair, open_training_set
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.engine import Engine
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.text_encoders.base import TextTokens
from gtg_bench.training.cache import TensorCache, fill
from gtg_bench.training.encode import LatentMaker, TokenMaker, latent_facts, token_facts

SIZES = [(16, 16), (40, 20), (17, 33), (64, 64), (8, 12), (16, 48), (100, 90), (21, 20), (30, 31), (16, 17), (12, 12)]
BROKEN = (2, 6)


@dataclass
class Pairs:
    """A training set of PNG files of many shapes; some are unreadable."""

    folder: Path
    texts: list[str]
    name: str = "some"
    split: str = "train"
    fingerprint: str = "0" * 64
    options: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, number: int) -> TrainingPair:
        return TrainingPair(f"image{number}", "p1", self.folder / f"{number}.png", self.texts[number])

    def __iter__(self) -> Iterator[TrainingPair]:
        return map(self.__getitem__, range(len(self)))


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        file = tmp_path / f"{number}.png"
        if number in BROKEN:
            file.write_bytes(b"no image")
        else:
            Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8)).save(file)
    texts = ["Small left pleural effusion.", "", "edema"] * 4
    return Pairs(tmp_path, texts[: len(SIZES)])


@pytest.fixture(params=[1, 3], ids=["grey", "three channels"])
def vae(request: pytest.FixtureRequest, components: LdmComponents) -> Any:
    if request.param == 1:
        return components.vae
    torch.manual_seed(2)
    vae = AutoencoderKL(**{**components.vae.config, "in_channels": 3, "out_channels": 3}).eval().requires_grad_(False)
    return vae


READABLE = [number for number in range(len(SIZES)) if number not in BROKEN]


def test_posteriors_are_those_of_an_evaluation(vae: Any, components: LdmComponents, pairs: Pairs) -> None:
    """The same image through the method's own frame and engine."""
    whole = LdmComponents(components.unet, vae, components.scheduler, components.text_encoder, components.device)
    settings = MethodSettings("tiny-ldm", steps=2)
    engine, method = Engine(whole, settings), LdmMethod(whole, settings)
    results = LatentMaker(vae, pairs, whole.image_size)(range(len(pairs)))
    assert set(results) == set(range(len(pairs)))
    assert all(isinstance(results[number], DataError) for number in BROKEN)
    for number in READABLE:
        image, found = pairs[number].pixels(), results[number]
        assert isinstance(found, dict)
        for name, wanted in zip(("mean", "std"), engine.posterior(image, method.frame(image)), strict=True):
            assert (found[name].dtype, found[name].shape) == (torch.float16, (4, 8, 8))
            torch.testing.assert_close(found[name].float(), wanted, atol=1e-3, rtol=1e-3)


def test_posteriors_by_hand(vae: Any, pairs: Pairs) -> None:
    """(40, 20) becomes (32, 16), of which the columns 8 to 24 are seen."""
    grey = Image.open(pairs.folder / "1.png").convert("F").resize((32, 16), Image.Resampling.BILINEAR)
    seen = torch.from_numpy(np.array(grey)[:, 8:24] / 255)
    channels = torch.stack([seen * 2 - 1] * vae.config.in_channels)[None]
    with torch.no_grad():
        mean, logvar = vae.quant_conv(vae.encoder(channels))[0].chunk(2)
    found = LatentMaker(vae, pairs, 16)([1])[1]
    assert isinstance(found, dict)
    scale = vae.config.scaling_factor
    assert scale == 2.5
    torch.testing.assert_close(found["mean"].float(), mean * scale, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found["std"].float(), (logvar / 2).exp() * scale, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("threads", [1, 3])
def test_company_does_not_matter(threads: int, components: LdmComponents, pairs: Pairs) -> None:
    maker = LatentMaker(components.vae, pairs, 16, batch_size=4, threads=threads)
    together = maker(range(len(pairs)))
    for numbers in ([7], [9, 3, 0, 6, 5, 8], READABLE[::-1]):
        for number, found in maker(numbers).items():
            wanted = together[number]
            if number in BROKEN:
                assert isinstance(found, DataError)
                continue
            assert isinstance(found, dict)
            assert isinstance(wanted, dict)
            assert all(torch.equal(found[name], wanted[name]) for name in ("mean", "std"))


def test_an_image_that_cannot_be_encoded_fails_alone(
    components: LdmComponents, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = LatentMaker(components.vae, pairs, 16, batch_size=4)
    cache = TensorCache(tmp_path / "cache", latent_facts(zoo(tmp_path), 16, pairs))
    assert fill(cache, range(len(pairs)), maker, maker.name) == set(BROKEN)
    assert len(cache) == len(READABLE)
    skipped = (cache.path / "skipped.jsonl").read_text()
    assert "image2" in skipped
    assert f"{pairs.folder}/2.png" in skipped
    assert torch.equal(cache[5]["mean"], maker([5])[5]["mean"])  # type: ignore[index]
    vae = AutoencoderKL.from_config(components.vae.config).eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=1e9)
    assert all("not finite" in str(result) for result in LatentMaker(vae, pairs, 16)([0, 1]).values())
    monkeypatch.setattr(vae, "encode", MagicMock(side_effect=RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        LatentMaker(vae, pairs, 16)([0, 1])


def test_the_phantom_needs_no_files(components: LdmComponents) -> None:
    phantom = open_training_set("phantom", None, {}, "validate")
    maker = LatentMaker(components.vae, phantom, 16)
    image = Frame.center_crop((128, 128), 16).apply(phantom[3].pixels())
    assert torch.equal(maker.pixels(3), torch.from_numpy(image)[None] * 2 - 1)
    assert maker.name(3) == phantom[3].image_id
    assert isinstance(maker([3])[3], dict)


# texts


def test_tokens_are_those_of_the_encoder(components: LdmComponents, pairs: Pairs) -> None:
    encoder: Any = components.text_encoder
    results = TokenMaker(encoder, pairs)([4, 0, 2])
    assert list(results) == [4, 0, 2]
    for number, found in results.items():
        wanted = encoder.tokens([pairs.texts[number]])
        assert isinstance(found, dict)
        assert (found["ids"].dtype, found["mask"].dtype) == (torch.int32, torch.bool)
        assert torch.equal(found["ids"].long(), wanted.ids[0])
        assert torch.equal(found["mask"], wanted.mask[0])
        states = encoder.encode([pairs.texts[number]]).states[0]
        assert torch.equal(encoder.states(found["ids"].long()[None], found["mask"][None])[0], states)
    results = TokenMaker(Picky(), pairs)(range(3))
    assert isinstance(results[1], ValueError)
    assert [results[n]["ids"].tolist() for n in (0, 2)] == [[28, 1], [5, 1]]  # type: ignore[index]


class Picky:
    """A text encoder's tokenizer that takes no empty text."""

    max_length = 2
    module: Any = None

    def tokens(self, texts: Sequence[str]) -> TextTokens:
        if "" in texts:
            raise ValueError("nothing to cut")
        ids = torch.tensor([[len(text), 1] for text in texts])
        return TextTokens(ids, ids > 0, torch.zeros(*ids.shape, 2), tuple(texts))

    states: Any = None
    encode: Any = None


# what decides the encoded values


def zoo(folder: Path, **changes: str) -> Path:
    """A folder that looks like an autoencoder's and a tokenizer's."""
    files = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "[]", "card.json": "{}"} | changes
    place = folder / "zoo"
    place.mkdir(exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text)
    return place


def latents(folder: Path, pairs: Pairs, changes: Mapping[str, str] | None = None, size: int = 16) -> str:
    return json.dumps(latent_facts(zoo(folder, **changes or {}), size, pairs))


def test_identity_of_latents(tmp_path: Path, pairs: Pairs) -> None:
    plain = latents(tmp_path, pairs)
    assert plain == latents(tmp_path, pairs, {"card.json": '{"notes": 1}'})
    others = {
        latents(tmp_path, pairs, {"config.json": '{"scaling_factor": 2}'}),
        latents(tmp_path, pairs, {"model.safetensors": "others"}),
        latents(tmp_path, pairs, size=32),
        latents(tmp_path, Pairs(pairs.folder, pairs.texts, fingerprint="1" * 64)),
        latents(tmp_path, Pairs(pairs.folder, pairs.texts, split="test")),
        latents(tmp_path, Pairs(pairs.folder, pairs.texts, name="others")),
    }
    Image.new("L", (8, 8)).save(pairs.folder / "1.png")
    others.add(latents(tmp_path, pairs))
    assert len(others | {plain}) == 8
    plain = latents(tmp_path, pairs)
    Image.new("L", (8, 8)).save(pairs.folder / "6.png")
    (pairs.folder / "9.png").unlink()
    assert latents(tmp_path, pairs) == plain


def test_identity_of_tokens(tmp_path: Path, pairs: Pairs) -> None:
    def tokens(encoder: Any, **changes: str) -> str:
        return json.dumps(token_facts(encoder, zoo(tmp_path, **changes), pairs))

    class Cutter(Picky):
        def __init__(self, rewrite: Callable[[str], str] = str, length: int = 2) -> None:
            self.rewrite, self.max_length = rewrite, length

        def tokens(self, texts: Sequence[str]) -> TextTokens:
            return super().tokens([self.rewrite(text) or "?" for text in texts])

    plain = tokens(Cutter())
    assert plain == tokens(Cutter(), **{"model.safetensors": "trained on", "config.json": '{"layers": 3}'})
    others = {
        tokens(Cutter(), **{"tokenizer.json": "[1]"}),
        tokens(Cutter(lambda text: text + ".")),
        tokens(Cutter(length=3)),
    }
    pairs.fingerprint = "1" * 64
    others.add(tokens(Cutter()))
    assert len(others | {plain}) == 5
