"""The terminal: whatever is printed, text that users supplied cannot control it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from gtg_bench.benchmark.api.text import printable


class Terminal(Console):
    """A console that escapes control characters in everything that it renders."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, with printable text; rich's own control codes stay."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)
