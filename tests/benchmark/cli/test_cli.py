"""The command line as users type it: real processes, exit codes, one-line errors, a real kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.registry import MethodEntry
from gtg_bench.benchmark.cli import app

MAIN = [sys.executable, "-m", "gtg_bench"]
PLUGIN = Path(__file__).parents[2] / "example_plugin" / "src" / "bright_spot.py"
SHARED = Path(__file__).parents[4] / "shared" / "data"


def call(*arguments: object, cwd: Path, code: int = 0, columns: int = 200, **environment: str) -> str:
    """Run gtg-bench in a folder; its output, both streams."""
    done = subprocess.run(
        [*MAIN, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": str(columns), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def refused(*arguments: object) -> str:
    """The one line that gtg-bench prints in this process when it refuses its arguments."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert (done.exit_code, len(done.output.strip().splitlines())) == (2, 1), done.output
    return done.output


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--method cxrbert-lmd", "'cxrbert-lmd'; did you mean cxrbert-ldm"),
        ("--method uniform --dataset fantom", "'fantom'; did you mean phantom"),
        ("--method uniform --dataset chestxray14", "chestxray14 needs --data-root"),
        ("--method uniform --dataset chestxray14 --data-root nowhere", "nowhere is"),
        ("--method uniform --split tset", "'tset'"),
        ("--method uniform --dataset-option seed", "KEY=VALUE"),
        ("--method uniform --dataset-option sede=3", "'sede'"),
        ("--method uniform --plugin none.py", "none.py"),
        ("--method cxrbert-ldm --layers 8y8", "16x16,8x8"),
        ("--method cxrbert-ldm --steps 0", "--steps"),
        ("--method clip-ldm --weights no.yaml", "no.yaml"),
        ("--method cxrbert-ldm --weights nowhere", "nowhere"),
        ("--method cxrbert-ldm --device cuda:99 --limit 1", "--device cuda:99"),
    ],
)
def test_an_invalid_word_is_one_line_and_code_2(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused("run", *words.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["hpu", "meta", "xla", "cpu:3", "cuda:9", "cuda:x", "gpu", ""])
@pytest.mark.parametrize("command", ["run", "bench", "ground"])
def test_a_device_that_cannot_be_used_is_refused_before_anything_is_loaded(
    command: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MethodEntry, "built", lambda *_: pytest.fail("a model is loaded"))
    words = [command, "--method", "cxrbert-ldm", "--device", device]
    if command == "ground":
        Image.new("L", (64, 64)).save(tmp_path / "cxr.png")
        words += ["cxr.png", "edema"]
    assert f"--device {device}" in refused(*words).replace("'", "")


def test_errors_of_a_process_are_code_2(tmp_path: Path) -> None:
    call("run", "--method", "uniform", "--sampling", "gt", cwd=tmp_path, code=2)
    assert call("run", "--method", "unheard-of", cwd=tmp_path, code=2).count("\n") == 1


def test_list_is_one_screen_of_names_and_summaries(tmp_path: Path) -> None:
    lines = call("list", cwd=tmp_path, columns=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 75
    shown = [line.split()[0] for line in lines]
    found = json.loads(call("list", "--json", cwd=tmp_path))
    assert set(found) == {"methods", "datasets", "samplings", "metrics", "protocols"}
    for kind, rows in found.items():
        assert {row["name"] for row in rows} <= set(shown), kind
    assert [row["name"] for row in found["samplings"]] == ["text", "cfg", "gt1-cfg", "gt-cfg"]
    metrics = {row["name"]: row for row in found["metrics"]}
    assert (metrics["auroc"]["best"], metrics["distance"]["best"]) == ("highest", "lowest")
    assert metrics["gcnr"]["protocols"] == "strict"
    assert [row["name"] for row in found["protocols"]] == [
        *("gtg", "gtg-released", "biovil", "chexlocalize", "strict", "boxes", "threshold-sweep"),
    ]
    assert "licence" in call("list", "methods", "--cards", cwd=tmp_path)
    assert "--cards" in refused("list", "metrics", "--cards")
    text = " ".join(call("list", "protocols", cwd=tmp_path).split())
    assert all(row["columns"] in text for row in found["protocols"])


@pytest.mark.slow
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path) -> None:
    words = ["run", "--method", "class-prior", "--limit", "40", "--batch-size", "1"]
    call(*words, "--leaderboards-dir", "whole", "--runs-dir", "whole-runs", cwd=tmp_path)
    process = subprocess.Popen([*MAIN, *words], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [n for path in tmp_path.glob("runs/*/*/*/samples.jsonl") for n in path.read_text().splitlines()]
        if len(lines) >= 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= len(lines) < 40
    assert "of 40" in call(*words, cwd=tmp_path)
    for name in ("phantom.csv", "phantom.by_category.csv"):
        assert (tmp_path / "leaderboards" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_the_main_job_on_a_few_samples(tmp_path: Path) -> None:
    words = ["run", "--method", "cxrbert-ldm", "--sampling", "gt-cfg", "--limit", "8"]
    call(*words, "--method", "class-prior", cwd=tmp_path)
    call(*words, "--batch-size", "5", "--runs-dir", "b", "--leaderboards-dir", "b", cwd=tmp_path)
    rows = {row["method"]: row for row in read(tmp_path / "leaderboards" / "phantom.csv")}
    (other,) = read(tmp_path / "b" / "phantom.csv")
    assert other["run_key"] == rows["cxrbert-ldm"]["run_key"]
    for name in ("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination"):
        assert float(other[name]) == pytest.approx(float(rows["cxrbert-ldm"][name]), abs=1e-4)
    for name in ("top1", "miou"):
        assert float(rows["cxrbert-ldm"][name]) > float(rows["class-prior"][name])
    assert rows["class-prior"]["sampling"] == ""
    assert rows["cxrbert-ldm"]["weights"] == "phantom-varied"
    for again in ([*words, "--protocol", "strict", "--smooth", "0"], [*words, "--control", "image-swap"]):
        rescored_without_torch(tmp_path, *again)
    rescored_without_torch(tmp_path, "score", "cxrbert-ldm", "--protocol", "biovil")


def rescored_without_torch(folder: Path, *words: str) -> None:
    """The maps are stored: no model is loaded, torch is not even imported."""
    guard = (
        "import sys; from typer.testing import CliRunner; from gtg_bench.benchmark.cli import app\n"
        f"done = CliRunner().invoke(app, {list(words)!r})\n"
        "assert done.exit_code == 0, done.output\n"
        "assert '8 stored maps' in ' '.join(done.output.split()), done.output\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", guard], check=True, cwd=folder)


def test_ground_takes_any_picture_and_writes_map_and_overlay(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65535, (90, 120), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "cxr.png")
    words = ["ground", "cxr.png", "small left effusion", "--out", "o.png", "--save-map", "m.npy", "--steps", "2"]
    assert "not a diagnostic tool" in call(*words, cwd=tmp_path)
    heat = np.load(tmp_path / "m.npy")
    assert (heat.shape, heat.dtype) == ((90, 120), np.float32)
    assert np.isnan(heat[:, :14]).all()
    assert np.isfinite(heat[:, 16:104]).all()
    assert Image.open(tmp_path / "o.png").size[0] > 300


def test_ground_names_invalid_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.png").write_text("<html>404</html>")
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    for words, message in (
        (["page.png", "x"], "page.png"),
        (["absent.png", "x"], "absent.png"),
        (["a.png", " "], "phrase"),
        (["a.png", "x", "--out", "o.txt"], "--out o.txt"),
    ):
        assert message in refused("ground", *words)


def test_data_show_draws_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "-m", "class-prior", "--limit", "4"]
    for more in ([], ["--control", "phrase-swap"]):
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 0
    show = ["data", "show", "--run", "class-prior", "--run", "class-prior:control=phrase-swap"]
    words = [*show, "--title", "plain", "--title", "swapped", "--limit", "2", "--order", "worst", "--contour", "0.5"]
    done = CliRunner().invoke(app, [*words, "--out", "a.svg", "--out", "a.png", "--dpi", "50", "--cmap", "jet"])
    assert done.exit_code == 0, done.output
    assert done.output.split("--ids ")[1].count(",") == 1
    text = Path("a.svg").read_text(encoding="utf-8")
    assert all(part in text for part in (">plain</text>", ">swapped</text>", ">given: ", ">CNR "))
    assert Image.open("a.png").info["dpi"][0] == pytest.approx(50, abs=0.1)
    folder = next(path for path in Path("runs/phantom/class-prior").iterdir() if not path.name.startswith("."))
    assert CliRunner().invoke(app, ["data", "show", "--run", str(folder), "--out", "b.jpg"]).exit_code == 0
    for more, message in (
        (["--columns", "2"], "--columns"),
        (["--split", "test"], "--split"),
        (["--title", "one"], "titles"),
        (["--metric", "gcnr"], "gcnr"),
        (["--ids", "nobody"], "nobody"),
        (["--category", "Pneumothorx"], "Pneumothorax"),
        (["--cmap", "jett"], "jet"),
        (["--contour", "2"], "contour"),
        (["--out", "a.bmp"], "a.bmp"),
    ):
        assert message in refused(*show, *more)
    for more, message in ((["--order", "best"], "order"), (["--metric", "cnr"], "--run"), (["phantom2"], "phantom")):
        assert message in refused("data", "show", *more)


def test_a_plugin_file_gets_its_row_and_code_1_if_every_sample_fails(tmp_path: Path) -> None:
    register = "from gtg_bench.benchmark.api import register_method\n"
    spot = PLUGIN.read_text().replace("class BrightSpot", "@register_method('bright-spot')\nclass BrightSpot")
    broken = spot.replace("bright-spot", "broken").replace("return", "raise RuntimeError('no model')\n        return")
    for name, source in (("spot.py", spot), ("broken.py", broken)):
        (tmp_path / name).write_text(register + source)
    call("run", "--method", "bright-spot", "--plugin", "spot.py", "--limit", "3", cwd=tmp_path)
    assert read(tmp_path / "leaderboards" / "phantom.csv")[0]["method"] == "bright-spot"
    words = ["run", "--method", "broken", "--plugin", "broken.py", "--limit", "3"]
    assert "3 of 3 samples failed" in call(*words, cwd=tmp_path, code=1)


@pytest.mark.slow
def test_an_installed_package_gets_its_row(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(PLUGIN.parents[1]), str(source)], check=True)
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(source)], check=True)
    site = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    assert "bright-spot" in call("list", "methods", cwd=tmp_path, PYTHONPATH=site)
    call("run", "--method", "bright-spot", "--limit", "5", cwd=tmp_path, PYTHONPATH=site)


