"""Methods that share a model and what it computed give the maps of methods that do not, bit for bit."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np

from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.api.settings import MethodSettings
from gtg_bench.benchmark.api.sharing import sharing
from gtg_bench.benchmark.api.types import Query
from gtg_bench.methods.ldm.components import load_components


def built(method: str, **settings: Any) -> Any:
    entry = METHODS.get(method)
    return entry.built(entry.completed(MethodSettings(method, **settings)))


def test_maps_are_those_of_single_runs() -> None:
    images = np.random.default_rng(0).random((2, 140, 150), dtype=np.float32)
    phrases = ("small left pleural effusion", "edema", "small left pleural effusion")
    queries = [Query(images[k % 2], phrase, seed=k, category="Edema") for k, phrase in enumerate(phrases)]
    modes = [("gt-cfg", "none", 1), ("gt1-cfg", "linear", 1), ("gt-cfg", "mixture", 1), ("gt-cfg", "mixture", 2)]
    kinds = [
        {"method": method, "sampling": sampling, "bbm": bbm, "steps": steps}  # other steps have another text bias
        for method in ("clip-ldm", "cxrbert-ldm")
        for sampling, bbm, steps in modes
    ]
    alone = [built(**kind).ground_batch(queries) for kind in kinds]
    with (
        sharing(),
        patch("gtg_bench.methods.ldm.components.load_components", wraps=load_components) as loads,
    ):
        methods = [built(**kind) for kind in kinds]
        vae = methods[0].components.vae
        with patch.object(type(vae), "encode", autospec=True, side_effect=type(vae).encode) as encodings:
            together = [method.ground_batch(queries) for method in methods]
    assert loads.call_count == 2
    assert encodings.call_count == 2  # two images, although eight runs of two methods use them
    for kind, one, other in zip(kinds, alone, together, strict=True):
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first.values, second.values, err_msg=str(kind))
            assert (first.frame, first.note) == (second.frame, second.note)


def test_a_model_is_shared_only_with_the_same_weights_and_precision() -> None:
    assert built("cxrbert-ldm").components is not built("cxrbert-ldm").components
    with sharing():
        first = built("cxrbert-ldm").components
        assert built("cxrbert-ldm", seed=1, sampling="text").components is first
        half = built("cxrbert-ldm", precision="bfloat16").components
        assert half is not first
        assert half.caches.posteriors is first.caches.posteriors  # the autoencoder stays in float32
        assert str(first.unet.dtype) == "torch.float32"
