"""The wheel and the sdist are complete, a wheel installed elsewhere works, and type checkers see its types."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePath

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-deps", "--no-index", "--no-build-isolation"]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path, code: int = 0) -> str:
    """Run a command without this repository on the path; return stdout and stderr."""
    done = subprocess.run([*map(str, words)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def tracked() -> list[str]:
    """The repository's files and links, without ignored ones."""
    words = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if os.path.lexists(ROOT / name)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, as a fresh clone."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (folder / name).symlink_to(os.readlink(ROOT / name))
        else:
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def build_wheel(source: Path, out: Path) -> Path:
    run(*PIP, "wheel", *OFFLINE, "-w", out, source, cwd=out)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def new_environment(home: Path, *install: object) -> Path:
    """Create a virtual environment with one package and the dependencies of this one; return its Python."""
    venv.create(home, with_pip=False)
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    python = home / "bin" / "python"
    run(*PIP, "--python", python, "install", *OFFLINE, *install, cwd=home)
    return python


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("/")}


def packaged(names: Iterable[str]) -> set[str]:
    """The tracked files that a wheel must contain, by their names in the wheel."""
    code = {name for name in names if name.startswith(("benchmark/", "methods/", "training/"))}
    numbers = {name for name in names if PurePath(name).parent.name in ("published", "reference")}
    own = {"__init__.py", "__main__.py", "py.typed"}
    return {f"gtg_bench/{name}" for name in code | numbers | own if not name.endswith(".md")}


def test_wheel_and_sdist_are_complete(source: Path, wheel: Path, tmp_path: Path) -> None:
    found = contents(wheel)
    assert {name for name in found if ".dist-info/" not in name} == packaged(tracked())
    hook = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", hook, tmp_path, cwd=source)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = contents(build_wheel(unpacked, tmp_path))
    assert {name for name in found if found[name] != again.get(name)} == set()
    assert set(again) == set(found)


def test_an_installed_wheel_runs_the_main_job(wheel: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv", wheel)
    where = run(python, "-c", "import gtg_bench; print(gtg_bench.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path / "venv"))
    program = python.with_name("gtg-bench")
    listed = run(program, "list", cwd=tmp_path)
    assert "cxrbert-ldm" in listed
    assert run(python, "-m", "gtg_bench", "list", cwd=tmp_path) == listed
    methods = ["--method", "cxrbert-ldm", "--method", "phrase-prior"]
    run(program, "run", *methods, "--sampling", "gt-cfg", "--limit", "2", cwd=tmp_path)
    assert (tmp_path / "leaderboards" / "phantom.csv").read_text().count("\n") == 3
    assert "nothing" in run(program, "train", "--out", "zoo", "--variant", "nothing", cwd=tmp_path, code=2)
    table = run(program, "table", "1", "--format", "csv", cwd=tmp_path)
    assert "table1,published,on MS-CXR,,Atelectasis,CXR-BERT-LDM,mIoU,fraction,0.58,0.01," in table
    assert 'table1,measured,"phantom v2, test split, first 2 samples",,Mean over samples,CXR-BERT-LDM' in table


def test_mypy_sees_the_types_of_an_editable_install(source: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv", "--editable", source)
    (tmp_path / "elsewhere").mkdir()
    user = tmp_path / "elsewhere" / "user.py"
    user.write_text(
        "from gtg_bench.benchmark.api import load_method\n"
        'reveal_type(load_method("cxrbert-ldm"))\n'
        "load_method(1)\n"  # line 3
    )
    mypy = [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", tmp_path / "cache"]
    told = run(*mypy, "--python-executable", python, user.name, cwd=user.parent, code=1)
    assert 'Revealed type is "gtg_bench.benchmark.api.types.Method"' in told
    assert "user.py:3: error" in told
    assert "import-untyped" not in told
