"""BioViL's maps: small random models in the published files' layout, held against health_multimodal's own engine."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import yaml
from PIL import Image

from gtg_bench.benchmark.api import METHODS, DataError, MethodSettings, Query, SampleError, UsageError, load_method
from gtg_bench.benchmark.api.geometry import FloatArray, Frame
from gtg_bench.benchmark.api.testing import check_method

pytestmark = pytest.mark.usefixtures("torch")
PHRASE = "Small left pleural effusion."
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ALPHABET, *(f"##{c}" for c in ALPHABET), ".", ",", "-", "left"]
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 100,
}
SMALL = {"resize": 128, "crop": 120}
"""A grid of 4 x 4 patches, for what does not depend on the size."""


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
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained: no layer is neutral
            module.running_mean.normal_(std=0.1)
            module.weight.data.uniform_(0.7, 1.3)
    return model


@cache
def text_model() -> Any:
    import torch
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel

    torch.manual_seed(1)
    model = CXRBertModel(CXRBertConfig(vocab_size=len(WORDS), projection_size=128, **BERT)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:
            parameter.data.mul_(10)
    return model


def write_text_model(folder: Path) -> None:
    """A pickle of weights, a vocabulary, and configurations that ask for code from the hub."""
    import torch

    folder.mkdir()
    state = text_model().state_dict() | {"bert.embeddings.position_ids": torch.arange(100)[None]}
    torch.save(state, folder / "pytorch_model.bin")
    hub = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}
    config = text_model().config.to_dict() | {"auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer", "auto_map": hub}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of both kinds and a CXR-BERT."""
    import torch

    folder = tmp_path_factory.mktemp("published")
    torch.save(image_model().state_dict(), folder / "biovil.pt")
    torch.save(image_model("resnet18_multi_image").state_dict(), folder / "biovil_t.pt")
    write_text_model(folder / "cxr-bert")
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


def engine(files: Path, encoder: str, crop: int) -> Any:
    """health_multimodal's own, on the same weights."""
    from health_multimodal.image import ImageInferenceEngine
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference
    from health_multimodal.text import TextInferenceEngine
    from health_multimodal.vlp import ImageTextInferenceEngine
    from transformers import BertTokenizer

    transform = create_chest_xray_transform_for_inference(512, crop)
    tokenizer = _Tokenizer(BertTokenizer.from_pretrained(files / "cxr-bert"))
    return ImageTextInferenceEngine(
        ImageInferenceEngine(image_model(encoder), transform),
        TextInferenceEngine(tokenizer, text_model()),  # type: ignore[arg-type]
    )


def reference(files: Path, folder: Path, pixels: np.ndarray, encoder: str = "resnet18", crop: int = 480) -> np.ndarray:
    """float32 [H, W], NaN outside the crop: the engine's map of PHRASE on an 8-bit picture."""
    Image.fromarray(pixels).save(folder / "image.png")
    return engine(files, encoder, crop).get_similarity_map_from_raw_data(folder / "image.png", PHRASE, "bilinear")


def carried(method: Any, pixels: np.ndarray) -> tuple[FloatArray, np.ndarray]:
    """The method's map in the image's own pixels, and what it covers."""
    found = method.ground((pixels / 255).astype(np.float32), PHRASE)
    return found.frame.carry(found.values, Frame.original((pixels.shape[1], pixels.shape[0])))


@pytest.mark.parametrize(
    ("shape", "low", "high"), [((512, 512), 0, 255), ((512, 640), 0, 255), ((700, 512), 31, 204)], ids=str
)
def test_the_map_is_health_multimodals(
    biovil: Any, files: Path, tmp_path: Path, shape: tuple[int, int], low: int, high: int
) -> None:
    pixels = levels(3, shape, low, high)
    expected = reference(files, tmp_path, pixels)
    values, covered = carried(biovil, pixels)
    np.testing.assert_array_equal(covered, ~np.isnan(expected))
    assert np.ptp(expected[covered]) > 0.05
    np.testing.assert_allclose(values[covered], expected[covered], atol=1e-5, rtol=0)


def test_biovil_t_has_another_encoder_and_crop(weights: Callable[..., str], files: Path, tmp_path: Path) -> None:
    method = load_method("biovil-t", weights=weights("biovil_t.pt", encoder="resnet18_multi_image", crop=448))
    pixels = levels(4, (512, 576))
    expected = reference(files, tmp_path, pixels, "resnet18_multi_image", 448)
    values, covered = carried(method, pixels)
    assert method.ground(picture(), PHRASE).values.shape == (14, 14)
    np.testing.assert_array_equal(covered, ~np.isnan(expected))
    np.testing.assert_allclose(values[covered], expected[covered], atol=1e-5, rtol=0)


