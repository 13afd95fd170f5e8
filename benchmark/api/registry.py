"""Names to methods: the packaged catalogue, entry points of other packages, and plug-in files.

Nothing is imported before it is used: listing names is instant, and a broken plug-in harms only itself.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.types import Method, MethodCard, MethodSettings

ENTRY_POINT_GROUP = "gtg_bench.methods"
CATALOG = "gtg_bench.methods.catalog:CATALOG"
"""Where the packaged methods stand; resolved by name, so this room depends on no method."""

Build = Callable[[MethodSettings], Method]


@dataclass(frozen=True)
class MethodEntry:
    """A method as the registry knows it.

    Attributes:
        name: what a user types.
        build: makes the method from complete settings; a callable or "module:attribute".
        card: where it comes from.
        samplings: the sampling modes it knows; empty for a method that does not sample.
        complete: fills the settings that the user left open, and refuses what cannot be; a callable or
            "module:attribute". None: the method has no settings.
        code: version of code that is not packaged here: a plug-in file's sha256, or a package and its version.
        card_of: reads the card of its weights from their recorded name, or None if they are not on this machine; a
            callable or "module:attribute". None: its weights have no card.
    """

    name: str
    build: Build | str
    card: MethodCard
    samplings: tuple[str, ...] = ()
    complete: Callable[[MethodSettings], MethodSettings] | str | None = None
    code: str | None = None
    card_of: Callable[[str, str], dict[str, Any] | None] | str | None = None

    def completed(self, wanted: MethodSettings) -> MethodSettings:
        """The settings with which the method will run."""
        if not self.samplings and wanted.bbm not in (None, "none"):
            raise UsageError(
                f"--bbm {wanted.bbm}: {self.name} has no cross-attention maps whose biases could be merged"
            )
        if self.complete is None:
            return wanted.only()
        return load_object(self.complete)(wanted)

    def weights_card(self, weights: str | None) -> dict[str, Any] | None:
        """The card of weights with this recorded name; None if there is none on this machine."""
        if self.card_of is None or not weights:
            return None
        found: dict[str, Any] | None = load_object(self.card_of)(self.name, weights)
        return found

    def built(self, settings: MethodSettings) -> Method:
        """The method, ready to ground. Raises UsageError if it has no `ground`."""
        method = load_object(self.build)(settings)
        if not callable(getattr(method, "ground", None)) and not callable(getattr(method, "ground_batch", None)):
            raise UsageError(f"method {self.name!r} has no ground(image, text)")
        return method


@dataclass
class MethodRegistry:
    """All methods by name. A name that is taken cannot be registered again."""

    catalog: str = CATALOG
    _registered: dict[str, MethodEntry] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All names: the catalogue's in its order, then entry points, then what was registered by hand."""
        packaged = [entry.name for entry in self._packaged()]
        return list(dict.fromkeys([*packaged, *sorted(self._entry_points()), *self._registered]))

    def get(self, name: str) -> MethodEntry:
        """The entry of a name. Raises UsageError with the near names if there is none."""
        packaged = {entry.name: entry for entry in self._packaged()}
        for known in (packaged, self._registered):
            if name in known:
                return known[name]
        if name in (points := self._entry_points()):
            found = _entry_of(name, _load_entry_point(points[name]))
            return replace(found, code=_package(points[name]))
        raise UsageError(unknown("method", name, self.names()))

    def entries(self) -> list[MethodEntry]:
        """All entries but those of packages that cannot be imported."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except UsageError:
                continue
        return found

    def register(self, entry: MethodEntry) -> None:
        """Add a method. Raises UsageError if its name is taken."""
        if entry.name in self.names():
            raise UsageError(f"a method named {entry.name!r} is registered already; give yours another name")
        self._registered[entry.name] = entry

    def load_plugin(self, path: Path) -> list[str]:
        """Run a plug-in file, which registers methods with `register_method`; return their names."""
        before = list(self._registered)
        digest = hashlib.sha256(_read_plugin(path)).hexdigest()
        name = f"gtg_bench_plugin_{digest[:12]}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"plug-in {path} is no Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            self._registered = {key: self._registered[key] for key in before}
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"plug-in {path} fails on import: {type(error).__name__}: {error}") from error
        added = [key for key in self._registered if key not in before]
        if not added:
            raise UsageError(f"plug-in {path} registers no method; decorate one with @register_method(NAME)")
        for key in added:
            self._registered[key] = replace(self._registered[key], code=digest)
        return added

    def _packaged(self) -> Iterable[MethodEntry]:
        return load_object(self.catalog)

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


METHODS = MethodRegistry()
"""The registry that the command line uses."""


def load_method(name: str, **settings: Any) -> Method:
    """A method ready to ground; `settings` are fields of `MethodSettings`, the rest comes from the weights' card.

    Example:
        >>> method = load_method("cxrbert-ldm", steps=8)
        >>> grounding = method.ground(image, "small left apical pneumothorax")
    """
    entry = METHODS.get(name)
    return entry.built(entry.completed(MethodSettings(name, **settings)))


def register_method(name: str, card: MethodCard | None = None) -> Callable[[Build], Build]:
    """Decorator: register a class or function that makes a method from `MethodSettings`.

    Example:
        >>> @register_method("bright-spot")
        ... class BrightSpot:
        ...     def __init__(self, settings): ...
        ...     def ground(self, image, text): return GroundingMap(image, Frame.original(image.shape[::-1]))
    """

    def decorate(build: Build) -> Build:
        METHODS.register(_entry_of(name, build, card))
        return build

    return decorate


def load_object(target: Any) -> Any:
    """The object that "module:attribute" names; anything but a string is itself."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that nobody knows: near names first."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"


def _entry_of(name: str, found: Any, card: MethodCard | None = None) -> MethodEntry:
    if isinstance(found, MethodEntry):
        return found
    summary = ((getattr(found, "__doc__", None) or "").strip() or "a plug-in").splitlines()[0]
    return MethodEntry(name, found, card or MethodCard(summary=summary, kind="plug-in"))


def _package(point: EntryPoint) -> str | None:
    return f"{point.dist.name} {point.dist.version}" if point.dist else None


def _load_entry_point(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        package = point.dist.name if point.dist else "an unknown package"
        raise UsageError(
            f"method {point.name!r} of package {package} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _read_plugin(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"plug-in {path} cannot be read: {error.strerror}") from error
