"""Methods by name: the catalogue, plug-in files and entry points of other packages."""

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
from gtg_bench.benchmark.api.registry import MethodRegistry, load_object, unknown

CARD = MethodCard(summary="a toy", kind="plug-in")
PACKAGED = [
    *("cxrbert-ldm", "clip-ldm", "openclip-ldm", "radbert-ldm", "cxrclip-ldm", "medkebert-ldm"),
    *("clip-ldm-learnable", "clip-ldm-lora"),
    *("uniform", "center-prior", "class-prior", "phrase-prior", "difference"),
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
def _untouched() -> Iterator[None]:
    """The registry of the command line, and the imported modules, as they were before."""
    registered, modules = dict(METHODS._registered), set(sys.modules)
    yield
    METHODS._registered.clear()
    METHODS._registered.update(registered)
    for name in set(sys.modules) - modules:
        if name.startswith(("gtg_bench_plugin_", "gtg_third_party")):
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


def test_near_names_are_suggested() -> None:
    with pytest.raises(UsageError, match=r"unknown method 'cxrbert-ldn'; did you mean cxrbert-ldm"):
        MethodRegistry().get("cxrbert-ldn")
    with pytest.raises(UsageError, match=r"unknown method 'zzz'; known: cxrbert-ldm, clip-ldm, openclip-ldm"):
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


@pytest.mark.parametrize("name", ["spot", "uniform"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    registry = MethodRegistry()
    registry.register(MethodEntry("spot", Spot, CARD))
    with pytest.raises(UsageError, match=f"a method named '{name}' is registered already"):
        registry.register(MethodEntry(name, Spot, CARD))


def test_a_method_must_ground() -> None:
    with pytest.raises(UsageError, match=r"'mute' has no ground\(image, text\)"):
        MethodEntry("mute", lambda settings: object(), CARD).built(MethodSettings("mute"))  # type: ignore[arg-type,return-value]


def test_the_decorator_gives_back_what_it_decorates() -> None:
    card = MethodCard(summary="given", kind="prior")
    assert register_method("spot", card)(Spot) is Spot
    assert METHODS.get("spot").card is card


# Plug-in files


def test_a_plugin_file(write: Callable[..., Path]) -> None:
    path = write(PLUGIN)
    assert METHODS.load_plugin(path) == ["toy-glow"]
    entry = METHODS.get("toy-glow")
    assert entry.card == MethodCard(summary="Bright is suspicious.", kind="plug-in")
    assert entry.code == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry.built(MethodSettings("toy-glow")).ground(IMAGE, "").values is IMAGE


def test_an_edited_plugin_has_another_code(write: Callable[..., Path]) -> None:
    codes = set()
    for text in (PLUGIN, PLUGIN + "# edited\n"):
        METHODS.load_plugin(write(text))
        codes.add(METHODS.get("toy-glow").code)
        del METHODS._registered["toy-glow"]
    assert len(codes) == 2


def test_a_plugin_may_register_several_methods(write: Callable[..., Path]) -> None:
    assert METHODS.load_plugin(write(PLUGIN + PLUGIN.replace("toy-glow", "toy-dark"))) == ["toy-glow", "toy-dark"]
    assert METHODS.get("toy-dark").code == METHODS.get("toy-glow").code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (:", r"plugin\.py fails on import: SyntaxError: "),
        ("import nothing_of_this_name", "fails on import: ModuleNotFoundError: No module named"),
        ("1 / 0", "fails on import: ZeroDivisionError: division by zero"),
        ("x = 1", r"plugin\.py registers no method; decorate one with @register_method"),
        (PLUGIN.replace("toy-glow", "uniform"), "a method named 'uniform' is registered already"),
    ],
)
def test_a_broken_plugin_is_one_line(write: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        METHODS.load_plugin(write(text))
    assert "\n" not in str(error.value)


def test_a_plugin_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.py cannot be read: No such file"):
        METHODS.load_plugin(tmp_path / "absent.py")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        METHODS.load_plugin(tmp_path)


def test_a_plugin_that_is_no_python_file(write: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=r"plugin\.txt"):
        METHODS.load_plugin(write(PLUGIN, "plugin.txt"))


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
    assert entry.card.summary == "From another package."
    assert entry.built(entry.completed(MethodSettings("third"))).ground(IMAGE, "") == "a map"
    assert MethodRegistry().get("third-entry").card.summary == "an entry"


@pytest.mark.usefixtures("third_party")
def test_a_broken_entry_point_harms_only_itself() -> None:
    registry = MethodRegistry()
    with pytest.raises(UsageError, match="'broken' of package third-party cannot be imported: ModuleNotFoundError"):
        registry.get("broken")
    with pytest.raises(UsageError, match="'absent' of package third-party cannot be imported: AttributeError"):
        registry.get("absent")
    assert registry.get("third").name == "third"
    with pytest.raises(UsageError, match="did you mean third"):
        registry.get("thirt")


@pytest.mark.usefixtures("third_party")
def test_an_entry_point_replaces_no_packaged_method_and_its_name_is_taken() -> None:
    registry = MethodRegistry()
    assert registry.get("uniform").card.kind == "baseline"
    assert registry.names().count("uniform") == 1
    with pytest.raises(UsageError, match="registered already"):
        registry.register(MethodEntry("third", Spot, CARD))


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("arguments", [["methods"], pytest.param([])])
def test_the_list_survives_a_broken_entry_point(arguments: list[str]) -> None:
    from gtg_bench.benchmark.cli import app

    done = CliRunner().invoke(app, ["list", *arguments])
    assert done.exit_code == 0
    assert "third-entry" in done.output
