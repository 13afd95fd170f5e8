"""Hints: every command and option that a message of the package suggests exists, and is complete."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import gtg_bench.benchmark
from gtg_bench.benchmark.api import METHODS, UsageError
from gtg_bench.benchmark.cli import app
from gtg_bench.methods.weights.find import plan_of
from gtg_bench.methods.weights.paper import published
from gtg_bench.training.pretraining.recipe import load_zoo_recipe

ROOT = Path(gtg_bench.benchmark.__file__).parents[1]
FILES = sorted(path for folder in ("benchmark", "methods", "training") for path in (ROOT / folder).rglob("*.py"))
ELSEWHERE = {"--help", "--revision", "--local-dir", "--fail", "--create-dirs"}
"""Options of every program, and of others."""

USAGE = typer.BadParameter.__bases__[0]
"""What the parser raises."""


def texts(path: Path) -> Iterator[str]:
    """Every string of a module but its docstrings; what is filled in later reads VALUE."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    inner |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def commands(text: str) -> Iterator[list[str]]:
    """The commands in a text, in backticks, after a colon or at its start, up to the end of the clause."""
    for found in re.finditer(r"(?:^|`|: )gtg-bench ([a-z][^`;,]*)", text):
        yield shlex.split(found[1].rstrip(". "), comments=True)


def check(words: list[str]) -> None:
    """Fail unless the command exists; if there is more than its name, also unless it has all that it requires."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        assert rest, f"{words} names no command"
        assert rest[0] in command.commands, f"{words}: no command {rest[0]}"
        command = command.commands[rest.pop(0)]
    if rest and rest != ["--help"]:
        command.make_context("gtg-bench", rest)


FOUND = [(path.name, words) for path in FILES for text in texts(path) for words in commands(text)]


def test_hints_are_found() -> None:
    assert len(FOUND) > 20
    assert ("named_masks.py", shlex.split("score RUN --mask best --tune-on OTHER_RUN")) in FOUND


@pytest.mark.parametrize("words", ["zzz", "data priorz", "run --mehtod x", "data prepare mimic-cxr --data-root DIR"])
def test_a_dead_end_is_seen(words: str) -> None:
    with pytest.raises((AssertionError, USAGE)):
        check(shlex.split(words))


@pytest.mark.parametrize(
    ("file", "words"), FOUND, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_a_suggested_command_exists(file: str, words: list[str]) -> None:
    check(words)


def options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)


def test_every_option_that_is_named_exists() -> None:
    known = {*options(typer.main.get_command(app)), *ELSEWHERE}
    for path in FILES:
        for text in texts(path):
            named = re.findall(r"(?<![\w-])--[a-z][a-z_-]+", text) if " " in text else []  # else an argument of git
            assert set(named) <= known, (path, text)


MODELS = [entry.name for entry in METHODS.entries() if entry.card.kind in ("ldm", "discriminative")]


@pytest.mark.parametrize("name", MODELS)
def test_missing_weights_suggest_what_exists(name: str) -> None:
    with pytest.raises(UsageError) as error:
        plan_of(name, "phantom-quick@99")
    text = str(error.value)
    assert ("gtg-bench zoo" in text) == (name in load_zoo_recipe().members)
    if "--weights paper" in text:
        published(name)
