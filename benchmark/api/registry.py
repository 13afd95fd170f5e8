"""Registry of methods: the packaged catalogue, entry points of other packages, and plug-in files.

Nothing is imported before it is used: listing names is instant, and a broken plug-in affects only itself.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import GtgError, UsageError, described
from gtg_bench.benchmark.api.types import Method, MethodCard, MethodSettings

ENTRY_POINT_GROUP = "gtg_bench.methods"
CATALOG = "gtg_bench.methods.catalog:CATALOG"
"""The packaged methods, resolved by name, so that this package does not depend on them."""

Build = Callable[[MethodSettings], Method]


@dataclass(frozen=True)
class MethodEntry:
    """A method in the registry. Callables may be given as "module:attribute", which is imported on first use."""

    name: str
    """Name that users type."""
    build: Build | str
    """Makes the method from complete settings."""
    card: MethodCard
    """Where the method comes from."""
    samplings: tuple[str, ...] = ()
    """Its sampling modes; empty for a method that does not sample."""
    complete: Callable[[MethodSettings], MethodSettings] | str | None = None
    """Fills in unset settings and refuses invalid ones. None: the method has no settings."""
    code: str = "1"
    """Version of its code. Increase it whenever the method's maps change: runs of another version are other runs. A
    plug-in file's is its sha256, that of another package its name and version."""
    files: tuple[str, ...] = ()
    """Files that a plug-in's maps depend on, such as a checkpoint, relative to the plug-in; part of its version."""
    card_of: Callable[[str, str], dict[str, Any] | None] | str | None = None
    """(method, weights) -> card of the weights, None if they are not installed. None: its weights have no card."""

    def completed(self, wanted: MethodSettings) -> MethodSettings:
        """The settings with which the method will run. Raises UsageError for settings that it does not support."""
        if not self.samplings and wanted.bbm not in (None, "none"):
            raise UsageError(
                f"--bbm {wanted.bbm}: {self.name} has no cross-attention maps, so it has no biases to merge"
            )
        if self.complete is None:
            return wanted.only()
        return load_object(self.complete)(wanted)

    def weights_card(self, weights: str | None) -> dict[str, Any] | None:
        """The card of the weights that a run recorded under this name; None if they are not installed."""
        if self.card_of is None or not weights:
            return None
        found: dict[str, Any] | None = load_object(self.card_of)(self.name, weights)
        return found

    def built(self, settings: MethodSettings) -> Method:
        """The method, ready to ground.

        Raises:
            UsageError: it cannot be built, or has neither `ground` nor `ground_batch`.
        """
        try:
            method = load_object(self.build)(settings)
        except GtgError:
            raise
        except Exception as error:
            raise UsageError(f"method {self.name!r} cannot be built: {described(error)}") from error
        if not callable(getattr(method, "ground", None)) and not callable(getattr(method, "ground_batch", None)):
            raise UsageError(f"method {self.name!r} has no ground(image, text)")
        return method


@dataclass
class MethodRegistry:
    """All methods by name. Names are unique."""

    catalog: str = CATALOG
    _registered: dict[str, MethodEntry] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All names: the catalogue in its order, then entry points sorted, then registered methods."""
        packaged = [entry.name for entry in load_object(self.catalog)]
        return list(dict.fromkeys([*packaged, *sorted(_entry_points()), *self._registered]))

    def get(self, name: str) -> MethodEntry:
        """The entry with this name.

        Raises:
            UsageError: an unknown name; the message suggests similar ones. Or its package cannot be imported.
        """
        packaged = {entry.name: entry for entry in load_object(self.catalog)}
        for known in (packaged, self._registered):
            if name in known:
                return known[name]
        point = _entry_points().get(name)
        if point is None:
            raise UsageError(unknown("method", name, self.names()))
        package = f"{point.dist.name} {point.dist.version}" if point.dist else None
        try:
            found = point.load()
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"method {name!r} of package {package or 'unknown'} cannot be imported: {described(error)}"
            ) from error
        return replace(entry_of(name, found), code=package or "unknown version")

    def entries(self) -> list[MethodEntry]:
        """All entries except those of packages that cannot be imported."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except UsageError:
                continue
        return found

    def register(self, entry: MethodEntry) -> None:
        """Add a method. Raises UsageError if the name is already taken."""
        if entry.name in self.names():
            raise UsageError(f"a method named {entry.name!r} is already registered; choose another name")
        self._registered[entry.name] = entry

    def load_plugin(self, path: Path) -> list[str]:
        """Execute a plug-in file, which registers methods with `register_method`; return their names.

        Modules beside the file can be imported, as in a script: its folder stays first on Python's path.

        Raises:
            UsageError: the file cannot be read, fails on import, registers no method, or needs a module whose name
                another module already has.
        """
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"plug-in {path} cannot be read: {error.strerror}") from error
        name, folder, before = f"gtg_bench_plugin_{digest[:12]}", str(path.resolve().parent), dict(self._registered)
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"plug-in {path} is not a Python file: its name must end in .py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        path_before = list(sys.path)
        sys.path.insert(0, folder)
        try:
            spec.loader.exec_module(sys.modules[name])
            added = [key for key in self._registered if key not in before]
            if not added:
                raise UsageError(f"plug-in {path} registers no method; decorate one with @register_method(NAME)")
            codes = {key: _code(path, self._registered[key].files) for key in added}
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            self._registered, sys.path[:] = before, path_before
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"plug-in {path} fails on import: {described(error)}") from error
        if folder in path_before:
            sys.path[:] = path_before
        for key in added:
            self._registered[key] = replace(self._registered[key], code=codes[key])
        return added