def test_invalid_rows_fail_with_file_and_row_and_the_rest_continues(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ac":
        Image.new("L", (64, 64)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "b.png").write_text("<html>")
    rows = ["a.png,Mass,1000,2,100,100", "b.png,Mass,10,2,100,100", "c.png,Mass,10,20,300,300"]
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    (tmp_path / "BBox_List_2017.csv").write_text("\n".join([header, *(f"{row},,," for row in rows)]))
    words = ["run", "--method", "center-prior", "--dataset", "chestxray14", "--data-root", tmp_path]
    text = call(*words, cwd=tmp_path)
    for part in ("2 of 3 samples failed", "BBox_List_2017.csv, row 2", "b.png"):
        assert part in text
    row = read(tmp_path / "leaderboards" / "chestxray14.csv")[0]
    assert (row["n_ok"], row["n_failed"]) == ("1", "2")


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "nih64").is_dir(), reason="the real radiographs are not beside this clone")
def test_real_radiographs_are_scored(tmp_path: Path) -> None:
    words = ["--dataset", "chestxray14", "--data-root", SHARED / "nih64", "--steps", "2"]
    call("run", "--method", "cxrbert-ldm", "--method", "uniform", *words, cwd=tmp_path)
    rows = read(tmp_path / "leaderboards" / "chestxray14.csv")
    assert [(row["n_total"], row["n_ok"]) for row in rows] == [("9", "9"), ("9", "9")]
    dicom = sorted((SHARED / "cxr_samples").glob("*.dcm"))[0]
    call("ground", dicom, "right pneumothorax", "--steps", "2", "--out", "dicom.png", cwd=tmp_path)
    assert "no prior table" in call("run", "--method", "class-prior", *words[:4], cwd=tmp_path, code=2)


