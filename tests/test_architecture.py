"""The house: which room may import which, what is packaged, and what an import costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmark", "methods", "training")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

API, CLI = "gtg_bench.benchmark.api", "gtg_bench.benchmark.cli"
PATHS, STATE = "gtg_bench.benchmark.paths", "gtg_bench.benchmark.state"
STATISTICS, METRICS, DATASETS, SCORING, RUNS, ANALYSIS, REPORT = (
    f"gtg_bench.benchmark.{room}"
    for room in ("statistics", "metrics", "datasets", "scoring", "runs", "analysis", "report")
)
QUALITY = "gtg_bench.benchmark.quality"
PYTHON = "gtg_bench.benchmark.python_api"
METHODS, TRAINING, ENTRY = "gtg_bench.methods", "gtg_bench.training", "gtg_bench.training.__main__"
PURE = (STATISTICS, METRICS, DATASETS, API, PATHS, STATE)
ARROWS = {
    ENTRY: (CLI, TRAINING, API),
    CLI: ("gtg_bench",),
    PYTHON: (REPORT, QUALITY, ANALYSIS, RUNS, SCORING, *PURE),
    TRAINING: (TRAINING, METHODS, REPORT, ANALYSIS, RUNS, SCORING, *PURE),
    METHODS: (METHODS, API, PATHS, STATE),
    REPORT: (REPORT, QUALITY, ANALYSIS, RUNS, SCORING, *PURE),
    QUALITY: (QUALITY, RUNS, SCORING, *PURE),
    ANALYSIS: (ANALYSIS, RUNS, SCORING, *PURE),
    RUNS: (RUNS, SCORING, *PURE),
    SCORING: (SCORING, *PURE),
    DATASETS: (DATASETS, API, PATHS),
    METRICS: (METRICS, API, PATHS),
    STATISTICS: (STATISTICS, API, PATHS),
    API: (API, PATHS),
    PATHS: (f"{API}.errors",),
    STATE: (API, PATHS),
    "gtg_bench.benchmark": (),
}
"""Room -> what its modules may import of this project; the first room that holds a module counts."""

HEAVY = ("torch", "pandas", "sklearn", "matplotlib", "skimage", "scipy", "transformers", "diffusers", "pydicom")
TEXT = {"", ".md", ".py", ".toml", ".yaml", ".yml", ".json", ".csv", ".txt", ".cff"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("gtg_bench", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_of(path): path for path in FILES}
PACKAGES = {module_of(path.parent / "__init__.py") for path in FILES}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a tree imports or names as "module:attribute", also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES or inner in PACKAGES else source
        elif isinstance(node, ast.Constant) and (named := re.fullmatch(r"(gtg_bench[\w.]*):\w+", str(node.value))):
            yield named[1]


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def trespasses(module: str, tree: ast.AST) -> list[str]:
    """What a module of this project imports although no arrow leads there."""
    room = next(room for room in ARROWS if within(module, (room,)))
    allowed = (*ARROWS[room], *(["gtg_bench.methods.catalog"] if module == f"{API}.registry" else []))
    return [target for target in imported(tree) if within(target, ("gtg_bench",)) and not within(target, allowed)]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (f"{API}.types", "from gtg_bench.benchmark.runs import spec"),
        (f"{API}.types", "def f():\n import gtg_bench.methods.catalog"),
        (f"{RUNS}.runner", "from gtg_bench import methods"),
        (f"{RUNS}.doctor", "CHECK = 'gtg_bench.methods.weights.check:check'"),
        (f"{RUNS}.runner", "from gtg_bench.benchmark.cli.common import out"),
        (f"{SCORING}.protocols", "from gtg_bench.benchmark.runs.spec import RunSpec"),
        (f"{METHODS}.baselines", "from gtg_bench.benchmark.metrics import METRICS"),
        (f"{TRAINING}.zoo", "import gtg_bench.benchmark.cli.common"),
        (ENTRY, "import gtg_bench.methods.catalog"),
    ],
)
def test_the_reader_sees_a_trespass(module: str, source: str) -> None:
    assert trespasses(module, ast.parse(source))


def test_imports_follow_the_arrows() -> None:
    assert {f"{API}.types", f"{RUNS}.runner", f"{METHODS}.catalog", f"{TRAINING}.zoo", CLI} <= set(MODULES)
    found = {module: trespasses(module, parsed(path)) for module, path in MODULES.items()}
    assert {module: targets for module, targets in found.items() if targets} == {}


def test_imports_are_absolute_and_of_the_installed_package() -> None:
    for path in (*FILES, *(ROOT / "tests").rglob("*.py")):
        targets = list(imported(parsed(path)))
        assert [t for t in targets if t.startswith(".") or t.split(".")[0] in FOLDERS] == [], path


def test_every_module_says_what_it_is() -> None:
    assert [name for name, path in MODULES.items() if (tree := parsed(path)).body and not ast.get_docstring(tree)] == []


def test_every_package_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted({*PACKAGES, "gtg_bench", "gtg_bench.leaderboards"})
    assert set(MODULES) >= PACKAGES, "a folder without __init__.py"


def test_every_library_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    used = {target.split(".")[0] for path in FILES for target in imported(parsed(path))}
    used -= {*sys.stdlib_module_names, "gtg_bench", ""}
    assert {"yaml", "PIL"} <= used
    owners = packages_distributions()
    assert [name for name in used if declared.isdisjoint(map(canonicalize_name, owners.get(name, ())))] == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    absolute = re.compile(rf"(?<![\w.~)\]}}/])/({'|'.join(('work', 'home', 'root', 'Users'))})/\w")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    paths = [ROOT / name for name in tracked if name] or FILES
    for path in paths:
        if path.is_file() and path.suffix in TEXT and path.stat().st_size < 2_000_000:
            assert not absolute.search(path.read_text(encoding="utf-8", errors="ignore")), path


def loaded_after(code: str) -> set[str]:
    """Which of the heavy libraries are loaded after `code` has run in a new process."""
    code += f"\nimport sys\nprint('loaded', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_listing_and_help_import_nothing_heavy() -> None:
    assert loaded_after("import pandas") >= {"pandas"}
    calls = [["list"], ["list", "methods", "--json"], ["list", "protocols"], ["run", "--help"], ["score", "--help"]]
    code = (
        "import gtg_bench, gtg_bench.methods.catalog\n"
        "from typer.testing import CliRunner\n"
        "from gtg_bench.benchmark.cli import app\n"
        f"for call in {calls!r}:\n"
        "    done = CliRunner().invoke(app, call)\n"
        "    assert done.exit_code == 0 and done.output, done.output\n"
    )
    assert loaded_after(code) == set()
