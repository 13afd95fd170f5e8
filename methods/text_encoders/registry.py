"""Text encoder families by name: packaged ones, entry points of other packages, and plug-in files.

Imports no torch, and no family before it is used.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.api.registry import load_object, unknown

ENTRY_POINT_GROUP = "gtg_bench.text_encoders"
_HERE = "gtg_bench.methods.text_encoders"

PACKAGED = {
    "cxr-bert": f"{_HERE}.cxr_bert:CxrBertTextEncoder",
    "clip": f"{_HERE}.clip:ClipTextEncoder",
    "open-clip": f"{_HERE}.open_clip:OpenClipTextEncoder",
    "bert": f"{_HERE}.bert:BertTextEncoder",
    "med-kebert": f"{_HERE}.med_kebert:MedKebertTextEncoder",
    "cxr-clip": f"{_HERE}.cxr_clip:CxrClipTextEncoder",
}
"""Family -> "module:class"."""

Kind = TypeVar("Kind", bound=type)


@dataclass(frozen=True)
class Registered:
    """A family registered by a plug-in: its class, the module and file that define it, and the file's sha256."""

    kind: type
    module: ModuleType | None
    file: str
    code: str

    @classmethod
    def of(cls, kind: type) -> Registered:
        """Describe a class; one without a file (typed into a notebook) is identified by its name."""
        module, name = sys.modules.get(kind.__module__), f"{kind.__module__}.{kind.__qualname__}"
        try:
            file = inspect.getfile(kind)
            return cls(kind, module, file, hashlib.sha256(Path(file).read_bytes()).hexdigest())
        except (TypeError, OSError):
            return cls(kind, module, name, name)


@dataclass
class TextEncoderRegistry:
    """All families by name."""

    _registered: dict[str, Registered] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All names: packaged families, then entry points, then plug-ins."""
        return list(dict.fromkeys([*PACKAGED, *sorted(_entry_points()), *self._registered]))

    def get(self, name: str) -> Any:
        """The class of a family. Raises UsageError with similar names if it is unknown."""
        if name in PACKAGED:
            return load_object(PACKAGED[name])
        if name in self._registered:
            return self._registered[name].kind
        if (point := _entry_points().get(name)) is None:
            raise UsageError(unknown("text encoder family", name, self.names()))
        try:
            return point.load()
        except Exception as error:
            package = point.dist.name if point.dist else "an unknown package"
            raise UsageError(
                f"text encoder family {name!r} of package {package} cannot be imported: {type(error).__name__}: {error}"
            ) from error

    def code(self, name: str) -> str | None:
        """Version of code that is not packaged here: the sha256 of a plug-in file, or a package and its version."""
        if name in PACKAGED:
            return None
        if name in self._registered:
            return self._registered[name].code
        point = _entry_points().get(name)
        return f"{point.dist.name} {point.dist.version}" if point is not None and point.dist else None

    def register(self, name: str, kind: type) -> None:
        """Add a family. A plug-in file that runs again may register its families again.

        Raises:
            UsageError: the name is taken, or the class has no `load`.
        """
        new, old = Registered.of(kind), self._registered.get(name)
        reloaded = old is not None and new.file == old.file and new.module is not old.module
        if name in self.names() and not reloaded:
            raise UsageError(f"a text encoder family named {name!r} is registered already; give yours another name")
        if not callable(getattr(kind, "load", None)):
            raise UsageError(f"text encoder family {name!r} has no load(place, tokenizer, max_length, device)")
        self._registered[name] = new


TEXT_ENCODERS = TextEncoderRegistry()
"""The registry that weights are loaded with."""


def register_text_encoder(name: str) -> Callable[[Kind], Kind]:
    """Decorator: register a class of text encoders, see `base.TextEncoder` and `base.HuggingFaceTextEncoder.load`.

    Example:
        >>> @register_text_encoder("distilbert")
        ... class DistilBert(HuggingFaceTextEncoder):
        ...     model_class = transformers.DistilBertModel
    """

    def decorate(kind: Kind) -> Kind:
        TEXT_ENCODERS.register(name, kind)
        return kind

    return decorate


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
