"""BioViL's maps: small random models in the published layout, compared with health_multimodal's own engine."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from PIL import Image

from gtg_bench.benchmark.api import METHODS, DataError, MethodSettings, Query, SampleError, load_method
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.testing import check_method
from gtg_bench.methods import cache as image_cache

pytestmark = pytest.mark.usefixtures("torch")
PHRASE = "Small left pleural effusion."
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 100,
}
SMALL = {"resize": 128, "crop": 120}
"""A grid of 4 x 4 patches, for tests that do not depend on the size."""


def levels(seed: int = 0, shape: tuple[int, int] = (512, 512), low: int = 0, high: int = 255) -> np.ndarray:
    """An 8-bit picture [H, W] of soft blobs that takes both `low` and `high`."""
    small = Image.fromarray(np.random.default_rng(seed).random((9, 9), dtype=np.float32))
    soft = np.asarray(small.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float64)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return np.rint(low + soft * (high - low)).astype(np.uint8)


def picture(seed: int = 0, shape: tuple[int, int] = (512, 512)) -> FloatArray:
    return (levels(seed, shape) / 255).astype(np.float32)


# Files


@cache
def image_model(encoder: str = "resnet18") -> Any:
    import torch
    from health_multimodal.image.model.model import ImageModel

    torch.manual_seed(0)
    model = ImageModel(encoder, 128).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained
            module.running_mean.normal_(std=0.1)
            module.weight.data.uniform_(0.7, 1.3)
    return model


@pytest.fixture(scope="module")
def text_model(torch: Any, pieces: list[str]) -> Any:
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    torch.manual_seed(1)
    model = CXRBertModel(CXRBertConfig(vocab_size=len(pieces) + 3, projection_size=128, **BERT)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.data.mul_(10)
    return model


@pytest.fixture(scope="module")
def files(
    text_model: Any, pieces: list[str], published: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the checkpoints of both kinds and a CXR-BERT."""
    import torch

    folder = tmp_path_factory.mktemp("published")
    torch.save(image_model().state_dict(), folder / "biovil.pt")
    torch.save(image_model("resnet18_multi_image").state_dict(), folder / "biovil_t.pt")
    published(folder / "cxr-bert", text_model, [*pieces, ",", "-", "left"], remote=True)
    return folder


