"""Folders of generated images: what is planned, refused, resumed and shared, and how they are read back."""

from __future__ import annotations

import csv
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.api.registry import METHODS, register_method
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.runs.generated import INDEX, read_generated, read_generation
from gtg_bench.methods.ldm import ldm_entry
from gtg_bench.training.generation.generate import Generated, generate
from gtg_bench.training.generation.images import ImageGenerator
from gtg_bench.training.generation.plan import GenerationRequest, plan, read_phrases

pytestmark = pytest.mark.usefixtures("torch")

Ask = Callable[..., GenerationRequest]


@pytest.fixture
def ask(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """A request of three phantom samples, two tiny images each, in `tmp_path / out`."""
    monkeypatch.setattr(METHODS, "_registered", {"tiny-ldm": ldm_entry("tiny-ldm", "a test")})

    def make(out: str = "out", **options: Any) -> GenerationRequest:
        usual = {"weights": str(folder), "steps": 2, "limit": 3, "per_phrase": 2, "batch_size": 2}
        return GenerationRequest("tiny-ldm", tmp_path / out, **(usual | options))

    return make


def run(request: GenerationRequest) -> Generated:
    return generate(request, plan(request), lambda done, total: None)


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("0*.png"))}


# Plans


def test_a_seed_is_a_hash_of_seed_sample_and_copy(ask: Ask) -> None:
    images = plan(ask()).images
    assert [(one.file, one.copy) for one in images[:3]] == [
        ("00000-00.png", 0), ("00000-01.png", 1), ("00001-00.png", 0)
    ]  # fmt: skip
    for one in images:
        parts = "\x1f".join(("generation", "4200", one.sample_id, str(one.copy)))
        assert one.seed == int(hashlib.sha256(parts.encode()).hexdigest()[:16], 16) >> 1
    assert [one.seed for one in plan(ask(limit=2)).images] == [one.seed for one in images[:4]]


def test_the_key_covers_what_changes_an_image_and_nothing_else(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("edema\n")
    key = plan(ask()).manifest["key"]
    same = ({"out": "b"}, {"batch_size": 5}, {"device": "cpu"}, {"shard": (1, 2)}, {"guidance": 4})
    assert {plan(ask(**changes)).manifest["key"] for changes in same} == {key}
    others: tuple[dict[str, Any], ...] = (
        {}, {"steps": 3}, {"guidance": 4.5}, {"seed": 1}, {"limit": 2}, {"per_phrase": 3},
        {"precision": "float16"}, {"phrases": tmp_path / "p.txt"},
    )  # fmt: skip
    assert len({plan(ask(**changes)).manifest["key"] for changes in others}) == len(others)


@pytest.mark.parametrize(
    ("name", "text", "expected", "repeated"),
    [
        ("p.txt", '\ufeff edema \n\n=1+1\nedema\nöde, "x"', ["edema", "=1+1", 'öde, "x"'], 1),
        ("p.csv", "category,phrase\nEdema,edema\nEdema,edema\nB,'=1+1\n,\n", ["edema", "=1+1"], 1),
        ("s.csv", "sample_id,phrase\na,edema\nb,edema\n", ["edema", "edema"], 0),
    ],
)
def test_phrases_of_a_file(tmp_path: Path, name: str, text: str, expected: list[str], repeated: int) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_phrases(tmp_path / name)
    assert ([one.phrase for one in found[0]], found[1]) == (expected, repeated)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"edema\n\xff\xfe\n", "row 2.*UTF-8"), (b" \n\n", "no phrase"), (None, "not found"), (b"<html>", "web page")],
)
def test_phrases_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "p.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_phrases(path)


def test_methods_that_cannot_generate_are_refused(ask: Ask, tmp_path: Path) -> None:
    for name in ("biovil", "class-prior", "uniform"):
        with pytest.raises(UsageError, match=r"cannot generate.*tiny-ldm"):
            plan(replace(ask(), method=name, weights=None))

    @register_method("plain")
    class Plain:
        """A plug-in."""

        def __init__(self, settings: Any) -> None: ...
        def ground(self, image: Any, text: str) -> Any: ...

    with pytest.raises(UsageError, match="components"):
        run(replace(ask(), method="plain", weights=None))
    assert not ask().out.exists()


def test_a_plugin_with_components_generates(ask: Ask, components: Any) -> None:
    @register_method("own")
    class Own:
        """A plug-in."""

        def __init__(self, settings: Any) -> None:
            self.components = components

        def ground(self, image: Any, text: str) -> Any: ...

    assert run(ask()).made == run(replace(ask("own"), method="own", weights=None)).made == 6
    assert pixels(ask().out) == pixels(ask("own").out)


# Folders


def test_a_folder_is_complete_and_read_back(ask: Ask) -> None:
    request = ask()
    assert (run(request).made, run(request)) == (6, Generated(0, 0, pytest.approx(0, abs=1)))
    planned, found = plan(request), read_generated(request.out)
    assert found == planned.images
    facts = read_generation(request.out)
    assert (facts["key"], facts["images"], facts["split"]) == (planned.manifest["key"], 6, "test")
    with Image.open(request.out / found[0].file) as image:
        assert (image.mode, image.size) == ("L", (16, 16))
        assert found[0].phrase in image.info["Description"]
    with Image.open(request.out / "sheet.png") as sheet:
        assert sheet.width > 600


