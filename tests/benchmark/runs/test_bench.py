"""`gtg-bench bench`: its output, and the forward passes and bytes that it counts. No test asserts a speed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gtg_bench.benchmark.api.types import MethodSettings, Query
from gtg_bench.benchmark.cli import app
from gtg_bench.methods.ldm.architectures import RandomStates
from gtg_bench.methods.ldm.bench import TensorBytes, measure, peak_bytes
from gtg_bench.methods.ldm.components import LdmComponents
from gtg_bench.methods.ldm.method import LdmMethod

pytestmark = pytest.mark.usefixtures("torch")
SETTINGS = MethodSettings("tiny", sampling="gt-cfg", steps=4, guidance=3.0, layers="all", tokens="all")
QUERIES = [Query(np.full((16, 16), 0.5, dtype=np.float32), f"small left {n} effusion", n) for n in range(3)]


def bench(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["bench", "--json", "--repeats", "1", "--batch-size", "1", *arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_parts_of_the_time_add_up() -> None:
    (row,) = bench("-m", "cxrbert-ldm", "--sampling", "gt-cfg", "--steps", "2")
    for name in ("seconds_per_sample", "bare_seconds_per_sample", "ratio", "metrics_seconds_per_sample"):
        assert row[name] > 0, name
    assert (row["forwards_per_sample"], row["steps"], row["sampling"]) == (2, 2, "gt-cfg")
    parts = ("seconds_per_sample", "image_seconds_per_sample", "text_seconds_per_sample", "metrics_seconds_per_sample")
    assert row["total_seconds_per_sample"] == pytest.approx(sum(row[name] for name in parts))
    assert row["samples_per_hour"] == pytest.approx(3600 / row["total_seconds_per_sample"])
    (row,) = bench("-m", "uniform")
    assert row["seconds_per_sample"] > 0
    assert "ratio" not in row, "a method without a U-Net"
    result = CliRunner().invoke(app, ["bench", "-m", "uniform", "--repeats", "1", "--batch-size", "1"])
    assert "Milliseconds per sample" in result.stdout


def test_files_are_timed_against_images_in_memory() -> None:
    (row,) = bench("-m", "uniform", "--files", "2", "--workers", "1")
    assert (row["files"], row["workers"]) == (2, 1)
    assert row["seconds"] > row["in_memory_seconds"] > 0, "uniform maps are cheaper than a JPEG"
    assert row["ratio"] == pytest.approx(row["seconds"] / row["in_memory_seconds"])


@pytest.mark.parametrize(
    ("changes", "forwards"),
    [
        ({}, 4),
        ({"last_steps": 3}, 3),
        ({"bbm": "mixture", "last_steps": 3}, 4),
        ({"sampling": "text"}, 4),
        ({"sampling": "cfg"}, 7),
        ({"sampling": "cfg", "guidance": 1.0}, 4),
        ({"sampling": "gt1-cfg"}, 7),
    ],
)
def test_as_many_bare_forwards_as_the_method_makes(
    components: LdmComponents, changes: dict[str, Any], forwards: int
) -> None:
    """Rows through the U-Net, with and without capture, counted by a hook."""
    seen: list[int] = []
    hook = components.unet.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    try:
        found = measure(LdmMethod(components, replace(SETTINGS, **changes), rows=5), QUERIES, repeats=1)
    finally:
        hook.remove()
    text_bias = 7 * len(QUERIES) if "bbm" in changes else 0
    assert found["forwards_per_sample"] == forwards
    runs = 2 + 2 + 2  # warm up, one timed pair, one pair for the memory
    assert sum(seen) == text_bias + runs * forwards * len(QUERIES)
    passes = len(seen) // runs
    assert text_bias or seen[:passes] == seen[passes : 2 * passes], "the same batches, warming up"


def test_bytes_of_a_computation_by_hand() -> None:
    def run() -> torch.Tensor:
        first = torch.zeros(1000)  # 4,000 bytes
        second = torch.cat([first, first])  # 8,000
        del first
        third = second[:10]  # a view: nothing
        return third + torch.ones(10)  # 40 and 40

    with TensorBytes() as counted:
        run()
    assert counted.peak == 12_000
    assert counted.now == 0


def test_peak_memory_is_far_below_keeping_all_maps(components: LdmComponents) -> None:
    method = LdmMethod(components, replace(SETTINGS, steps=40), rows=8)
    batch = method.prepare(QUERIES)
    with torch.inference_mode():
        method.maps(batch)
        ours = peak_bytes(method, lambda: method.maps(batch))
    assert ours < method.measure(QUERIES, 1)["all_maps_bytes"] / 4


def test_random_states_are_a_function_of_the_text_and_point_at_its_words() -> None:
    encoder = RandomStates(8, torch.device("cpu"))
    one, other = encoder.encode(["left left lung"]), encoder.encode(["edema", "left left lung"])
    assert torch.equal(one.states[0], other.states[1])
    assert one.offsets[0, :6].tolist() == [[0, 0], [0, 4], [5, 9], [10, 14], [0, 0], [0, 0]]
    assert int(one.mask.sum()) == 5