@pytest.fixture(scope="module")
def weights(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a YAML file for --weights; keyword arguments are fields of the image encoder."""

    def write(file: str = "biovil.pt", text: dict[str, Any] | None = None, **image: Any) -> str:
        image = {"place": str(files), "path": file, "encoder": "resnet18"} | image
        text = {"place": str(files / "cxr-bert"), "family": "cxr-bert"} | (text or {})
        path = tmp_path_factory.mktemp("plan") / "weights.yaml"
        path.write_text(yaml.safe_dump({"image_encoder": image, "text_encoder": text}))
        return str(path)

    return write


@pytest.fixture(scope="module")
def biovil(weights: Callable[..., str]) -> Any:
    """At the published size."""
    return load_method("biovil", weights=weights())


@pytest.fixture(scope="module")
def small(weights: Callable[..., str]) -> Any:
    return load_method("biovil", weights=weights(**SMALL))


@pytest.fixture
def fresh(small: Any) -> Any:
    """The small method with empty caches."""
    small._patches.clear()
    small._phrase.cache_clear()
    return small


# The reference


class _Tokenizer:
    """The tokenizer with the method that health_multimodal calls and transformers has dropped."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def batch_encode_plus(self, batch_text_or_text_pairs: list[str], **options: Any) -> Any:
        return self.inner(batch_text_or_text_pairs, **options)


@pytest.mark.parametrize(
    ("name", "shape", "low", "high", "tolerance"),
    [
        ("biovil", (512, 512), 0, 255, 1e-5),
        ("biovil", (700, 512), 31, 204, 1e-5),
        ("biovil", (768, 1024), 0, 255, None),
        ("biovil-t", (512, 576), 0, 255, 1e-5),
    ],
    ids=str,
)
def test_the_map_is_health_multimodals(
    name: str,
    shape: tuple[int, int],
    low: int,
    high: int,
    tolerance: float | None,
    biovil: Any,
    weights: Callable[..., str],
    files: Path,
    text_model: Any,
    tmp_path: Path,
) -> None:
    """Resizing in floating point instead of 8 bits moves the map by less than 1 % of its range."""
    from health_multimodal.image import ImageInferenceEngine
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference
    from health_multimodal.text import TextInferenceEngine
    from health_multimodal.vlp import ImageTextInferenceEngine
    from transformers import BertTokenizer

    encoder, crop = ("resnet18", 480) if name == "biovil" else ("resnet18_multi_image", 448)
    image = ImageInferenceEngine(image_model(encoder), create_chest_xray_transform_for_inference(512, crop))
    tokenizer = _Tokenizer(BertTokenizer.from_pretrained(files / "cxr-bert"))
    engine = ImageTextInferenceEngine(image, TextInferenceEngine(tokenizer, text_model))  # type: ignore[arg-type]
    pixels = levels(3, shape, low, high)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    expected = engine.get_similarity_map_from_raw_data(tmp_path / "image.png", PHRASE, "bilinear")
    other = {"encoder": encoder, "crop": crop}
    method = biovil if name == "biovil" else load_method(name, weights=weights("biovil_t.pt", **other))
    found = method.ground((pixels / 255).astype(np.float32), PHRASE)
    assert found.values.shape == (crop // 32, crop // 32)
    values, covered = found.frame.carry(found.values, Frame.original(shape[::-1]))
    np.testing.assert_array_equal(covered, ~np.isnan(expected))
    assert np.ptp(expected[covered]) > 0.03
    atol = tolerance or 0.01 * np.ptp(expected[covered])
    np.testing.assert_allclose(values[covered], expected[covered], atol=atol, rtol=0)


# Maps


def test_a_map_holds_cosines_on_the_patch_grid(biovil: Any) -> None:
    from gtg_bench.methods.biovil.method import eight_bits

    found = biovil.ground(picture(shape=(300, 500)), PHRASE)
    assert (found.values.shape, found.values.dtype) == ((15, 15), np.float32)
    assert np.abs(found.values).max() <= 1
    assert found.frame == Frame.center_crop((500, 300), 512, 480)
    np.testing.assert_array_equal(eight_bits(np.full((3, 4), 0.7, np.float32)), np.zeros((3, 4)))  # a constant image


def test_a_batch_gives_the_maps_of_its_queries_alone_and_encodes_once(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [(130, 200), (64, 64), (200, 130), (130, 200), (64, 64)]
    phrases = [PHRASE, "left", "edema", "left", PHRASE]
    queries = [Query(picture(k % 3, shapes[k]), phrases[k], seed=k) for k in range(5)]
    bert = fresh.text_encoder.model
    with (
        patch.object(fresh, "_encode_image", wraps=fresh._encode_image) as images,
        patch.object(bert, "forward", wraps=bert.forward) as texts,
    ):
        batch = fresh.ground_batch(queries)
        again = fresh.ground_batch(queries[::-1])[::-1]
    assert (images.call_count, texts.call_count) == (3, 3)
    size = next(iter(fresh._patches.values())).nbytes
    fresh._patches.clear()
    monkeypatch.setattr(image_cache, "MOST_BYTES", 2 * size)
    for query, one, other in zip(queries, batch, again, strict=True):
        alone = fresh.ground(query.image, query.text)
        np.testing.assert_array_equal(one.values, alone.values)
        np.testing.assert_array_equal(other.values, alone.values)
        assert one.frame == alone.frame
        assert len(fresh._patches) <= 2


def test_phrases_lose_their_full_stop_and_are_truncated(small: Any) -> None:
    found = {text: small.ground(picture(), text) for text in (PHRASE, PHRASE[:-1], "left, " * 60, "left, " * 50)}
    whole, without, longest, long = found.values()
    np.testing.assert_array_equal(whole.values, without.values)
    np.testing.assert_array_equal(longest.values, long.values)
    assert "from 122 to 77 tokens" in longest.note
    assert whole.note == ""


def test_phrases_that_are_refused(small: Any) -> None:
    for text in ("", "  ", "...", "\u200b", "left [SEP] effusion"):
        with pytest.raises(SampleError, match="phrase"):
            small.ground(picture(), text)


def test_the_contract_is_kept(weights: Callable[..., str]) -> None:
    assert check_method("biovil", weights=weights(**SMALL)).maps > 20


# Settings


def test_options_of_sampling_are_dropped(weights: Callable[..., str]) -> None:
    entry, plan = METHODS.get("biovil"), weights()
    wanted = MethodSettings("biovil", weights=plan, sampling="gt-cfg", steps=9, layers="all", tokens="all", bbm="none")
    done = entry.completed(wanted)
    assert done == MethodSettings("biovil", weights=str(Path(plan).resolve()), weights_version=done.weights_version)
    assert entry.samplings == ()


# Wrong files


class _Code:
    def __reduce__(self) -> Any:
        return print, ("code was run",)


def test_a_damaged_checkpoint_is_named_and_its_code_is_not_run(
    tmp_path: Path, weights: Callable[..., str], torch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    contents = (b"", b"not a checkpoint", (tmp_path / "list.pt").read_bytes(), pickle.dumps(_Code(), protocol=2))
    for content in contents:
        (tmp_path / "torn.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"torn\.pt"):
            load_method("biovil", weights=weights("torn.pt", place=str(tmp_path)))
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "biovil_t.pt"}, r"biovil_t\.pt.* resnet18 .*multi_image"),
        ({"encoder": "resnet18_multi_image"}, r"biovil\.pt.* resnet18_multi_image"),
        ({"size_of_projection": 64}, "projection of 64"),
        ({"encoder": "vit"}, r"image_encoder\.encoder 'vit'"),
        ({"path": ""}, "image_encoder.path"),
        ({"path": "absent.pt"}, r"absent\.pt"),
        ({"text": {"family": "clip"}}, "family 'clip'"),
    ],
)
def test_a_plan_that_does_not_fit_its_files_is_refused(
    weights: Callable[..., str], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_method("biovil", weights=weights(**change))


def test_a_model_without_the_joint_space_is_refused(
    files: Path, tmp_path: Path, weights: Callable[..., str], torch: Any
) -> None:
    from health_multimodal.image.model.model import ImageModel

    plan = tmp_path / "weights.yaml"
    plan.write_text(yaml.safe_dump({"text_encoder": {"place": str(files / "cxr-bert"), "family": "cxr-bert"}}))
    torch.save(ImageModel("resnet18", 64).state_dict(), tmp_path / "narrow.pt")
    narrow = weights("narrow.pt", place=str(tmp_path), size_of_projection=64)
    state = shutil.copytree(files / "cxr-bert", tmp_path / "general") / "pytorch_model.bin"
    torch.save({name: value for name, value in torch.load(state).items() if "projection" not in name}, state)
    general = weights(text={"place": str(tmp_path / "general")})
    for choice, message in ((plan, "image_encoder"), (narrow, r"cxr-bert .*128 .* 64"), (general, "cls_projection")):
        with pytest.raises(DataError, match=message):
            load_method("biovil", weights=str(choice))
