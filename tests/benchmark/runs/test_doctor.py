"""`gtg-bench doctor`: only what would stop a run is an error."""

from __future__ import annotations

import json
import os
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.runs import doctor
from gtg_bench.benchmark.runs.doctor import Diagnosis, Plan
from gtg_bench.methods.weights.check import check

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder on a machine with much disk and memory and no GPU."""
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "CGROUPS", ())
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(10**12, 0, 10**12))
    return tmp_path


def examine(*methods: str, **options: Any) -> Diagnosis:
    return doctor.examine(Plan(methods or Plan.methods, **options), check)


def states(found: Diagnosis) -> dict[str, str]:
    return {line.name: line.state for line in found.lines if line.name != "extras"}


def text(found: Diagnosis, name: str) -> str:
    return " | ".join(line.text for line in found.lines if line.name == name)


def boxes(root: Path, images: int = 2) -> Path:
    """A ChestX-ray14 folder that lists two images and has this many."""
    root.mkdir()
    rows = [f"0000000{number}_000.png,Mass,0,0,512,256" for number in (1, 2)]
    (root / "BBox_List_2017.csv").write_text("\n".join(("Image Index,Finding Label,Bbox [x,y,w,h],,,", *rows)) + "\n")
    for number in range(1, images + 1):
        Image.new("L", (100, 100), 51).save(root / f"0000000{number}_000.png")
    return root


def test_the_main_job_would_run() -> None:
    found = examine()
    assert found.fine
    assert states(found) == dict.fromkeys(("packages", "samples", "weights", "device", "disk", "memory"), "ok")
    assert "383 samples" in text(found, "samples")
    assert text(found, "weights").startswith("cxrbert-ldm: phantom-varied, version ")
    assert found.needs["disk"] == 383 * (doctor.RECORD + 4 * 64 * 64)
    assert 1.2e9 < found.needs["memory"] < 2e9
    assert found.data is None
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        ({"dataset": "fantom"}, "data", "did you mean phantom"),
        ({"dataset": "chestxray14"}, "data", "--data-root"),
        ({"dataset": "chestxray14", "data_root": Path("nowhere")}, "data", "nowhere"),
        ({"split": "tset"}, "data", "tset"),
        ({"dataset_options": {"sede": "1"}}, "data", "sede"),
        ({"methods": ("cxrbert-lmd",)}, "method", "did you mean cxrbert-ldm"),
        ({"weights": "nowhere"}, "weights", "cxrbert-ldm: --weights nowhere"),
        ({"methods": ("clip-ldm-lora",)}, "weights", "clip-ldm-lora has no phantom weights"),
        ({"methods": ("clip-ldm",), "weights": "paper"}, "weights", "not published: unet"),
        ({"device": "cuda:99"}, "device", "--device cuda:99"),
    ],
)
def test_what_would_stop_a_run_is_an_error(options: dict[str, Any], name: str, words: str) -> None:
    found = doctor.examine(Plan(**options), check)
    assert [line.name for line in found.lines if line.state == "error"] == [name]
    assert words in text(found, name)


def test_damaged_and_missing_images(here: Path) -> None:
    words = {"dataset": "chestxray14", "data_root": boxes(here / "a", images=1)}
    found = examine("uniform", **words)
    assert (found.fine, states(found)["data"]) == (True, "warning")
    assert text(found, "data").startswith("1 of 2 pairs are usable; 1 problem, ")
    assert "00000002_000.png" in text(found, "data")
    assert found.data is not None
    assert found.data["counts"]["usable"] == 1
    for number in (1, 2):
        (here / "a" / f"0000000{number}_000.png").write_text("<html>")
    assert states(examine("uniform", **words))["data"] == "error"
    found = examine("uniform", "center-prior", "class-prior", dataset="chestxray14", data_root=boxes(here / "b"))
    assert (states(found)["data"], states(found)["weights"]) == ("ok", "error")
    assert "gtg-bench data priors NAME --data-root DIR --out TABLE.npz" in text(found, "weights")
    assert found.needs["disk"] == 2 * (2 * doctor.RECORD + 4 * (100 * 100 + 64 * 64))
    assert found.needs["memory"] == 0.3e9 + 2 * 16 * 4 * 100 * 100


def test_disk_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((1000, "error"), (2**29, "warning"), (2**31, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place, free=free: Usage(2**40, 0, free))
        assert states(examine("uniform", runs_dir=Path("new/runs")))["disk"] == state
    for memory, state in (((2**40, 2**40), "ok"), ((2**20, 2**40), "warning"), ((2**27, 2**28), "error"), ((), "note")):
        monkeypatch.setattr(doctor, "_host_memory", lambda memory=memory: memory)
        assert states(examine())["memory"] == state
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    found = examine("uniform")
    assert not found.fine
    assert "--runs-dir" in text(found, "disk")
    assert "GTG_BENCH_CACHE" in text(found, "disk")


def test_a_container_has_less_memory_than_its_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = doctor._host_memory()
    monkeypatch.setattr(doctor, "CGROUPS", ((str(here / "max"), str(here / "now")),))
    (here / "now").write_text("1000")
    for limit, wanted in (("1048576", (2**20 - 1000, 2**20)), ("max", whole), (str(2**62), whole)):
        (here / "max").write_text(limit)
        assert doctor._host_memory() == pytest.approx(wanted, rel=0 if limit == "1048576" else 0.5)


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {
        "gtg-bench": ["there>=2", "old>=2", "gone>=1", "torchvision", "torch>=1", 'extra-only; extra == "test"'],
        "torchvision": ["torch==2.15.0", "pillow"],
    }
    versions = {"gtg-bench": "0.1", "there": "2.1+cpu", "old": "1.9", "torchvision": "1", "torch": "2.14.0+cpu"}

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "requires", needs.get)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = doctor.examine(Plan(("uniform",)), check)
    lines = [(line.state, line.text) for line in found.lines if line.name in ("packages", "extras")]
    assert [state for state, _ in lines] == ["warning", "error", "error", "note"]
    for (_, line), words in zip(lines, ("'old>=2'", "'gone>=1'", "'torch==2.15.0'", "[dicom]"), strict=True):
        assert words in line
    assert found.versions["there"] == "2.1+cpu"


def test_a_gpu(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine("uniform", device="cuda:99").fine, "a baseline computes on the CPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 2 * 10**10))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.zeros(size))
    found = examine()
    assert text(found, "device").startswith("cuda: a card, CUDA ")
    assert (states(found)["memory"], states(found)["gpu memory"]) == ("ok", "warning")
    parts = found.weights["cxrbert-ldm"]["parts"]
    assert found.needs["gpu_memory"] == 2 * sum(part["size"] for part in parts)


def test_the_command(here: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "-m", "uniform", "-m", "unknown", "--json"])
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert (found["ok"], found["weights"]) == (False, {"uniform": None})
    words = ["doctor", "-m", "uniform", "--dataset", "chestxray14", "--data-root", str(boxes(here / "d"))]
    found = json.loads(CliRunner().invoke(app, [*words, "--dataset-option", "phrase=a {label}", "--json"]).stdout)
    assert (found["ok"], found["data"]["counts"]["usable"]) == (True, 2)
    assert found["versions"]["python"] == sys.version.split()[0]
    assert "uniform on chestxray14, test split" in CliRunner().invoke(app, words).output
    assert CliRunner().invoke(app, ["doctor", "--dataset-option", "seed"]).exit_code == 2
