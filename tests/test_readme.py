"""What the README files show is executed, word for word: shell, Python and plug-in, and the main job's output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from gtg_bench.benchmark.api.registry import METHODS
from gtg_bench.benchmark.cli import app
from gtg_bench.benchmark.datasets import load_dataset

ROOT = Path(__file__).parents[1]
TOP = ROOT / "README.md"
READMES = [TOP, *(ROOT / folder / "README.md" for folder in ("benchmark", "methods", "training", "leaderboards"))]
ELSEWHERE = ("make", "pip", "hf", "accelerate", "torchrun", "export", "cd", "python", "git")
"""Commands that are not run here: they install, need a network or start processes; other tests cover them."""

PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]{2,}\b|MIMIC-CXR-JPG")
"""DIR, FILE, KEY ...: the reader fills it in, so the command is parsed but not run."""


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a file: language and text."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.M | re.S):
        yield match[1], match[2]


def commands(path: Path) -> Iterator[list[str]]:
    """The commands of its shell blocks, as words."""
    for language, text in blocks(path):
        if language == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield words


def parse(words: list[str]) -> None:
    """Fail unless every option and subcommand exists."""
    command, context, rest = typer.main.get_command(app), None, words
    while True:
        name, *arguments = rest if context else ("gtg-bench", *rest)
        if hasattr(command, "commands") and context is None:
            context = command.make_context(name, list(arguments), resilient_parsing=True)
            rest = arguments
            continue
        inner = command.commands.get(name) if hasattr(command, "commands") else None
        if inner is None:
            raise AssertionError(f"no command {name!r} in {' '.join(words)}")
        if not hasattr(inner, "commands"):
            inner.make_context(name, list(arguments))
            return
        command, rest = inner, arguments


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `cxr.png`, a terminal of 80 columns, and no registered plug-in."""
    phantom = load_dataset("phantom")
    pixels = (255 * phantom.image(phantom.samples("test")[0])).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cxr.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(METHODS, "_registered", {})
    return tmp_path


def run(words: list[str]) -> str:
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}\n{done.exception!r}"
    return done.output


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_every_command_that_is_shown_exists(path: Path) -> None:
    found = list(commands(path))
    assert found
    for words in found:
        if words[0] == "gtg-bench":
            parse(words[1:])
        else:
            assert words[0] in ELSEWHERE, words


MAIN_JOB = shlex.split("gtg-bench run --method cxrbert-ldm --sampling gt-cfg")


@pytest.mark.slow
@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_what_is_shown_runs(path: Path, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plug-in files first, then Python and shell in the order of the text; the main job prints what is shown."""
    monkeypatch.syspath_prepend(inside)
    code = [text for language, text in blocks(path) if language == "python"]
    for text in code:
        if name := re.match(r"# (\w+\.py)\n", text):
            (inside / name[1]).write_text(text, encoding="utf-8")
    names: dict[str, Any] = {}
    for text in code:
        if not re.match(r"# \w+\.py\n", text):
            exec(compile(text, str(path), "exec"), names)
    for words in commands(path):
        if words[0] == "gtg-bench" and not any(PLACEHOLDER.search(word) for word in words):
            METHODS._registered.clear()
            printed = run(words)
            if words == MAIN_JOB:
                check_main_job(printed)


def check_main_job(printed: str) -> None:
    """The output is the README's: the same words, numbers up to rounding, at most 15 lines of 80 columns."""
    shown = next(text for language, text in blocks(TOP) if language == "text").strip().splitlines()
    lines = [line.rstrip() for line in printed.splitlines()]
    table = [line for line in lines[lines.index(shown[0]) :] if line]
    assert len(table) <= 15
    assert max(map(len, table)) <= 80
    for ours, theirs in zip(table, shown, strict=True):
        assert re.sub(r"\d*\.\d+", "#", ours).split() == re.sub(r"\d*\.\d+", "#", theirs).split()
        assert numbers(ours) == pytest.approx(numbers(theirs), abs=0.002)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.\d+", text)]


def test_the_readme_is_short() -> None:
    assert len(TOP.read_text(encoding="utf-8").splitlines()) <= 130
