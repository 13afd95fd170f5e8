"""The house: which room may import which, what is packaged, and what an import costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmark", "methods", "training")
DATA = ("leaderboards",)
"""Rooms without code: packaged for their files."""

FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
ENTRY = "gtg_bench.training.__main__"
"""What `accelerate launch -m gtg_bench.training` starts: a command line, though it must lie here."""

API, CLI, PATHS = "gtg_bench.benchmark.api", "gtg_bench.benchmark.cli", "gtg_bench.benchmark.paths"
BENCHMARK, METHODS, TRAINING = (f"gtg_bench.{room}" for room in ROOMS)
ARROWS = {
    API: (API,),
    CLI: (BENCHMARK, TRAINING),
    BENCHMARK: (BENCHMARK,),
    METHODS: (METHODS, API, PATHS),
    TRAINING: (TRAINING, METHODS, BENCHMARK),
}
"""Room -> what its modules may import of this project; the first room that holds a module counts."""

HEAVY = ("torch", "pandas", "sklearn", "matplotlib", "skimage", "scipy", "transformers", "diffusers", "pydicom")
TEXT = {"", ".md", ".py", ".toml", ".yaml", ".yml", ".json", ".csv", ".txt", ".cff"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("gtg_bench", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_of(path): path for path in FILES}
PACKAGES = {module_of(path.parent / "__init__.py") for path in FILES}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a tree imports, also inside functions; a relative import keeps its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES or inner in PACKAGES else source


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def trespasses(module: str, tree: ast.AST) -> list[str]:
    """What a module of this project imports although no arrow leads there."""
    room = CLI if module == ENTRY else next(room for room in ARROWS if within(module, (room,)))
    ours = [target for target in imported(tree) if within(target, ("gtg_bench",))]
    hidden = [target for target in ours if within(target, (CLI,)) and room != CLI]
    return hidden + [target for target in ours if not within(target, ARROWS[room])]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (f"{API}.types", "from gtg_bench.benchmark.spec import RunSpec"),
        (f"{API}.types", "from gtg_bench.benchmark import spec"),
        (f"{API}.types", "def f():\n import gtg_bench.methods.catalog"),
        (f"{BENCHMARK}.runner", "from gtg_bench import methods"),
        (f"{BENCHMARK}.runner", "from gtg_bench.benchmark.cli.common import out"),
        (f"{CLI}.run", "from gtg_bench.methods.catalog import CATALOG"),
        (f"{METHODS}.baselines", "from gtg_bench.benchmark.metrics import METRICS"),
        (f"{TRAINING}.zoo", "import gtg_bench.benchmark.cli.common"),
        (ENTRY, "import gtg_bench.methods.catalog"),
    ],
)
def test_the_reader_sees_a_trespass(module: str, source: str) -> None:
    assert trespasses(module, ast.parse(source))


def test_the_tree_is_read() -> None:
    assert {f"{API}.types", f"{BENCHMARK}.runner", f"{METHODS}.catalog", f"{TRAINING}.zoo", CLI} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    assert trespasses(module, ast.parse(MODULES[module].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", [*FILES, *(ROOT / "tests").glob("*.py")], ids=lambda path: path.name)
def test_imports_are_absolute_and_of_the_installed_package(path: Path) -> None:
    targets = list(imported(ast.parse(path.read_text(encoding="utf-8"))))
    assert [target for target in targets if target.startswith(".") or target.split(".")[0] in ROOMS] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body


def test_every_package_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted({*PACKAGES, *(f"gtg_bench.{room}" for room in DATA)})
    assert set(settings["package-dir"].items()) == {(f"gtg_bench.{room}", room) for room in (*ROOMS, *DATA)}
    assert set(MODULES) >= PACKAGES, "a folder without __init__.py"


def text_files() -> Iterator[Path]:
    for top in (ROOT, *(ROOT / room for room in (*ROOMS, "tests", "leaderboards", ".ci"))):
        for path in top.iterdir() if top == ROOT else top.rglob("*"):
            if path.is_file() and path.suffix in TEXT and path.stat().st_size < 2_000_000:
                yield path


def test_no_file_names_a_folder_of_one_machine() -> None:
    absolute = re.compile(rf"(?<![\w.~)\]}}/])/({'|'.join(('work', 'home', 'root', 'Users'))})/\w")
    found = [f"{path}: {match[0]}" for path in text_files() for match in absolute.finditer(_text(path))]
    assert found == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore")


def loaded_after(code: str) -> set[str]:
    """Which of the heavy libraries are loaded after `code` has run in a new process."""
    code += f"\nimport sys\nprint('loaded', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_command_line_imports_nothing_heavy() -> None:
    assert loaded_after("import gtg_bench.benchmark.cli") == set()


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "methods", "--json"], ["list", "protocols"], ["run", "--help"], ["score", "--help"]],
    ids=" ".join,
)
def test_listing_and_help_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "from typer.testing import CliRunner\n"
        "from gtg_bench.benchmark.cli import app\n"
        f"done = CliRunner().invoke(app, {arguments!r})\n"
        "assert done.exit_code == 0, done.output\n"
        "assert done.output"
    )
    assert loaded_after(code) == set()


def test_the_contracts_import_nothing_heavy() -> None:
    assert loaded_after("import gtg_bench.benchmark.api, gtg_bench.methods.catalog") == set()


def test_the_reader_of_processes_sees_a_heavy_import() -> None:
    assert loaded_after("import pandas") >= {"pandas"}
