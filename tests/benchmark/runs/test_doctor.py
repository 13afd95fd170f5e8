"""`gtg-bench doctor`: what would stop a run is an error, and everything else is not."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.runs import doctor
from gtg_bench.benchmark.runs.doctor import Diagnosis, Plan, examine

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, a machine without a GPU and without a limit, and room for everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "NVIDIA", tmp_path / "absent")
    monkeypatch.setattr(doctor, "CONTAINER", ())
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(10**12, 0, 10**12))
    return tmp_path


def states(found: Diagnosis) -> dict[str, str]:
    return {line.name: line.state for line in found.lines}


def text(found: Diagnosis, name: str) -> str:
    return " | ".join(line.text for line in found.lines if line.name == name)


def boxes(root: Path, images: int = 2) -> Path:
    """A ChestX-ray14 folder of two boxes on two images, of which so many are there."""
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    rows = [f"0000000{number}_000.png,Mass,0,0,512,256" for number in (1, 2)]
    root.mkdir()
    (root / "BBox_List_2017.csv").write_text("\n".join((header, *rows)) + "\n")
    for number in range(1, images + 1):
        Image.new("L", (100, 100), 51).save(root / f"0000000{number}_000.png")
    return root


def test_the_main_job_would_run() -> None:
    found = examine(Plan())
    assert found.fine
    assert states(found) == dict.fromkeys(("versions", "samples", "weights", "device", "disk", "memory"), "ok")
    assert text(found, "samples") == "phantom, split test: 367 samples"
    assert text(found, "weights").startswith("cxrbert-ldm: phantom, version ")
    assert found.needs["disk"] == 367 * (doctor.RECORD + 4 * 32 * 32)
    assert 1.2e9 < found.needs["memory"] < 2e9
    assert found.data is None
    assert not list(Path.cwd().iterdir()), "it only looks"


def test_torch_is_left_alone() -> None:
    code = (
        "import sys\n"
        "from gtg_bench.benchmark import doctor\n"
        "doctor.NVIDIA = doctor.Path('absent')\n"
        "assert doctor.examine(doctor.Plan(methods=('cxrbert-ldm', 'class-prior'))).fine\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("plan", "name", "what"),
    [
        (Plan(dataset="fantom"), "data", "unknown data set 'fantom'; did you mean phantom"),
        (Plan(dataset="chestxray14"), "data", "needs --data-root DIR"),
        (Plan(dataset="chestxray14", data_root=Path("nowhere")), "data", "nowhere"),
        (Plan(split="tset"), "data", "no split 'tset'"),
        (Plan(options={"sede": "1"}), "data", "no option 'sede'"),
        (Plan(methods=("cxrbert-lmd",)), "method", "did you mean cxrbert-ldm"),
        (Plan(weights="nowhere"), "weights", "cxrbert-ldm: --weights nowhere: neither 'phantom', 'paper', a folder"),
        (Plan(methods=("clip-ldm-lora",)), "weights", "no phantom weights of clip-ldm-lora are packaged"),
        (Plan(methods=("clip-ldm",), weights="paper"), "weights", "unet is not published"),
    ],
)
def test_what_would_stop_a_run(plan: Plan, name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = examine(plan)
    assert not found.fine
    assert [line.name for line in found.lines if line.state == "error"] == [name]
    assert what in text(found, name)


def test_data_that_can_be_used_in_part(here: Path) -> None:
    found = examine(Plan(("uniform",), dataset="chestxray14", data_root=boxes(here / "d", images=1)))
    assert found.fine
    assert states(found)["data"] == "warning"
    assert text(found, "data").startswith("1 of 2 pairs can be used, 1 problem; the first: ")
    assert "row 3: its image 00000002_000.png was not found" in text(found, "data")
    assert found.data is not None
    assert found.data["counts"]["usable"] == 1


def test_data_that_cannot_be_used(here: Path) -> None:
    root = boxes(here / "d", images=0)
    found = examine(Plan(("uniform",), dataset="chestxray14", data_root=root))
    assert (found.fine, states(found)["data"]) == (False, "error")
    assert "none of its 2 images" in text(found, "data")
    for number in (1, 2):
        (root / f"0000000{number}_000.png").write_text("<html>")
    found = examine(Plan(("uniform",), dataset="chestxray14", data_root=root))
    assert (found.fine, states(found)["data"]) == (False, "error")
    assert text(found, "data").startswith("0 of 2 pairs can be used, 2 problems")


def test_whole_data_and_the_size_of_its_maps(here: Path) -> None:
    found = examine(Plan(("uniform", "center-prior"), dataset="chestxray14", data_root=boxes(here / "d")))
    assert (found.fine, states(found)["data"]) == (True, "ok")
    assert found.needs["disk"] == 2 * (2 * doctor.RECORD + 4 * (100 * 100 + 64 * 64))
    assert found.needs["memory"] == 0.3e9 + 2 * 16 * 4 * 100 * 100


def test_a_prior_without_a_table(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GTG_BENCH_CACHE", str(here / "cache"))
    found = examine(Plan(("class-prior",), dataset="chestxray14", data_root=boxes(here / "d")))
    assert (found.fine, states(found)["weights"]) == (False, "error")
    assert "gtg-bench data priors chestxray14" in text(found, "weights")


@pytest.mark.parametrize(("free", "state"), [(1000, "error"), (2**29, "warning"), (2**31, "ok")])
def test_room_on_the_disk(free: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(2**40, 0, free))
    found = examine(Plan(("uniform",), runs_dir=Path("new/runs")))
    assert states(found)["disk"] == state
    assert "maps and records in new/runs" in text(found, "disk")


def test_a_folder_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    found = examine(Plan(("uniform",)))
    assert not found.fine
    assert "for runs cannot be written to" in text(found, "disk")


@pytest.mark.parametrize(
    ("memory", "state"),
    [((2**40, 2**40), "ok"), ((2**40, 2**20), "warning"), ((2**28, 2**27), "error"), ((None, None), "note")],
)
def test_memory(memory: tuple[int | None, int | None], state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_host_memory", lambda: memory)
    found = examine(Plan())
    assert states(found)["memory"] == state
    assert found.fine == (state != "error")


def test_a_container_has_less_memory_than_its_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = doctor._host_memory()
    for limit, wanted in (("1048576", (2**20, 2**20 - 1000)), ("max", whole), (str(2**62), whole)):
        (here / "max").write_text(limit)
        (here / "now").write_text("1000")
        monkeypatch.setattr(doctor, "CONTAINER", ((str(here / "max"), str(here / "now")),))
        total, free = doctor._host_memory()
        assert total == wanted[0]
        assert free == (wanted[1] if limit == "1048576" else pytest.approx(wanted[1], rel=0.5))


def test_what_a_large_model_needs(here: Path) -> None:
    """Stable Diffusion 1.5: 4 bytes a weight, 16 rows of 64 x 64 x 320, an image of 512 x 512 x 128."""
    parts = []
    for name, config in (
        ("unet", {"sample_size": 64, "block_out_channels": [320, 640, 1280, 1280]}),
        ("vae", {"block_out_channels": [128, 256, 512, 512]}),
    ):
        (here / name).mkdir()
        (here / name / "config.json").write_text(json.dumps(config))
        parts.append({"part": name, "where": str(here / name), "size": 1000})
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "F16", "shape": [500], "data_offsets": [0, 1000]}}).encode()
    (here / "unet" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(1000))
    found = Diagnosis(weights={"cxrbert-ldm": {"parts": parts}})
    entry = METHODS.get("cxrbert-ldm")
    wanted = 2000 + 1000 + 4 * (25 * 16 * 64 * 64 * 320 + 6 * 512 * 512 * 128)
    assert doctor._model_bytes(found, entry) == wanted
    assert doctor._cells(found, entry, []) == 64 * 64
    (here / "unet" / "config.json").write_text("damaged")
    assert doctor._model_bytes(found, entry) < wanted


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
    monkeypatch.setattr(doctor, "requires", lambda name: needs[name])
    found = Diagnosis()
    doctor._versions(found)
    assert [(line.state, line.text) for line in found.lines] == [
        ("warning", "gtg-bench wants old>=2, but 1.9 is installed"),
        ("error", "gone is not installed: pip install 'gone'"),
        ("error", "torchvision wants torch==2.15.0, but 2.14.0+cpu is installed"),
    ]
    assert found.versions["there"] == "2.1+cpu"


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "(OMP_NUM_THREADS=3)" in text(examine(Plan(device="cpu")), "device")
    assert "no NVIDIA driver here" in text(examine(Plan()), "device")
    assert examine(Plan(("uniform",), device="cuda:99")).fine, "a baseline computes on the CPU"
    found = examine(Plan(device="cuda:99"))
    assert not found.fine
    assert text(found, "device").startswith("--device cuda:99 cannot be used here (")


def test_a_gpu(torch: Any, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setattr(doctor, "NVIDIA", here)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 2 * 10**10))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    found = examine(Plan())
    assert text(found, "device").startswith("cuda: a card, CUDA ")
    assert (states(found)["memory"], states(found)["gpu memory"]) == ("ok", "warning")
    assert found.needs["memory"] < 1.3e9 < found.needs["memory"] + found.needs["gpu_memory"]


def test_the_command(here: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--method", "uniform"])
    assert done.exit_code == 0, done.output
    assert "uniform on phantom, test split" in done.output
    done = CliRunner().invoke(app, ["doctor", "-m", "uniform", "-m", "nobody", "--json"])
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert (found["ok"], found["weights"]) == (False, {"uniform": None})
    assert [row["name"] for row in found["checks"] if row["state"] == "error"] == ["method"]
    root = boxes(here / "d")
    words = ["doctor", "-m", "uniform", "--dataset", "chestxray14", "--data-root", str(root), "--json"]
    found = json.loads(CliRunner().invoke(app, [*words, "--dataset-option", "phrase=a {label}"]).stdout)
    assert (found["ok"], found["data"]["counts"]["usable"]) == (True, 2)
    assert found["versions"]["python"] == sys.version.split()[0]
    assert CliRunner().invoke(app, ["doctor", "--dataset-option", "seed"]).exit_code == 2
