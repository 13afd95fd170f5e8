"""The command line as a user types it: real processes, exit codes, one-line errors, a real kill."""

from __future__ import annotations

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

MAIN = "from gtg_bench.benchmark.cli import app; app()"
PLUGIN = Path(__file__).parents[2] / "example_plugin" / "src" / "bright_spot.py"
SHARED = Path(__file__).parents[4] / "shared" / "data"


def call(*arguments: object, cwd: Path, code: int = 0, **environment: str) -> str:
    """Run gtg-bench in a folder; its output, both streams."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "cxrbert-lmd"], "unknown method 'cxrbert-lmd'; did you mean cxrbert-ldm"),
        (["--method", "uniform", "--dataset", "fantom"], "unknown data set 'fantom'; did you mean phantom"),
        (["--method", "uniform", "--dataset", "chestxray14"], "chestxray14 needs --data-root DIR"),
        (["--method", "uniform", "--dataset", "chestxray14", "--data-root", "nowhere"], "nowhere is not a folder"),
        (["--method", "uniform", "--split", "tset"], "no split 'tset'"),
        (["--method", "uniform", "--dataset-option", "seed"], "is not KEY=VALUE"),
        (["--method", "uniform", "--dataset-option", "sede=3"], "no option 'sede'"),
        (["--method", "uniform", "--plugin", "none.py"], "plug-in none.py cannot be read"),
        (["--method", "cxrbert-ldm", "--layers", "8y8"], "nor resolutions such as 16x16,8x8"),
        (["--method", "cxrbert-ldm", "--steps", "0"], "--steps must lie between 1 and 999"),
        (["--method", "clip-ldm", "--weights", "no.yaml"], "--weights no.yaml"),
        (["--method", "cxrbert-ldm", "--weights", "nowhere"], "--weights nowhere"),
        (["--method", "cxrbert-ldm", "--device", "cuda:99", "--limit", "1"], "--device cuda:99 cannot be used here"),
    ],
)
def test_a_wrong_word_is_one_line_and_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    text = call("run", *arguments, cwd=tmp_path, code=2)
    assert message in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "leaderboards").exists()


def test_an_option_that_typer_refuses_is_code_2(tmp_path: Path) -> None:
    call("run", "--method", "uniform", "--sampling", "gt", cwd=tmp_path, code=2)


def test_help_and_list_import_no_torch(tmp_path: Path) -> None:
    guard = (
        "import sys; from typer.testing import CliRunner; from gtg_bench.benchmark.cli import app\n"
        "for words in (['--help'], ['list'], ['list', 'methods', '--json'], ['run', '--help'], ['score', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        "assert not {'torch', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", guard], check=True, cwd=tmp_path)


def test_list_as_json(tmp_path: Path) -> None:
    found = json.loads(call("list", "--json", cwd=tmp_path))
    assert {"cxrbert-ldm", "clip-ldm", "phrase-prior"} <= {row["name"] for row in found["methods"]}
    assert [row["name"] for row in found["samplings"]] == ["text", "cfg", "gt1-cfg", "gt-cfg"]
    metrics = {row["name"]: row for row in json.loads(call("list", "metrics", "--json", cwd=tmp_path))}
    assert (metrics["auroc"]["best"], metrics["distance"]["best"]) == ("highest", "lowest")
    assert metrics["gcnr"]["protocols"] == "strict"
    protocols = {row["name"]: row for row in found["protocols"]}
    assert list(protocols) == ["gtg", "gtg-released", "biovil", "chexlocalize", "strict"]
    assert protocols["chexlocalize"]["columns"] == "iou top1"
    text = call("list", "protocols", cwd=tmp_path)
    assert all(row["columns"] in " ".join(text.split()) for row in protocols.values())


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    words = ["run", "--method", "class-prior", "--limit", "40", "--batch-size", "1"]
    call(*words, "--leaderboards-dir", "whole", "--runs-dir", "whole-runs", cwd=tmp_path)
    process = subprocess.Popen([sys.executable, "-c", MAIN, *words], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [n for path in tmp_path.glob("runs/*/*/*/samples.jsonl") for n in path.read_text().splitlines()]
        if len(lines) >= 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= len(lines) < 40
    assert "were already scored" in call(*words, cwd=tmp_path)
    for name in ("phantom.csv", "phantom.by_category.csv"):
        assert (tmp_path / "leaderboards" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_main_job_on_a_few_samples(tmp_path: Path) -> None:
    words = ["run", "--method", "cxrbert-ldm", "--sampling", "gt-cfg", "--limit", "12"]
    text = call(*words, cwd=tmp_path)
    assert "not a diagnostic tool" in text
    call(*words, "--batch-size", "5", "--runs-dir", "b", "--leaderboards-dir", "b", cwd=tmp_path)
    call("run", "--method", "class-prior", "--limit", "12", cwd=tmp_path)
    rows = {row["method"]: row for row in read(tmp_path / "leaderboards" / "phantom.csv")}
    other = read(tmp_path / "b" / "phantom.csv")[0]
    assert other["run_key"] == rows["cxrbert-ldm"]["run_key"]
    for name in ("miou", "iou", "cnr", "top1", "auroc", "phrase_discrimination"):
        assert float(other[name]) == pytest.approx(float(rows["cxrbert-ldm"][name]), abs=1e-4)
    assert float(rows["cxrbert-ldm"]["auroc"]) > float(rows["class-prior"]["auroc"])
    assert rows["class-prior"]["sampling"] == ""
    assert rows["cxrbert-ldm"]["weights"] == "phantom"
    again_without_torch(tmp_path, *words, "--protocol", "strict")
    again_without_torch(tmp_path, *words, "--control", "image-swap")
    again_without_torch(tmp_path, "score", "cxrbert-ldm", "--protocol", "biovil")
    assert {row["n_ok"] for row in read(tmp_path / "leaderboards" / "phantom.strict.csv")} == {"12"}


def again_without_torch(folder: Path, *words: str) -> None:
    """The maps are stored: no model is loaded, torch is not even imported."""
    guard = (
        "import sys; from typer.testing import CliRunner; from gtg_bench.benchmark.cli import app\n"
        f"done = CliRunner().invoke(app, {list(words)!r})\n"
        "assert done.exit_code == 0, done.output\n"
        "assert '12 stored maps' in ' '.join(done.output.split()), done.output\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", guard], check=True, cwd=folder)


def read(path: Path) -> list[dict[str, str]]:
    import csv

    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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


def test_ground_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>404</html>")
    assert "page.png" in call("ground", "page.png", "x", cwd=tmp_path, code=2)
    assert "absent.png" in call("ground", "absent.png", "x", cwd=tmp_path, code=2)
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    assert "phrase is empty" in call("ground", "a.png", " ", cwd=tmp_path, code=2)
    assert "--out o.txt" in call("ground", "a.png", "x", "--out", "o.txt", cwd=tmp_path, code=2)


def test_a_plugin_file_gets_its_row(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from gtg_bench.benchmark.api import register_method\n"
        + PLUGIN.read_text().replace("class BrightSpot", "@register_method('bright-spot')\nclass BrightSpot")
    )
    call("run", "--method", "bright-spot", "--plugin", plugin, "--limit", "5", cwd=tmp_path)
    assert read(tmp_path / "leaderboards" / "phantom.csv")[0]["method"] == "bright-spot"


def test_an_installed_package_gets_its_row(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(PLUGIN.parents[1]), str(source)], check=True)
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(source)], check=True)
    site = {"PYTHONPATH": str(tmp_path / "site")}
    assert "bright-spot" in call("list", "methods", cwd=tmp_path, **site)
    call("run", "--method", "bright-spot", "--limit", "5", cwd=tmp_path, **site)


def test_all_samples_failed_is_code_1(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from gtg_bench.benchmark.api import register_method\n"
        "@register_method('broken')\n"
        "class Broken:\n"
        "    def __init__(self, settings): pass\n"
        "    def ground(self, image, text): raise RuntimeError('no model')\n"
    )
    words = ["run", "--method", "broken", "--plugin", plugin, "--limit", "3"]
    assert "3 of 3 samples failed" in call(*words, cwd=tmp_path, code=1)


def test_bad_rows_fail_with_file_and_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ac":
        Image.new("L", (64, 64)).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "b.png").write_text("<html>")
    rows = ["a.png,Mass,1000,2,100,100", "b.png,Mass,10,2,100,100", "c.png,Mass,10,20,300,300"]
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    (tmp_path / "BBox_List_2017.csv").write_text("\n".join([header, *(f"{row},,," for row in rows)]))
    words = ["run", "--method", "center-prior", "--dataset", "chestxray14", "--data-root", tmp_path]
    text = call(*words, cwd=tmp_path)
    assert "2 of 3 samples failed" in text
    assert "BBox_List_2017.csv, row 2" in text
    assert "b.png" in text
    row = read(tmp_path / "leaderboards" / "chestxray14.csv")[0]
    assert (row["n_ok"], row["n_failed"]) == ("1", "2")


@pytest.mark.skipif(not (SHARED / "nih64").is_dir(), reason="the real radiographs are not beside this clone")
def test_real_radiographs_are_scored(tmp_path: Path) -> None:
    words = ["--dataset", "chestxray14", "--data-root", SHARED / "nih64", "--steps", "2"]
    call("run", "--method", "cxrbert-ldm", "--method", "uniform", *words, cwd=tmp_path)
    rows = read(tmp_path / "leaderboards" / "chestxray14.csv")
    assert [(row["n_total"], row["n_ok"]) for row in rows] == [("9", "9"), ("9", "9")]
    dicom = sorted((SHARED / "cxr_samples").glob("*.dcm"))[0]
    call("ground", dicom, "right pneumothorax", "--steps", "2", "--out", "dicom.png", cwd=tmp_path)
    assert "no prior table" in call("run", "--method", "class-prior", *words[:4], cwd=tmp_path, code=2)
