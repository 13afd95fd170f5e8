"""Fixtures of the latent diffusion tests: the golden values of the paper's released code."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[2] / "golden"
Golden = Callable[[str], tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="session")
def golden_unet(golden: Golden) -> Any:
    """The U-Net of the golden attention maps."""
    facts, _ = golden("attention")
    spec = importlib.util.spec_from_file_location("golden_tiny_unet", GOLDEN / "tiny_unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    unet, digest = module.build()
    assert digest == facts["weights_sha256"]["unet"]
    return unet


@pytest.fixture(scope="session")
def golden_bbm(golden: Golden, torch: Any) -> Callable[[int], Any]:
    """The golden maps of a case after the package's reductions: P_comb, P_mult, image bias, text bias, float64.

    As in the golden values, P_comb averages the last step and the biases average both.
    """
    from gtg_bench.methods.ldm.bbm import BiasMaps, text_bias
    from gtg_bench.methods.ldm.reduction import Rows

    facts, arrays = golden("bbm")
    steps, layers, size = facts["T"], range(facts["L"]), (64, 64)
    rows = Rows(torch.zeros(steps, dtype=torch.int64), torch.arange(steps))

    def parts(case: int) -> list[Any]:
        image, text = arrays[f"c{case}_gt"], arrays[f"c{case}_text"]
        text_maps = {str(layer): text[None, :, layer, 1:].mean(2) for layer in layers}
        maps = BiasMaps(text_maps, torch.tensor([0]), size, steps - facts["rev_diff_steps"])
        for layer in layers:
            maps.add(str(layer), torch.stack([image[:, layer, 1:].mean(1), image[:, layer, 0]], 1), rows)
        means = [reduced.mean()[0, 0] for reduced in (maps.combined, maps.product, maps.image)]
        return [mean.double().numpy() for mean in (*means, text_bias(text_maps, size)[0])]

    return parts
