"""This process among those of its launch, and the GPU that it takes."""

from __future__ import annotations

import pytest

from gtg_bench.benchmark.runs.launch import Launch, own_device

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


def launched(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in zip(NAMES, values, strict=False):
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((), (0, 1, 0)),
        (("0", "1", "0"), (0, 1, 0)),
        (("5", "8", "1"), (5, 8, 1)),
        (("5", "8"), (5, 8, 0)),
        (("8", "8", "0"), (0, 1, 0)),
        (("0", "many", "0"), (0, 1, 0)),
    ],
)
def test_a_launch_is_read_from_its_variables(
    monkeypatch: pytest.MonkeyPatch, values: tuple[str, ...], found: tuple[int, int, int]
) -> None:
    launched(monkeypatch, *values)
    assert Launch.current() == Launch(*found)


def test_each_process_of_a_node_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    launched(monkeypatch, "6", "16", "6")  # two processes for each GPU
    assert [own_device(device) for device in ("cuda", "cuda:0", "cpu")] == ["cuda:2", "cuda:0", "cpu"]
    launched(monkeypatch)
    assert own_device("cuda") == "cuda"
