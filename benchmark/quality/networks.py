"""The networks whose features are compared. Nothing is downloaded: a message names the file and the command.

- inception, 2,048 features: the last pooling of Inception-v3 as ported from TensorFlow by torch-fidelity (pytorch-fid
  has the same weights). Grey as RGB, 299 px by TensorFlow 1's bilinear resize, (x - 128) / 128.
- xrv, 1,024 features: `features2` of torchxrayvision's DenseNet-121 (densenet121-res224-all). 224 px, bilinear and
  antialiased, [-1024, 1024].
- phantom, 64 features: the pooled features of the packaged phantom BioViL's image encoder, 128 px, [0, 1].
- a TorchScript file of the user.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import load_method, unknown
from gtg_bench.benchmark.paths import cache_dir

INCEPTION_FILE, XRV_FILE = "weights-inception-2015-12-05-6726825d.pth", "densenet121-res224-all.pt"
INCEPTION_COMMAND = (
    "curl -L -o {path} https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + INCEPTION_FILE
)
XRV_COMMAND = (
    'python -c "import torch, torchxrayvision as xrv; '
    "torch.save(xrv.models.DenseNet(weights='densenet121-res224-all').state_dict(), '{path}')\""
)
"""Commands that fetch weights. torchxrayvision's own file is a pickled model, which is read here only in the zip format
of PyTorch 1.6 and later."""

XRV_SIZES: dict[str, Any] = {}
"""Arguments of torchxrayvision's DenseNet other than its defaults."""


@dataclass(frozen=True)
class Network:
    """A network that turns images into features.

    Attributes:
        name: inception, xrv, phantom, or the name of a file.
        version: 16 hex digits over its weights.
        prepared: how images are prepared, for the output.
        published: whether published numbers were computed with it.
        extract: uint8 [B, S, S] -> float [B, D].
    """

    name: str
    version: str
    prepared: str
    published: bool
    extract: Callable[[Tensor], Tensor]

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Features float64 [B, D] on the CPU of images uint8 [B, S, S]. Raises DataError if they are not that."""
        found = self.extract(images)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise DataError(f"{self.name} returned {shape} for {len(images)} images; expected [{len(images)}, D]")
        if not found.isfinite().all():
            raise DataError(f"{self.name} returned features that are not finite")
        return found.double().cpu()


def find_network(name: str, weights: Path | None = None, device: str = "cpu") -> Network:
    """A feature network.

    Args:
        name: inception, xrv or phantom; or a TorchScript file that maps RGB images uint8 [B, 3, S, S] to features
            [B, D], and resizes and normalises them itself.
        weights: file with the weights of inception or xrv; by default the one in the cache.
        device: torch device.

    Raises:
        UsageError: an unknown name.
        DataError: the weights are missing, with the command that fetches them, or are not of this network.
    """
    if weights is not None and name not in ("inception", "xrv"):
        raise UsageError("--feature-weights is for --features inception and xrv")
    if name not in NETWORKS and not os.path.isfile(name):
        raise UsageError(f"{unknown('feature network', name, NETWORKS)}; or name a TorchScript file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about names that libraries import, and about TorchScript
        if name in NETWORKS:
            return NETWORKS[name](weights, torch.device(device))
        return _scripted(Path(name), torch.device(device))


def _inception(weights: Path | None, device: torch.device) -> Network:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = _file("inception", INCEPTION_FILE, INCEPTION_COMMAND, weights)
    _read(path)  # torch-fidelity reads it without protection against pickled code
    try:
        model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not the Inception-v3 of torch-fidelity: {_line(error)}") from error
    model = model.to(device).eval()

    def extract(images: Tensor) -> Tensor:
        return model(images.to(device)[:, None].expand(-1, 3, -1, -1))[0]

    prepared = "grey as RGB, TensorFlow's bilinear resize to 299 px, (x - 128) / 128; 2,048 pooled features"
    return Network("inception", _digest(path), prepared, True, extract)


def _xrv(weights: Path | None, device: torch.device) -> Network:
    from torchxrayvision import models, utils

    path = _file("xrv", XRV_FILE, XRV_COMMAND, weights)
    with torch.serialization.safe_globals(_xrv_classes(models)):
        found = _read(path, f"; save its tensors alone with `{XRV_COMMAND.format(path=XRV_FILE)}` and name that file")
    model = models.DenseNet(weights=None, **XRV_SIZES)
    try:
        model.load_state_dict(found.state_dict() if isinstance(found, nn.Module) else found)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not a DenseNet of torchxrayvision: {_line(error)}") from error
    model = model.to(device).eval()

    def extract(images: Tensor) -> Tensor:
        values = torch.from_numpy(utils.normalize(images.cpu().numpy(), 255))[:, None]
        resized = F.interpolate(values.to(device), (224, 224), mode="bilinear", antialias=True)
        with redirect_stdout(StringIO()):  # torchxrayvision prints a warning about images without black or white
            return model.features2(resized)

    prepared = "bilinear, antialiased resize to 224 px, scaled to [-1024, 1024]; 1,024 pooled features (`features2`)"
    return Network("xrv", _digest(path), prepared, True, extract)


def _xrv_classes(models: Any) -> list[Any]:
    """What a pickled model is made of. Everything else in a file is refused."""
    layers = [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear]
    return [models.DenseNet, models._DenseBlock, models._DenseLayer, models._Transition, *layers, set]


def _phantom(weights: Path | None, device: torch.device) -> Network:
    method: Any = load_method("biovil", weights="phantom", device=str(device))

    def extract(images: Tensor) -> Tensor:
        values = images.to(device)[:, None].float() / 255
        resized = F.interpolate(values, (method.crop, method.crop), mode="bilinear", antialias=True)
        return method.image_model.features(resized).mean((1, 2))

    digest = hashlib.sha256()
    for name, tensor in sorted(method.image_model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    prepared = f"{method.crop} px, [0, 1]; 64 pooled features of the packaged phantom encoder, not a published network"
    return Network("phantom", digest.hexdigest()[:16], prepared, False, extract)


def _scripted(path: Path, device: torch.device) -> Network:
    try:
        model = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} is not a TorchScript file ({type(error).__name__} while reading it)") from error

    def extract(images: Tensor) -> Tensor:
        try:
            return model(images.to(device)[:, None].expand(-1, 3, -1, -1))
        except RuntimeError as error:
            reason = _line(error)
            raise DataError(f"{path} fails on uint8 [{len(images)}, 3, S, S] images: {reason}") from error

    return Network(path.name, _digest(path), "RGB, 8 bits; the file resizes and normalises", False, extract)


NETWORKS: dict[str, Callable[[Path | None, torch.device], Network]] = {
    "inception": _inception,
    "xrv": _xrv,
    "phantom": _phantom,
}
"""Name -> function of a weights file and a device."""


def _file(name: str, file: str, command: str, given: Path | None) -> Path:
    """The weights file: the given one, or the one in the cache."""
    path = given or cache_dir() / file
    if path.is_file():
        return path
    if given:
        raise DataError(f"--feature-weights {given}: file not found")
    raise DataError(
        f"--features {name} needs {path}; fetch it with `{command.format(path=path)}`, or name your copy with "
        "--feature-weights; --features phantom, for phantom images, is packaged"
    )


def _read(path: Path, hint: str = "") -> Any:
    """The content of a file that torch saved, without running any code in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path} holds more than tensors, or is damaged, and is not read{hint}") from error
    except Exception as error:  # damaged files fail in many ways
        raise DataError(f"{path} cannot be read: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