METHODS = MethodRegistry()
"""The registry that the command line and the Python interface use."""


def load_method(name: str, **settings: Any) -> Method:
    """The bare method, as the harness uses it: it takes float32 images only. See also `gtg_bench.load_method`.

    Args:
        name: a registered method.
        settings: fields of `MethodSettings`; the card of the weights and the defaults fill in the rest.

    Raises:
        GtgError: an unknown name, an invalid setting, or missing weights.
    """
    entry = METHODS.get(name)
    return entry.built(entry.completed(MethodSettings(name, **settings)))


def register_method(name: str, card: MethodCard | None = None, files: Sequence[str] = ()) -> Callable[[Build], Build]:
    """Decorator that registers a class or function which makes a method from `MethodSettings`.

    Args:
        name: name of the method.
        card: where the method comes from; by default the docstring's first line, and "unknown" for the rest.
        files: what its maps depend on beside the code, such as a checkpoint, relative to the plug-in file: a change of
            their content makes other runs.

    Raises:
        UsageError: the name is already taken.

    Example:
        >>> @register_method("bright-spot")
        ... class BrightSpot:
        ...     def __init__(self, settings): ...
        ...     def ground(self, image, text): return GroundingMap(image, Frame.original(image.shape[::-1]))
    """

    def decorate(build: Build) -> Build:
        entry = entry_of(name, build, card)
        METHODS.register(replace(entry, files=tuple(files) or entry.files))
        return build

    return decorate


def load_object(target: Any) -> Any:
    """The object that "module:attribute" names. Anything that is not a string is returned unchanged."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The error message for an unknown name: similar names if there are any, else all known ones."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"


def entry_of(name: str, found: Any, card: MethodCard | None = None) -> MethodEntry:
    """The entry of a class or function that makes a method; an entry is returned unchanged."""
    if isinstance(found, MethodEntry):
        return found
    if card is None:
        summary = ((getattr(found, "__doc__", None) or "").strip() or "plug-in without a docstring").splitlines()[0]
        facts = dict.fromkeys(("paper", "weights", "licence", "training_data"), "unknown")
        card = MethodCard(summary, "plug-in", **facts)
    return MethodEntry(name, found, card)


def _entry_points() -> dict[str, EntryPoint]:
    return _entry_points_on(tuple(sys.path))


@cache
def _entry_points_on(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The entry points of what is installed on `sys.path`, whose search takes 10 ms."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _code(path: Path, more: Sequence[str]) -> str:
    """sha256 of a plug-in file, the modules beside it that it imports, directly or not, and `more` files beside it.

    Raises:
        UsageError: another module with the name of one of these is already loaded and would be used instead, or one of
            `more` cannot be read.
    """
    finder = ModuleFinder([str(path.parent)])
    finder.run_script(str(path))
    found = {name: getattr(module, "__file__", None) for name, module in finder.modules.items() if name != "__main__"}
    files = {name: str(file) for name, file in found.items() if file}
    for name, file in files.items():
        loaded = getattr(sys.modules.get(name), "__file__", None) or file
        if not Path(loaded).samefile(file):
            raise UsageError(
                f"plug-in {path} imports {file}, but {loaded} is already loaded as {name}: rename the file"
            )
    digest = hashlib.sha256(path.read_bytes())
    for neighbour in [*map(Path, sorted(files.values())), *(path.parent / name for name in more)]:
        try:
            with neighbour.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise UsageError(f"plug-in {path} names {neighbour}, which cannot be read: {error.strerror}") from error
    return digest.hexdigest()