def test_resizing_in_floating_point_moves_the_map_very_little(biovil: Any, files: Path, tmp_path: Path) -> None:
    pixels = levels(5, (768, 1024))
    expected = reference(files, tmp_path, pixels)
    values, covered = carried(biovil, pixels)
    np.testing.assert_array_equal(covered, ~np.isnan(expected))
    assert np.abs(values - expected)[covered].max() < 0.01 * np.ptp(expected[covered])


@pytest.mark.parametrize("shape", [(300, 401), (900, 700)], ids=str)
def test_the_resized_crop_is_within_a_grey_level_of_torchvisions(shape: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    pixels = levels(6, shape)
    expected = Compose([Resize(512), CenterCrop(480)])(Image.fromarray(pixels))
    found = Frame.center_crop((shape[1], shape[0]), 512, 480).apply(pixels.astype(np.float32))
    difference = np.abs(found - np.asarray(expected, dtype=np.float32))
    assert difference.max() <= 1.0
    assert difference.mean() < 0.4


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 229), (3, 17), (120, 121)])
def test_the_image_is_read_as_health_multimodal_reads_it(low: int, high: int) -> None:
    from health_multimodal.image.data.io import remap_to_uint8

    from gtg_bench.methods.biovil import eight_bits

    pixels = levels(7, (60, 50), low, high)
    np.testing.assert_array_equal(eight_bits((pixels / 255).astype(np.float32)), remap_to_uint8(pixels))


def test_a_constant_image_is_black() -> None:
    from gtg_bench.methods.biovil import eight_bits

    np.testing.assert_array_equal(eight_bits(np.full((3, 4), 0.7, dtype=np.float32)), np.zeros((3, 4)))


# Maps


def test_a_map_holds_cosines_on_the_patch_grid_and_covers_the_crop(biovil: Any) -> None:
    found = biovil.ground(picture(shape=(300, 500)), PHRASE)
    assert found.values.shape == (15, 15)
    assert found.values.dtype == np.float32
    assert np.abs(found.values).max() <= 1
    assert found.frame == Frame.center_crop((500, 300), 512, 480)
    _, covered = found.frame.carry(found.values, Frame.original((500, 300)))
    assert covered.mean() == pytest.approx((480 / 512) ** 2 * 300 / 500, abs=0.01)
    assert not covered[:9].any()
    assert not covered[:, :109].any()


def test_image_and_phrase_each_change_the_map(small: Any) -> None:
    base = small.ground(picture(0), PHRASE).values
    assert np.abs(base - small.ground(picture(1), PHRASE).values).max() > 1e-3
    assert np.abs(base - small.ground(picture(0), "pneumonia").values).max() > 1e-3


def test_a_batch_gives_the_maps_of_its_queries_alone_and_encodes_once(fresh: Any) -> None:
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
    fresh._patches.clear()
    for query, one, other in zip(queries, batch, again, strict=True):
        alone = fresh.ground(query.image, query.text)
        np.testing.assert_array_equal(one.values, alone.values)
        np.testing.assert_array_equal(other.values, alone.values)
        assert one.frame == alone.frame


def test_only_the_last_images_are_kept(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gtg_bench.methods.biovil._CACHED", 2)
    for seed in range(4):
        fresh.ground(picture(seed, (64, 64)), PHRASE)
    assert len(fresh._patches) == 2


def test_the_last_stop_is_left_out_as_health_multimodal_does(small: Any) -> None:
    with_stop, without = (small.ground(picture(), text).values for text in (PHRASE, PHRASE[:-1]))
    np.testing.assert_array_equal(with_stop, without)


def test_a_long_phrase_is_cut_and_says_so(small: Any) -> None:
    found = small.ground(picture(), "left, " * 60)
    assert found.note == "the phrase is cut from 122 to 77 tokens"
    np.testing.assert_array_equal(found.values, small.ground(picture(), "left, " * 50).values)
    assert small.ground(picture(), PHRASE).note == ""


@pytest.mark.parametrize("text", ["", "  ", "...", "\u200b", "left [SEP] effusion"])
def test_a_phrase_that_says_nothing_is_refused(small: Any, text: str) -> None:
    with pytest.raises(SampleError, match="phrase"):
        small.ground(picture(), text)


def test_the_contract_is_kept(weights: Callable[..., str]) -> None:
    report = check_method("biovil", weights=weights(**SMALL))
    assert report.maps > 20


# Settings


def test_what_belongs_to_sampling_is_left_out(weights: Callable[..., str]) -> None:
    entry, plan = METHODS.get("biovil"), weights()
    wanted = MethodSettings("biovil", weights=plan, sampling="gt-cfg", steps=9, layers="all", tokens="all", bbm="none")
    done = entry.completed(wanted)
    assert done == MethodSettings("biovil", weights=str(Path(plan).resolve()), weights_version=done.weights_version)
    assert entry.samplings == ()


def test_bias_merging_is_refused(weights: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="--bbm mixture: biovil-t has no "):
        METHODS.get("biovil-t").completed(MethodSettings("biovil-t", weights=weights(), bbm="mixture"))


def test_without_weights_the_message_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="biovil-t has no phantom weights"):
        METHODS.get("biovil-t").completed(MethodSettings("biovil-t", weights="phantom"))


