"""The registry: packaged methods, plug-in files and entry points of other packages."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gtg_bench.benchmark.api import (
    METHODS,
    Frame,
    GroundingMap,
    MethodCard,
    MethodEntry,
    MethodSettings,
    UsageError,
    register_method,
)
from gtg_bench.benchmark.api.errors import described
from gtg_bench.benchmark.api.registry import MethodRegistry, load_object, unknown
from gtg_bench.benchmark.cli import app

CARD = MethodCard(summary="a toy", kind="plug-in")
PACKAGED = [
    *("cxrbert-ldm", "clip-ldm", "openclip-ldm", "radbert-ldm", "cxrclip-ldm", "medkebert-ldm"),
    *("clip-ldm-learnable", "clip-ldm-lora"),
    *("uniform", "oracle-lesion", "center-prior", "class-prior", "phrase-prior", "difference"),
    *("biovil", "biovil-l", "biovil-t"),
]
IMAGE = np.zeros((4, 6), dtype=np.float32)
PLUGIN = '''
from gtg_bench.benchmark.api import Frame, GroundingMap, register_method

@register_method("toy-glow")
class BrightSpot:
    """Bright is suspicious.

    Not on the card."""
    def __init__(self, settings):
        self.seed = settings.seed
    def ground(self, image, text):
        return GroundingMap(image, Frame.original(image.shape[::-1]))
'''
MODULE = '''
from gtg_bench.benchmark.api import MethodCard, MethodEntry
from gtg_bench.methods.baselines import uniform

class Third:
    """From another package."""
    def __init__(self, settings): ...
    def ground(self, image, text): return "a map"

ENTRY = MethodEntry("third-entry", uniform, MethodCard(summary="an entry", kind="baseline"))
'''
ENTRY_POINTS = """
[gtg_bench.methods]
third = gtg_third_party:Third
third-entry = gtg_third_party:ENTRY
broken = gtg_third_party_broken:Third
absent = gtg_third_party:Absent
uniform = gtg_third_party:Third
"""


class Spot:
    """One bright spot."""

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    def ground(self, image: np.ndarray, text: str) -> GroundingMap:
        return GroundingMap(image, Frame.original((image.shape[1], image.shape[0])))


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restores the command line's registry and Python's path, and removes the modules that a test imported."""
    monkeypatch.setattr(METHODS, "_registered", {})
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("gtg_bench_plugin_", "gtg_third_party", "toy_")):
            del sys.modules[name]


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package, installed, with good and broken entry points."""
    info = tmp_path / "third_party-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "gtg_third_party.py").write_text(MODULE)
    (tmp_path / "gtg_third_party_broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "plugin.py") -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# The catalogue


def test_the_catalogue_is_complete() -> None:
    registry = MethodRegistry()
    assert registry.names()[: len(PACKAGED)] == PACKAGED
    for name in PACKAGED:
        entry = registry.get(name)
        assert entry.name == name
        assert entry.card.summary
        assert callable(load_object(entry.build))
        assert callable(load_object(entry.complete))


def test_similar_names_are_suggested() -> None:
    with pytest.raises(UsageError, match=r"'cxrbert-ldn'.*did you mean cxrbert-ldm"):
        MethodRegistry().get("cxrbert-ldn")
    with pytest.raises(UsageError, match=r"'zzz'.*cxrbert-ldm, clip-ldm, openclip-ldm"):
        MethodRegistry().get("zzz")
    assert unknown("fruit", "aple", ["cherry", "apple"]) == "unknown fruit 'aple'; did you mean apple?"


def test_a_registered_method_is_listed_built_and_grounds() -> None:
    registry = MethodRegistry()
    registry.register(MethodEntry("spot", Spot, CARD))
    assert registry.names()[-1] == "spot"
    entry = registry.get("spot")
    wanted = MethodSettings("spot", weights="x", sampling="gt-cfg", seed=3, dataset="toy", device="cuda")
    settings = entry.completed(wanted)
    assert settings == MethodSettings("spot", seed=3, dataset="toy", device="cuda")
    assert entry.built(settings).ground(IMAGE, "").frame.image_size == (6, 4)
    assert "spot" not in MethodRegistry().names()
    for name in ("spot", "uniform"):
        with pytest.raises(UsageError, match=f"'{name}' is already registered"):
            registry.register(MethodEntry(name, Spot, CARD))
    assert register_method("spot", CARD)(Spot) is Spot
    assert METHODS.get("spot").card is CARD


def test_a_method_must_ground() -> None:
    with pytest.raises(UsageError, match=r"'mute' has no ground\(image, text\)"):
        MethodEntry("mute", lambda settings: object(), CARD).built(MethodSettings("mute"))  # type: ignore[arg-type,return-value]


# Plug-in files


def test_a_plugin_file(write: Callable[..., Path]) -> None:
    path = write(PLUGIN + PLUGIN.replace("toy-glow", "toy-dark"))
    assert METHODS.load_plugin(path) == ["toy-glow", "toy-dark"]
    assert METHODS.get("toy-dark").code == METHODS.get("toy-glow").code
    entry = METHODS.get("toy-glow")
    assert (entry.card.summary, entry.card.kind, entry.card.licence) == ("Bright is suspicious.", "plug-in", "unknown")
    assert entry.code == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.built(MethodSettings("toy-glow")).ground(IMAGE, "").values is IMAGE


def test_modules_beside_a_plugin_can_be_imported_and_are_part_of_its_code(write: Callable[..., Path]) -> None:
    write("from toy_package.inner import GAIN", "toy_helper.py")
    write("", "toy_package/__init__.py")
    write("GAIN = 2", "toy_package/inner.py")
    source, path = "import numpy\nfrom toy_helper import GAIN\n" + PLUGIN, list(sys.path)
    folder = str(write("", "toy_unused.py").parent)

    def code(text: str = source) -> str | None:
        assert METHODS.load_plugin(write(text)) == ["toy-glow"]
        return METHODS._registered.pop("toy-glow").code

    first = code()
    write("GAIN = 5", "toy_unused.py")
    assert code() == first
    assert sys.path == [folder, *path]
    write("GAIN = 3", "toy_package/inner.py")
    assert len({first, code(), code(source + "# edited"), code(PLUGIN)}) == 4


def test_a_broken_plugin_is_one_line(write: Callable[..., Path], tmp_path: Path) -> None:
    before = list(sys.path)
    for path, message in (
        (lambda: write("def (:"), r"plugin\.py .*SyntaxError: "),
        (lambda: write("import nothing_of_this_name"), "ModuleNotFoundError: "),
        (lambda: write("import sys\nsys.exit('no GPU')"), r"SystemExit: no GPU \(.*plugin\.py, line 2\)"),
        (lambda: write("x = 1"), r"plugin\.py .*@register_method"),
        (lambda: write(PLUGIN.replace("toy-glow", "uniform")), "'uniform' is already registered"),
        (lambda: write(PLUGIN, "plugin.txt"), r"plugin\.txt"),
        (lambda: tmp_path / "absent.py", r"absent\.py"),
        (lambda: tmp_path, tmp_path.name),
    ):
        with pytest.raises(UsageError, match=message) as error:
            METHODS.load_plugin(path())
        assert "\n" not in str(error.value)
        assert sys.path == before


def test_a_module_beside_a_plugin_is_found_when_the_method_runs(write: Callable[..., Path]) -> None:
    write("ONE = np.float32(1)", "toy_late.py")
    body = "import toy_late\n        return GroundingMap(image * toy_late.ONE,"
    METHODS.load_plugin(write(PLUGIN.replace("return GroundingMap(image,", body)))
    method = METHODS.get("toy-glow").built(MethodSettings("toy-glow"))
    with pytest.raises(NameError) as error:
        method.ground(IMAGE, "")
    assert "toy_late.py, line 1" in described(error.value)
    write("ONE = 1", "toy_late.py")
    assert method.ground(IMAGE, "").values.shape == (4, 6)


def test_two_plugins_cannot_share_the_name_of_a_module(write: Callable[..., Path]) -> None:
    """Python would give the second one the first one's module."""
    for folder, glow in (("a", "toy-glow"), ("b", "toy-dark")):
        write(f"NAME = {folder!r}", f"{folder}/toy_helper.py")
        path = write(f"import toy_helper\n{PLUGIN.replace('toy-glow', glow)}", f"{folder}/plugin.py")
        if folder == "a":
            METHODS.load_plugin(path)
    with pytest.raises(UsageError, match=r"imports .*b/toy_helper\.py, but .*a/toy_helper\.py is already"):
        METHODS.load_plugin(path)
    assert "toy-dark" not in METHODS.names()


