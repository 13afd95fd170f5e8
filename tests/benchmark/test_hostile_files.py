"""Files that others wrote: YAML that describes more values than any memory holds, or is not a file at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gtg_bench.benchmark.api.errors import DataError, UsageError
from gtg_bench.benchmark.state import read_yaml
from gtg_bench.methods.weights.plan import read_plan
from gtg_bench.training.recipe import load_recipe

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20))


@pytest.mark.parametrize("read", [read_yaml, read_plan, lambda path: load_recipe(str(path))])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text(LAUGHS), "line 2.*repeat the value|repeat the value.*line 2"),
        (lambda path: path.write_text("a: " + "[" * 20000), "recursion"),
        (lambda path: path.write_text("a: 1 # " + "x" * 2**21), "characters"),
        (lambda path: path.write_bytes(b"a: \xff"), "utf-8"),
    ],
)
def test_hostile_yaml_is_refused(
    tmp_path: Path, read: Callable[[Path], object], make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "a.yaml")
    with pytest.raises((DataError, UsageError), match=rf"a\.yaml.*({message})"):
        read(tmp_path / "a.yaml")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(DataError, match="not a regular file"):
        read_yaml(tmp_path / "a.yaml")


def test_a_recipe_cannot_be_based_on_itself(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"based_on: {tmp_path / base}.yaml\n")
    with pytest.raises(UsageError, match="based on itself"):
        load_recipe(str(tmp_path / "a.yaml"))