def test_whatever_changes_a_map_changes_the_version(weights: Callable[..., str]) -> None:
    changes: list[dict[str, Any]] = [{}, {"crop": 448}, {"resize": 500}, {"file": "biovil_t.pt"}, {"encoder": "x"}]
    changes.append({"text": {"max_length": 32}})
    entry = METHODS.get("biovil")
    found = [entry.completed(MethodSettings("biovil", weights=weights(**change))) for change in changes]
    assert len({settings.weights_version for settings in found}) == len(changes)


def test_completing_imports_no_torch(weights: Callable[..., str]) -> None:
    code = (
        "import sys\nfrom gtg_bench.benchmark.api import METHODS, MethodSettings\n"
        f"METHODS.get('biovil').completed(MethodSettings('biovil', weights={weights()!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Wrong files


class _Code:
    def __reduce__(self) -> Any:
        return print, ("code was run",)


def test_a_pickle_with_code_is_not_run(
    tmp_path: Path, weights: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Code(), protocol=2))
    with pytest.raises(DataError, match=r"evil\.pt.* could run code"):
        load_method("biovil", weights=weights("evil.pt", place=str(tmp_path)))
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"], ids=["empty", "text"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, weights: Callable[..., str], content: bytes) -> None:
    (tmp_path / "torn.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"torn\.pt"):
        load_method("biovil", weights=weights("torn.pt", place=str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "biovil_t.pt"}, r"biovil_t\.pt.* is this a resnet18 with a projection of 128\? .*multi_image"),
        ({"encoder": "resnet18_multi_image"}, r"biovil\.pt.* is this a resnet18_multi_image"),
        ({"size_of_projection": 64}, "with a projection of 64"),
        ({"encoder": "vit"}, r"image_encoder\.encoder 'vit' is none of resnet18, resnet50"),
        ({"path": ""}, "is a folder; name the checkpoint file in it under image_encoder.path"),
        ({"path": "absent.pt"}, r"absent\.pt"),
        ({"text": {"family": "clip"}}, "family 'clip'"),
    ],
)
def test_a_plan_that_does_not_fit_its_files_is_refused(
    weights: Callable[..., str], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_method("biovil", weights=weights(**change))


def test_a_list_is_no_state_dict(tmp_path: Path, weights: Callable[..., str], torch: Any) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match=r"list\.pt holds a list, not a state dict"):
        load_method("biovil", weights=weights("list.pt", place=str(tmp_path)))


def test_a_plan_without_an_image_encoder_is_refused(files: Path, tmp_path: Path) -> None:
    plan = tmp_path / "weights.yaml"
    plan.write_text(yaml.safe_dump({"text_encoder": {"place": str(files / "cxr-bert"), "family": "cxr-bert"}}))
    with pytest.raises(DataError, match="image_encoder"):
        load_method("biovil", weights=str(plan))


def test_a_text_model_without_the_joint_space_is_refused(
    tmp_path: Path, weights: Callable[..., str], torch: Any
) -> None:
    folder = tmp_path / "general"
    write_text_model(folder)
    state = {name: value for name, value in text_model().state_dict().items() if "projection" not in name}
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"general.* cls_projection_head"):
        load_method("biovil", weights=weights(text={"place": str(folder)}))


def test_encoders_of_two_models_are_refused(tmp_path: Path, weights: Callable[..., str], torch: Any) -> None:
    from health_multimodal.image.model.model import ImageModel

    torch.save(ImageModel("resnet18", 64).state_dict(), tmp_path / "narrow.pt")
    plan = weights("narrow.pt", place=str(tmp_path), size_of_projection=64)
    with pytest.raises(DataError, match="projects texts to 128 numbers and the image encoder to 64"):
        load_method("biovil", weights=plan)
