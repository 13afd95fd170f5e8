"""The phantom's small image encoder: its interface, the receptive field of a patch, and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gtg_bench.benchmark.api.errors import DataError
from gtg_bench.methods.biovil.image_model import SmallImageModel, load_image_model
from gtg_bench.methods.weights.plan import ImagePart

pytestmark = pytest.mark.usefixtures("torch")


@pytest.fixture
def model() -> SmallImageModel:
    torch.manual_seed(0)
    return SmallImageModel(24).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand((1, 1, 128, 128), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_it_has_the_interface_of_health_multimodals_model(model: SmallImageModel, image: torch.Tensor) -> None:
    from health_multimodal.image.model.model import ImageModel

    theirs = ImageModel("resnet18", 24).eval()
    grey = image.expand(1, 3, -1, -1)
    for normalize in (False, True):
        found = model.get_patchwise_projected_embeddings(grey, normalize=normalize)
        wanted = theirs.get_patchwise_projected_embeddings(grey, normalize=normalize)
        assert found.shape == (1, 16, 16, 24)
        assert wanted.shape == (1, 4, 4, 24)
        assert torch.allclose(found.norm(dim=-1), torch.ones(16, 16), atol=1e-5) is normalize
    torch.testing.assert_close(model(grey)[1], model(image)[1])


def test_the_receptive_field_of_a_patch_is_centred_on_it(model: SmallImageModel, image: torch.Tensor) -> None:
    image.requires_grad_(True)
    for layer in [*model.stem, *model.blocks]:
        layer[1] = torch.nn.Identity()  # group norm depends on the whole image  # type: ignore[index]
    model.features(image)[0, 4, 11].abs().sum().backward()
    assert image.grad is not None
    rows, columns = (image.grad[0, 0] != 0).nonzero().T
    assert (rows.min(), columns.max()) == (0, 127)
    assert int(rows.max()) + 1 == pytest.approx(4 * 8 + 4 + 63, abs=8)
    assert int(columns.min()) == pytest.approx(11 * 8 + 4 - 63, abs=8)


def test_weights_are_read_from_safetensors_and_torch_files(model: SmallImageModel, tmp_path: Path) -> None:
    part = ImagePart(place="x", encoder="small", size_of_projection=24, resize=136, crop=128)
    half = {name: value.half() for name, value in model.state_dict().items()}
    save_file(half, tmp_path / "small.safetensors")
    torch.save(half, tmp_path / "small.pt")
    for name in ("small.safetensors", "small.pt"):
        loaded = load_image_model(tmp_path / name, part)
        for found, wanted in zip(loaded.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "small.safetensors").read_bytes()[:-9])
    for name, changes, message in (
        ("small.pt", {"encoder": "tiny"}, "'tiny'"),
        ("torn.safetensors", {}, r"torn\.safetensors"),
    ):
        with pytest.raises(DataError, match=message):
            load_image_model(tmp_path / name, part.model_copy(update=changes))