def test_any_split_into_processes_and_batches_gives_the_same_bytes(ask: Ask) -> None:
    run(ask())
    for index in (2, 0, 1):
        done = run(ask("shared", shard=(index, 3)))
        assert (done.made, done.missing) == (2, {2: 4, 0: 2, 1: 0}[index])
        assert len(read_generated(ask("shared").out)) == 6 - done.missing
    assert pixels(ask().out) == pixels(ask("shared").out)
    assert (ask().out / INDEX).read_bytes() == (ask("shared").out / INDEX).read_bytes()
    assert not list(ask().out.glob(".*.part*"))


def test_an_interrupted_folder_is_resumed(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is missing is made, a damaged index is written again, and the parts of killed writers are removed."""
    run(ask("whole"))
    original, calls = ImageGenerator.__call__, []

    def dying(self: Any, phrases: Any, seeds: Any) -> Any:
        calls.append(len(phrases))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, phrases, seeds)

    monkeypatch.setattr(ImageGenerator, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        run(ask())
    assert [one.file for one in read_generated(ask().out)] == ["00000-00.png", "00000-01.png"]
    (ask().out / INDEX).write_text('file,phrase\n00000-00.png,"torn')
    (ask().out / f".{'0' * 32}.part.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=INDEX):
        read_generated(ask().out)
    assert run(ask()).made == 4
    assert {path.name: path.read_bytes() for path in ask().out.iterdir() if not path.name.startswith(".")} == {
        path.name: path.read_bytes() for path in ask("whole").out.iterdir() if not path.name.startswith(".")
    }
    assert not list(ask().out.glob(".*.part*"))


def test_a_folder_of_other_images_or_files_is_refused(ask: Ask, tmp_path: Path) -> None:
    run(ask())
    before = pixels(ask().out)
    for changes, message in (({"steps": 3}, "steps 2, not 3"), ({"seed": 1}, "seed 4200, not 1")):
        with pytest.raises(DataError, match=message):
            run(ask(**changes))
    assert pixels(ask().out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cat.png").touch()
    with pytest.raises(DataError, match=r"cat\.png"):
        run(ask("mine"))
    with pytest.raises(OSError, match="cannot be written"):
        run(ask("mine/cat.png"))
    (ask().out / "generation.json").write_text('{"key": 3')
    with pytest.raises(DataError, match=r"generation\.json is damaged"):
        run(ask())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("file,phrase\n../secret.png,x\n", "not inside"),
        ("file,phrase\n0.png,x\n1.png,x\n", "row 3.*1.png"),
        ("file,phrase\n0.png,x\n0.png,y\n", "row 3.*second"),
        ("file,phrase\n,x\n", "row 2.*no file"),
        ("file,phrase,seed\n0.png,x,1.5\n", "row 2.*seed"),
        ("file\n0.png\n", "phrase"),
        ("", "empty"),
        ("file,phrase\n", "no image"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, index: str, message: str) -> None:
    (tmp_path / "secret.png").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "0.png").touch()
    (tmp_path / "d" / INDEX).write_text(index)
    with pytest.raises(DataError, match=message):
        read_generated(tmp_path / "d")


def test_phrases_that_look_like_formulas_survive_the_index(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text('=HYPERLINK("x")\n[red]\x1b[31m $x_1$ ö\n', encoding="utf-8")
    request = ask(phrases=tmp_path / "p.txt")
    run(request)
    with (request.out / INDEX).open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["phrase"].startswith("'=")
    assert [one.phrase for one in read_generated(request.out)] == [one.phrase for one in plan(request).images]


# The command


def test_the_command_says_what_it_made(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask()
    words = ["generate", "-m", "tiny-ldm", "--weights", request.weights, "--steps", "2", "--limit", "1"]
    words += ["--per-phrase", "2", "--out", str(request.out)]
    done = CliRunner().invoke(app, [*words, "--shard", "2/2"])
    assert done.exit_code == 0, done.output
    assert "1 of 2" in done.output
    assert [one.copy for one in read_generated(request.out)] == [1]
    done = CliRunner().invoke(app, [*words, "--shard", "1/2"])
    assert "sheet.png" in done.output
    for wrong in (
        "--shard 3/2",
        "--shard x",
        "--guidance nan",
        "--phrases p --split train",
        "--device gpu",
        "--steps 0",
    ):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "new"), *wrong.split()])
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1), done.output
        assert wrong.split()[0] in done.output
    assert not (tmp_path / "new").exists()


def in_a_launch(request: GenerationRequest, rank: int, port: int) -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # an earlier test's, which the fork would inherit
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in place.items()})
    done = run(request)
    assert (done.made, done.missing) == (5, 0)  # of both


def test_killed_processes_end_like_one_that_was_not(ask: Ask, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    """One of two processes is killed after its first image; then both run at once, as in a launch."""
    run(ask("one", batch_size=1))
    start, original = get_context("fork").Process, ImageGenerator.__call__
    first = ask("two", batch_size=1, shard=(0, 2))
    with monkeypatch.context() as patched:

        def stuck(self: Any, phrases: Any, seeds: Any) -> Any:
            if list(first.out.glob("0*.png")):
                time.sleep(600)
            return original(self, phrases, seeds)

        patched.setattr(ImageGenerator, "__call__", stuck)
        process = start(target=run, args=(first,))
        process.start()
    while not list(first.out.glob("0*.png")) and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert len(pixels(first.out)) == 1
    with pytest.raises(DataError, match="no image"):
        read_generated(first.out)
    both = [start(target=in_a_launch, args=(replace(first, shard=None), rank, free_port)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert pixels(ask("one").out) == pixels(first.out)
    assert (ask("one").out / INDEX).read_bytes() == (first.out / INDEX).read_bytes()