# Entry points


@pytest.mark.usefixtures("third_party")
def test_entry_points_are_listed_without_being_imported() -> None:
    names = MethodRegistry().names()
    assert names == [*PACKAGED, *sorted(set(names) - set(PACKAGED))]
    assert {"third", "third-entry", "broken", "absent"} <= set(names)
    assert "gtg_third_party" not in sys.modules


@pytest.mark.usefixtures("third_party")
def test_entry_points_are_built() -> None:
    entry = MethodRegistry().get("third")
    assert (entry.card.summary, entry.code) == ("From another package.", "third-party 2.0")
    assert entry.built(entry.completed(MethodSettings("third"))).ground(IMAGE, "") == "a map"
    assert MethodRegistry().get("third-entry").card.summary == "an entry"


@pytest.mark.usefixtures("third_party")
def test_a_broken_entry_point_affects_only_itself() -> None:
    registry = MethodRegistry()
    for name, error in (("broken", "ModuleNotFoundError"), ("absent", "AttributeError")):
        with pytest.raises(UsageError, match=f"'{name}' of package third-party .*{error}"):
            registry.get(name)
    with pytest.raises(UsageError, match="did you mean third"):
        registry.get("thirt")
    for words in (["methods"], []):
        done = CliRunner().invoke(app, ["list", *words])
        assert done.exit_code == 0
        assert "third-entry" in done.output


@pytest.mark.usefixtures("third_party")
def test_an_entry_point_replaces_no_packaged_method_and_its_name_is_taken() -> None:
    registry = MethodRegistry()
    assert registry.get("uniform").card.kind == "baseline"
    assert registry.names().count("uniform") == 1
    with pytest.raises(UsageError, match="'third' is already registered"):
        registry.register(MethodEntry("third", Spot, CARD))
