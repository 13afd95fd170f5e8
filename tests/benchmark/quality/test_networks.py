"""Feature networks: the published layouts, images prepared as the authors do, and files that are something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchxrayvision
from torch import Tensor, nn

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.quality import networks
from gtg_bench.benchmark.quality.networks import find_network

TINY = {"growth_rate": 4, "block_config": (1, 1, 1, 1), "num_init_features": 8, "bn_size": 2}
IMAGES = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def xrv(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny DenseNet of torchxrayvision with random weights, which the sizes in `networks` describe."""
    monkeypatch.setattr(networks, "XRV_SIZES", TINY)
    torch.manual_seed(0)
    model = torchxrayvision.models.DenseNet(weights=None, **TINY).eval()
    model.features.norm5.running_mean += 0.1
    return model


@pytest.mark.parametrize("form", ["pickled model", "state dict"])
def test_xrv_reads_the_published_layout(xrv: Any, form: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save(xrv.state_dict() if form == "state dict" else xrv, path)
    found = find_network("xrv", path).features(IMAGES)
    scaled = torch.from_numpy(torchxrayvision.datasets.normalize(IMAGES.numpy(), 255))[:, None].float()
    resized = nn.functional.interpolate(scaled, (224, 224), mode="bilinear", antialias=True)
    assert resized.min() < -900
    with torch.inference_mode():
        expected = xrv.features2(resized)
    assert torch.allclose(found, expected.double(), atol=1e-5)


def test_inception_takes_grey_as_rgb_and_reads_torch_fidelitys_file(tmp_path: Path) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as published

    with pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        patch.setattr(published.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save({}, tmp_path / "empty.pth")
        model = published.FeatureExtractorInceptionV3(
            "x", ["2048"], feature_extractor_weights_path=str(tmp_path / "empty.pth")
        )
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    found = find_network("inception", tmp_path / "weights.pth").features(IMAGES[:1])
    assert found.shape == (1, 2048)
    assert torch.equal(found, model(torch.stack([IMAGES[:1]] * 3, 1))[0].double())


class Means(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((2, 3))


class Nothing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 0


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_file_is_a_network(tmp_path: Path) -> None:
    path = tmp_path / "means.pt"
    torch.jit.script(Means()).save(path)
    found = find_network(str(path))
    assert torch.allclose(found.features(IMAGES), IMAGES.double().mean((1, 2))[:, None].expand(-1, 3), atol=1e-4)
    version = found.version
    torch.jit.script(Nothing()).save(path)
    other = find_network(str(path))
    assert other.version != version
    with pytest.raises(DataError, match=r"means\.pt returned \(3, 3, 40, 40\)"):
        other.features(IMAGES)


def test_the_phantom_encoder_is_packaged_and_named_as_such() -> None:
    found = find_network("phantom")
    assert found.features(IMAGES).shape == (3, 64)
    assert not found.published
    assert "not a published" in found.prepared


class Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_unusable_weights_are_one_line(tmp_path: Path, xrv: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("GTG_BENCH_CACHE", str(tmp_path))
    evil, other = tmp_path / "evil.pt", tmp_path / "other.pt"
    torch.save(Evil(), evil)
    torch.save({"weight": torch.ones(1)}, other)
    old = tmp_path / "2020.pt"
    torch.save(xrv, old, _use_new_zipfile_serialization=False)
    cases: list[tuple[str, Path | None, type[Exception], str]] = [
        ("xrv", None, DataError, "`python -c .*, or name your copy"),
        ("inception", None, DataError, f"`curl -L -o {tmp_path}/weights-inception"),
        ("inception", tmp_path / "no.pth", DataError, "no.pth: file not found"),
        ("inception", other, DataError, "not the Inception-v3"),
        ("inception", evil, DataError, "evil.pt holds more than tensors"),
        ("xrv", evil, DataError, "evil.pt holds more than tensors"),
        ("xrv", old, DataError, "not read; save its tensors alone with"),
        ("xrv", other, DataError, "not a DenseNet"),
        ("phantom", other, UsageError, "--feature-weights"),
        ("inceptoin", None, UsageError, "did you mean inception"),
        (str(other), None, DataError, "not a TorchScript file"),
    ]
    for name, weights, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            find_network(name, weights)
        assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out