def test_a_method_that_cannot_run_is_left_out_and_named(tmp_path: Path) -> None:
    """One lacks weights, one fails when it is built; what the others computed is kept and shown."""
    head = "from gtg_bench import register_method\n@register_method('unbuilt')\n"
    (tmp_path / "unbuilt.py").write_text(head + "def make(settings):\n    raise RuntimeError('no licence')\n")
    words = ["run", "-m", "biovil-t", "-m", "uniform", "-m", "unbuilt", "-m", "center-prior", "--limit", "3"]
    text = call(*words, "--plugin", "unbuilt.py", cwd=tmp_path, code=1)
    assert text.splitlines()[-1] == "failed: biovil-t (left out), unbuilt (left out)"
    assert "/unbuilt.py, line 4)" in text
    assert {row["method"] for row in read(tmp_path / "leaderboards" / "phantom.csv")} == {"uniform", "center-prior"}
    assert "biovil-t" in refused("run", "-m", "biovil-t", "-m", "biovil-t", "--limit", "3")
    assert "did you mean" in refused("run", "-m", "uniform", "-m", "center-priro")


INTERRUPTED = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from gtg_bench.__main__ import main
main()
"""


def test_an_interrupt_during_imports_has_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("device", ["hpu", "meta", "cpu:3", "cuda:x"])
def test_an_unknown_device_is_refused_for_priors_too(device: str) -> None:
    assert device in refused("run", "--method", "class-prior", "--device", device)
