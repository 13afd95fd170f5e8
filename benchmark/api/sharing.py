"""What several methods can share while many runs are executed: loaded models, encoded images, text biases.

Outside a `sharing` block nothing is shared, so two methods that a program builds never touch each other's models.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
_Kept = dict[str, OrderedDict[Hashable, Any]]
_SCOPE: ContextVar[_Kept | None] = ContextVar("sharing", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Inside the block, methods that are built in this thread one after the other share what they can.

    What they share is released at the end of the outermost block, or when `shared` drops it.
    """
    token = _SCOPE.set({}) if _SCOPE.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _SCOPE.reset(token)


def shared(kind: str, key: Hashable, make: Callable[[], T], most: int = 1) -> T:
    """The value that an earlier method in the `sharing` block made under the same key, else a new one.

    Args:
        kind: what it is, such as "model".
        key: everything that decides the value.
        make: makes it. The oldest values of the kind are dropped before, so that their memory can be used.
        most: how many values of the kind are kept.
    """
    scope = _SCOPE.get()
    if scope is None:
        return make()
    kept = scope.setdefault(kind, OrderedDict())
    if key not in kept:
        while len(kept) >= most:
            kept.popitem(last=False)
        kept[key] = make()
    kept.move_to_end(key)
    found: T = kept[key]
    return found
